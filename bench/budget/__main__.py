"""Share of the budget used, calls in the worst window, cost of a decision; writes its part of docs/performance.md.

    python -m bench.budget [--write] [--rate 100] [--seconds 11]

Real processes on a Redis of its own, ours and other designs in turn; then real Celery workers on the simulator.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from bench.budget import designs, windows
from bench.budget.workers import Fleet, fleet
from bench.document import put
from producers.local.processes import ROOT, environment
from producers.local.redis_server import RedisServer
from shared.database import Database
from shared.settings import Settings

BURST = 20
CALLERS = 60
#: In which the burst is spent.
WARM_UP_SECONDS = 1.2


WHY = """
A call is appended some milliseconds after it was granted, so a design that is exact can be a few above.
A counter for each second is not: around the turn of a second it lets two seconds' calls through.
rate / n keeps the budget, and leaves three quarters of it unused when one of four processes has work.
Without turnstiles every caller asks for itself: a multiple of the questions, and whoever calls seldom waits longest."""


@dataclass(frozen=True)
class Case:
    """So many processes, of which so many have a full queue."""

    processes: int
    busy: int
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What a design did in a case."""

    design: str
    case: Case
    calls: list[float]
    used: float
    asks_per_call: float
    cpu_us_per_call: float
    #: How long cancels waited, the rarest of the urgent: 95th percentile, seconds.
    cancel_p95: float


async def play(url: str, name: str, case: Case, rate: float) -> Outcome:
    """One design in one case, from a fresh bucket."""
    prefix = f"b{uuid.uuid4().hex[:8]}:"
    env = environment(REDIS_URL=url, BENCH_PREFIX=prefix, **limits(rate))
    command = [sys.executable, "-m", "bench.budget.caller", name, str(case.processes), str(case.seconds), str(CALLERS)]
    async with Database.open(url, prefix=prefix) as database, asyncio.timeout(60 + case.seconds):
        programs = [
            await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=env, stdout=asyncio.subprocess.PIPE)
            for _ in range(case.busy)
        ]
        try:
            while int(await database.redis.get(f"{prefix}ready") or 0) < case.busy:  # noqa: ASYNC110 - the event happens in Redis
                await asyncio.sleep(0.02)
            await database.redis.rpush(f"{prefix}go", *["go"] * case.busy)
            answers = [json.loads((await program.communicate())[0]) for program in programs]
        finally:
            for program in programs:
                if program.returncode is None:
                    program.kill()
                    await program.wait()
        stamps = sorted(int(us) / 1e6 for us in await database.redis.lrange(f"{prefix}calls", 0, -1))
    calls = [at - stamps[0] for at in stamps]
    cancels = sorted(seconds for answer in answers for seconds in answer["waits"].get("cancel", []))
    return Outcome(
        design=name,
        case=case,
        calls=calls,
        # Whole seconds, or a design that goes by them would be lucky or unlucky.
        used=windows.used(calls, rate, WARM_UP_SECONDS, WARM_UP_SECONDS + int(case.seconds - WARM_UP_SECONDS - 0.3)),
        asks_per_call=sum(answer["asks"] for answer in answers) / len(calls),
        cpu_us_per_call=1e6 * sum(answer["cpu"] for answer in answers) / len(calls),
        cancel_p95=cancels[int(0.95 * len(cancels))] if cancels else float("nan"),
    )


def limits(rate: float) -> dict[str, str]:
    """The settings of a budget."""
    return {"CONVEYOR_RATE_PER_SECOND": str(rate), "CONVEYOR_RATE_BURST": str(BURST), "COMFY_DEPLOY_API_KEY": "bench"}


async def decision(url: str, name: str, times: int = 3000) -> tuple[float, float, float, float]:
    """One caller alone: round trip (median, p95), our CPU and Redis's CPU for a decision, all in µs."""
    settings = Settings.model_validate({"rate_per_second": 10_000, "rate_burst": 100_000, "api_key": "b"})
    async with Database.open(url, prefix=f"b{uuid.uuid4().hex[:8]}:") as database:
        asked = designs.design(name, database, settings, 1)
        await asked.ask("look")
        await database.redis.config_resetstat()
        trips, cpu = [], time.process_time()
        for _ in range(times):
            began = time.perf_counter()
            await asked.ask("look")
            trips.append((time.perf_counter() - began) * 1e6)
        cpu = time.process_time() - cpu
        stats = await database.redis.info("commandstats")
    inside = sum(
        row["usec"] for key, row in stats.items() if key.removeprefix("cmdstat_") in ("evalsha", "incr", "expire")
    )
    return statistics.median(trips), sorted(trips)[int(0.95 * times)], cpu / times * 1e6, inside / times


