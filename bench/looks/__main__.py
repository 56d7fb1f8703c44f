"""The frontier of calls per finished job against the delay of the news; writes docs/performance.md.

    python -m bench.looks [--write] [--runs 400] [--seeds 3]      in virtual time, all policies, ten minutes
    python -m bench.looks [--write] --processes 90                a few points with real workers, ten minutes

Virtual time: no network, no processes, the same runs for every policy. A call takes 50 ms of virtual time for everybody.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass

from bench.document import DOCUMENT, put
from bench.looks import processes
from bench.looks.etas import coverage
from bench.looks.optimum import comparison
from bench.looks.picture import draw
from bench.looks.policies import Policy, policies
from bench.looks.workload import WORKLOADS, Workload

IN_FLIGHT = (1, 10, 40, 500)
CALL_SECONDS = 0.05


@dataclass(frozen=True)
class Point:
    """What a policy cost, and what it brought: medians over the seeds."""

    policy: str
    calls_per_job: float
    mean_delay: float
    p95_delay: float


def play(policy: Policy, workload: Workload, in_flight: int, runs: int) -> tuple[float, float, float]:
    """Keep `in_flight` runs going until `runs` were heard of. Calls per run (submit included), mean and p95 delay."""
    now, calls, made = 0.0, 0, 0
    delays: list[float] = []
    spread = 13.0 if workload.name != "video" else 150.0
    arrivals = sorted(workload.rng.uniform(0, spread) for _ in range(in_flight))
    # The first runs teach what a warm system knows; they are played, but not counted.
    warm_up = max(40, in_flight)
    while len(delays) < runs + warm_up:
        looking = policy.next_time() if made and made > len(delays) else float("inf")
        if arrivals and arrivals[0] <= looking:
            now = max(now, arrivals.pop(0))
            policy.begin(workload.run(now), now)
            made += 1
            continue
        now = max(now, looking)
        asked, ended = policy.look(now)
        counted = len(delays) >= warm_up
        calls += asked if counted else 0
        for run in ended:
            delays.append(now + CALL_SECONDS - run.ended)
            arrivals.append(now)
            calls += 1 if counted else 0
    news = sorted(delays[warm_up : warm_up + runs])
    return calls / len(delays[warm_up:]), statistics.fmean(news), news[int(0.95 * len(news))]


def measure(name: str, in_flight: int, runs: int, seeds: int) -> list[Point]:
    """All policies on one workload."""
    points = []
    for place, policy in enumerate(policies(0)):
        tries = []
        for seed in range(1, seeds + 1):
            fresh = list(policies(seed))[place]
            tries.append(play(fresh, Workload(name, seed), in_flight, runs))
        calls, mean, p95 = (statistics.median(column) for column in zip(*tries, strict=True))
        points.append(Point(policy.name, calls, mean, p95))
    return points


def table(name: str, in_flight: int, points: Iterable[Point]) -> str:
    """One table of Markdown."""
    plural = "run" if in_flight == 1 else "runs"
    lines = [f"### {name}, {in_flight} {plural} in flight", "", f"{WORKLOADS[name]}.", ""]
    lines += ["| policy | calls per job | mean delay, s | p95 delay, s |", "|---|---:|---:|---:|"]
    for point in points:
        lines.append(f"| {point.policy} | {point.calls_per_job:.2f} | {point.mean_delay:.2f} | {point.p95_delay:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, print, and write the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/performance.md and its picture")
    parser.add_argument("--runs", type=int, default=400, help="finished runs counted for each point")
    parser.add_argument("--seeds", type=int, default=3, help="workloads for each point; medians are shown")
    parser.add_argument("--processes", type=float, metavar="SECONDS", help="measure a few points with real processes")
    given = parser.parse_args()
    if given.processes:
        real = processes.table(asyncio.run(processes.measure(given.processes)), given.processes)
        print(real)
        if given.write:
            put("looks with real processes", real)
        return 0
    began, parts, forty = time.monotonic(), [], []
    for name in WORKLOADS:
        for in_flight in IN_FLIGHT:
            points = measure(name, in_flight, max(given.runs, 2 * in_flight), given.seeds)
            parts.append(table(name, in_flight, points))
            print(parts[-1], flush=True)
            if (name, in_flight) == ("image", 40):
                forty = points
    optimum, etas = comparison(), coverage()
    print(optimum, etas, sep="\n")
    if given.write:
        command = f"`python -m bench.looks --write --runs {given.runs} --seeds {given.seeds}`"
        intro = (
            f"## Looks: calls against delay\n\nWritten by {command} in virtual time; nothing here depends on the machine.\n"
            "Calls per job include the submit.\nThe delay is from the end of the run upstream to the moment its outputs are "
            "known here; a call takes 50 ms.\n\n![calls against delay](looks.svg)\n\n"
        )
        put("looks", f"{intro}{optimum}\n{etas}\n" + "\n".join(parts))
        DOCUMENT.with_name("looks.svg").write_text(draw([(p.policy, p.calls_per_job, p.mean_delay) for p in forty]))
    print(f"{time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
