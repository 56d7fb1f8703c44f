"""What does a look's answer do to the job?

`reading.py` says what it means; this makes it so: one move with its event, the row that Celery's monitors show, and what the
run teaches about the next. Applying the same answer twice, or an old one late, changes nothing: the scripts refuse it.
"""

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import Any

from shared.comfydeploy import ListedRun, Run, RunStatus
from shared.errors import Unavailable
from shared.following import milestones
from shared.jobs.record import SEEN, Job
from shared.jobs.states import JobState
from shared.metrics import DETECTION_DELAY, ENDS_HINTED, ETAS, OUTPUTS
from tasks import reading
from tasks.engine import Engine
from tasks.fault_points import reach
from tasks.reason import reason_of

log = logging.getLogger(__name__)

#: A run that ended well without outputs, and one whose cancel was asked for, are looked at again this soon.
NO_OUTPUTS_AGAIN_SECONDS = 2.0
CANCEL_AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of the job."""

    job: Job
    #: It is final: nothing is left to look at.
    gone: bool = False
    #: It is final by this very answer.
    moved: bool = False
    #: Something is awaited that should not take longer than this.
    again_seconds: float | None = None


async def apply(engine: Engine, job: Job, answer: Run | ListedRun, now_ms: int) -> Applied:
    """Move the job to where its run is. No round trip when the answer brings no news, else one to three.

    A run that failed costs one API call more, for its reason.
    """
    if ending := reading.ending_of(job, answer, now_ms):
        if RunStatus.of(answer.status) is RunStatus.FAILED:
            reason = await reason_of(engine, answer.workflow_id or job.workflow_id, answer.id)
            ending = reading.because(ending, answer.id, reason)
        applied = await end(engine, job, ending, noticed_after_ms=_noticed_after_ms(job, answer, now_ms))
        if ending.state is not JobState.CANCELLED:
            await _remember(engine, job, answer)
            if applied.moved:
                _measure(job, answer, now_ms)
        return applied
    again = CANCEL_AGAIN_SECONDS if job.cancel_requested_at is not None else None
    state = reading.state_of(answer.status)
    if state is JobState.SUCCEEDED and isinstance(answer, Run):
        if job.no_outputs_at is None:
            await engine.store.stamp(job.id, no_outputs_at=str(now_ms))
        again = NO_OUTPUTS_AGAIN_SECONDS
    if state is JobState.SUBMITTED and isinstance(answer, Run) and answer.queue_position is not None:
        milestone = milestones.position(answer.queue_position)
        if milestone not in job.seen:
            job = _saw(job, milestone, now_ms)
            await engine.store.stamp(job.id, **{f"{SEEN}{milestone}": str(now_ms)})
    if state is JobState.RUNNING and job.state is JobState.SUBMITTED:
        waited = reading.upstream_wait_ms(answer)
        job = replace(job, state=JobState.RUNNING, upstream_wait_ms=int(waited) if waited else None)
        eta = await _eta(engine, job, now_ms)
        await engine.store.move(job.id, JobState.RUNNING, upstream_wait_ms=waited, eta_seconds=eta)
        await _show(engine, job, "running")
    if state is JobState.RUNNING and isinstance(answer, Run) and job.request.progress:
        progress = reading.progress_of(answer)
        if progress.fraction is not None:
            milestone = milestones.tenth(progress.fraction)
            job = _saw(job, milestone, now_ms)
            eta = await _eta(engine, job, now_ms)
            if await engine.store.progress(job.id, progress, milestone=milestone, eta_seconds=eta):
                await _show(engine, job, f"{progress.fraction:.0%} {progress.text or ''}".rstrip())
    return Applied(job, again_seconds=again)


def _saw(job: Job, milestone: str, now_ms: int) -> Job:
    return job if milestone in job.seen else replace(job, seen={**job.seen, milestone: now_ms})


async def _eta(engine: Engine, job: Job, now_ms: int) -> float | None:
    return milestones.eta_seconds(job, await engine.history.outlook(job.deployment_id), now_ms)


async def end(engine: Engine, job: Job, ending: reading.Ending, *, noticed_after_ms: int | None = None) -> Applied:
    """End the job. When another got there first, it is final all the same."""
    await reach("after_read", job.id)
    facts: dict[str, Any] = {} if noticed_after_ms is None else {"noticed_after_ms": str(noticed_after_ms)}
    moved = await engine.store.move(
        job.id, ending.state, result=ending.result, error=ending.error, timing=ending.timing, **facts
    )
    if moved:
        await reach("after_final", job.id)
        for output in ending.result.outputs if ending.result else []:
            OUTPUTS.labels(output.kind).inc()
    return Applied(job, gone=True, moved=bool(moved))


def _noticed_after_ms(job: Job, answer: Run | ListedRun, now_ms: int) -> int | None:
    if job.submitted_at is None or answer.duration_seconds is None:
        return None
    return max(0, round(now_ms - job.submitted_at - answer.duration_seconds * 1000))


def _measure(job: Job, answer: Run | ListedRun, now_ms: int) -> None:
    """How early we were, and whether the job ended when it was said to."""
    late = _noticed_after_ms(job, answer, now_ms)
    if late is not None:
        source = "look" if job.hinted_at is None else "hint"
        DETECTION_DELAY.labels(source).observe(late / 1000)
    if job.promised_at is not None:
        ETAS.labels("yes" if now_ms <= job.promised_at else "no").inc()


async def _remember(engine: Engine, job: Job, answer: Run | ListedRun) -> None:
    """What this run teaches about the next; not worth failing a look for."""
    hinted = job.hinted_at is not None if engine.settings.public_url or engine.settings.sse else None
    if hinted is not None:
        ENDS_HINTED.labels("yes" if hinted else "no").inc()
    try:
        durations = milestones.durations(job, answer.duration_seconds, answer.run_seconds)
        await engine.history.record(job.deployment_id, durations, hinted=hinted)
    except Unavailable as error:
        log.warning("run not remembered", extra={"job_id": job.id, "error": str(error)})


async def _show(engine: Engine, job: Job, text: str) -> None:
    """Progress for monitors of Celery's events: worth having, not worth failing a look for."""
    try:
        await asyncio.to_thread(engine.rows.show_progress, job, f"run {(job.run_id or '')[:8]}: {text}")
    except Exception as error:  # noqa: BLE001 - kombu raises what its transport raises
        log.debug("row not updated", extra={"job_id": job.id, "error": repr(error)})
