"""What does a frontend hear? One event per fact about a job, complete in itself: no database is needed to answer.

Published as `docs/schemas/event.json`. Readers ignore fields they do not know and take words they do not know as words: a
newer worker may send more.
The stream entry has the fields `type`, `job_id`, `seq` and `data`; `data` is this model as JSON and is composed in
`shared/lua/prelude.lua`, in the script that moves the job.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.jobs.states import JobState

SCHEMA = "conveyor.event/1"

EventType = Literal[
    "job.queued",
    "job.submitted",
    "job.running",
    "job.progress",
    "job.succeeded",
    "job.failed",
    "job.cancelled",
    "job.timed_out",
    "job.expired",
]

OutputKind = Literal["image", "animation", "video", "audio", "text", "model", "file"]

ErrorCode = Literal[
    "workflow_not_found",
    "invalid_input",
    "unauthorized",
    "insufficient_credit",
    "rate_limited",
    "upstream_failed",
    "upstream_unavailable",
    "no_outputs",
    "timed_out",
    "expired",
    "cancelled",
    "internal",
]


class _Open(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Output(_Open):
    """One file or text a run made."""

    key: str = Field(description="`node:group:n`; the same output has the same key whenever the run is read.")
    kind: OutputKind | str
    url: str | None = None
    url_expires_at: datetime | None = Field(None, description="None: the address does not expire.")
    filename: str | None = None
    content_type: str | None = None
    size: int | None = Field(None, description="Bytes, when the API tells.")
    node_id: str | None = None
    output_id: str | None = Field(None, description="The name the workflow's author gave this output.")
    text: str | None = None


class Timing(_Open):
    """Where the time went, in seconds. None: not known, or did not happen."""

    queued: float | None = Field(None, description="From the ask to the submit.")
    upstream_queue: float | None = Field(None, description="From the submit until a GPU worker took the run.")
    cold_start: float | None = Field(None, description="Until ComfyUI answered.")
    run: float | None = Field(None, description="From there to the end of the run.")
    total: float | None = Field(None, description="From the ask to the final state.")


class Cost(_Open):
    """An estimate; the API has no cost field (CONTRACT section 11)."""

    usd: str = Field(description="A decimal number as text, so that nobody adds it up in floats.")
    gpu: str
    seconds: float
    basis: str


class Result(_Open):
    """What a job that succeeded made."""

    outputs: list[Output]
    inputs_final: dict[str, Any] = Field(default_factory=dict, description="The inputs as the API stored them.")
    timing: Timing = Timing()
    cost: Cost | None = None


class JobError(_Open):
    """Why a job did not succeed."""

    code: ErrorCode | str
    message: str = Field(description="For operators.")
    user_message: str = Field(description="Fits a chat window.")
    retryable: bool = Field(False, description="Asking again may succeed.")
    upstream_status: int | None = Field(None, description="HTTP status of the API, when it was the API that refused.")


class Progress(_Open):
    """How far the run is; only while running, never going backwards."""

    fraction: float | None = Field(None, ge=0, le=1)
    text: str | None = None


class QueuePlace(_Open):
    """Where a waiting job stands."""

    position: int = Field(description="1 is next.")
    ahead: int = Field(description="Jobs that will go first, of all users.")
    eta_seconds: float | None = Field(None, description="Seconds until its turn, at the pace of the last jobs.")
    paused: str | None = Field(None, description="Why operators have paused it; null: they have not.")


class EventUser(_Open):
    """Who asked, as the frontend said."""

    id: str
    name: str | None = None
    tier: str | None = None


class Event(_Open):
    """A fact about a job."""

    schema_: str = Field(SCHEMA, alias="schema")
    type: EventType | str
    job_id: str
    seq: int = Field(description="1 for the first event of a job, then without gaps; (job_id, seq) names an event.")
    at: datetime
    state: JobState
    final: bool
    run_id: str | None = None
    frontend: str
    workflow: str = ""
    user: EventUser
    context: dict[str, Any] = Field(default_factory=dict)
    meta: dict[str, Any] = Field(default_factory=dict)
    eta_seconds: float | None = Field(
        None, description="Seconds from `at` by which four of five such jobs have ended; null when too little is known."
    )
    progress: Progress | None = None
    queue: QueuePlace | None = None
    result: Result | None = None
    error: JobError | None = None
    timing: Timing | None = None
