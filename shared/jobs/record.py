"""The job as Redis keeps it: one hash, written only by the scripts in `shared/lua/`."""

import json
from dataclasses import dataclass, field
from typing import Any, Self

from shared.jobs.callback import CallbackState
from shared.jobs.event import JobError, Progress, Result
from shared.jobs.request import JobRequest
from shared.jobs.states import FINAL, JobState

#: Fields of the hash that hold a milestone begin with this.
SEEN = "seen:"


@dataclass(frozen=True, slots=True)
class Job:
    """A snapshot. Times are milliseconds on Redis's clock; None until the thing happened."""

    id: str
    state: JobState
    #: The number of the last event; rises by one with each.
    seq: int
    request: JobRequest
    created_at: int
    #: The machine whose window the job counts in; empty when it is not known.
    pool: str = ""
    #: Who is asked to follow the run; empty until resolved.
    workflow_id: str = ""
    deployment_id: str = ""
    dispatched_at: int | None = None
    submitting_at: int | None = None
    submitted_at: int | None = None
    started_at: int | None = None
    final_at: int | None = None
    cancel_requested_at: int | None = None
    #: Tries to submit that were begun; looks do not count.
    attempt: int = 0
    #: Looks at the run so far; the backoff schedule reads it.
    looks: int = 0
    #: Until when the run of an unanswered submit may still appear.
    undecided_until: int | None = None
    #: Milliseconds from the run's creation to its start, on the API's clock.
    upstream_wait_ms: int | None = None
    #: When a look last saw the run going on.
    looked_at: int | None = None
    #: When a hint last came.
    hinted_at: int | None = None
    #: The run a hint named before any answer did; not believed until it was read.
    hinted_run: str = ""
    #: Milestones of `shared/following/milestones.py` that only looks can tell, by when they were first seen.
    seen: dict[str, int] = field(default_factory=dict)
    #: By when the job was said to end when its run was submitted.
    promised_at: int | None = None
    #: When a run that ended well was first seen without outputs.
    no_outputs_at: int | None = None
    run_id: str | None = None
    progress: Progress | None = None
    result: Result | None = None
    error: JobError | None = None
    callback: CallbackState | None = None
    #: Stream id of the job's first event: where a follower starts to read.
    first_event: str = "0-0"

    @property
    def final(self) -> bool:
        """Whether the job can still change."""
        return self.state in FINAL

    @classmethod
    def from_hash(cls, fields: dict[str, str]) -> Self:
        """Read the hash. Unknown fields are left alone: a newer worker may have written them."""

        def stamp(name: str) -> int | None:
            return int(fields[name]) if fields.get(name) else None

        return cls(
            id=fields["id"],
            state=JobState(fields["state"]),
            seq=int(fields["seq"]),
            request=JobRequest.stored(fields["request"]),
            created_at=int(fields["created_at"]),
            pool=fields.get("pool", ""),
            workflow_id=fields.get("workflow_id", ""),
            deployment_id=fields.get("deployment_id", ""),
            dispatched_at=stamp("dispatched_at"),
            submitting_at=stamp("submitting_at"),
            submitted_at=stamp("submitted_at"),
            started_at=stamp("started_at"),
            final_at=stamp("final_at"),
            cancel_requested_at=stamp("cancel_requested_at"),
            undecided_until=stamp("undecided_until"),
            upstream_wait_ms=stamp("upstream_wait_ms"),
            looked_at=stamp("looked_at"),
            hinted_at=stamp("hinted_at"),
            hinted_run=fields.get("hinted_run", ""),
            seen={name.removeprefix(SEEN): int(at) for name, at in fields.items() if name.startswith(SEEN)},
            promised_at=stamp("promised_at"),
            no_outputs_at=stamp("no_outputs_at"),
            attempt=int(fields.get("attempt") or 0),
            looks=int(fields.get("looks") or 0),
            run_id=fields.get("run_id") or None,
            progress=Progress.model_validate_json(fields["progress"]) if fields.get("progress") else None,
            result=Result.model_validate_json(fields["result"]) if fields.get("result") else None,
            error=JobError.model_validate_json(fields["error"]) if fields.get("error") else None,
            callback=CallbackState.from_hash(fields),
            first_event=fields.get("first_event", "0-0"),
        )

    def snapshot(self) -> dict[str, Any]:
        """The job as JSON for people and programs: what `status` prints."""
        return {
            "job_id": self.id,
            "state": self.state.value,
            "final": self.final,
            "seq": self.seq,
            "workflow": self.request.label,
            "frontend": self.request.frontend,
            "user": self.request.user.model_dump(),
            "run_id": self.run_id,
            "created_at": self.created_at / 1000,
            "attempt": self.attempt,
            "progress": self.progress.model_dump() if self.progress else None,
            "result": json.loads(self.result.model_dump_json()) if self.result else None,
            "error": self.error.model_dump() if self.error else None,
            "callback": self.callback.snapshot() if self.callback else None,
        }
