"""What does a look's answer mean for the job?

One table for every status word of a run; an unknown word means "look again". Pure: the answer goes in, the move comes
out, nothing is asked and nothing is written.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import assert_never

from shared.comfydeploy import ListedRun, Run, RunStatus
from shared.following import milestones
from shared.following.history import Outlook
from shared.jobs.event import JobError, Progress, Result, Timing
from shared.jobs.record import Followed, Job
from shared.jobs.request import REFERENCE_INPUT
from shared.jobs.states import JobState
from tasks.cost import cost
from tasks.outputs import outputs_of
from tasks.schedule import Pending

#: A run that ended well shows its outputs at once, or a little later; after this it has none.
NO_OUTPUTS_GRACE_SECONDS = 20.0

#: How long a run may wait for a GPU before its own timeout starts to count.
UPSTREAM_QUEUE_SECONDS = 3600.0
#: The container is killed 20 s after the run's timeout; then outputs may still be uploading (CONTRACT section 6).
DEADLINE_MARGIN_SECONDS = 60.0


def state_of(status: str) -> JobState | None:
    """The job's state for a run's status word; None for a word nobody told us: look again."""
    known = RunStatus.of(status)
    match known:
        case None:
            return None
        case RunStatus.NOT_STARTED | RunStatus.QUEUED:
            return JobState.SUBMITTED
        case RunStatus.STARTED | RunStatus.RUNNING | RunStatus.UPLOADING:
            return JobState.RUNNING
        case RunStatus.SUCCESS:
            return JobState.SUCCEEDED
        case RunStatus.FAILED:
            return JobState.FAILED
        case RunStatus.TIMEOUT:
            return JobState.TIMED_OUT
        case RunStatus.CANCELLED:
            return JobState.CANCELLED
        case _:
            assert_never(known)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ends."""

    state: JobState
    result: Result | None = None
    error: JobError | None = None
    timing: Timing | None = None


def deadline_ms(job: Job | Followed) -> int:
    """When the run has outlived what the user allowed, in ms on Redis's clock."""
    allowed = job.run_timeout_seconds + DEADLINE_MARGIN_SECONDS
    if job.started_at:
        return job.started_at + round(allowed * 1000)
    return (job.submitted_at or job.created_at) + round((UPSTREAM_QUEUE_SECONDS + allowed) * 1000)


def pending_of(
    job: Job | Followed, outlook: Outlook, now_ms: int, looked_ms: int | None, hint_rate: float = 0.0
) -> Pending | None:
    """The run as the schedule sees it; None when too little is known of its deployment.

    It is judged by how long runs take from the latest milestone it has passed.
    """
    known = milestones.best(job, outlook)
    if known is None:
        return None
    forecast, since = known
    age = max(0, now_ms - since) / 1000
    looked_age = min(age, max(0, (looked_ms or since) - since) / 1000)
    hinted = (job.hinted_at or 0) > (looked_ms or 0)
    return Pending(forecast, age, looked_age, hinted, hint_rate)


def upstream_wait_ms(run: Run | ListedRun) -> str:
    """How long the run had waited when it started, as the record keeps it; "" when the API does not say."""
    if run.started_at is None or run.created_at is None or run.started_at < run.created_at:
        return ""
    return str(round((run.started_at - run.created_at).total_seconds() * 1000))


def progress_of(run: Run) -> Progress:
    """How far a running run is."""
    text = (run.live_status or "").removeprefix("Executing ").strip() or None
    return Progress(fraction=run.progress, text=text)


def ending_of(job: Job, run: Run | ListedRun, now_ms: int) -> Ending | None:
    """How the job ends by this answer; None when it goes on: not ended, or ended well and its outputs are not there yet.

    A listing proves failures; success is proven by a read, which alone has the outputs.
    """
    state = state_of(run.status)
    timing = timing_of(job, run, now_ms)
    match state:
        case JobState.SUCCEEDED if isinstance(run, Run):
            return _success(job, run, now_ms, timing)
        case JobState.FAILED:
            message = f"Run {run.id} failed; the API gives no reason."
            return _unsuccessful(state, "upstream_failed", message, "The generation failed.", timing)
        case JobState.TIMED_OUT:
            return _unsuccessful(state, "timed_out", f"Run {run.id} timed out.", "This took too long.", timing)
        case JobState.CANCELLED:
            by = "as asked" if job.cancel_requested_at else "upstream"
            return _unsuccessful(state, "cancelled", f"Run {run.id} was cancelled {by}.", "Cancelled.", timing)
        case _:
            return None


def because(ending: Ending, run_id: str, reason: str | None) -> Ending:
    """The same end with the run's own reason in the message for operators. It is no text for users."""
    if ending.error is None or reason is None:
        return ending
    return replace(ending, error=ending.error.model_copy(update={"message": f"Run {run_id} failed: {reason}"}))


def overdue(job: Job, now_ms: int) -> Ending:
    """The end of a job whose run outlived its deadline."""
    message = f"Run {job.run_id} did not end within {job.request.run_timeout_seconds} s and was cancelled."
    timing = Timing(queued=_queued(job), total=(now_ms - job.created_at) / 1000)
    return _unsuccessful(JobState.TIMED_OUT, "timed_out", message, "This took too long and was stopped.", timing)


def _success(job: Job, run: Run, now_ms: int, timing: Timing) -> Ending | None:
    outputs = outputs_of(run, read_at=datetime.fromtimestamp(now_ms / 1000, UTC))
    if not outputs:
        if job.no_outputs_at is None or now_ms - job.no_outputs_at < NO_OUTPUTS_GRACE_SECONDS * 1000:
            return None
        message = f"Run {run.id} ended well but made no outputs."
        return _unsuccessful(JobState.FAILED, "no_outputs", message, "The workflow produced nothing.", timing)
    inputs = {name: value for name, value in run.workflow_inputs.items() if name != REFERENCE_INPUT}
    result = Result(outputs=outputs, inputs_final=inputs, timing=timing, cost=cost(run.gpu, run.run_seconds))
    return Ending(JobState.SUCCEEDED, result=result, timing=timing)


def _unsuccessful(state: JobState, code: str, message: str, user_message: str, timing: Timing) -> Ending:
    error = JobError.model_validate({"code": code, "message": message, "user_message": user_message})
    return Ending(state, error=error, timing=timing)


def timing_of(job: Job, run: Run | ListedRun, now_ms: int) -> Timing:
    """Where the time went: our clock for our part, the API's for its own. Late updates make theirs negative: left out."""

    def seconds(value: float | None) -> float | None:
        return round(value, 3) if value is not None and value >= 0 else None

    waited = (run.queued_at - run.created_at).total_seconds() if run.queued_at and run.created_at else None
    return Timing(
        queued=_queued(job),
        upstream_queue=seconds(waited),
        cold_start=seconds(run.cold_start_seconds),
        run=seconds(run.run_seconds),
        total=(now_ms - job.created_at) / 1000,
    )


def _queued(job: Job) -> float | None:
    return (job.submitting_at - job.created_at) / 1000 if job.submitting_at else None
