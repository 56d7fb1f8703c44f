"""Which run is this job's? Found by the job id inside the run's inputs, when the answer to the submit was lost.

`search.py` finds it. Found: it is ours. Several: the oldest is ours and the others are cancelled. None, and the
submit can no longer arrive: no run was made, and the job goes back to its lane to be submitted again.
"""

import logging
import time
from datetime import UTC, datetime
from typing import Any, Literal

from tenacity import wait_random_exponential

from shared import tracing
from shared.errors import GiveUp, JobNotFound, RunNotFound, TellOperator, TryLater, Unavailable, Undecided
from shared.following import milestones
from shared.jobs.record import Job
from shared.jobs.request import REFERENCE_INPUT
from shared.jobs.states import JobState
from shared.metrics import STRAYS_CANCELLED, UNDECIDED_SETTLED
from tasks.cancel import cancel_run
from tasks.engine import Engine
from tasks.fail import fail
from tasks.schedule import delay, price
from tasks.search import intent_ms, runs_of

log = logging.getLogger(__name__)

#: The API answered 500 itself, so it is through with the request: its row is there, or never will be.
ANSWERED_GRACE_SECONDS = 10.0
#: Beyond our own timeout the request may still be on its way through a proxy.
LOST_MARGIN_SECONDS = 5.0
#: The API commits the row before anything else, within milliseconds; only when its database has no connection to spare may
#: that take up to 30 s, and then everything else is slow, too. So when our search was answered quickly, a run that is not
#: there so long after the intent was never made.
QUICK_SECONDS = 3.0
SETTLED_SECONDS = 20.0

#: When we may not search: how long to hope that an operator mends that, before the job fails. A revoked key gets longer.
UNSEARCHABLE_SECONDS = 120.0
UNAUTHORIZED_SECONDS = 3600.0
LONGEST_SEARCH_SECONDS = 10.0

#: Stands for the run in a stray when it is not known whether there is one: an operator has ended the job in `submitting`.
UNKNOWN_RUN = "?"

#: Between two searches: up to 2, 4, 8, then 10 s.
SEARCH = wait_random_exponential(multiplier=1, min=1, max=LONGEST_SEARCH_SECONDS)


async def note_undecided(engine: Engine, job: Job, error: Undecided) -> float:
    """Note until when the run may still appear. Answers the seconds until the first search: rows appear in ms."""
    answered = error.upstream_status == 500
    grace = ANSWERED_GRACE_SECONDS if answered else engine.client.timeouts.submit_seconds + LOST_MARGIN_SECONDS
    until = await engine.database.now_ms() + round(grace * 1000)
    await engine.store.stamp(job.id, undecided_until=str(until))
    return 1.0


