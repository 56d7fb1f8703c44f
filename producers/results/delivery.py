"""One event in a frontend's hands: to be acknowledged once the platform has taken the message."""

from dataclasses import dataclass
from typing import Protocol

from shared.jobs.event import Event


class Settles(Protocol):
    """Who hears what became of a delivery: the consumer it came from."""

    async def acknowledge(self, entry_id: str) -> None: ...
    async def failed(self, entry_id: str, reason: str, *, retry: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event to deliver. Until it is acknowledged it comes again: after a failure, a crash, or a long silence."""

    event: Event
    #: The stream entry, for logs; `(event.job_id, event.seq)` is what names the event.
    entry_id: str
    #: Times this event was handed out, with this one. Above 1: it may have been delivered before.
    deliveries: int
    _consumer: Settles

    async def ack(self) -> None:
        """The platform has the message. 1 round trip; never fails: when Redis is away it is made up for later."""
        await self._consumer.acknowledge(self.entry_id)

    async def fail(self, reason: str, *, retry: bool = True) -> None:
        """It could not be delivered. It comes again after 1, 2, 4 … 60 seconds, and becomes a dead letter at last.

        `retry=False` makes it a dead letter now: the chat is gone, the user has blocked the bot. Later events of the
        job wait meanwhile.
        """
        await self._consumer.failed(self.entry_id, reason, retry=retry)
