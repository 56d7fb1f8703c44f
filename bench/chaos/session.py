"""One run: start everything, let the crowd live while faults are injected, wait until all is quiet, count."""

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bench.chaos.crowd import Crowd, make_asks
from bench.chaos.evidence import FINAL, Evidence, deliveries, gather, leaks, records
from bench.chaos.injector import Injected, Injector
from bench.chaos.plan import Fault, make_plan
from bench.chaos.scorecard import Line, score
from bench.chaos.site import BURST, FRONTENDS, RATE, Site
from bench.chaos.wards import Ward, Watcher
from producers.producer import Producer
from shared.database import REDIS_AWAY

#: From the last fault until everything must be final. A submit that got no answer and made no run takes 65 s and a turn, a
#: stuck run 65 s and two looks.
SETTLE_SECONDS = 100.0
#: Beyond the plan, whatever hangs.
SLACK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for."""

    seconds: float
    seed: int
    intensity: float
    jobs_per_second: float
    power_loss: bool
    only: frozenset[str]
    folder: Path

    def plan(self) -> list[Fault]:
        """The faults of this run."""
        return make_plan(self.seed, self.seconds, self.intensity, power_loss=self.power_loss, only=self.only)

    @property
    def replay(self) -> str:
        """The command that does the same again."""
        words = ["python -m bench.chaos", f"--seconds {self.seconds:g}", f"--seed {self.seed}"]
        words += [f"--intensity {self.intensity:g}"] if self.intensity != 1 else []
        words += [f"--jobs-per-second {self.jobs_per_second:g}"] if self.jobs_per_second != DEFAULT_JOBS else []
        words += ["--redis-kill-hard"] if self.power_loss else []
        words += [f"--only {','.join(sorted(self.only))}"] if self.only else []
        return " ".join(words)


DEFAULT_JOBS = 3.0


@dataclass
class Outcome:
    """What came of it."""

    lines: list[Line]
    injected: list[Injected]
    #: What the simulator did, by kind of fault.
    simulated: dict[str, int]
    told: dict[str, Any]
    log_errors: Counter[str]
    seen: Evidence = field(repr=False)
    wards: list[Ward] = field(repr=False)

    @property
    def broken(self) -> list[Line]:
        """The numbers that break a promise."""
        return [line for line in self.lines if line.broken]


class Shows(Protocol):
    """Who tells the person in front of the screen."""

    def show(self, phase: str, seconds: float, crowd: Crowd, watcher: Watcher, injected: list[Injected]) -> None: ...


async def run(options: Options, display: Shows) -> Outcome:
    """Carry one run out. Ends by itself; when cancelled, what it started ends first."""
    async with Site(options.folder, options.seed) as site, Producer(site.settings) as producer:
        plan = options.plan()
        (options.folder / "plan.txt").write_text("".join(f"{fault}\n" for fault in plan))
        crowd, watcher = Crowd(producer), Watcher(site)
        injector = Injector(site, watcher)
        phase = _Phase(display, crowd, watcher, injector)
        async with phase.telling(), _beside(watcher.watch()):
            asks = make_asks(options.seed, options.seconds, options.jobs_per_second)
            async with asyncio.timeout(options.seconds + SLACK_SECONDS), asyncio.TaskGroup() as group:
                group.create_task(injector.carry_out(plan))
                group.create_task(crowd.live(asks))
            phase.now = "settling"
            settled = await _settle(site, crowd)
            phase.now = "counting"
        seen = await gather(site, crowd.accepted, crowd.answers)
        lines = score(seen, watcher.wards, injector.outages, rate=RATE, burst=BURST)
        alone = [f"{name}: {count}" for name, count in site.ended_alone().items()]
        # Told, not judged: kombu 5.7.0 ends a worker whose Redis goes away while it holds an unacknowledged message, and
        # the supervisor starts it again.
        lines.append(Line("processes that ended by themselves", len(alone), None, alone))
        states = Counter(job["state"] for job in seen.jobs.values())
        told = {
            "states": dict(states),
            "asked again with the same key": crowd.repeats,
            "cancelled": crowd.cancels,
            "asks and cancels repeated because Redis was away": crowd.unanswered,
            "most jobs past the lanes at once": watcher.most_in_window,
            "seconds from the last fault until all was final": round(settled, 1),
            "acknowledged writes Redis forgot, by outage": injector.forgotten_writes,
            "slowest stop in a rolling restart, s": round(max(injector.stops, default=0.0), 1),
            "messages whose reader died before it acknowledged": await site.client.hlen("unacked"),
            "webhooks": seen.stats["webhooks"],
        }
        outcome = Outcome(lines, injector.done, seen.stats["faults"], told, seen.log_errors, seen, watcher.wards)
        _write(options, outcome)
        return outcome


@dataclass
class _Phase:
    display: Shows
    crowd: Crowd
    watcher: Watcher
    injector: Injector
    now: str = "faults"
    began: float = field(default_factory=time.monotonic)

    @contextlib.asynccontextmanager
    async def telling(self) -> AsyncIterator[None]:
        async with _beside(self._tell()):
            yield

    async def _tell(self) -> None:
        while True:
            seconds = time.monotonic() - self.began
            self.display.show(self.now, seconds, self.crowd, self.watcher, self.injector.done)
            await asyncio.sleep(0.5)


@contextlib.asynccontextmanager
async def _beside(work: Any) -> AsyncIterator[None]:
    """Carry something out for as long as the body lasts; its failure fails the body's end."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _settle(site: Site, crowd: Crowd) -> float:
    """Wait until every job is final, handed out and cleared away, but not for ever. Answers the seconds it took."""
    began = time.monotonic()
    while time.monotonic() - began < SETTLE_SECONDS:
        with contextlib.suppress(*REDIS_AWAY):
            jobs = await records(site, crowd.accepted)
            if all(job["state"] in FINAL for job in jobs.values()) and not await leaks(site):
                handed = {(line["job_id"], line["seq"]) for line in deliveries(site)}
                if len(handed) >= sum(int(job["seq"]) for job in jobs.values()):
                    break
        await asyncio.sleep(0.5)
    seconds = time.monotonic() - began
    # What comes too late or twice shall have its chance to be seen.
    await asyncio.sleep(2.0)
    return seconds


def _write(options: Options, outcome: Outcome) -> None:
    """`scorecard.json`, and the events of every job a broken number names."""
    card = {
        "replay": options.replay,
        "broken": [line.name for line in outcome.broken],
        "lines": [asdict(line) for line in outcome.lines],
        "told": outcome.told,
        "injected": [asdict(one) for one in outcome.injected],
        "simulated": outcome.simulated,
        "log_errors": dict(outcome.log_errors.most_common(20)),
        "wards": [asdict(ward) | {"stall": ward.stall} for ward in outcome.wards],
        "frontends": list(FRONTENDS),
    }
    (options.folder / "scorecard.json").write_text(json.dumps(card, indent=1, default=str))
    named = " ".join(case for line in outcome.broken for case in line.cases)
    cases = {
        job_id: {
            "record": outcome.seen.jobs.get(job_id),
            "events": [asdict(entry) for entry in outcome.seen.entries if entry.job_id == job_id],
            "deliveries": [line for line in outcome.seen.deliveries if line["job_id"] == job_id],
            "runs": [run for run in outcome.seen.runs if run["_job_id"] == job_id],
        }
        for job_id in outcome.seen.accepted
        if job_id in named
    }
    (options.folder / "broken.json").write_text(json.dumps(cases, indent=1))
