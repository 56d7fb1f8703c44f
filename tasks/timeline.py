"""What does a job's record say of where its time went? The part of its trace that is told after its end.

From the record alone, so that it is whole whichever worker died on the way. It is told by whoever closes the job's row:
once, unless that worker dies in the middle.
"""

from shared import tracing
from shared.jobs.record import Job
from shared.jobs.states import JobState
from shared.tracing import Kind, Moment, Past, job_attributes

#: What looks saw, in a span; a run has a dozen.
MOST_MOMENTS = 32


def tell(job: Job) -> None:
    """Tell the spans of a final job that nobody has told yet."""
    final_at = job.final_at
    if final_at is None:
        return
    facts = job_attributes(job.id, job.request.label, job.request.frontend, run_id=job.run_id, state=job.state.value)
    error = (job.error.code if job.error else job.state.value) if job.state is not JobState.SUCCEEDED else ""
    spans = []
    if not job.traceparent:
        spans.append(Past("enqueue", job.created_at, job.created_at, Kind.PRODUCER, facts, root=True))
    waited = Past(
        "wait", job.created_at, job.submitting_at or final_at, attributes=facts, error="" if job.run_id else error
    )
    spans.append(waited)
    if job.submitted_at is not None:
        told = facts | {"conveyor.looks": job.looks, "conveyor.attempts": job.attempt}
        spans.append(Past("run", job.submitted_at, final_at, attributes=told, moments=_moments(job), error=error))
    stream = {
        "messaging.system": "redis",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.destination.name": f"results:{job.request.frontend}",
        "messaging.message.id": f"{job.id}:{job.seq}",
    }
    spans.append(Past("publish", final_at, final_at, Kind.PRODUCER, facts | stream))
    tracing.tell(job.id, job.traceparent, spans)


def _moments(job: Job) -> list[Moment]:
    times = {
        "running": job.started_at,
        "last hint": job.hinted_at,
        "cancel asked for": job.cancel_requested_at,
        "first seen without outputs": job.no_outputs_at,
        **{f"seen {milestone}": at for milestone, at in job.seen.items()},
    }
    found = [Moment(name, at) for name, at in times.items() if at is not None]
    return sorted(found, key=lambda moment: moment.at)[:MOST_MOMENTS]
