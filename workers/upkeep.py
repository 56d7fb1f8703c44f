"""Who finds what fell on the floor? Each chore works from state alone, under a lease, and repeats harmlessly.

*Rescue* starts jobs whose message or holder got lost; *expire* ends jobs nobody got round to; *close* ends the Celery
rows of final jobs; *mend* puts workflows back that have runs in flight but are not due; *prune* trims streams below what
every consumer group has acknowledged; *warm* keeps the catalog fresh.
"""

import asyncio
import logging

from shared.broker import QUEUE
from shared.database import REDIS_AWAY
from shared.errors import JobNotFound, Unavailable
from shared.following.due import Settlement
from shared.jobs.event import JobError
from shared.jobs.states import JobState
from shared.metrics import JOBS_RESCUED, REJECTED
from tasks import summary, timeline
from tasks.adopt import cancel_if_stray
from tasks.closing import BROKER_AWAY
from tasks.engine import Engine
from tasks.fault_points import reach
from workers.transport import dropped

log = logging.getLogger(__name__)

#: A rescue whose message gets lost, too, is repeated this soon.
RESCUE_AGAIN_SECONDS = 5.0

#: What was due for so long and nobody has taken, nobody will.
NOBODY_ARCHIVES_SECONDS = 3600.0

#: An event is kept at least this long, acknowledged or not: a follower may want to replay.
KEEP_EVENTS_SECONDS = 3600.0
#: A stream without any consumer group (a frontend that only follows single jobs, such as the CLI) is kept this long.
KEEP_UNREAD_SECONDS = 7 * 86_400.0


class Upkeep:
    """The chores of one worker process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def rescue(self) -> None:
        """Publish again what was dispatched or submitting and has been silent for a hold's length."""
        database = self._engine.database
        with database.asking():
            # As many messages as there are jobs to start: they are on their way, and more would only pile up.
            waiting = await database.redis.llen(QUEUE)
            if waiting and waiting >= await database.redis.zcard(database.keys.starting):
                return
        silent = await self._engine.lanes.overdue("starting", again_seconds=RESCUE_AGAIN_SECONDS)
        if silent:
            log.info("jobs rescued", extra={"jobs": len(silent)})
            JOBS_RESCUED.inc(len(silent))
            await self._engine.publisher.publish(silent)

    async def expire(self) -> None:
        """End waiting jobs whose queue timeout is over."""
        for job_id in await self._engine.lanes.overdue("expiring"):
            error = JobError(
                code="expired",
                message="Not submitted within queue_timeout_seconds.",
                user_message="This waited too long and was dropped.",
                retryable=True,
            )
            await self._engine.store.move(job_id, JobState.EXPIRED, error=error)

    async def close_rows(self) -> None:
        """Store the Celery results of final jobs, send their events, and say in the log and the trace how they went."""
        job_ids = await self._engine.lanes.overdue("closing")
        for job_id in job_ids:
            job = None
            try:
                job = await self._engine.store.get(job_id)
                await asyncio.to_thread(self._engine.rows.close_row, job)
            except JobNotFound:
                pass  # kept no longer
            except BROKER_AWAY as error:
                raise Unavailable(f"The broker is away: {error!r}") from error
            except Exception:
                # One row that cannot be closed must not keep the others open; it is tried again later.
                log.exception("row not closed", extra={"job_id": job_id})
                continue
            await reach("after_result", job_id)
            if await self._engine.lanes.settled("closing", job_id) and job is not None:
                summary.write(job, self._engine.settings)
                timeline.tell(job)

    async def give_up_archives(self) -> None:
        """Decide what is left to archive when nobody archives any more: records must not wait for it without an end."""
        now = await self._engine.database.now_ms()
        for job in await self._engine.store.find(await self._engine.lanes.overdue("archives", again_seconds=60.0)):
            # Not at once: in a rollout other workers may have an archive.
            due = job.archive.next_at if job.archive else None
            if due is not None and now - due > NOBODY_ARCHIVES_SECONDS * 1000:
                told = {"archive_error": "CONVEYOR_ARCHIVE is not set any more"}
                await self._engine.store.settle_errand(job.id, "archive", "failed", told)

    async def check_strays(self) -> None:
        """Cancel runs that carry the id of a job whose own run is another: somebody pays for them, nobody wants them."""
        for member in await self._engine.lanes.overdue("strays"):
            job_id, _, run_id = member.partition(" ")
            if await cancel_if_stray(self._engine, job_id, run_id):
                await self._engine.lanes.settled("strays", member)

    async def count_rejected(self) -> None:
        """Add what this process refused from the broker since last time to the count operators see."""
        for reason in list(dropped):
            count = dropped.pop(reason)
            try:
                await self._engine.database.redis.hincrby(self._engine.database.keys.rejected, reason, count)
            except REDIS_AWAY as error:
                dropped[reason] = dropped.get(reason, 0) + count
                raise self._engine.database.away(error) from error
            REJECTED.labels(reason).inc(count)

    async def mend_due_set(self) -> None:
        """A workflow with runs in flight that is missing from the due-set would never be looked at again."""
        async for workflow_id in self._engine.due.forgotten():
            log.warning("workflow was not due", extra={"workflow_id": workflow_id})
            await self._engine.due.settle(workflow_id, Settlement())

    async def prune(self) -> None:
        """Trim result streams and old dead letters. What a group has not acknowledged is never trimmed from a stream, nor
        what is younger than an hour."""
        database = self._engine.database
        with self._engine.database.asking():
            now = await database.now_ms()
            for frontend in sorted(await database.redis.smembers(database.keys.frontends)):
                await database.run(
                    "prune",
                    str(frontend),
                    now - round(KEEP_EVENTS_SECONDS * 1000),
                    now - round(KEEP_UNREAD_SECONDS * 1000),
                    now - self._engine.settings.dead_keep_seconds * 1000,
                )

    async def warm(self) -> None:
        """Keep the catalog fresh, one worker at a time."""
        await self._engine.catalog.warm()
