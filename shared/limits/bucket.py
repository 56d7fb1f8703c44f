"""May we ask the API once more? One round trip answers `granted` or how long to wait.

The bucket is on Redis's clock and shared by every worker. Redis gone means closed: no answer, no call.
In any window of T seconds at most `burst + rate * T` calls are granted; bursts after a quiet time are wanted, so a
sliding window would be stricter than the API asks for.

Read `shared/lua/take_tokens.lua` beside it.
"""

import asyncio
import json
import random
from collections import defaultdict
from typing import Literal

from shared.database import Database
from shared.settings import Settings

CallClass = Literal["submit", "look", "catalog", "cancel"]

#: Class -> (share of the rate that is its own, share of the burst that is kept for it). The sums stay below one:
#: the rest goes to whoever comes first.
FLOORS: dict[CallClass, tuple[float, float]] = {
    "submit": (0.30, 0.20),
    "look": (0.30, 0.20),
    "cancel": (0.10, 0.10),
    "catalog": (0.05, 0.10),
}

#: Part of the full rate that comes back with each second after a 429: a halved rate is whole again in 50 s.
RECOVERY_PER_SECOND = 0.01
#: However often the API pushes back, this part of the rate stays, or we would never learn that it has recovered.
LEAST_FACTOR = 0.05


class TokenBucket:
    """The budget of one API account."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._db = database
        self._account = settings.account
        self._rate, self._burst = settings.rate_per_second, settings.rate_burst
        floors = {name: (share, max(1.0, part * settings.rate_burst)) for name, (share, part) in FLOORS.items()}
        self._floors = json.dumps(floors)
        # Callers of one class queue up here in order, and only the first asks Redis: the others could only hear "wait".
        self._turnstiles: defaultdict[CallClass, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def ask(self, class_: CallClass) -> float:
        """Take one token if there is one: 0.0 when granted, else the seconds to wait before asking again."""
        granted, wait_ms = await self._db.run(
            "take_tokens",
            self._account,
            class_,
            self._rate,
            self._burst,
            self._floors,
            RECOVERY_PER_SECOND,
        )
        return 0.0 if granted else int(wait_ms) / 1000

    async def take(self, class_: CallClass) -> None:
        """Wait for a token, in the order of asking. Ends when granted; cancel the task to stop waiting.

        A closed bucket can make this wait for minutes, so the caller decides how long it is worth it
        (`asyncio.timeout`). Raises `Unavailable` when Redis is away: closed.
        """
        async with self._turnstiles[class_]:
            while (wait := await self.ask(class_)) > 0:  # noqa: ASYNC110 - the event happens in Redis
                # Not longer than a second: an operator may raise the rate while we sleep.
                await asyncio.sleep(min(wait, 1.0) + random.uniform(0, 0.003))

    async def push_back(self, seconds: float, *, slow_down: bool) -> None:
        """The API asked for a pause: nobody calls it for `seconds`; `slow_down` (a 429) also halves the rate."""
        await self._db.run("push_back", self._account, round(seconds * 1000), "1" if slow_down else "0", LEAST_FACTOR)

    async def state(self) -> dict[str, str]:
        """The bucket as it is stored, for operators."""
        return await self._db.hash(self._db.keys.budget(self._account))
