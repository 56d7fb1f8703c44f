"""What does one log line say of a whole job? `job ended`, written when its row is closed: the line to search and count by.

It comes from the worker that closes the row and not from the process that ended the job: that may be a terminal, or a
frontend whose logs nobody keeps. Once for each job, unless a worker is killed between the closing and the line.
The user is in it as a keyed hash: the same user has the same, and a log is not a list of people.
Fields: docs/reference/logs.md.
"""

import hashlib
import hmac
import logging
from typing import Any

from shared.jobs.record import Job
from shared.settings import Settings

log = logging.getLogger(__name__)


def write(job: Job, settings: Settings) -> None:
    """Write the line."""
    log.info("job ended", extra=summary(job, settings))


def summary(job: Job, settings: Settings) -> dict[str, Any]:
    """The fields of the line. Durations are seconds on Redis's clock; None is not known, or did not happen."""
    return {
        "job_id": job.id,
        "run_id": job.run_id,
        "state": job.state.value,
        "code": job.error.code if job.error else None,
        "workflow": job.request.label,
        "frontend": job.request.frontend,
        "user": _hashed(settings.require_api_key(), job.request.lane),
        "waited_seconds": _between(job.created_at, job.submitting_at or job.final_at),
        "ran_seconds": _between(job.submitted_at, job.final_at),
        "total_seconds": _between(job.created_at, job.final_at),
        "noticed_after_seconds": None if job.noticed_after_ms is None else job.noticed_after_ms / 1000,
        "attempts": job.attempt,
        "looks": job.looks,
        "adopted": job.adopted or None,
        "hinted": job.hinted_at is not None,
        "events": job.seq,
        "outputs": len(job.result.outputs) if job.result else 0,
    }


def _hashed(key: str, lane: str) -> str:
    return hmac.new(key.encode(), f"user:{lane}".encode(), hashlib.sha256).hexdigest()[:12]


def _between(start: int | None, end: int | None) -> float | None:
    return None if start is None or end is None else (end - start) / 1000
