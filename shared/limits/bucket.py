"""May we ask the API once more? One round trip answers `granted` or how long to wait.

The bucket is on Redis's clock and shared by every worker. Redis gone means closed: no answer, no call.
In any window of T seconds at most `burst + rate * T` calls are granted; bursts after a quiet time are wanted, so a
sliding window would be stricter than the API asks for.

Read `shared/lua/take_tokens.lua` beside it.
"""

import asyncio
import json
import logging
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Literal

from shared.database import Database
from shared.errors import ConveyorError, RateLimited, Unavailable, Undecided
from shared.limits.turnstile import Turnstile
from shared.metrics import TOKEN_WAIT, TOKENS
from shared.settings import Settings

log = logging.getLogger(__name__)

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

#: Who waits asks again after so long at the latest: an operator may raise the rate meanwhile.
MOST_SLEEP_SECONDS = 1.0
#: Who is told to wait several times in a row waits up to so many times as long: with four full processes, at 100 calls a
#: second, a call takes 5 questions instead of 12, and as many calls are made.
MOST_PATIENCE = 5

#: Share of the newest wait in the moving average of waits.
PRESSURE_WEIGHT = 0.1

#: The retry budget: this share of the rate may go to submits that were refused before, with so many at once after a quiet
#: time. So a half-broken API gets at most that much of the same again, whatever the number of jobs.
RETRY_SHARE = 0.2
MOST_RETRIES = 5

#: A 429 that does not say how long to wait.
NO_RETRY_AFTER_SECONDS = 2.0

#: Calls in a row that fail (no answer, or 5xx) before nobody calls for a while, and then one probe at a time does.
BREAKER_THRESHOLD = 5
BREAKER_PAUSE_SECONDS = 1.0
BREAKER_LONGEST_SECONDS = 30.0
#: A probe not heard of by then was lost with its worker.
PROBE_SECONDS = 10.0


class TokenBucket:
    """The budget of one API account."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._db = database
        self._account = settings.account
        self._rate, self._burst = settings.rate_per_second, settings.rate_burst
        floors = {name: (share, max(1.0, part * settings.rate_burst)) for name, (share, part) in FLOORS.items()}
        self._floors = json.dumps(floors)
        #: How long calls of this process have waited for their tokens lately, in seconds: what a look costs the others.
        self.pressure_seconds = 0.0
        # Callers of one class queue up here, and only the first asks Redis: the others could only hear "wait".
        self._turnstiles: defaultdict[str, Turnstile] = defaultdict(Turnstile)

    async def ask(self, class_: CallClass) -> float:
        """Take one token if there is one: 0.0 when granted, else the seconds to wait before asking again."""
        return (await self._ask(class_))[0]

    async def _ask(self, class_: CallClass, *, retry: bool = False) -> tuple[float, int]:
        """Also answers how many calls failed in a row before the one that is granted."""
        granted, number = await self._db.run(
            "take_tokens",
            self._account,
            class_,
            self._rate,
            self._burst,
            self._floors,
            RECOVERY_PER_SECOND,
            BREAKER_THRESHOLD,
            PROBE_SECONDS,
            RETRY_SHARE if retry else "",
            MOST_RETRIES,
        )
        TOKENS.labels(class_, "granted" if granted else "refused").inc()
        return (0.0, int(number)) if granted else (int(number) / 1000, 0)

    async def take(self, class_: CallClass, *, value: float = 0.0, retry: bool = False) -> int:
        """Wait for a token. Answers how many calls failed in a row before this one.

        Callers of a class in this process are served by `value`, the seconds of users' waiting that the call is expected to
        end, and by how long they have waited (`turnstile.py`).

        A `retry` also spends of the retry budget, and does not make those wait that retry nothing.

        Ends when granted; cancel the task to stop waiting. A closed bucket can make this wait for minutes, so the caller
        decides how long it is worth it (`asyncio.timeout`). Raises `Unavailable` when Redis is away: closed.
        """
        began = time.monotonic()
        turnstile = self._turnstiles["retry" if retry else class_]
        async with turnstile.turn(value) as turn:
            refusals = 0
            while True:
                wait, failures = await self._ask(class_, retry=retry)
                if wait <= 0:
                    waited = time.monotonic() - began
                    TOKEN_WAIT.labels(class_).observe(waited)
                    self.pressure_seconds += PRESSURE_WEIGHT * (waited - self.pressure_seconds)
                    return failures
                # Told a short wait again and again means that others are quicker: ask less often. What gathers meanwhile is
                # not lost, the bucket holds it. (A pause does not count: all hear of it.)
                refusals = refusals + 1 if wait < MOST_SLEEP_SECONDS else 0
                sleep = wait * min(max(1, refusals), MOST_PATIENCE)
                await asyncio.sleep(min(sleep, MOST_SLEEP_SECONDS) + random.uniform(0, 0.003))
                await turnstile.give_way(turn)

    @asynccontextmanager
    async def call(self, class_: CallClass, *, value: float = 0.0) -> AsyncIterator[None]:
        """Spend a token on the one API call of the body, and learn from how it went. Raises what the call raises."""
        failures = await self.take(class_, value=value)
        async with self.learning(failures):
            yield

    @asynccontextmanager
    async def learning(self, failures: int) -> AsyncIterator[None]:
        """Learn from the one API call of the body; `failures` is what `take` answered.

        A 429 closes the bucket for everyone and halves the rate; answers in trouble count for the circuit breaker. One
        round trip when the call failed, or ended a row of failures; else none. Always raises what the call raised, even
        when Redis is away: what became of a submit must not be hidden by that.
        """
        try:
            yield
        except RateLimited as error:
            with self._quietly():
                await self.push_back(error.retry_after_seconds or NO_RETRY_AFTER_SECONDS, slow_down=True)
                if failures:
                    await self._report("answered")
            raise
        except (Unavailable, Undecided):
            with self._quietly():
                await self._report("failed")
            raise
        except ConveyorError:
            if failures:  # refused, but answered: the API is there
                with self._quietly():
                    await self._report("answered")
            raise
        else:
            if failures:
                with self._quietly():
                    await self._report("answered")

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        try:
            yield
        except Unavailable as error:
            log.warning("the budget could not be told", extra={"error": str(error)})

    async def _report(self, how: Literal["answered", "failed"]) -> None:
        pause_ms, longest_ms = round(BREAKER_PAUSE_SECONDS * 1000), round(BREAKER_LONGEST_SECONDS * 1000)
        failures, closed_ms = await self._db.run(
            "report_call", self._account, how, BREAKER_THRESHOLD, pause_ms, longest_ms, random.random()
        )
        if how == "failed" and failures >= BREAKER_THRESHOLD:
            log.warning("API in trouble, calls paused", extra={"failures": failures, "pause_seconds": closed_ms / 1000})

    async def push_back(self, seconds: float, *, slow_down: bool) -> None:
        """The API asked for a pause: nobody calls it for `seconds`; `slow_down` (a 429) also halves the rate."""
        await self._db.run("push_back", self._account, round(seconds * 1000), "1" if slow_down else "0", LEAST_FACTOR)

    async def state(self) -> dict[str, str]:
        """The bucket as it is stored, for operators."""
        return await self._db.hash(self._db.keys.budget(self._account))
