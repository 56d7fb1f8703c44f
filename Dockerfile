# syntax=docker/dockerfile:1
# One image for every process of the Procfile; docker-compose.yml says which one a container is.
# Python 3.11 is what constraints.txt was frozen and tested with.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
# Extras of pyproject.toml to install, comma between them: `simulator` for the simulator's container.
ARG EXTRAS=""
WORKDIR /app
# Without pip: an image that runs has nothing to install, and 12 MB less.
RUN python -m venv --without-pip /opt/venv
# The dependencies change seldom, the code often: this layer needs nothing but the list and the versions. Installed
# without the code, the package is only its metadata and the command `conveyor`; PYTHONPATH below leads to the code.
COPY pyproject.toml constraints.txt ./
RUN touch README.md \
 && python -m pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check \
    -c constraints.txt -e ".${EXTRAS:+[$EXTRAS]}"

FROM python:${PYTHON}-slim
# HOME is where `conveyor get` keeps its cache: the one place that can be written to when the root is read-only.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp
RUN useradd --uid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin conveyor
COPY --from=build /opt/venv /opt/venv
# The lines of the Procfile run from the project's root.
WORKDIR /app
COPY pyproject.toml Procfile README.md ./
COPY shared shared
COPY tasks tasks
COPY workers workers
COPY producers producers
COPY simulator simulator
# Nothing can be written later, and a health check starts Python every half minute: compile once, here.
RUN python -m compileall -q shared tasks workers producers simulator
# By number, so that Kubernetes can tell that it is not root.
USER 10001:10001

# A worker told to stop finishes or hands back within 10 s; give it more than that before you kill it.
STOPSIGNAL SIGTERM
# The image's default process is a worker: ask whether the one on this host shows signs of life and takes messages (a
# ping would not do: see workers/watch.py). Other processes bring a check of their own in docker-compose.yml.
HEALTHCHECK --interval=30s --timeout=15s --start-period=30s --retries=3 CMD ["python", "-m", "workers.health"]
# The line `worker` of the Procfile; tests/unit/test_containers.py holds the two equal.
CMD ["celery", "-A", "workers", "worker", "--without-gossip", "--without-mingle", "--loglevel=INFO"]
