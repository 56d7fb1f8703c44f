"""How does a job become a run, exactly once?

    hold the job, alone ─▶ wait for a token ─▶ write the intent (`submitting`) ─▶ POST ─▶ `submitted`
                                                                                   │
             certainly no run was made: back to the lane ◀── 429, refused ─────────┤
             a run may exist: `adopt` looks for it, nothing is posted ◀── lost ────┘

The intent is written before the POST, because the API has no idempotency key and every run is paid for: after a crash
anywhere in here a `submitting` job is looked up upstream, never simply posted again (`adopt.py`). The Celery task ends
with `Ignore`: it leaves its slot while the job's row stays open (`closing.py`).
"""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager
from typing import NoReturn

from celery import shared_task
from celery.exceptions import Ignore

from shared import tracing
from shared.broker import QUEUE, SUBMIT_TASK
from shared.errors import ConveyorError, GiveUp, Stopping, TellOperator, TryLater, Undecided
from shared.hooks import address
from shared.jobs.lanes import HOLD_SECONDS
from shared.jobs.record import Job
from shared.jobs.request import REFERENCE_INPUT
from shared.jobs.states import JobState
from shared.jobs.store import Target
from shared.logs import about
from shared.metrics import SUBMITS
from shared.tracing import Kind, Span, job_attributes
from tasks.adopt import adopt, adopt_hinted, find_run, note_undecided, return_to_lane
from tasks.engine import Engine, process
from tasks.fail import fail
from tasks.fault_points import reach
from tasks.schedule import TROUBLE, delay

log = logging.getLogger(__name__)

#: An intent this old is not posted any more: others begin to act on it when the hold ends.
STALLED_SECONDS = HOLD_SECONDS / 3

#: Attempts that a trace tells of: while the API refuses everybody there may be hundreds.
MOST_TOLD = 10

_MESSAGING = {
    "messaging.system": "celery",
    "messaging.operation.name": "submit",
    "messaging.operation.type": "process",
    "messaging.destination.name": QUEUE,
}


@shared_task(name=SUBMIT_TASK, ignore_result=True)
def submit(job_id: str) -> NoReturn:
    """Submit one job; sent by whoever dispatched it. A repeated or late message finds nothing to do."""
    if not isinstance(job_id, str):
        raise TypeError("a job id is a text")  # anybody can send a message; the record is asked only for texts
    if process.engine is not None:
        try:
            process.run(submit_job(process.engine, job_id))
        except (ConveyorError, CancelledError) as error:
            # Redis is away, or the worker stopped in the middle: the hold ends by itself and rescue sends another task.
            log.warning("submit left to rescue", extra={"job_id": job_id, "error": repr(error)})
    raise Ignore


async def submit_job(engine: Engine, job_id: str) -> None:
    """Carry a dispatched job to `submitted`, back to its lane, or to `failed`. Never raises for trouble upstream."""
    holder = f"{engine.name}/{uuid.uuid4().hex[:8]}"
    word, state = await engine.lanes.hold(job_id, holder)
    if word != "held":
        log.debug("nothing to submit", extra={"job_id": job_id, "reply": word, "state": state})
        return
    async with _holding(engine, job_id, holder):
        job = await engine.store.get(job_id)
        facts = job_attributes(job.id, job.request.label, job.request.frontend, attempt=job.attempt) | _MESSAGING
        with about(job_id), tracing.span("submit", job.id, job.traceparent, Kind.CONSUMER, facts) as span:
            again = await _carry(engine, job, span)
    if again is not None:
        # Rescue sends the next task when this hold ends; no slot is held meanwhile.
        await engine.lanes.hold(job_id, holder, seconds=again)


async def _carry(engine: Engine, job: Job, span: Span) -> float | None:
    """Answers the seconds after which the job wants another task; None when it does not."""
    if job.attempt >= MOST_TOLD:
        span.drop()
    if job.state is JobState.QUEUED and job.cancel_requested_at is not None:
        # Given up while submitting, and no run was made.
        await engine.store.cancel(job.id)
        await engine.dispatch()
        return None
    try:
        if job.hinted_run and await adopt_hinted(engine, job):
            return None
        if job.state is JobState.SUBMITTING:
            again = await find_run(engine, job)
            if again is not None:
                span.drop()  # searches may go on for an hour
            return again
        return await _submit(engine, job)
    except Stopping:
        span.drop()
        await engine.lanes.give_back(job.id)
        return None
    except TryLater as error:
        span.drop()
        log.warning("submit put off", extra={"job_id": job.id, "error": str(error)})
        return error.retry_after_seconds or delay(TROUBLE, 1)


@asynccontextmanager
async def _holding(engine: Engine, job_id: str, holder: str) -> AsyncIterator[None]:
    """Keep saying that we work on the job, however long token and answer take."""

    async def renew() -> None:
        while True:
            await asyncio.sleep(HOLD_SECONDS / 3)
            try:
                await engine.lanes.hold(job_id, holder)
            except TryLater as error:
                log.warning("hold not renewed", extra={"job_id": job_id, "error": str(error)})

    renewing = asyncio.create_task(renew())
    try:
        yield
    finally:
        renewing.cancel()


async def _submit(engine: Engine, job: Job) -> float | None:
    """Post a queued job. Answers the seconds after which an undecided one is looked for again."""
    try:
        target = await _target(engine, job)
    except GiveUp as error:
        await fail(engine, job, error)
        return None
    if not target.deployment_id:
        raise TryLater("The catalog is not known yet, so the workflow's name cannot be resolved.")
    failures = await engine.unless_stopping(engine.bucket.take("submit", retry=job.attempt > 0))
    await reach("after_token", job.id)
    began = time.monotonic()
    moved = await engine.store.move(
        job.id,
        JobState.SUBMITTING,
        unless_paused=True,
        deployment_id=target.deployment_id,
        workflow_id=target.workflow_id,
        # Who submitted it, for operators (`workers/monitor/row.py`).
        worker=engine.hostname,
    )
    if not moved:
        return None  # cancelled or paused while we waited
    await reach("after_intent", job.id)
    if time.monotonic() - began > STALLED_SECONDS:
        raise TryLater("This worker stood still between the intent and the POST; others may have acted on it.")
    try:
        async with engine.bucket.learning(failures):
            run_id = await engine.client.runs.submit(
                target.deployment_id,
                {**job.request.inputs, REFERENCE_INPUT: job.id},
                webhook=address(engine.settings, job.id),
                gpu=job.request.gpu,
            )
    except Undecided as error:
        SUBMITS.labels("undecided").inc()
        log.warning("submit undecided", extra={"job_id": job.id, "error": str(error)})
        return await note_undecided(engine, job, error)
    except TryLater as error:
        # No run was made: the job waits where it stood, and the bucket knows how long nobody calls.
        SUBMITS.labels("later").inc()
        log.warning("submit refused for now", extra={"job_id": job.id, "error": str(error)})
        await return_to_lane(engine, job.id, job.attempt + 1)
    except (GiveUp, TellOperator) as error:
        SUBMITS.labels("failed").inc()
        await fail(engine, job, error)
    else:
        SUBMITS.labels("submitted").inc()
        await reach("after_post", job.id)
        await adopt(engine, job, run_id)
        await reach("after_submitted", job.id)
    return None


async def _target(engine: Engine, job: Job) -> Target:
    """What the door resolved the request to; asked again only for what was not known then."""
    if job.deployment_id and job.workflow_id:
        return Target(deployment_id=job.deployment_id, workflow_id=job.workflow_id)
    return await engine.unless_stopping(engine.catalog.resolve(job.request))
