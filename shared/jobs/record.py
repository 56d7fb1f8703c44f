"""The job as Redis keeps it: one hash, written only by the scripts in `shared/lua/`."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

from shared.jobs.archive import ArchiveState
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
    archive: ArchiveState | None = None
    #: How the run became the job's when not by the answer to its submit: `found` by a search, or `hinted`.
    adopted: str = ""
    #: How long after the run's end we knew of it, as far as that can be told.
    noticed_after_ms: int | None = None
    #: Where the job's trace begins (W3C); empty when its producer does not trace.
    traceparent: str = ""
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
            archive=ArchiveState.from_hash(fields),
            adopted=fields.get("adopted", ""),
            noticed_after_ms=stamp("noticed_after_ms"),
            traceparent=fields.get("traceparent", ""),
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
            "archive": self.archive.snapshot() if self.archive else None,
        }

    @property
    def wants_progress(self) -> bool:
        """Whether somebody asked for progress."""
        return self.request.progress

    @property
    def run_timeout_seconds(self) -> int:
        """How long the run may take."""
        return self.request.run_timeout_seconds


#: The fields of the hash that a `Followed` is made of, in its order.
FOLLOWED_FIELDS = (
    "id",
    "state",
    "request",
    "deployment_id",
    "created_at",
    "submitting_at",
    "submitted_at",
    "started_at",
    "upstream_wait_ms",
    "looked_at",
    "looks",
    "hinted_at",
    "cancel_requested_at",
)


@dataclass(frozen=True, slots=True)
class Followed:
    """What planning looks needs of a job whose run goes on: little, for a worker keeps ten thousand of them.

    Fields are those of `Job`. Milestones that only reads show are left out: whose progress is asked for is read whole.
    """

    id: str
    state: JobState
    deployment_id: str
    created_at: int
    submitting_at: int | None
    submitted_at: int | None
    started_at: int | None
    upstream_wait_ms: int | None
    looked_at: int | None
    looks: int
    hinted_at: int | None
    cancel_requested_at: int | None
    wants_progress: bool
    run_timeout_seconds: int
    seen: dict[str, int]

    @classmethod
    def from_fields(cls, values: Sequence[str | None]) -> Self | None:
        """Read the values of `FOLLOWED_FIELDS`; None when there is no such job, or none that can be read."""
        told = {name: value for name, value in zip(FOLLOWED_FIELDS, values, strict=True) if value}
        try:
            asked = json.loads(told["request"])
            numbers = {name: int(told[name]) for name in FOLLOWED_FIELDS[4:] if name in told}
            return cls(
                id=told["id"],
                state=JobState(told["state"]),
                deployment_id=sys.intern(told.get("deployment_id", "")),
                created_at=numbers["created_at"],
                submitting_at=numbers.get("submitting_at"),
                submitted_at=numbers.get("submitted_at"),
                started_at=numbers.get("started_at"),
                upstream_wait_ms=numbers.get("upstream_wait_ms"),
                looked_at=numbers.get("looked_at"),
                looks=numbers.get("looks", 0),
                hinted_at=numbers.get("hinted_at"),
                cancel_requested_at=numbers.get("cancel_requested_at"),
                wants_progress=asked.get("progress", JobRequest.model_fields["progress"].default),
                run_timeout_seconds=asked.get(
                    "run_timeout_seconds", JobRequest.model_fields["run_timeout_seconds"].default
                ),
                seen=_NOTHING_SEEN,
            )
        except (KeyError, ValueError, AttributeError):
            return None

    @classmethod
    def of(cls, job: Job) -> Self:
        """The same of a whole record."""
        return cls(**{field.name: getattr(job, field.name) for field in fields(cls)})


_NOTHING_SEEN: dict[str, int] = {}
