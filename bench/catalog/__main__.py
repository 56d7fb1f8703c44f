"""Calls saved, waits and failures when names are looked up: ours beside two simpler designs; writes its part of docs/performance.md.

    python -m bench.catalog [--write] [--rounds 5]

Real processes on one Redis and the simulator, whose answers take 0.3 s. Every round is the same for each design:
steady questions, with the API away for a while. Copies are good for a hundredth of their life.
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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.catalog.caller import WARM_UP_SECONDS
from bench.catalog.designs import DESIGNS, LISTING_SECONDS, SCALE, NoCache
from bench.document import put
from producers.local.processes import ROOT, environment
from producers.local.stack import Stack
from shared.catalog.freshness import MACHINES_SECONDS
from shared.database import Database

PROCESSES = 3
PER_SECOND = 15.0
SECONDS = 12.0
AWAY_FROM, AWAY_UNTIL = 6.0, 9.0
ANSWER_SECONDS = 0.3

SLOW = {"kind": "slow_answer", "route": "GET *", "seconds": ANSWER_SECONDS}
AWAY = {"kind": "unavailable", "route": "GET *"}


@dataclass(frozen=True)
class Round:
    """What one design did in one round."""

    lookups: int
    calls: int
    hits: float
    failed: float
    p50_ms: float
    p99_ms: float

    @property
    def calls_per_thousand(self) -> float:
        """Of the API, for a thousand questions."""
        return 1000 * self.calls / self.lookups


async def play(stack: Stack, http: httpx.AsyncClient, name: str) -> Round:
    """One design, from nothing."""
    prefix = f"b{uuid.uuid4().hex[:8]}:"
    # The budget shall not be what decides here.
    env = environment(**stack.env, BENCH_PREFIX=prefix, CONVEYOR_RATE_PER_SECOND="1000", CONVEYOR_RATE_BURST="1000")
    command = [sys.executable, "-m", "bench.catalog.caller", name, str(SECONDS), str(PER_SECOND)]
    await _faults(http, SLOW)
    async with Database.open(stack.env["REDIS_URL"], prefix=prefix) as database, asyncio.timeout(90 + SECONDS):
        programs = [
            await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=env, stdout=asyncio.subprocess.PIPE)
            for _ in range(PROCESSES)
        ]
        try:
            while int(await database.redis.get(f"{prefix}ready") or 0) < PROCESSES:  # noqa: ASYNC110 - the event happens in Redis
                await asyncio.sleep(0.02)
            await database.redis.rpush(f"{prefix}go", *["go"] * PROCESSES)
            began = time.monotonic()
            await asyncio.sleep(WARM_UP_SECONDS)
            before = await _calls(http)
            for at, faults in ((AWAY_FROM, (AWAY,)), (AWAY_UNTIL, (SLOW,))):
                await asyncio.sleep(began + at - time.monotonic())
                await _faults(http, *faults)
            answers = [json.loads((await program.communicate())[0]) for program in programs]
        finally:
            for program in programs:
                if program.returncode is None:
                    program.kill()
                    await program.wait()
        calls = await _calls(http) - before
    waits = sorted(wait for answer in answers for wait in answer["waits"])
    return Round(
        lookups=len(waits),
        calls=calls,
        hits=min(1.0, sum(answer["hits"] for answer in answers) / len(waits)),
        failed=sum(answer["failed"] for answer in answers) / len(waits),
        p50_ms=1000 * waits[len(waits) // 2],
        p99_ms=1000 * waits[int(0.99 * len(waits))],
    )


async def _faults(http: httpx.AsyncClient, *faults: dict[str, object]) -> None:
    (await http.post("/_sim/config", json={"faults": list(faults)})).raise_for_status()


async def _calls(http: httpx.AsyncClient) -> int:
    return int((await http.get("/_sim/stats")).json()["calls_total"])


def table(rounds: dict[str, list[Round]]) -> str:
    """Medians, and the lowest and highest."""

    def spread(name: str, value: Callable[[Round], float], form: str) -> str:
        values = sorted(value(one) for one in rounds[name])
        return f"{statistics.median(values):{form}} ({values[0]:{form}} to {values[-1]:{form}})"

    plain = statistics.median(one.calls_per_thousand for one in rounds[NoCache.name])
    lines = [
        "| design | API calls per 1,000 lookups | calls saved | from a copy | failed | wait p50, ms | wait p99, ms |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, found in rounds.items():
        saved = 1 - statistics.median(one.calls_per_thousand for one in found) / plain
        lines.append(
            f"| {name} | {spread(name, lambda one: one.calls_per_thousand, '.0f')} | {saved:.1%} "
            f"| {spread(name, lambda one: 100 * one.hits, '.1f')} % | {spread(name, lambda one: 100 * one.failed, '.1f')} % "
            f"| {spread(name, lambda one: one.p50_ms, '.2f')} | {spread(name, lambda one: one.p99_ms, '.0f')} |"
        )
    return "\n".join(lines)


async def measure(rounds: int) -> str:
    """Everything, as Markdown."""
    load = os.getloadavg()[0]
    found: dict[str, list[Round]] = {name: [] for name in DESIGNS}
    with tempfile.TemporaryDirectory() as folder:
        async with (
            Stack(Path(folder), workers=0) as stack,
            httpx.AsyncClient(base_url=stack.simulator_url, timeout=30, trust_env=False) as http,
        ):
            for _ in range(rounds):
                for name in DESIGNS:
                    found[name].append(await play(stack, http, name))
                    print(name, found[name][-1], flush=True)
    text = table(found)
    print(text)
    return f"""## Catalog: calls saved

Written by `python -m bench.catalog --write --rounds {rounds}`: {PROCESSES} processes look names up, {PER_SECOND:g} times a second
each, for {SECONDS:g} s of which the first {WARM_UP_SECONDS:g}, with nothing known, are not counted; the simulator answers after {ANSWER_SECONDS:g} s, and from {AWAY_FROM:g} to {AWAY_UNTIL:g} s with 503.
A listing is good for {LISTING_SECONDS:g} s and a machine's limit for {MACHINES_SECONDS / SCALE:g} s, a hundredth of what it is in life; all else is as in life.
Median of {rounds} rounds in turn (lowest to highest), load average {load:.1f} when it began.

{text}

Conveyor's calls include the workflows' names and the machines' limits, which the other two do not read, and pay for tokens.
The cache that expires is asked for by everybody at once when it has, and fails when the API does.
In life copies are good for a hundred times as long, so that the same lookups cost about a hundredth of the calls, and workers renew them before they are stale."""


def main() -> int:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the part of docs/performance.md")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    text = asyncio.run(measure(given.rounds))
    if given.write:
        put("catalog", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
