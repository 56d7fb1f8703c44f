"""How can thousands of runs live at once without a task each?

One heap of things to do, one timer for the earliest of them. A run in flight costs a few heap entries and no coroutine.

The agenda keeps the simulator's own time: seconds since it was made, running `speed` times faster than the wall. When the
speed changes, what is already on the heap keeps its place in simulated time and the timer is set anew.
Callbacks run on the event loop, one after another, in order of time and then of insertion; they must not block.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import time
from collections.abc import Callable

log = logging.getLogger("simulator")


class Entry:
    """A thing to do. Cancel it by setting `dropped`; it then leaves the heap when its time comes."""

    __slots__ = ("dropped", "run")

    def __init__(self, run: Callable[[], None]) -> None:
        self.run = run
        self.dropped = False


class Agenda:
    def __init__(self, speed: float = 1.0) -> None:
        self._heap: list[tuple[float, int, Entry]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._speed = speed
        self._mark_wall = time.monotonic()
        self._mark_own = 0.0

    @property
    def speed(self) -> float:
        return self._speed

    @speed.setter
    def speed(self, value: float) -> None:
        self._mark_own, self._mark_wall = self.time(), time.monotonic()
        self._speed = value
        self._arm()

    def time(self) -> float:
        """Tell the simulated seconds since this agenda was made."""
        return self._mark_own + (time.monotonic() - self._mark_wall) * self._speed

    def after(self, seconds: float, run: Callable[[], None]) -> Entry:
        """Do `run` when that many simulated seconds have passed."""
        return self.at(self.time() + max(0.0, seconds), run)

    def at(self, own_time: float, run: Callable[[], None]) -> Entry:
        entry = Entry(run)
        heapq.heappush(self._heap, (own_time, next(self._order), entry))
        if self._heap[0][2] is entry:
            self._arm()
        return entry

    def clear(self) -> None:
        self._heap.clear()
        self._arm()

    def __len__(self) -> int:
        return len(self._heap)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap:
            wait = max(0.0, (self._heap[0][0] - self.time()) / self._speed)
            self._timer = asyncio.get_running_loop().call_later(wait, self._turn)

    def _turn(self) -> None:
        self._timer = None
        # Why a bound: at a high speed the due entries can produce due entries; requests must get their turn too.
        for _ in range(500):
            if not self._heap or self._heap[0][0] > self.time():
                break
            _, _, entry = heapq.heappop(self._heap)
            if not entry.dropped:
                try:
                    entry.run()
                except Exception:
                    log.exception("an entry of the agenda failed")
        self._arm()
