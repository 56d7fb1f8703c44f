"""What does one consumer hold, and what does it owe Redis?

The consumer's loop and its fetching task both work on this: the loop hands out, the task fills up, and each wakes the
other through `room` and `news`.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections import OrderedDict
from typing import Literal

from producers.follow import stream_id
from producers.results.group import ConsumerGroup
from producers.results.inbox import Entry, Inbox
from shared.database import REDIS_AWAY
from shared.metrics import DELIVERIES, DELIVERY_SECONDS

log = logging.getLogger(__name__)

#: Acknowledged entries we remember, to be quiet about repeats when Redis has forgotten the acknowledgement.
REMEMBERED = 10_000


class Held:
    """The entries pending at one consumer, as far as this process knows."""

    def __init__(self, group: ConsumerGroup) -> None:
        self.group = group
        self.inbox = Inbox()
        #: Settled while the order was being asked for: their answer is old news.
        self.settled: set[str] = set()
        #: The fetching task should look up; the loop should.
        self.room, self.news = asyncio.Event(), asyncio.Event()
        #: Acknowledged here, newest last.
        self._acked: OrderedDict[str, None] = OrderedDict()
        #: Acknowledged by the frontend, not yet by Redis.
        self._owed: set[str] = set()
        self._delay = DELIVERY_SECONDS.labels(group.frontend, group.group)

    def count(self, outcome: Literal["handed_out", "acknowledged", "put_back", "dead"]) -> None:
        """Tell metrics of one event."""
        DELIVERIES.labels(self.group.frontend, self.group.group, outcome).inc()

    def forget(self) -> None:
        """The loop has ended. What was held stays pending, and is found again by whoever comes next."""
        self.inbox = Inbox()

    def known(self, entry_id: str) -> bool:
        """Whether it is here, or acknowledged here and Redis not told yet."""
        return entry_id in self.inbox or entry_id in self._owed

    async def acknowledge(self, entry_id: str) -> None:
        """The frontend has delivered it. Never fails: what Redis cannot be told now is owed."""
        if entry_id not in self._acked:
            self.count("acknowledged")
            self._delay.observe(max(0.0, time.time() - stream_id(entry_id)[0] / 1000))
        self._acked[entry_id] = None
        if len(self._acked) > REMEMBERED:
            self._acked.popitem(last=False)
        self._owed.add(entry_id)
        with contextlib.suppress(*REDIS_AWAY):
            await self.pay()
        self.settle(entry_id)

    def acknowledged(self, entry_id: str) -> bool:
        """Whether we acknowledged it. If so Redis has forgotten that, restarted without its last second or with the
        group anew, and is told again."""
        if entry_id not in self._acked:
            return False
        self._owed.add(entry_id)
        return True

    async def pay(self) -> None:
        """Tell Redis what was acknowledged."""
        owed = list(self._owed)
        if owed:
            await self.group.ack(owed)
            self._owed.difference_update(owed)

    async def bury(self, entry_id: str, reason: str) -> None:
        """Make it a dead letter."""
        if await self.group.bury(entry_id, reason):
            log.warning("an event became a dead letter", extra={"entry": entry_id, "reason": reason})
            self.count("dead")
        self.settle(entry_id)

    def put_back(self, entry: Entry, reason: str, wait_seconds: float) -> None:
        """Hand it out again after about that long."""
        self.count("put_back")
        entry.again, entry.handed_out_at, entry.reason = True, None, reason
        entry.ready_at = time.monotonic() + wait_seconds * random.uniform(0.8, 1.2)
        self.news.set()

    def settle(self, entry_id: str) -> None:
        """It is over; what waited for it may go."""
        self.settled.add(entry_id)
        self.inbox.settle(entry_id)
        self.room.set()
        self.news.set()
