"""How does a consumer stay supplied? One task beside its loop: read, keep what we hold, claim what others left.

Each round pays what is owed, renews what is held (`_keep`), takes over what consumers that have gone left behind
(`_claim`), reads what is new, and asks which entries must wait for an earlier one of their job (`_clear`).
"""

import asyncio
import contextlib
import logging
import random
import time
from dataclasses import dataclass

from pydantic import ValidationError
from redis.exceptions import ResponseError

from producers.follow import stream_id
from producers.outage import Outage
from producers.results.group import vanished
from producers.results.held import Held
from producers.results.inbox import Entry
from shared.database import REDIS_AWAY
from shared.errors import Unavailable
from shared.jobs.event import Event

log = logging.getLogger(__name__)

#: Events one consumer may hold unacknowledged; then it fetches no more.
MAX_UNACKED = 256
#: Ids asked for at once when we look at what is pending at us.
PENDING_PAGE = 1000
#: Seconds between two looks at whether a job's earlier event, held by another consumer, is acknowledged.
RECHECK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Pace:
    """How often, how long, how many."""

    #: The longest read that waits for news.
    block_seconds: float
    #: Entries nobody has worked on for this long may be taken over.
    claim_idle_seconds: float
    #: What was handed out and not heard of for this long is handed out again.
    handling_seconds: float
    #: Entries fetched ahead of the loop.
    batch: int


class Fetching:
    """Fills what one consumer holds, for one run of its loop."""

    def __init__(self, held: Held, pace: Pace) -> None:
        self._held, self._group, self._pace = held, held.group, pace
        self._inbox = held.inbox
        self._keep_at = self._claim_at = 0.0

    async def run(self) -> None:
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
        await self._held.pay()
        if time.monotonic() >= self._keep_at:
            await self._keep()
        if time.monotonic() >= self._claim_at:
            await self._claim()
        await self._clear()
        blocked = bool(self._inbox.uncleared())
        until = self._keep_at if blocked else min(self._keep_at, self._claim_at)
        patience = min(self._pace.block_seconds, RECHECK_SECONDS if blocked else until - time.monotonic())
        room = min(self._pace.batch - self._inbox.waiting(time.monotonic()), MAX_UNACKED - len(self._inbox))
        if room > 0:
            for entry_id, fields in await self._group.read(room, max(patience, 0.001)):
                await self._take_in(entry_id, fields, again=False)
            await self._clear()
        else:
            self._held.room.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(patience, 0.0)):
                    await self._held.room.wait()

    async def _keep(self) -> None:
        """Renew what we hold; find what we lost to others, and what is ours without our knowing."""
        limit = self._pace.handling_seconds
        for entry in self._inbox:
            if entry.handed_out_at is not None and time.monotonic() - entry.handed_out_at > limit:
                self._held.put_back(entry, f"neither acknowledged nor failed for {limit:.0f} s", 0.0)
        ours = await self._group.keep([entry.id for entry in self._inbox], PENDING_PAGE)
        whole = len(ours) < PENDING_PAGE
        pending = set(ours)
        for entry in self._inbox:
            if entry.id not in pending and (whole or entry.place <= stream_id(ours[-1])):
                self._inbox.lose(entry.id)
        unknown = [entry_id for entry_id in ours if not self._held.known(entry_id)]
        adopted = unknown[: MAX_UNACKED - len(self._inbox)]
        await self._adopt(adopted)
        every = self._pace.claim_idle_seconds / 3
        self._keep_at = time.monotonic() + (min(1.0, every) if len(adopted) < len(unknown) else every)

    async def _claim(self) -> None:
        """Take over what consumers that have gone left behind."""
        idle_seconds = self._pace.claim_idle_seconds
        room = MAX_UNACKED - len(self._inbox)
        if room > 0:
            idle = await self._group.idle(idle_seconds, MAX_UNACKED)
            wanted = [entry_id for entry_id in idle if entry_id not in self._inbox][:room]
            if wanted:
                claimed = await self._group.claim(wanted, idle_seconds)
                log.info("claimed events", extra={"count": len(claimed), "group": self._group.group})
                await self._adopt(claimed)
        self._claim_at = time.monotonic() + idle_seconds * random.uniform(0.4, 0.6)

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
        if self._held.acknowledged(entry_id):
            return
        try:
            event = Event.model_validate_json(fields.get("data", ""))
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'data'}: {e['msg']}" for e in error.errors()[:5])
            await self._held.bury(entry_id, f"cannot be read: {problems}")
            return
        self._inbox.add(Entry(entry_id, stream_id(entry_id), event, again=again))

    async def _clear(self) -> None:
        """Ask Redis which of our entries must wait for an earlier one of their job."""
        asked = self._inbox.uncleared()
        if not asked:
            return
        settled = self._held.settled
        settled.clear()
        answers = await self._group.earlier([entry.id for entry in asked])
        for entry, (holder, earlier) in zip(asked, answers, strict=True):
            if holder != self._group.consumer:
                self._inbox.lose(entry.id)
            elif all(one in self._inbox or one in settled for one in earlier):
                entry.cleared = True
            else:
                # The earlier one may be ours and its reply lost: look soon.
                self._keep_at = min(self._keep_at, time.monotonic() + min(1.0, self._pace.claim_idle_seconds / 3))
        self._held.news.set()
