"""When does a hint tell of a run's end? Webhooks and the API's progress streams, in virtual time.

What the real API's streams do was seen only in recordings of a few seconds, so how long one lasts is assumed: a minute on
average, which is on the bad side. The pauses between two are those of `workers/listening.py`.
"""

import random
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Protocol

from bench.looks.workload import VirtualRun
from tasks.schedule import delay
from workers.listening import CUT, STEADY_SECONDS

#: A hook needs this long, and so many of them arrive.
HOOK_SECONDS = 0.1
HOOKS_ARRIVE = 0.98

#: An event on an open stream needs this long; a stream lasts so long on average.
EVENT_SECONDS = 0.1
STREAM_LASTS_SECONDS = 60.0
#: From a workflow's first run until its stream is open: up to a tick of `Listening.tend`, and the call.
TICK_SECONDS = 1.0
CALL_SECONDS = 0.05


class Hints(Protocol):
    """What our policy asks of a source of hints."""

    def told_at(self, run: VirtualRun) -> float | None:
        """When the run's end will be told; None when it never is."""

    def calls(self, now: float) -> int:
        """Calls the source itself has made since it was last asked."""


class Webhooks:
    """They cost no calls; some never arrive."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def told_at(self, run: VirtualRun) -> float | None:
        return run.ended + HOOK_SECONDS if self._rng.random() < HOOKS_ARRIVE else None

    def calls(self, now: float) -> int:
        del now
        return 0


@dataclass
class _Workflow:
    """The streams of one workflow, one after the other, so far as they have been thought out."""

    opened: list[float]
    closed: list[float]
    cuts: int = 0


@dataclass
class Streams:
    """One stream a workflow, a call each time it is opened; what ends while it is not open is never told."""

    seed: int
    lasts_seconds: float = STREAM_LASTS_SECONDS
    _workflows: dict[str, _Workflow] = field(default_factory=dict)
    _asked_at: float = -1.0

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)

    def told_at(self, run: VirtualRun) -> float | None:
        streams = self._workflows.get(run.deployment)
        if streams is None:
            first = run.submitted + self._rng.uniform(0.0, TICK_SECONDS) + CALL_SECONDS
            streams = self._workflows[run.deployment] = _Workflow([first], [first + self._lasts()])
        while streams.closed[-1] < run.ended:
            lasted = streams.closed[-1] - streams.opened[-1]
            streams.cuts = 1 if lasted >= STEADY_SECONDS else streams.cuts + 1
            streams.opened.append(streams.closed[-1] + delay(CUT, streams.cuts) + CALL_SECONDS)
            streams.closed.append(streams.opened[-1] + self._lasts())
        place = bisect_right(streams.opened, run.ended) - 1
        heard = place >= 0 and run.ended < streams.closed[place]
        return run.ended + EVENT_SECONDS if heard else None

    def calls(self, now: float) -> int:
        made = sum(
            bisect_right(streams.opened, now) - bisect_right(streams.opened, self._asked_at)
            for streams in self._workflows.values()
        )
        self._asked_at = now
        return made

    def _lasts(self) -> float:
        return self._rng.expovariate(1.0 / self.lasts_seconds)
