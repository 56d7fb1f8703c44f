"""How often may one key ask? A bucket for each frontend in this process's memory.

In memory and not in Redis, on purpose: the limit protects this process from one client's loop, it costs no round trip,
and it holds while Redis is away. With several gateways each grants its share. What must hold for all of them together is
in Redis: jobs of one user (`create.lua`) and calls of the API (`shared/limits/`).

Answers carry `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10).
"""

import math
import time
from collections.abc import MutableMapping

from producers.gateway.problems import Refused

WINDOW_SECONDS = 60


class Rates:
    """`limit` requests a minute for each frontend, all of them at once if need be."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._per_second = limit / WINDOW_SECONDS
        #: Frontend -> tokens left, and when they were counted.
        self._buckets: dict[str, tuple[float, float]] = {}

    def count(self, frontend: str, headers: MutableMapping[str, str]) -> None:
        """Count one request and say in `headers` what is left. Raises `Refused` (429)."""
        now = time.monotonic()
        tokens, at = self._buckets.get(frontend, (float(self._limit), now))
        tokens = min(self._limit, tokens + (now - at) * self._per_second)
        granted = tokens >= 1
        self._buckets[frontend] = (tokens - 1 if granted else tokens, now)
        left = math.floor(self._buckets[frontend][0])
        whole_in = math.ceil((self._limit - left) / self._per_second)
        headers["RateLimit-Policy"] = f'"requests";q={self._limit};w={WINDOW_SECONDS}'
        headers["RateLimit"] = f'"requests";r={left};t={whole_in}'
        if not granted:
            wait = max(1, math.ceil((1 - tokens) / self._per_second))
            raise Refused(
                429, "too_many_requests", "Too many requests with this key.", headers={"Retry-After": str(wait)}
            )
