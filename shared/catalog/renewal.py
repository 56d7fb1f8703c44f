"""When is a part of the catalog read anew, by whom, and who waits for it?

    fresh                   given
    stale                   given; one of all processes reads it anew meanwhile
    forgotten, or none      one reads it, everybody else waits for that one, a bounded time; then what there is is given

One flight a part: in this process they share a task, and processes share a lease in Redis (`begin_refresh.lua`). A reader
that died holds the others up for the rest of its lease. A reading that failed is noted for everybody, who then do not try
for a while.
"""

import asyncio
import contextlib
import logging
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from shared.catalog.freshness import EARLY, STALE_SECONDS, Freshness, lifetime, rest_seconds
from shared.catalog.shelf import Seen, Shelf
from shared.database import Database
from shared.errors import ConveyorError, Unavailable
from shared.metrics import CATALOG_LOOKUPS, CATALOG_REFRESHES

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Who reads says this often that it still does; one that is silent for the lease is taken for dead.
LEASE_SECONDS = 10.0
RENEW_SECONDS = 3.0
#: All calls of one reading together, their tokens included; a fallback may need one call a workflow.
READ_SECONDS = 120.0
#: How long a request waits when there is no copy at all, and when there is one that is known to be outdated.
FIRST_WAIT_SECONDS = 5.0
FORGOTTEN_WAIT_SECONDS = 3.0
#: After a wait in vain nobody in this process waits again for so long.
IMPATIENT_SECONDS = 10.0
#: Who waits for another process asks again after so long, the shorter at first.
SHORTEST_POLL_SECONDS, LONGEST_POLL_SECONDS = 0.03, 0.5
#: Notes on a part are kept longer than its copy.
NOTE_SECONDS = 3 * 24 * 3600.0

#: How one part is read from the API; it is given what is held of it now.
Read = Callable[[Seen[T]], Awaitable[T]]


