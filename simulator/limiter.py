"""How fast may clients call? Not limited by the service itself; by a proxy in front of it, perhaps."""

from __future__ import annotations

import time

from simulator.settings import RateLimit


class Limiter:
    """A token bucket: `burst` calls at once, then `per_second`."""

    def __init__(self, rate: RateLimit) -> None:
        self.rate = rate
        self._tokens = float(rate.burst)
        self._at = time.monotonic()

    def take(self) -> float:
        """Take a token and give 0, or give the seconds until there is one."""
        at = time.monotonic()
        self._tokens = min(float(self.rate.burst), self._tokens + (at - self._at) * self.rate.per_second)
        self._at = at
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self.rate.per_second
