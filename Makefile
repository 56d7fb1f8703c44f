# One command each; every target first makes .venv from constraints.txt when it is missing or old.
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help demo up test test-long chaos bench bench-budget bench-looks bench-gateway bench-in-flight bench-catalog rehearse-image check fmt schemas clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Conveyor needs Python 3.11 or newer; say which with: make PYTHON=python3.12 ..." >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' || { echo "Python's venv module is missing; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group test --group lint -e '.[simulator,embedded,otel,s3]'
	@touch $@

demo: .venv/.installed  ## generate through the simulator, pictures in var/demo/
	conveyor demo

up: .venv/.installed  ## stay up locally: gateway, Redis, simulator, worker, Flower
	conveyor up

test: .venv/.installed  ## tests with a real Redis and real workers, under 5 minutes; ARGS=tests/unit for a part
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not long" $(ARGS)

test-long: .venv/.installed  ## the others: kills at every point, faults, a real Prometheus
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m long $(ARGS)

SECONDS ?= 120
SEED ?= 1
chaos: .venv/.installed  ## break things for SECONDS=120 by the plan of SEED=1, then count (ARGS="--intensity 2")
	$(BIN)/python -m bench.chaos --seconds $(SECONDS) --seed $(SEED) $(ARGS)

bench: .venv/.installed  ## jobs a second beside the plain Celery design; CPU of the HTTP transports
	$(BIN)/python -m bench.throughput $(ARGS)
	$(BIN)/python -m bench.transports

bench-budget: .venv/.installed  ## share of the budget used, worst windows, cost of a decision; writes docs/performance.md
	$(BIN)/python -m bench.budget --write $(ARGS)

bench-gateway: .venv/.installed  ## enqueue by HTTP beside Python, and how soon 500 open streams hear of an end
	$(BIN)/python -m bench.gateway $(ARGS)

bench-in-flight: .venv/.installed  ## memory and CPU of a worker with 100, 1,000 and 10,000 runs in flight
	$(BIN)/python -m bench.in_flight --write $(ARGS)

bench-looks: .venv/.installed  ## calls per job against delay, ours beside known clients'; with workers: ARGS="--processes 60"
	$(BIN)/python -m bench.looks --write $(ARGS)

rehearse-image: .venv/.installed  ## the image's steps and the compose file's commands, without a container engine
	$(BIN)/python -m ops.rehearse_image

bench-catalog: .venv/.installed  ## calls the catalog saves and who waits, beside simpler caches; writes docs/performance.md
	$(BIN)/python -m bench.catalog --write $(ARGS)

check: .venv/.installed  ## ruff, mypy, import contracts
	ruff format --check .
	ruff check .
	mypy
	lint-imports

fmt: .venv/.installed  ## format and fix what a machine can fix
	ruff format .
	ruff check --fix .

schemas: .venv/.installed  ## write docs/schemas/, docs/reference/http.md and the dashboard from the code
	$(BIN)/python -m shared.jobs.schemas
	$(BIN)/python -m producers.gateway.reference
	$(BIN)/python -m ops.dashboard

clean:  ## remove .venv and everything a run wrote
	rm -rf .venv var .pytest_cache .mypy_cache .ruff_cache .hypothesis
