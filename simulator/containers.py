"""When does a waiting run get a GPU?

A pool of containers per machine, or per deployment that has its own image. Runs wait in order of arrival until a warm
container is free or a new one may be booted; `limit` bounds how many exist at once. A container that finished a run stays
warm for the idle time and then dies. All waiting and booting happens while the run is still `not-started`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from simulator.agenda import Agenda, Entry
from simulator.rows import Run

#: Called when a container is ready for a run: the run, and whether the container had to be booted for it.
Take = Callable[[Run, bool], None]


class Pool:
    def __init__(self, agenda: Agenda, limit: int, idle_seconds: float, keep_warm: int, take: Take) -> None:
        self._agenda, self._take = agenda, take
        self.limit, self.idle_seconds, self.keep_warm = max(1, limit), idle_seconds, keep_warm
        self.busy = 0
        self.waiting: deque[Run] = deque()
        #: The deaths of the warm containers, longest idle first.
        self._warm: deque[Entry] = deque()
        for _ in range(keep_warm):
            self._warm.append(Entry(lambda: None))

    @property
    def warm(self) -> int:
        return len(self._warm)

    def enqueue(self, run: Run) -> None:
        self.waiting.append(run)
        self.feed()

    def feed(self) -> None:
        """Give containers to as many waiting runs as the limit allows."""
        while self.waiting and self.busy < self.limit:
            run = self.waiting.popleft()
            if run.final:
                continue
            cold = not self._warm
            if not cold:
                self._warm.pop().dropped = True
            self.busy += 1
            self._take(run, cold)

    def release(self, *, dead: bool = False) -> None:
        """Take a container back: it stays warm, or it is gone when it died."""
        self.busy -= 1
        if not dead and self.idle_seconds > 0:
            entry: Entry
            entry = self._agenda.after(self.idle_seconds, lambda: self._expire(entry))
            self._warm.append(entry)
        self.feed()

    def _expire(self, entry: Entry) -> None:
        if entry in self._warm:
            if len(self._warm) + self.busy <= self.keep_warm:
                return
            self._warm.remove(entry)