async def find_run(engine: Engine, job: Job) -> float | None:
    """Settle a `submitting` job nobody has an answer for. Answers the seconds until the next search, None when settled.

    Cost: that of a search, see `runs_of`.
    """
    # Before the search: what it does not find may have appeared while it went on.
    now, began = await engine.database.now_ms(), time.monotonic()
    try:
        runs = await runs_of(engine, job)
    except (GiveUp, TellOperator) as error:
        return await _unsearchable(engine, job, error)
    quick = time.monotonic() - began < QUICK_SECONDS
    if runs:
        runs.sort(key=lambda run: run.created_at or datetime.max.replace(tzinfo=UTC))
        UNDECIDED_SETTLED.labels("search").inc()
        log.info("run adopted", extra={"job_id": job.id, "run_id": runs[0].id, "found": len(runs)})
        if len(runs) > 1:
            # Noted first, so that a crash in here leaves none of them running.
            await engine.lanes.suspect(job.id, [run.id for run in runs])
        await adopt(engine, job, runs[0].id, how="found")
        for extra in runs[1:]:
            await _settle_stray(engine, job.id, extra.id)
        return None
    until = _appears_until(engine, job)
    if quick:
        until = min(until, intent_ms(job) + round(SETTLED_SECONDS * 1000))
    if now < until:
        return min(delay(SEARCH, 1 + (now - intent_ms(job)) // 5000), max(0.5, (until - now) / 1000))
    UNDECIDED_SETTLED.labels("none").inc()
    log.info("no run was made, the job is submitted again", extra={"job_id": job.id})
    await return_to_lane(engine, job.id, job.attempt)
    await engine.dispatch()
    return None


async def _unsearchable(engine: Engine, job: Job, error: GiveUp | TellOperator) -> float | None:
    """The API does not let us look (a key without the right, a deleted workflow): a second run must not be risked."""
    patience = UNAUTHORIZED_SECONDS if error.upstream_status == 401 else UNSEARCHABLE_SECONDS
    if await engine.database.now_ms() < intent_ms(job) + patience * 1000:
        return LONGEST_SEARCH_SECONDS
    UNDECIDED_SETTLED.labels("given_up").inc()
    message = f"The answer to the submit was lost, and whether a run was made cannot be found out: {error}"
    await fail(engine, job, Unavailable(message))
    return None


async def return_to_lane(engine: Engine, job_id: str, attempt: int) -> None:
    """No run was made: the job waits where it stood, unless the user gave it up meanwhile."""
    moved = await engine.store.move(job_id, JobState.QUEUED, attempt=attempt, undecided_until="")
    if moved and (await engine.store.get(job_id)).cancel_requested_at is not None:
        await engine.store.cancel(job_id)


async def adopt_hinted(engine: Engine, job: Job) -> bool:
    """Adopt the run a webhook named, if it carries the job's id. One call, where a search takes several."""
    try:
        async with engine.bucket.call("look"):
            run = await engine.client.runs.get(job.hinted_run)
    except RunNotFound:
        return False
    if run.workflow_inputs.get(REFERENCE_INPUT) != job.id:
        return False
    if job.state is JobState.QUEUED:
        # Given up too early: the run appeared after the job had gone back to its lane.
        await engine.store.move(job.id, JobState.SUBMITTING, workflow_id=run.workflow_id or job.workflow_id)
    UNDECIDED_SETTLED.labels("hint").inc()
    await adopt(engine, job, run.id, how="hinted")
    return True


async def cancel_if_stray(engine: Engine, job_id: str, run_id: str) -> bool:
    """Cancel a run that carries the id of a job and that the job does not want: its own run is another, or it has ended
    without waiting for this one. Answers whether that is settled."""
    if run_id == UNKNOWN_RUN:
        return await _cancel_unknown(engine, job_id)
    try:
        async with engine.bucket.call("look"):
            run = await engine.client.runs.get(run_id)
        job = await engine.store.get(job_id)
    except (RunNotFound, JobNotFound):
        return True
    if run.is_final or run.workflow_inputs.get(REFERENCE_INPUT) != job_id:
        return True
    if not job.final and job.run_id in (None, run_id):
        return job.run_id == run_id  # its own, or it may still become that
    log.warning("stray run cancelled", extra={"job_id": job_id, "run_id": run_id, "own": job.run_id})
    STRAYS_CANCELLED.inc()
    return await cancel_run(engine, run_id)


async def _cancel_unknown(engine: Engine, job_id: str) -> bool:
    """Cancel the runs of a job that was ended while its submit had no answer. Settled when no other can appear any more."""
    try:
        job = await engine.store.get(job_id)
    except JobNotFound:
        return True
    now = await engine.database.now_ms()
    try:
        runs = await runs_of(engine, job)
    except (GiveUp, TellOperator) as error:
        log.warning("a run may go on", extra={"job_id": job_id, "error": str(error)})
        return now > intent_ms(job) + UNSEARCHABLE_SECONDS * 1000
    cancelled = [run.is_final or await cancel_run(engine, run.id) for run in runs]
    return all(cancelled) and now > _appears_until(engine, job)


def _appears_until(engine: Engine, job: Job) -> int:
    """When the run of an unanswered submit is there, or never will be; ms."""
    return job.undecided_until or intent_ms(job) + round(
        (engine.client.timeouts.submit_seconds + LOST_MARGIN_SECONDS) * 1000
    )


async def adopt(engine: Engine, job: Job, run_id: str, *, how: Literal["", "found", "hinted"] = "") -> None:
    """Make a run the job's own; `how` when it did not come with the answer to its submit.

    When the job has moved on, the run is what a hint would have named: a stray to cancel, or, when the job has gone back to
    its lane, the one to adopt instead of posting again.
    """
    tracing.note({"conveyor.run_id": run_id})
    told: dict[str, Any] = {"adopted": how} if how else {}
    outlook, hint_rate = await engine.history.outlook(job.deployment_id), await engine.history.hint_rate()
    first_look = engine.schedule.first_look(job, outlook, price(engine.bucket.pressure_seconds, hint_rate))
    moved = await engine.store.move(
        job.id,
        JobState.SUBMITTED,
        run_id=run_id,
        first_look_seconds=first_look,
        eta_seconds=milestones.of_submit(outlook),
        **told,
    )
    if moved.reply == "missing":
        await cancel_run(engine, run_id)
    elif not moved:
        await engine.store.nudge(job.id, run_id=run_id)
        await _settle_stray(engine, job.id, run_id)


async def _settle_stray(engine: Engine, job_id: str, run_id: str) -> None:
    """Cancel a second run at once; when the API is in trouble, upkeep asks again."""
    try:
        if await cancel_if_stray(engine, job_id, run_id):
            await engine.lanes.settled("strays", f"{job_id} {run_id}")
    except TryLater as error:
        log.warning("stray left to upkeep", extra={"job_id": job_id, "run_id": run_id, "error": str(error)})
