"""Redis is away: how long until we ask again, and when do we stop asking?

Waits of 0.1, 0.2, 0.4 … 5 seconds, each shortened by up to half at random, so that a thousand readers do not come back in
the same moment.
"""

import asyncio
import random
import time

from shared.errors import Unavailable

FIRST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 5.0


class Outage:
    """One reader's memory of the outage it is in, if any."""

    def __init__(self, longest_seconds: float = float("inf")) -> None:
        #: Seconds after which `pause` gives up.
        self._longest = longest_seconds
        self._since: float | None = None
        self._tries = 0

    async def pause(self, error: Exception) -> None:
        """Wait before the next try. Raises `Unavailable` once the outage has lasted too long."""
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if now - self._since > self._longest:
            raise Unavailable(f"Redis has been away for {now - self._since:.0f} s.") from error
        wait = min(FIRST_WAIT_SECONDS * 2**self._tries, LONGEST_WAIT_SECONDS)
        self._tries = min(self._tries + 1, 10)
        await asyncio.sleep(wait * random.uniform(0.5, 1.0))

    def over(self) -> None:
        """Redis answered."""
        self._since, self._tries = None, 0
