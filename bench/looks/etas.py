"""How often do jobs end within the ETA they were given? In virtual time, with the product's own forecast."""

import statistics

from bench.looks.workload import WORKLOADS, Workload
from shared.following.forecast import KEPT, forecast
from shared.following.milestones import ETA_CHANCE

RUNS = 400


def coverage() -> str:
    """A table of Markdown: of runs that follow one another, each foretold from the 32 before it."""
    lines = [
        "### ETAs kept",
        "",
        (
            f"An ETA is the time by which {ETA_CHANCE:.0%} of such runs have ended. {RUNS} runs each, foretold from the {KEPT} before; "
            "how much too long it was is the median over the runs that kept it."
        ),
        "",
        "| workload | told | kept | too long by, s |",
        "|---|---|---:|---:|",
    ]
    for name in WORKLOADS:
        if name != "mix":
            lines += _rows(name)
    return "\n".join(lines) + "\n"


def _rows(name: str) -> list[str]:
    workload = Workload(name, 1)
    totals: list[float] = []
    takes: list[float] = []
    told: dict[str, list[float]] = {"at the submit": [], "at the start": [], "half way": []}
    for _ in range(KEPT + RUNS):
        run = workload.run(0.0)
        took = run.ended - run.started
        if len(totals) >= KEPT:
            total, rest = forecast(tuple(totals[:KEPT])), forecast(tuple(takes[:KEPT]))
            told["at the submit"].append(total.by_chance(ETA_CHANCE, age=0.0) - run.ended)
            told["at the start"].append(rest.by_chance(ETA_CHANCE, age=0.0) - took)
            told["half way"].append(rest.by_chance(ETA_CHANCE, age=took / 2) - took)
        totals.insert(0, run.ended)
        takes.insert(0, took)
    rows = []
    for when, over in told.items():
        kept = [late for late in over if late >= 0]
        rows.append(f"| {name} | {when} | {len(kept) / len(over):.0%} | {statistics.median(kept):.1f} |")
    return rows
