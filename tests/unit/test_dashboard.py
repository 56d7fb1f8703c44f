"""Dashboard and alerts ask only for what we export, by labels that are there, and nothing we export is asked for by nobody."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import get_args

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram

from ops import dashboard
from ops.questions import ROWS
from shared import metrics
from shared.limits.bucket import CallClass
from shared.system_gauges import SYSTEM_GAUGES
from tests.unit.test_alerts import needs_promtool, rules

METRIC = re.compile(r"\b((?:conveyor|process|up)(?:_\w+)?)\b(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
AGGREGATION = re.compile(r"\b(?:sum|max|min|count|avg) by \(([^)]*)\) ?\(")

#: What Prometheus adds to each sample, and what prometheus-client exports of a process by itself.
EVERYWHERE = {"job", "instance"}
OF_THE_PROCESS = ("process_resident_memory_bytes", "process_cpu_seconds_total", "process_start_time_seconds")


def exported() -> dict[str, set[str]]:
    """Every name a scrape brings, with its labels."""
    found: dict[str, set[str]] = {name: set() for name in OF_THE_PROCESS}
    for metric in vars(metrics).values():
        if isinstance(metric, Counter | Gauge | Histogram):
            name, labels = next(iter(metric.describe())).name, set(metric._labelnames)
            match metric:
                case Counter():
                    found[f"{name}_total"] = labels
                case Histogram():
                    found |= {f"{name}_bucket": labels | {"le"}, f"{name}_sum": labels, f"{name}_count": labels}
                case _:
                    found[name] = labels
    return found | {name: set(gauge.labels) for name, gauge in SYSTEM_GAUGES.items()}


def known_values() -> dict[tuple[str, str], set[str]]:
    """(name, label) -> its values, where they are all there from the start."""
    found: dict[tuple[str, str], set[str]] = {("conveyor_token_wait_seconds_bucket", "class"): set(get_args(CallClass))}
    for metric in vars(metrics).values():
        if isinstance(metric, Counter) and metric._labelnames and metric._metrics:
            name = next(iter(metric.describe())).name
            for place, label in enumerate(metric._labelnames):
                found[f"{name}_total", label] = {values[place] for values in metric._metrics}
    return found


QUERIES = {rule["alert"]: rule["expr"] for rule in rules()} | {
    f"{one.question} {n}": query for asked in ROWS.values() for one in asked for n, (_, query) in enumerate(one.lines)
}


def inside(query: str, start: int) -> str:
    """What stands between a bracket that opens just before `start` and the one that closes it."""
    depth, end = 1, start
    while depth:
        depth += {"(": 1, ")": -1}.get(query[end], 0)
        end += 1
    return query[start : end - 1]


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_a_query_asks_for_what_is_there(query: str) -> None:
    """Each metric is exported, each label is one of its labels, and a value that is compared with is one it can have."""
    names, values = exported(), known_values()
    asked = METRIC.findall(re.sub(r'"[^"]*"', lambda text: text[0].replace("conveyor", ""), query))

    assert asked
    for name, matchers in asked:
        assert name in names
        for label, _, value in MATCHER.findall(matchers):
            assert label in names[name] | EVERYWHERE
            if (name, label) in values and not value.endswith(".."):
                assert set(value.split("|")) <= values[name, label]
    for by in AGGREGATION.finditer(query):
        labels = {label.strip() for label in by[1].split(",")}
        for name, _ in METRIC.findall(inside(query, by.end())):
            assert labels <= names[name] | EVERYWHERE


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_a_number_of_the_system_is_not_added_up_over_processes(query: str) -> None:
    """Every process exports it: only a maximum over them is right (of `conveyor_redis_reached` the minimum)."""
    for name in SYSTEM_GAUGES:
        for at in re.finditer(rf"\b{name}\b", query):
            before = query[: at.start()]
            assert re.search(
                r"(max|min|count|absent|on)( by \([\w, ]*\))? ?\((\w+ offset)?$|and on \(instance\) $", before
            ), name


def test_no_metric_is_asked_for_by_nobody() -> None:
    """What is exported is drawn, or rings."""
    text = " ".join(QUERIES.values())

    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported()} - set(OF_THE_PROCESS)
    assert {name for name in families if not re.search(rf"\b{name}(_bucket|_sum|_count)?\b", text)} == set()


def test_the_dashboard_is_fresh() -> None:
    """`make schemas` has been run since a question was changed; each title is a question, and names of panels are unique."""
    assert dashboard.FILE.read_text() == dashboard.text()
    titles = [one.question for asked in ROWS.values() for one in asked]
    assert all(title.endswith("?") for title in titles)
    assert len(titles) == len(set(titles))


@needs_promtool
def test_prometheus_can_read_every_query_of_the_dashboard(tmp_path: Path) -> None:
    """As rules, which promtool checks."""
    recorded = [
        {"record": f"panel:{n}", "expr": query.replace("$__rate_interval", "5m")}
        for n, query in enumerate(QUERIES.values())
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))

    checked = subprocess.run(
        ["promtool", "check", "rules", file], check=False, capture_output=True, text=True, timeout=60
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert shutil.which("promtool")
