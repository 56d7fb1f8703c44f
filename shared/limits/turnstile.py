"""Who of those that wait is next? The most valuable, then the oldest; and nobody waits for ever.

The value of a caller is a number of seconds: the waiting of users that its call is expected to end. Each second it waits
itself counts the same. So the order is that of `arrival - value`, which never changes while one waits: a value of five lets a
caller pass those that came up to five seconds before it, and a bound on values bounds how long anybody can be passed by.

One process, one event loop; no I/O. `bucket.py` has one for each class.
"""

import asyncio
import heapq
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

#: Seconds. Nobody is passed by callers that came later than this after him, however valuable.
MOST_VALUE = 30.0


@dataclass(order=True, slots=True)
class Turn:
    """A caller's place. It has the turnstile, waits for it, or has left."""

    key: float
    number: int
    #: Done when the turn is handed over.
    mine: asyncio.Future[None] | None = field(default=None, compare=False)


class Turnstile:
    """Lets one through at a time. Cancelling a waiter is safe, also at the moment in which it is its turn."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._waiting: list[Turn] = []
        self._holder: Turn | None = None

    @asynccontextmanager
    async def turn(self, value: float = 0.0) -> AsyncIterator[Turn]:
        """Wait for the turn and hold it over the body. `value` is in seconds, from 0 to `MOST_VALUE`."""
        turn = Turn(time.monotonic() - min(MOST_VALUE, max(0.0, value)), next(self._numbers))
        await self._wait(turn)
        try:
            yield turn
        finally:
            if self._holder is turn:
                self._pass_on()

    async def give_way(self, turn: Turn) -> None:
        """Let those through that have come meanwhile and go before this one, and hold the turn again.

        Cancelled here, the turn is lost, as it should be: the body is over.
        """
        if self._waiting and self._waiting[0] < turn:
            self._pass_on()
            await self._wait(turn)

    async def _wait(self, turn: Turn) -> None:
        if self._holder is None:
            self._holder = turn
            return
        turn.mine = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, turn)
        try:
            await turn.mine
        except asyncio.CancelledError:
            turn.mine.cancel()  # its place is passed by when it comes up
            if self._holder is turn:  # handed over, and cancelled before it could run
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        self._holder = None
        while self._waiting and self._holder is None:
            turn = heapq.heappop(self._waiting)
            if turn.mine is not None and not turn.mine.done():
                turn.mine.set_result(None)
                self._holder = turn
