"""How does a job end that cannot be submitted? The reason goes to the user, the detail to the operators."""

import logging
from typing import Any

from shared.errors import ConveyorError, GiveUp, TellOperator
from shared.jobs.event import JobError
from shared.jobs.record import Job
from shared.jobs.states import JobState
from tasks.engine import Engine

log = logging.getLogger(__name__)


async def fail(engine: Engine, job: Job, error: ConveyorError) -> None:
    """Move a job to `failed`, and let the next one out of its lane. A job that ended meanwhile stays as it is."""
    facts: dict[str, Any] = {
        "code": error.code,
        "message": str(error)[:1000],
        "user_message": "The generation service did not answer.",
    }
    if isinstance(error, GiveUp):
        facts |= {"user_message": error.user_message, "upstream_status": error.upstream_status}
    elif isinstance(error, TellOperator):
        facts |= {"user_message": "The operators have to look at this.", "upstream_status": error.upstream_status}
    log.warning("submit failed", extra={"job_id": job.id, "code": error.code, "error": str(error)})
    # Not from `submitted`: a run that turned up meanwhile counts more than the API's refusal of another.
    waiting = [JobState.QUEUED, JobState.SUBMITTING]
    await engine.store.move(job.id, JobState.FAILED, from_=waiting, error=JobError(**facts))
    await engine.dispatch()
