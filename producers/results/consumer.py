"""Hand a frontend its events: every one at least once, each job's in order, until acknowledged.

    async with ResultConsumer("telegram", "bot", "bot-1") as results:
        async for delivery in results:
            await send(delivery.event)
            await delivery.ack()

What is promised to a group of consumers, under crashes, Redis restarts and trimming:

* **At least once.** An event stays pending until it is acknowledged or a dead letter. `(job_id, seq)` tells repeats.
* **In order within a job.** While an event of a job is unacknowledged, no later one of that job is handed out, by any
  consumer of the group. Different jobs overtake each other freely. (`inbox.py` has the argument.) The exceptions are a
  consumer that stands still for longer than `claim_idle_seconds` and then goes on with an event another has taken
  over, and a group that vanished and begins again: repeats, then, of what was handed out before.
* **Once at a time.** While this process runs, nobody else gets what it holds; an event that is neither acknowledged nor
  failed for `handling_seconds` is handed out again.
* **Not for ever.** After `max_deliveries` an event becomes a dead letter with the reason; one that cannot be read does at
  once. Only events that were really handed out count, not those fetched beside one that kills the process.

Leaving the loop acknowledges nothing: what was not acknowledged comes first to the next consumer of this name, or after
`claim_idle_seconds` to any other. So give each process a name that survives its restart.

A task of the loop fetches ahead; the loop's body may take its time or hand deliveries to tasks of its own.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Self

from redis.exceptions import ResponseError

from producers.results.delivery import Delivery
from producers.results.fetching import RECHECK_SECONDS, Fetching, Pace
from producers.results.group import ConsumerGroup, vanished
from producers.results.held import Held
from producers.results.inbox import Entry
from shared.database import REDIS_AWAY, SOCKET_TIMEOUT_SECONDS, Database
from shared.errors import Unavailable
from shared.settings import Settings

#: Wait before a failed event is handed out again: 1, 2, 4 … seconds, at most this.
LONGEST_RETRY_SECONDS = 60.0


class ResultConsumer:
    """One consumer of one group on one frontend's stream; iterate it once at a time."""

    def __init__(
        self,
        frontend: str,
        group: str,
        consumer: str,
        *,
        settings: Settings | None = None,
        database: Database | None = None,
        block_seconds: float = 5.0,
        claim_idle_seconds: float = 60.0,
        handling_seconds: float = 600.0,
        max_deliveries: int = 5,
        batch: int = 16,
    ) -> None:
        self._own_database = database is None
        self._db = database or Database.open((settings or Settings.from_env()).redis_url)
        self._group = ConsumerGroup(self._db, frontend, group, consumer)
        self._pace = Pace(
            block_seconds=min(block_seconds, SOCKET_TIMEOUT_SECONDS / 2),
            claim_idle_seconds=claim_idle_seconds,
            handling_seconds=handling_seconds,
            batch=batch,
        )
        self._max_deliveries = max_deliveries
        self._held = Held(self._group)

    async def __aiter__(self) -> AsyncGenerator[Delivery]:
        """Deliveries, for ever. Raises only what no waiting repairs, such as a key of the wrong type."""
        fetching = asyncio.create_task(Fetching(self._held, self._pace).run(), name="results")
        try:
            while True:
                self._held.news.clear()
                entry = self._held.inbox.next(time.monotonic())
                if entry is None:
                    await self._wait_for_news(fetching)
                elif await self._hand_out(entry):
                    yield Delivery(entry.event, entry.id, entry.deliveries, self)
        finally:
            fetching.cancel()
            await asyncio.gather(fetching, return_exceptions=True)
            self._held.forget()

    async def _wait_for_news(self, fetching: asyncio.Task[None]) -> None:
        ready_at = self._held.inbox.next_ready_at()
        timeout = None if ready_at is None else max(0.0, ready_at - time.monotonic())
        news = asyncio.ensure_future(self._held.news.wait())
        try:
            await asyncio.wait({news, fetching}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
        if fetching.done():
            fetching.result()

    async def _hand_out(self, entry: Entry) -> bool:
        """Mark an entry as handed out; False when it is not to be, or not now."""
        if entry.again:
            try:
                word, entry.deliveries = await self._group.hand_again(entry.id, self._max_deliveries)
                if word == "spent":
                    times = f"{entry.deliveries} {'delivery' if entry.deliveries == 1 else 'deliveries'}"
                    await self._held.bury(entry.id, entry.reason or f"not acknowledged after {times}")
            except (*REDIS_AWAY, Unavailable, ResponseError) as error:
                if isinstance(error, ResponseError) and not vanished(error):
                    raise
                entry.ready_at = time.monotonic() + RECHECK_SECONDS
                return False
            if word != "held":
                self._held.inbox.lose(entry.id)
                return False
        entry.again = False
        entry.handed_out_at = time.monotonic()
        self._held.count("handed_out")
        self._held.room.set()
        return True

    # -- settling -----------------------------------------------------------------------------------------------

    async def acknowledge(self, entry_id: str) -> None:
        """The frontend has delivered it (`Delivery.ack`)."""
        await self._held.acknowledge(entry_id)

    async def failed(self, entry_id: str, reason: str, *, retry: bool) -> None:
        """The frontend could not deliver it (`Delivery.fail`)."""
        entry = self._held.inbox.get(entry_id)
        if entry is None:
            # Handed out in an earlier loop, or another consumer's by now: it comes again by itself.
            return
        if retry and entry.deliveries < self._max_deliveries:
            self._held.put_back(entry, reason, min(2.0 ** (entry.deliveries - 1), LONGEST_RETRY_SECONDS))
            return
        try:
            await self._held.bury(entry_id, reason)
        except (*REDIS_AWAY, Unavailable, ResponseError):
            self._held.put_back(entry, reason, 1.0)

    # -- upkeep and end -----------------------------------------------------------------------------------------

    async def remove_idle_consumers(self, idle_seconds: float = 3600.0) -> list[str]:
        """Forget consumers that have been silent for that long; answers their names.

        One that still holds events is left alone: they are claimed first, by any consumer's loop. Raises `Unavailable`.
        """
        try:
            return await self._group.retire(idle_seconds)
        except ResponseError as error:
            if vanished(error) or "no such key" in str(error):
                return []
            raise

    async def aclose(self) -> None:
        """Close the database if it is our own. End the loop first; what was not acknowledged stays pending."""
        if self._own_database:
            await self._db.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