def table(outcomes: list[Outcome], rate: float) -> str:
    """Designs below each other for each case."""
    allowed = " / ".join(f"{BURST + rate * seconds:.0f}" for seconds in windows.LENGTHS)
    head = (
        "design",
        "processes, busy",
        "budget used",
        f"most calls in any 1 / 2 / 10 s (allowed {allowed})",
        "windows above",
        "cancels wait, p95",
        "questions a call",
        "CPU a call, µs",
    )
    lines = [f"| {' | '.join(head)} |", "|---|---|---:|---:|---:|---:|---:|---:|"]
    for one in outcomes:
        most, above = [], 0
        for seconds in windows.LENGTHS:
            whole = seconds < one.case.seconds
            most.append(str(windows.highest(one.calls, seconds)) if whole else "-")
            above += windows.above(one.calls, rate, BURST, seconds)
        lines.append(
            f"| {designs.NAMES[one.design]} | {one.case.processes}, {one.case.busy} | {one.used:.1%} | {' / '.join(most)} "
            f"| {above} | {one.cancel_p95:.2f} s | {one.asks_per_call:.2f} | {one.cpu_us_per_call:.0f} |"
        )
    return "\n".join(lines) + "\n"


def costs(rows: dict[str, tuple[float, float, float, float]]) -> str:
    """What a decision costs, by design."""
    lines = ["| design | round trip, median | p95 | CPU here | CPU in Redis |", "|---|---:|---:|---:|---:|"]
    for name, (median, p95, here, there) in rows.items():
        lines.append(f"| {designs.NAMES[name]} | {median:.0f} µs | {p95:.0f} µs | {here:.0f} µs | {there:.0f} µs |")
    return "\n".join(lines) + "\n"


def workers_table(rows: list[Fleet]) -> str:
    """The rows of real workers."""
    lines = [
        "| worker processes | budget used | most calls in any 1 / 2 / 10 s | allowed | windows above | submits | looks and others |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        most = " / ".join(str(windows.highest(row.calls, seconds)) for seconds in windows.LENGTHS)
        allowed = " / ".join(f"{row.burst + row.rate * seconds:.0f}" for seconds in windows.LENGTHS)
        above = sum(windows.above(row.calls, row.rate, row.burst, seconds) for seconds in windows.LENGTHS)
        lines.append(
            f"| {row.processes} | {row.used:.1%} | {most} | {allowed} | {above} | {row.submits} "
            f"| {len(row.calls) - row.submits} |"
        )
    return "\n".join(lines) + "\n"


async def measure(rate: float, seconds: float) -> str:
    """Everything, as Markdown."""
    cases = [Case(1, 1, seconds / 2), Case(2, 2, seconds / 2), Case(4, 4, seconds), Case(4, 1, seconds / 2)]
    load = os.getloadavg()[0]
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        async with RedisServer(Path(folder)) as server:
            decisions = {name: await decision(server.url, name) for name in designs.NAMES if name != "retry"}
            print(costs(decisions), flush=True)
            for case in cases:
                for name in designs.NAMES:
                    outcomes.append(await play(server.url, name, case, rate))
                    print(table(outcomes[-1:], rate).splitlines()[-1], flush=True)
                    worst = windows.excess(outcomes[-1].calls, rate, BURST)
                    print(f"  worst window of any length: {worst:+.2f} calls against what is allowed", flush=True)
        rows = [await fleet(Path(folder) / "fleet", processes=4)]
        print(workers_table(rows), flush=True)
    worst = max(windows.excess(one.calls, rate, BURST) for one in outcomes if one.design == "ours")
    return (
        f"Written by `python -m bench.budget --write`: real processes, {CALLERS} callers in each that always want the next "
        f"call, a bucket of {rate:g} calls a second and {BURST} at once, all designs in turn on one Redis; load average "
        f"{load:.1f} when it began.\n"
        "A call is an append of Redis's time to a list; only that list is judged.\n"
        f"`processes, busy`: 4, 1 is four processes of which one has work.\n\n{table(outcomes, rate)}\n"
        f"In its worst window of any other length ours had {abs(worst):.1f} of a call {'more' if worst > 0 else 'fewer'} "
        f"than is allowed.\n{WHY}\n\nA decision, one caller alone:\n\n{costs(decisions)}\n"
        "Celery workers on the simulator with a full lane, judged by the simulator's own record of calls:\n\n"
        f"{workers_table(rows)}"
    )


def main() -> int:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the part of docs/performance.md")
    parser.add_argument("--rate", type=float, default=100.0, help="calls a second")
    parser.add_argument("--seconds", type=float, default=11.0, help="of the longest case")
    given = parser.parse_args()
    began = time.monotonic()
    text = asyncio.run(measure(given.rate, given.seconds))
    if given.write:
        put("budget", f"## Budget: used, and kept\n\n{text}")
    print(f"{time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
