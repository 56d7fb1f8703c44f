"""How does one hear of a few jobs only? Replay their events from the frontend's stream, then read on until all ended.

Promises, for each job: `seq` only rises, no `seq` comes twice, the final event is the last. Nothing is held between
two events, so a follower can be left at any time.

The record is read first and the stream after it. A move and its event are written together, so an event the record
knows of and the stream does not hold was trimmed (or lost in a failover): then the record itself is told as an event
with its `seq`. Such an event is as complete as any other, only `queue`, `timing` and the time of the move may be
missing; `at` is the best the record knows. Gaps in `seq` can only be left by such events.

A follower reads its frontends' whole streams from the first event of its oldest job: good for dozens of followers on
a stream, not for thousands. Use one `follow` for many jobs rather than many for one.
"""

import logging
import time
from collections.abc import AsyncGenerator, Iterable
from datetime import UTC, datetime
from typing import Any, cast

from pydantic import ValidationError

from producers.outage import Outage
from shared.database import REDIS_AWAY, Database
from shared.errors import JobNotFound, Unavailable
from shared.jobs.event import Event, EventType, EventUser
from shared.jobs.record import Job
from shared.jobs.states import JobState
from shared.jobs.store import JobStore

log = logging.getLogger(__name__)

#: Seconds one read waits for news; well below the socket's timeout.
BLOCK_SECONDS = 4.0
#: Seconds after which the records are asked again, in case the stream cannot tell (trimmed, lost).
CHECK_SECONDS = 5.0
#: Entries per read.
PAGE = 500
#: Seconds a Redis outage may last before a follower gives up with `Unavailable`.
OUTAGE_SECONDS = 300.0

#: What XREAD answers: the entries of each stream that has any.
Pages = list[tuple[str, list[tuple[str, dict[str, str]]]]]

#: The event a state is told with. `submitting` has none of its own: for a frontend the job still waits.
_TYPES: dict[JobState, EventType] = {
    JobState.QUEUED: "job.queued",
    JobState.SUBMITTING: "job.queued",
    JobState.SUBMITTED: "job.submitted",
    JobState.RUNNING: "job.running",
    JobState.SUCCEEDED: "job.succeeded",
    JobState.FAILED: "job.failed",
    JobState.CANCELLED: "job.cancelled",
    JobState.TIMED_OUT: "job.timed_out",
    JobState.EXPIRED: "job.expired",
}


def told(job: Job) -> Event:
    """The record as an event: what a follower hears when the stream does not hold the job's last event any more."""
    at = job.final_at or job.started_at or job.submitted_at or job.created_at
    type_ = _TYPES[job.state]
    if type_ == "job.running" and job.progress is not None:
        type_ = "job.progress"
    return Event(
        schema="conveyor.event/1",
        type=type_,
        job_id=job.id,
        seq=job.seq,
        at=datetime.fromtimestamp(at / 1000, UTC),
        state=job.state,
        final=job.final,
        run_id=job.run_id,
        frontend=job.request.frontend,
        workflow=job.request.label,
        user=EventUser.model_validate(job.request.user.model_dump()),
        context=job.request.context,
        meta=job.request.meta,
        progress=job.progress,
        result=job.result,
        error=job.error,
    )


def stream_id(text: str) -> tuple[int, int]:
    """A stream id as numbers, which sort."""
    milliseconds, _, sequence = text.partition("-")
    return int(milliseconds), int(sequence or 0)


def _just_before(entry: tuple[int, int]) -> str:
    milliseconds, sequence = entry
    if sequence:
        return f"{milliseconds}-{sequence - 1}"
    return f"{milliseconds - 1}-{2**64 - 1}" if milliseconds else "0-0"


class Follower:
    """Follow jobs of one or several frontends over one connection."""

    def __init__(self, database: Database, job_ids: Iterable[str], *, from_seq: int = 0) -> None:
        self._db = database
        self._store = JobStore(database)
        #: The last `seq` told of each job that has not ended.
        self._open = dict.fromkeys(job_ids, from_seq)
        self._from_seq = from_seq
        #: Where we are on each stream.
        self._cursors: dict[str, str] = {}

    async def events(self) -> AsyncGenerator[Event]:
        """Tell every event after `from_seq`, in stream order, until every job has ended.

        Raises `JobNotFound` when a job is not kept any more before its end was told, and `Unavailable` when Redis
        stays away for `OUTAGE_SECONDS`; shorter outages only delay.
        """
        outage = Outage(OUTAGE_SECONDS)
        #: What the records said before we read to the streams' ends; None while we wait for news.
        records: list[Job] | None = None
        checked_at = float("-inf")
        while self._open:
            try:
                if records is None and time.monotonic() - checked_at >= CHECK_SECONDS:
                    records = await self._records()
                    if not self._open:
                        return
                some, events = await self._read(block_seconds=BLOCK_SECONDS if records is None else 0)
            except (*REDIS_AWAY, Unavailable) as error:
                records, checked_at = None, float("-inf")
                await outage.pause(error)
                continue
            outage.over()
            news = self._new(events)
            if records is not None and not some:
                news += self._untold(records)
                records, checked_at = None, time.monotonic()
            for event in news:
                yield event

    async def _records(self) -> list[Job]:
        """The jobs that have not ended yet, as their records tell; new streams are begun at their first event."""
        jobs = await self._store.find(self._open)
        if missing := self._open.keys() - {job.id for job in jobs}:
            raise JobNotFound(f"No job {min(missing)}.", user_message="That job is not known (any more).")
        starts: dict[str, tuple[int, int]] = {}
        for job in jobs:
            if job.final and job.seq <= self._from_seq:
                # The asker knows the end already.
                del self._open[job.id]
                continue
            stream = self._db.keys.results(job.request.frontend)
            if stream not in self._cursors:
                first = stream_id(job.first_event)
                starts[stream] = min(starts.get(stream, first), first)
        self._cursors |= {stream: _just_before(first) for stream, first in starts.items()}
        return jobs

    async def _read(self, *, block_seconds: float) -> tuple[bool, list[Event]]:
        """One page of every stream: whether there was anything, and what of it is ours."""
        reply = await self._db.redis.xread(
            cast(dict[Any, Any], self._cursors), count=PAGE, block=round(block_seconds * 1000) or None
        )
        events = []
        for stream, entries in cast(Pages, reply):
            for entry, fields in entries:
                self._cursors[stream] = entry
                if fields.get("job_id") not in self._open:
                    continue
                try:
                    events.append(Event.model_validate_json(fields.get("data", "")))
                except ValidationError as error:
                    # Not lost: the next check tells what the record knows.
                    log.warning("an event could not be read", extra={"entry": entry, "error": str(error)[:200]})
        return bool(reply), events

    def _untold(self, records: list[Job]) -> list[Event]:
        """What the records knew and the streams, read to their ends since, did not tell."""
        events = []
        for job in records:
            last = self._open.get(job.id)
            if last is not None and (job.seq > last or job.final):
                # A Redis that lost its last second may have ended the job under a number we have told already.
                events.append(told(job).model_copy(update={"seq": max(job.seq, last + 1)}))
        return self._new(events)

    def _new(self, events: list[Event]) -> list[Event]:
        """Those not told yet; a job leaves with its final event."""
        news = []
        for event in events:
            last = self._open.get(event.job_id)
            if last is None or event.seq <= last:
                continue
            self._open[event.job_id] = event.seq
            if event.final:
                del self._open[event.job_id]
            news.append(event)
        return news
