"""Who looks when? Ours as the workers do it, and what known clients do: ask about each run for itself, again and again.

Each policy is played on the same runs; it sees what the API would tell it and pays a call for each question.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Protocol

from bench.looks.hints import Hints, Streams, Webhooks
from bench.looks.workload import VirtualRun
from shared.following.forecast import KEPT, Forecast, forecast
from shared.following.history import ENOUGH, FRESH_SECONDS, HINTS_KEPT, trust
from tasks.schedule import Backoff, Pending, delay, next_look, price, worth_reading


class Policy(Protocol):
    """What the player asks of a policy."""

    name: str

    def begin(self, run: VirtualRun, now: float) -> None:
        """A run was submitted."""

    def next_time(self) -> float:
        """When it wants to look."""

    def look(self, now: float) -> tuple[int, list[VirtualRun]]:
        """Look: calls made, and the runs it now knows to have ended, outputs included."""


@dataclass
class Each:
    """Ask about each run for itself, after `wait(n)` seconds for the n-th time."""

    name: str
    wait: Callable[[int], float]
    #: (when, a number that settles ties, the run), the next first.
    agenda: list[tuple[float, int, VirtualRun]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)

    def begin(self, run: VirtualRun, now: float) -> None:
        heappush(self.agenda, (now + self.wait(1), next(self.numbers), run))

    def next_time(self) -> float:
        return self.agenda[0][0]

    def look(self, now: float) -> tuple[int, list[VirtualRun]]:
        calls, ended = 0, []
        while self.agenda and self.agenda[0][0] <= now:
            _, _, run = heappop(self.agenda)
            calls += 1
            run.looks += 1
            if run.ended <= now:
                ended.append(run)
            else:
                heappush(self.agenda, (now + self.wait(run.looks + 1), next(self.numbers), run))
        return calls, ended


@dataclass
class Ours:
    """The workers' rule, with their functions: `tasks/look.py` in virtual time."""

    name: str
    hints: Hints | None = None
    runs: dict[str, list[VirtualRun]] = field(default_factory=dict)
    due: dict[str, float] = field(default_factory=dict)
    totals: dict[str, list[float]] = field(default_factory=dict)
    takes: dict[str, list[float]] = field(default_factory=dict)
    beliefs: dict[str, tuple[float, Forecast, Forecast]] = field(default_factory=dict)
    heard: list[bool] = field(default_factory=list)

    def begin(self, run: VirtualRun, now: float) -> None:
        self.runs.setdefault(run.deployment, []).append(run)
        if self.hints is not None:
            run.hinted = self.hints.told_at(run)
        first = self._pending(run, now)
        wait = next_look([first], price(0.0, self._hint_rate())) if first else 1.0
        self.due[run.deployment] = min(self.due.get(run.deployment, now + wait), now + wait)

    def next_time(self) -> float:
        hints = (run.hinted for runs in self.runs.values() for run in runs if run.hinted is not None)
        return min([*self.due.values(), *hints])

    def look(self, now: float) -> tuple[int, list[VirtualRun]]:
        calls, ended = (0 if self.hints is None else self.hints.calls(now)), []
        for deployment in list(self.runs):
            hinted = any(run.hinted is not None and run.hinted <= now for run in self.runs[deployment])
            if hinted or self.due.get(deployment, now + 1) <= now:
                made, found = self._look_at(deployment, now)
                calls += made
                ended += found
        return calls, ended

    def _look_at(self, deployment: str, now: float) -> tuple[int, list[VirtualRun]]:
        runs = self.runs[deployment]
        pending = [self._pending(run, now) for run in runs]
        known = [one for one in pending if one is not None]
        places = worth_reading(known) if len(known) == len(runs) else ([0] if len(runs) == 1 else None)
        asked = runs if places is None else [runs[place] for place in places]
        ended = [run for run in asked if run.ended <= now]
        calls = (1 + len(ended)) if places is None else len(asked)
        for run in asked:
            run.looks += 1
            run.looked = now
            run.seen_started = run.seen_started or run.started <= now
            if run.hinted is not None and run.hinted <= now:
                run.hinted = None
                self.heard.insert(0, True)
            elif run in ended and self.hints is not None:
                self.heard.insert(0, False)
        for run in ended:
            runs.remove(run)
            self.totals.setdefault(deployment, []).insert(0, run.ended - run.submitted)
            self.takes.setdefault(deployment, []).insert(0, run.ended - run.started)
        self._plan(deployment, now)
        return calls, ended

    def _plan(self, deployment: str, now: float) -> None:
        runs = self.runs[deployment]
        if not runs:
            del self.runs[deployment]
            self.due.pop(deployment, None)
            return
        pending = [self._pending(run, now) for run in runs]
        known = [one for one in pending if one is not None]
        times = [next_look(known, price(0.0, self._hint_rate()))] if known else []
        times += [delay(Backoff.WAIT, run.looks + 1) for run, one in zip(runs, pending, strict=True) if one is None]
        self.due[deployment] = now + min(times)

    def _hint_rate(self) -> float:
        return trust(self.heard[:HINTS_KEPT])

    def _pending(self, run: VirtualRun, now: float) -> Pending | None:
        totals = self.totals.get(run.deployment, [])
        if len(totals) < ENOUGH:
            return None
        until, total, took = self.beliefs.get(run.deployment, (-1.0, None, None))
        if total is None or took is None or now >= until:
            total = forecast(tuple(totals[:KEPT]))
            took = forecast(tuple(self.takes[run.deployment][:KEPT]))
            self.beliefs[run.deployment] = now + FRESH_SECONDS, total, took
        belief, since = (took, run.started) if run.seen_started else (total, run.submitted)
        age = max(0.0, now - since)
        hinted = run.hinted is not None and run.hinted <= now
        return Pending(belief, age, min(age, max(0.0, run.looked - since)), hinted, self._hint_rate())


def policies(seed: int) -> Iterable[Policy]:
    """Everything that is compared."""
    rng = random.Random(seed)

    def google(attempt: int) -> float:
        return min(20.0, 1.0 * 1.5 ** (attempt - 1)) * rng.uniform(0.5, 1.5)

    yield Ours("Conveyor, polling")
    yield Ours("Conveyor, webhooks", Webhooks(seed))
    yield Ours("Conveyor, SSE", Streams(seed))
    for seconds, who in ((0.1, "fal"), (0.5, "Replicate"), (2.0, "the documents' loop"), (5.0, "")):
        yield Each(f"every {seconds:g} s" + (f" ({who})" if who else ""), lambda _, s=seconds: s)  # type: ignore[misc]
    yield Each("google-api-core, 1 to 20 s", google)
    yield Each(
        "tenacity, exponential to 5 s", lambda attempt: 1.0 if attempt == 1 else delay(Backoff.WAIT, attempt - 1)
    )
