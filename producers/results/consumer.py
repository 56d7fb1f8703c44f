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
import contextlib
import logging
import random
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator
from typing import Self

from pydantic import ValidationError
from redis.exceptions import ResponseError

from producers.follow import stream_id
from producers.outage import Outage
from producers.results.delivery import Delivery
from producers.results.group import ConsumerGroup, vanished
from producers.results.inbox import Entry, Inbox
from shared.database import REDIS_AWAY, SOCKET_TIMEOUT_SECONDS, Database
from shared.errors import Unavailable
from shared.jobs.event import Event
from shared.settings import Settings

log = logging.getLogger(__name__)

#: Events one consumer may hold unacknowledged; then it fetches no more.
MAX_UNACKED = 256
#: Ids asked for at once when we look at what is pending at us.
PENDING_PAGE = 1000
#: Seconds between two looks at whether a job's earlier event, held by another consumer, is acknowledged.
RECHECK_SECONDS = 0.1
#: Wait before a failed event is handed out again: 1, 2, 4 … seconds, at most this.
LONGEST_RETRY_SECONDS = 60.0
#: Acknowledged entries we remember, to be quiet about repeats when Redis has forgotten the acknowledgement.
REMEMBERED = 10_000


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
        self._block_seconds = min(block_seconds, SOCKET_TIMEOUT_SECONDS / 2)
        self._claim_idle_seconds = claim_idle_seconds
        self._handling_seconds = handling_seconds
        self._max_deliveries = max_deliveries
        self._batch = batch
        self._inbox = Inbox()
        #: Acknowledged here, newest last.
        self._acked: OrderedDict[str, None] = OrderedDict()
        #: Acknowledged by the frontend, not yet by Redis.
        self._owed: set[str] = set()
        #: Settled while the order was being asked for: their answer is old news.
        self._settled: set[str] = set()
        #: The fetching task should look up; the loop should.
        self._room, self._news = asyncio.Event(), asyncio.Event()
        self._keep_at = self._claim_at = 0.0

    async def __aiter__(self) -> AsyncGenerator[Delivery]:
        """Deliveries, for ever. Raises only what no waiting repairs, such as a key of the wrong type."""
        fetching = asyncio.create_task(self._fetch(), name="results")
        try:
            while True:
                self._news.clear()
                entry = self._inbox.next(time.monotonic())
                if entry is None:
                    await self._wait_for_news(fetching)
                elif await self._hand_out(entry):
                    yield Delivery(entry.event, entry.id, entry.deliveries, self)
        finally:
            fetching.cancel()
            await asyncio.gather(fetching, return_exceptions=True)
            # What we hold stays pending, and is found again by whoever comes next.
            self._inbox, self._keep_at, self._claim_at = Inbox(), 0.0, 0.0

    async def _wait_for_news(self, fetching: asyncio.Task[None]) -> None:
        ready_at = self._inbox.next_ready_at()
        timeout = None if ready_at is None else max(0.0, ready_at - time.monotonic())
        news = asyncio.ensure_future(self._news.wait())
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
                    await self._bury(entry.id, entry.reason or f"not acknowledged after {times}")
            except (*REDIS_AWAY, Unavailable, ResponseError) as error:
                if isinstance(error, ResponseError) and not vanished(error):
                    raise
                entry.ready_at = time.monotonic() + RECHECK_SECONDS
                return False
            if word != "held":
                self._inbox.lose(entry.id)
                return False
        entry.again = False
        entry.handed_out_at = time.monotonic()
        self._room.set()
        return True

    # -- settling -----------------------------------------------------------------------------------------------

    async def acknowledge(self, entry_id: str) -> None:
        """The frontend has delivered it (`Delivery.ack`)."""
        self._acked[entry_id] = None
        if len(self._acked) > REMEMBERED:
            self._acked.popitem(last=False)
        self._owed.add(entry_id)
        with contextlib.suppress(*REDIS_AWAY):
            await self._pay()
        self._settle(entry_id)

    async def _pay(self) -> None:
        """Tell Redis what was acknowledged."""
        owed = list(self._owed)
        if owed:
            await self._group.ack(owed)
            self._owed.difference_update(owed)

    async def failed(self, entry_id: str, reason: str, *, retry: bool) -> None:
        """The frontend could not deliver it (`Delivery.fail`)."""
        entry = self._inbox.get(entry_id)
        if entry is None:
            # Handed out in an earlier loop, or another consumer's by now: it comes again by itself.
            return
        if retry and entry.deliveries < self._max_deliveries:
            self._put_back(entry, reason, min(2.0 ** (entry.deliveries - 1), LONGEST_RETRY_SECONDS))
            return
        try:
            await self._bury(entry_id, reason)
        except (*REDIS_AWAY, Unavailable, ResponseError):
            self._put_back(entry, reason, 1.0)

    def _put_back(self, entry: Entry, reason: str, wait_seconds: float) -> None:
        entry.again, entry.handed_out_at, entry.reason = True, None, reason
        entry.ready_at = time.monotonic() + wait_seconds * random.uniform(0.8, 1.2)
        self._news.set()

    async def _bury(self, entry_id: str, reason: str) -> None:
        if await self._group.bury(entry_id, reason):
            log.warning("an event became a dead letter", extra={"entry": entry_id, "reason": reason})
        self._settle(entry_id)

    def _settle(self, entry_id: str) -> None:
        self._settled.add(entry_id)
        self._inbox.settle(entry_id)
        self._room.set()
        self._news.set()

    # -- fetching -----------------------------------------------------------------------------------------------

    async def _fetch(self) -> None:
        """Keep the inbox filled, through outages and vanished groups, until cancelled."""
        outage = Outage()
        while True:
            try:
                await self._round()
                outage.over()
            except (*REDIS_AWAY, Unavailable) as error:
                log.warning("Redis is away", extra={"error": repr(error)})
                # A reply may have been lost with what was in it: ask what is pending at us.
                self._keep_at = 0.0
                await outage.pause(error)
            except ResponseError as error:
                if not vanished(error):
                    raise
                with contextlib.suppress(*REDIS_AWAY):
                    await self._group.create()

    async def _round(self) -> None:
        await self._pay()
        if time.monotonic() >= self._keep_at:
            await self._keep()
        if time.monotonic() >= self._claim_at:
            await self._claim()
        await self._clear()
        blocked = bool(self._inbox.uncleared())
        until = self._keep_at if blocked else min(self._keep_at, self._claim_at)
        patience = min(self._block_seconds, RECHECK_SECONDS if blocked else until - time.monotonic())
        room = min(self._batch - self._inbox.waiting(time.monotonic()), MAX_UNACKED - len(self._inbox))
        if room > 0:
            for entry_id, fields in await self._group.read(room, max(patience, 0.001)):
                await self._take_in(entry_id, fields, again=False)
            await self._clear()
        else:
            self._room.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(patience, 0.0)):
                    await self._room.wait()

    async def _keep(self) -> None:
        """Renew what we hold; find what we lost to others, and what is ours without our knowing."""
        for entry in self._inbox:
            if entry.handed_out_at is not None and time.monotonic() - entry.handed_out_at > self._handling_seconds:
                self._put_back(entry, f"neither acknowledged nor failed for {self._handling_seconds:.0f} s", 0.0)
        ours = await self._group.keep([entry.id for entry in self._inbox], PENDING_PAGE)
        whole = len(ours) < PENDING_PAGE
        pending = set(ours)
        for entry in self._inbox:
            if entry.id not in pending and (whole or entry.place <= stream_id(ours[-1])):
                self._inbox.lose(entry.id)
        unknown = [entry_id for entry_id in ours if entry_id not in self._inbox and entry_id not in self._owed]
        adopted = unknown[: MAX_UNACKED - len(self._inbox)]
        await self._adopt(adopted)
        every = self._claim_idle_seconds / 3
        self._keep_at = time.monotonic() + (min(1.0, every) if len(adopted) < len(unknown) else every)

    async def _claim(self) -> None:
        """Take over what consumers that have gone left behind."""
        room = MAX_UNACKED - len(self._inbox)
        if room > 0:
            idle = await self._group.idle(self._claim_idle_seconds, MAX_UNACKED)
            wanted = [entry_id for entry_id in idle if entry_id not in self._inbox][:room]
            if wanted:
                claimed = await self._group.claim(wanted, self._claim_idle_seconds)
                log.info("claimed events", extra={"count": len(claimed), "group": self._group.group})
                await self._adopt(claimed)
        self._claim_at = time.monotonic() + self._claim_idle_seconds * random.uniform(0.4, 0.6)

    async def _adopt(self, entry_ids: list[str]) -> None:
        """Take in entries that were pending before we knew of them."""
        if not entry_ids:
            return
        for entry_id, fields in zip(entry_ids, await self._group.fetch(entry_ids), strict=True):
            if fields is None:
                log.error("an event was trimmed before it was delivered", extra={"entry": entry_id})
                await self._group.ack([entry_id])
            else:
                await self._take_in(entry_id, fields, again=True)

    async def _take_in(self, entry_id: str, fields: dict[str, str], *, again: bool) -> None:
        if entry_id in self._acked:
            # Redis has forgotten that we acknowledged it: restarted without its last second, or the group anew.
            self._owed.add(entry_id)
            return
        try:
            event = Event.model_validate_json(fields.get("data", ""))
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'data'}: {e['msg']}" for e in error.errors()[:5])
            await self._bury(entry_id, f"cannot be read: {problems}")
            return
        self._inbox.add(Entry(entry_id, stream_id(entry_id), event, again=again))

    async def _clear(self) -> None:
        """Ask Redis which of our entries must wait for an earlier one of their job."""
        asked = self._inbox.uncleared()
        if not asked:
            return
        self._settled.clear()
        answers = await self._group.earlier([entry.id for entry in asked])
        for entry, (holder, earlier) in zip(asked, answers, strict=True):
            if holder != self._group.consumer:
                self._inbox.lose(entry.id)
            elif all(one in self._inbox or one in self._settled for one in earlier):
                entry.cleared = True
            else:
                # The earlier one may be ours and its reply lost: look soon.
                self._keep_at = min(self._keep_at, time.monotonic() + min(1.0, self._claim_idle_seconds / 3))
        self._news.set()

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
