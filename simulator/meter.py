"""Did a client keep to its budget? Counts every call to the API, and the worst second.

Calls to `/_sim/` and downloads from the bucket are not counted. Times are of the monotonic clock, in real seconds.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import Any

#: How many calls are kept one by one for `?calls=1`; older ones are forgotten, the totals are not.
KEEP_CALLS = 200_000


class Window:
    """The most calls ever seen within any stretch of time of this length."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.highest = 0
        self._times: deque[float] = deque()

    def add(self, at: float) -> None:
        self._times.append(at)
        while self._times[0] <= at - self.seconds:
            self._times.popleft()
        self.highest = max(self.highest, len(self._times))


class Meter:
    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.per_route: Counter[str] = Counter()
        self.per_status: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.total = 0
        self.calls: deque[tuple[float, str]] = deque(maxlen=KEEP_CALLS)
        self._windows = (Window(1.0), Window(10.0))
        self.since = time.monotonic()

    def call(self, route: str) -> None:
        at = time.monotonic()
        self.total += 1
        self.per_route[route] += 1
        self.calls.append((at, route))
        for window in self._windows:
            window.add(at)

    def report(self) -> dict[str, Any]:
        one, ten = self._windows
        return {
            "calls_total": self.total,
            "calls": dict(self.per_route.most_common()),
            "answers": dict(self.per_status.most_common()),
            "faults": dict(self.faults.most_common()),
            "highest_rate_per_second": one.highest,
            "highest_calls_in_10_seconds": ten.highest,
            "seconds": time.monotonic() - self.since,
        }
