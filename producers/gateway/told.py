"""What does a stream tell, and in which order? First what is past, then what comes: nothing twice, nothing left out.

For a job: listen first, then read its record; everything up to the record's `seq` is told from the stream, everything above
comes live, and a number that was told is not told again. What the stream does not hold any more (trimmed, or too far back)
is made good by telling the record itself, as `producers/follow.py` does.

For a user: the place on the result stream is the number.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import Any, cast

from producers.follow import stream_id, told
from producers.gateway.feed import PAGE, Feed, Listener, Told, sse
from shared.database import Database
from shared.errors import ConveyorError, Unavailable
from shared.jobs.record import Job
from shared.jobs.store import JobStore

log = logging.getLogger(__name__)

#: Seconds of silence after which a comment is sent: proxies close what is silent for a minute or so.
KEEP_ALIVE_SECONDS = 15.0
KEEP_ALIVE = b": still here\n\n"
#: What a stream begins with; milliseconds until a client comes back.
OPENING = b"retry: 1000\n\n"
#: Entries read to find a job's past events; of a job with more between its first and last the record is told.
MOST_SCANNED = 20_000
#: Replays that read a page at the same time: two thousand clients that come back at once must not fill Redis's ears.
MOST_REPLAYS = 16


class Teller:
    """Tells streams of one gateway."""

    def __init__(self, database: Database, feed: Feed) -> None:
        self._db = database
        self._store = JobStore(database)
        self._feed = feed
        self._replays = asyncio.Semaphore(MOST_REPLAYS)

    async def job(self, job: Job, listener: Listener, last: int) -> AsyncGenerator[bytes]:
        """Every event of a job after `last`, up to the final one. `listener` has listened before `job` was read."""
        yield OPENING
        async for event in self._past(job, last):
            last = event.seq
            yield event.for_job
            if event.final:
                listener.end("final")
                return
        while not listener.ended:
            event_ = await listener.next(KEEP_ALIVE_SECONDS)
            if event_ is None:
                if not listener.ended:
                    yield KEEP_ALIVE
                    # The stream may be silent because Redis has lost its end.
                    async for event in self._missed(job.id, last):
                        last = event.seq
                        yield event.for_job
                        if event.final:
                            listener.end("final")
                continue
            if event_.seq <= last:
                continue
            last = event_.seq
            yield event_.for_job
            if event_.final:
                listener.end("final")

    async def _past(self, job: Job, last: int) -> AsyncGenerator[Told]:
        """What the record knows of and the client does not."""
        if job.seq > last:
            async for event in self._replay(job, last):
                last = event.seq
                yield event
        if job.seq > last or (job.final and job.seq < last):
            # Not on the stream any more; or Redis lost its last second and ended the job under an older number.
            event_ = told(job).model_copy(update={"seq": max(job.seq, last + 1)})
            yield Told("", event_.type, job.id, event_.seq, event_.model_dump_json(by_alias=True))

    async def _missed(self, job_id: str, last: int) -> AsyncGenerator[Told]:
        try:
            job = await self._store.get(job_id)
            async for event in self._past(job, last):
                yield event
        except Unavailable:
            pass  # the reader waits for Redis, too
        except ConveyorError as error:
            log.warning("a followed job is gone", extra={"job_id": job_id, "error": str(error)})

    async def _replay(self, job: Job, last: int) -> AsyncGenerator[Told]:
        """The job's events with a `seq` above `last`, up to the record's."""
        stream = self._db.keys.results(job.request.frontend)
        start, scanned = job.first_event, 0
        while scanned < MOST_SCANNED:
            page = await self._page(stream, start)
            for entry, fields in page:
                if fields.get("job_id") != job.id:
                    continue
                event = Told.of(entry, fields)
                if last < event.seq <= job.seq:
                    yield event
                if event.seq >= job.seq:
                    return
            if len(page) < PAGE:
                return
            scanned += len(page)
            start = f"({page[-1][0]}"

    async def user(self, frontend: str, user: str, listener: Listener, last: str | None) -> AsyncGenerator[bytes]:
        """Every event of a user's jobs after the place `last`, or from now on; ends when the client goes."""
        stream = self._db.keys.results(frontend)
        yield OPENING
        if last is not None:
            if await self._is_trimmed(stream, last):
                yield sse("stream.gap", last, '{"message":"Older events are gone; ask for the jobs themselves."}')
            start: str | None = f"({last}"
            while start and not listener.ended:
                page = await self._page(stream, start)
                for entry, fields in page:
                    event = _of_user(entry, fields, user)
                    if event is not None:
                        last = entry
                        yield event.for_user
                start = f"({page[-1][0]}" if len(page) == PAGE else None
        while not listener.ended:
            event = await listener.next(KEEP_ALIVE_SECONDS)
            if event is None:
                if not listener.ended:
                    yield KEEP_ALIVE
            elif last is None or stream_id(event.entry) > stream_id(last):
                yield event.for_user

    async def _is_trimmed(self, stream: str, last: str) -> bool:
        """Whether events after `last` may have been trimmed: the oldest one there is comes after it."""
        if stream_id(last) == (0, 0):
            return False
        with self._db.asking():
            first: Any = await self._db.redis.xrange(stream, count=1)
        return bool(first) and stream_id(str(first[0][0])) > stream_id(last)

    async def _page(self, stream: str, start: str) -> list[tuple[str, dict[str, str]]]:
        async with self._replays:
            with self._db.asking():
                page: Any = await self._db.redis.xrange(stream, start, "+", count=PAGE)
        return cast(list[tuple[str, dict[str, str]]], page)


def _of_user(entry: str, fields: dict[str, str], user: str) -> Told | None:
    try:
        event = Told.of(entry, fields)
        return event if event.user == user else None
    except (ValueError, KeyError, TypeError):
        return None
