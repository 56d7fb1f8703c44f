"""Ways for several processes to share so many calls a second: ours, and three that people reach for first.

Each is asked by `take`, which returns when the call may be made. All are given the same rate and the same Redis.
"""

import asyncio
import math
import random
import time
from typing import Protocol

from shared.database import Database
from shared.limits.bucket import CallClass, TokenBucket
from shared.settings import Settings


class Design(Protocol):
    """One process's view of the shared rate."""

    #: How often `take` has asked Redis.
    asks: int

    async def ask(self, class_: CallClass) -> float:
        """Take a call: 0.0 when it may be made, else the seconds to wait."""
        ...

    async def take(self, class_: CallClass) -> object:
        """Wait until a call may be made."""
        ...


class Ours(TokenBucket):
    """The bucket as workers use it, counted."""

    def __init__(self, database: Database, settings: Settings) -> None:
        super().__init__(database, settings)
        self.asks = 0

    async def _ask(self, class_: CallClass, *, retry: bool = False) -> tuple[float, int]:
        self.asks += 1
        return await super()._ask(class_, retry=retry)


class SleepAndRetry(Ours):
    """The same bucket without its turnstiles: every caller asks for itself, and again 100 ms after a refusal."""

    async def take(self, class_: CallClass, **_: object) -> int:
        """Ask until it is granted."""
        while await self.ask(class_) > 0:  # noqa: ASYNC110 - the event happens in Redis
            await asyncio.sleep(0.1)
        return 0


class FixedWindow:
    """INCR of a counter for each second, which expires: the recipe of the Redis manual's INCR page."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.asks = 0
        self._redis, self._rate = database.redis, settings.rate_per_second
        self._prefix = f"{database.keys.prefix}fixed:"

    async def ask(self, class_: CallClass) -> float:
        """Count this call; beyond the rate, wait for the next second. Seconds are those of this process's clock."""
        del class_
        self.asks += 1
        second = math.floor(time.time())
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.incr(f"{self._prefix}{second}")
            pipe.expire(f"{self._prefix}{second}", 10)
            count, _ = await pipe.execute()
        return 0.0 if count <= self._rate else second + 1 - time.time()

    async def take(self, class_: CallClass) -> None:
        """Ask until it is granted."""
        while (wait := await self.ask(class_)) > 0:  # noqa: ASYNC110 - the event happens in Redis
            await asyncio.sleep(wait + random.uniform(0, 0.003))


class Split:
    """Every process gets rate / n for itself and asks nobody."""

    def __init__(self, settings: Settings, processes: int) -> None:
        self.asks = 0
        self._rate, self._burst = settings.rate_per_second / processes, settings.rate_burst / processes
        self._tokens, self._at = self._burst, time.monotonic()
        self._turn = asyncio.Lock()

    async def ask(self, class_: CallClass) -> float:
        """A token bucket in this process."""
        del class_
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0.0

    async def take(self, class_: CallClass) -> None:
        """In the order of asking, whatever the class."""
        async with self._turn:
            while (wait := await self.ask(class_)) > 0:  # noqa: ASYNC110 - time is the event
                await asyncio.sleep(wait)


#: What tables call them.
NAMES = {
    "ours": "Conveyor: one bucket, turnstiles",
    "retry": "the same bucket, each caller retries every 100 ms",
    "fixed": "a counter for each second (INCR, EXPIRE)",
    "split": "rate / n for each process",
}


def design(name: str, database: Database, settings: Settings, processes: int) -> Design:
    """One process's part of a design."""
    match name:
        case "ours":
            return Ours(database, settings)
        case "retry":
            return SleepAndRetry(database, settings)
        case "fixed":
            return FixedWindow(database, settings)
        case _:
            return Split(settings, processes)
