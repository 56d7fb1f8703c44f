"""What an asker holds: the job's id and the questions one can ask about it."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from shared.jobs.event import Event, QueuePlace
from shared.jobs.record import Job

#: What a cancellation did: the job ended at once, its run is being cancelled, or it had ended before.
Cancelled = Literal["cancelled", "requested", "final"]


@dataclass(frozen=True, slots=True)
class Status:
    """A job at one moment."""

    job: Job
    #: Where it waits; None once it has left its lane.
    queue: QueuePlace | None = None
    #: Seconds until four of five such jobs have ended; None when too little is known, or it has ended.
    eta_seconds: float | None = None

    def snapshot(self) -> dict[str, Any]:
        """The status as JSON for people and programs."""
        queue = self.queue.model_dump() if self.queue else None
        return self.job.snapshot() | {"queue": queue, "eta_seconds": self.eta_seconds}


class Asks(Protocol):
    """Who answers questions about jobs: the producer a handle came from."""

    async def status(self, job_id: str) -> Status: ...
    async def cancel(self, job_id: str) -> Cancelled: ...
    async def wait(self, job_id: str, timeout_seconds: float | None = None) -> Event: ...
    def follow(self, job_id: str, from_seq: int = 0) -> AsyncGenerator[Event]: ...


@dataclass(frozen=True, slots=True)
class JobHandle:
    """An accepted job. Its answers come from the producer, which must not be closed meanwhile."""

    id: str
    #: False when an idempotency key answered a job that was accepted before.
    created: bool
    _producer: Asks

    async def status(self) -> Status:
        """The job as it is now."""
        return await self._producer.status(self.id)

    async def cancel(self) -> Cancelled:
        """Ask for the job's end."""
        return await self._producer.cancel(self.id)

    async def wait(self, timeout_seconds: float | None = None) -> Event:
        """The final event."""
        return await self._producer.wait(self.id, timeout_seconds)

    def events(self, from_seq: int = 0) -> AsyncGenerator[Event]:
        """Every event after `from_seq`, up to the final one."""
        return self._producer.follow(self.id, from_seq)