class Part(Generic[T]):
    """One part of the catalog: its copy and its renewal. `read` is None in a process that may not ask the API."""

    def __init__(
        self,
        name: str,
        database: Database,
        shelf: Shelf[T],
        read: Read[T] | None,
        *,
        first_wait_seconds: float = FIRST_WAIT_SECONDS,
    ) -> None:
        self.name = name
        self._db, self._shelf, self._read = database, shelf, read
        self._first_wait_seconds = first_wait_seconds
        self._flight: asyncio.Task[None] | None = None
        self._flight_began = 0.0
        self._impatient_until = 0.0
        #: Why the last renewal by this process brought nothing.
        self.error: ConveyorError | None = None

    async def get(self) -> Seen[T]:
        """What there is; waits only when that is nothing, or known to be outdated. At most one round trip as a rule."""
        seen = await self._shelf.look()
        if seen.freshness in (Freshness.FRESH, Freshness.STALE):
            tier = "memory" if seen.from_memory else "redis"
            CATALOG_LOOKUPS.labels(self.name, tier if seen.freshness is Freshness.FRESH else "stale").inc()
            if seen.freshness is Freshness.STALE and not seen.is_resting and not seen.is_read:
                self._start(seen)
            return seen
        CATALOG_LOOKUPS.labels(self.name, "stale" if seen.held else "miss").inc()
        wait = FORGOTTEN_WAIT_SECONDS if seen.held else self._first_wait_seconds
        return await self.newer(seen, wait_seconds=wait)

    async def peek(self) -> Seen[T]:
        """What there is; waits for nothing, renews nothing and is not counted."""
        return await self._shelf.look()

    async def newer(self, seen: Seen[T], *, wait_seconds: float) -> Seen[T]:
        """What there is after a renewal that others may share, or after the wait. Never raises for trouble upstream."""
        wanted, found = max(seen.read_at, seen.forgotten_at), seen
        end = time.monotonic() + wait_seconds
        while found.held is None or found.held.read_at <= wanted:
            left = end - time.monotonic()
            if time.monotonic() < self._impatient_until or left <= 0:
                break
            if found.is_resting and found.held is not None:
                break
            if self._read is None and not found.is_read:
                break
            # A flight that began before the wish may bring what is too old for it: then there is another.
            flight = self._flight or self._start(seen)
            await asyncio.wait({flight}, timeout=left)
            if not flight.done() or self.error is not None:
                self._impatient_until = time.monotonic() + IMPATIENT_SECONDS
            else:
                await asyncio.sleep(random.uniform(0.0, SHORTEST_POLL_SECONDS))
            found = await self._shelf.look()
        return found

    async def refresh(self) -> Seen[T]:
        """Read it anew, whatever there is; who asks at the same time shares the answer. At most two readings for a crowd.

        Raises `Unavailable` and what reading raises: then there is no newer copy.
        """
        if self._read is None:
            raise Unavailable("The catalog cannot be renewed from here: COMFY_DEPLOY_API_KEY is not set.")
        asked, wanted = time.monotonic(), await self._db.now_ms()
        while time.monotonic() < asked + READ_SECONDS:
            if self._flight is not None and self._flight_began < asked:
                await asyncio.wait({self._flight})
                continue
            await asyncio.wait({self._flight or self._launch(wanted - 1, insist=True)})
            found = await self._shelf.look()
            if found.held is not None and found.held.read_at * 1000 >= wanted:
                return found
            if self.error is not None:
                raise self.error
        raise Unavailable("The catalog could not be renewed in time.")

    async def warm(self) -> None:
        """Begin to renew it before anybody meets a stale copy. Does not wait for that: a worker must be able to stop."""
        seen = await self._shelf.look()
        is_due = seen.held is None or seen.age_seconds > EARLY * seen.held.fresh_seconds
        if (is_due or seen.freshness is not Freshness.FRESH) and not seen.is_resting and self._read is not None:
            self._start(seen)

    def doubt(self) -> None:
        """Another process may have said something: ask Redis before memory is believed again."""
        self._shelf.doubt()
        self._impatient_until = 0.0

    async def aclose(self) -> None:
        """Give up the renewal under way."""
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.gather(self._flight, return_exceptions=True)

    # -- the flight ---------------------------------------------------------------------------------------------

    def _start(self, seen: Seen[T]) -> asyncio.Task[None]:
        """Renew what was seen, unless somebody has done so since."""
        if self._flight is not None:
            return self._flight
        # Who has nothing tries also when others have just failed: it may reach the API, or have waited long enough.
        return self._launch(round(max(seen.read_at, seen.forgotten_at) * 1000), insist=seen.held is None)

    def _launch(self, known_ms: int, *, insist: bool) -> asyncio.Task[None]:
        self._flight_began = time.monotonic()
        self._flight = asyncio.create_task(self._fly(known_ms, insist=insist))
        self._flight.add_done_callback(self._landed)
        return self._flight

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flight = None
        self._shelf.doubt()
        if not flight.cancelled() and (error := flight.exception()):
            log.error("renewing the catalog failed", exc_info=error)

    async def _fly(self, known_ms: int, *, insist: bool) -> None:
        self.error = None
        owner, poll = secrets.token_hex(8), SHORTEST_POLL_SECONDS
        end = time.monotonic() + READ_SECONDS
        while time.monotonic() < end:
            try:
                if self._read is None:
                    if not (await self._shelf.look(at_once=True)).is_read:
                        return
                else:
                    word, number = await self._begin(owner, known_ms, insist=insist)
                    if word == "yours":
                        await self._carry_out(self._read, owner, int(number))
                    if word != "busy":
                        return
            except Unavailable as error:
                self.error = error
                return
            await asyncio.sleep(poll * random.uniform(0.5, 1.0))
            poll = min(2 * poll, LONGEST_POLL_SECONDS)

    async def _begin(self, owner: str, known_ms: int, *, insist: bool = False) -> tuple[str, str]:
        lease_ms, keep_ms = round(LEASE_SECONDS * 1000), round(NOTE_SECONDS * 1000)
        word, number = await self._db.run(
            "begin_refresh", self._shelf.part, owner, lease_ms, known_ms, int(insist), keep_ms
        )
        return str(word), str(number)

    async def _carry_out(self, read: Read[T], owner: str, began_ms: int) -> None:
        """Read it and tell everybody what came of it. Raises `Unavailable` when Redis is away."""
        text, trouble, rest = "", "", 0.0
        renewing = asyncio.create_task(self._renew(owner))
        fresh = lifetime(self._shelf.fresh_seconds, random.random())
        keep_ms = round((fresh + STALE_SECONDS) * 1000)
        seen = await self._shelf.look()
        try:
            async with asyncio.timeout(READ_SECONDS):
                value = await read(seen)
            text = self._shelf.text(value, began_ms / 1000, fresh)
        except (ConveyorError, TimeoutError) as error:
            self.error = error if isinstance(error, ConveyorError) else Unavailable("The API took too long.")
            trouble, rest = str(self.error), rest_seconds(seen.failures + 1, random.random())
            log.warning("the catalog could not be renewed", extra={"part": self.name, "error": trouble, "rest": rest})
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            word = await self._db.run(
                "end_refresh", self._shelf.part, owner, began_ms, text, keep_ms, trouble[:300], round(rest * 1000)
            )
            CATALOG_REFRESHES.labels(self.name, word).inc()
        if word == "kept":
            self._shelf.hold(text, value, began_ms / 1000, fresh)

    async def _renew(self, owner: str) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            with contextlib.suppress(Unavailable):
                await self._begin(owner, 0)
