"""What goes in and out by HTTP, as models: the OpenAPI is made of them."""

from datetime import UTC, datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from producers.gateway.inputs import Input
from producers.handle import Status
from shared.catalog import Entry
from shared.inputs import form_of
from shared.jobs.archive import ArchiveState
from shared.jobs.callback import CallbackState
from shared.jobs.event import JobError, Progress, QueuePlace, Result
from shared.jobs.record import Job
from shared.jobs.request import User
from shared.jobs.states import JobState


class Accepted(BaseModel):
    """A job was taken."""

    job_id: str = Field(examples=["01a1fb52-f096-76b3-915b-49e82266f9cd"])
    created: bool = Field(description="False when the idempotency key stood for this job already.")
    url: str = Field(description="The job.", examples=["/v1/jobs/01a1fb52-f096-76b3-915b-49e82266f9cd"])
    events_url: str = Field(
        description="Its events, as Server-Sent Events.",
        examples=["/v1/jobs/01a1fb52-f096-76b3-915b-49e82266f9cd/events"],
    )


class CallbackView(BaseModel):
    """Who is told of the job's end, and how far that is."""

    url: str
    state: str = Field(pattern="^(pending|delivered|failed)$")
    attempts: int = Field(description="Requests that were begun.")
    last_status: int | None = Field(description="HTTP status of the last answer; null when there was none.")
    last_error: str | None = Field(description="Why the last attempt did not deliver.", examples=["HTTP 500"])
    next_at: datetime | None = Field(description="When it is tried (again); null before the job's end and at its own.")

    @classmethod
    def of(cls, callback: CallbackState) -> Self:
        """A callback as it is shown."""
        return cls(
            url=callback.url,
            state=callback.state,
            attempts=callback.attempts,
            last_status=callback.last_status,
            last_error=callback.last_error or None,
            next_at=_maybe_time(callback.next_at),
        )


class ArchiveView(BaseModel):
    """Copies of the outputs, which outlive the outputs' own addresses."""

    state: str = Field(
        pattern="^(pending|kept|failed)$", description="`failed`: some outputs have no copy, and will have none."
    )
    attempts: int = Field(description="Attempts that were begun.")
    last_error: str | None = Field(description="Why something has no copy.")
    next_at: datetime | None = Field(description="When it is tried (again); null once it is decided.")
    files: dict[str, str] = Field(
        description="Key of an output -> where its copy is, as the operator's tools take it.",
        examples=[{"9:images:0": "s3://pictures/2026-11-21/01a1fb52-f096-76b3-915b-49e82266f9cd/ComfyUI_00001_.png"}],
    )

    @classmethod
    def of(cls, archive: ArchiveState) -> Self:
        """The archiving of a job as it is shown."""
        return cls(
            state=archive.state,
            attempts=archive.attempts,
            last_error=archive.last_error or None,
            next_at=_maybe_time(archive.next_at),
            files={key: archive.address(copy) for key, copy in archive.copies.items()},
        )


class JobView(BaseModel):
    """A job at one moment."""

    job_id: str
    state: JobState
    final: bool = Field(description="Whether it can still change.")
    seq: int = Field(description="The number of its last event; where its stream goes on after this answer.")
    frontend: str
    user: User
    workflow: str | None = Field(description="As it was asked for.")
    deployment_id: str | None = Field(description="As it was asked for, or as the name stands for it.")
    inputs: dict[str, Any] = Field(description="As they were asked for.")
    context: dict[str, Any]
    meta: dict[str, Any]
    run_id: str | None = Field(description="ComfyUI Deploy's run, once there is one.")
    attempt: int = Field(description="Tries to submit.")
    created_at: datetime
    submitted_at: datetime | None
    started_at: datetime | None
    final_at: datetime | None
    cancel_requested_at: datetime | None
    progress: Progress | None
    queue: QueuePlace | None = Field(description="Where it waits; null once it has left its lane, and in listings.")
    eta_seconds: float | None = Field(
        description="Seconds until it will have ended, as a rule; null when nothing is known, and in listings."
    )
    result: Result | None
    error: JobError | None
    callback: CallbackView | None = Field(description="How far its callback is; null when none was asked for.")
    archive: ArchiveView | None = Field(description="Copies of its outputs; null when none are made.")

    @classmethod
    def of(cls, job: Job, queue: QueuePlace | None = None, eta_seconds: float | None = None) -> Self:
        """A record as it is shown."""
        asked = job.request
        return cls(
            job_id=job.id,
            state=job.state,
            final=job.final,
            seq=job.seq,
            frontend=asked.frontend,
            user=asked.user,
            workflow=asked.workflow,
            deployment_id=asked.deployment_id or job.deployment_id or None,
            inputs=asked.inputs,
            context=asked.context,
            meta=asked.meta,
            run_id=job.run_id,
            attempt=job.attempt,
            created_at=_time(job.created_at),
            submitted_at=_maybe_time(job.submitted_at),
            started_at=_maybe_time(job.started_at),
            final_at=_maybe_time(job.final_at),
            cancel_requested_at=_maybe_time(job.cancel_requested_at),
            progress=job.progress,
            queue=queue,
            eta_seconds=eta_seconds,
            result=job.result,
            error=job.error,
            callback=CallbackView.of(job.callback) if job.callback else None,
            archive=ArchiveView.of(job.archive) if job.archive else None,
        )

    @classmethod
    def of_status(cls, status: Status) -> Self:
        """A status as it is shown."""
        return cls.of(status.job, status.queue, status.eta_seconds)


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _maybe_time(ms: int | None) -> datetime | None:
    return None if ms is None else _time(ms)


class JobList(BaseModel):
    """A page of a user's jobs, newest first."""

    jobs: list[JobView]
    next_cursor: str | None = Field(
        description="Give it as `cursor` for the next page; null at the end. A page by state may be short before the end."
    )
    last_event_id: str = Field(
        description="Where the user's events went when this was read: give it as `last_event_id` to "
        "`/v1/users/{user}/events` and nothing is missed in between.",
        examples=["1795219109256-0"],
    )


class CancelAnswer(BaseModel):
    """What a cancellation did."""

    job_id: str
    outcome: str = Field(
        description="`cancelled`: it waited, and is over. `requested`: its run is being cancelled, and may still succeed. "
        "`final`: it had ended before.",
        examples=["requested"],
        pattern="^(cancelled|requested|final)$",
    )


class WorkflowView(BaseModel):
    """Something that can be run: one deployment of a workflow."""

    name: str = Field(examples=["SDXL Portrait"])
    deployment_id: str
    environment: str = Field(examples=["production"])
    description: str | None
    inputs: list[Input] | None = Field(description="What may be given; null when the API does not say.")
    outputs: list[str] = Field(description="Kinds of outputs to expect; others may come.", examples=[["image"]])
    notes: list[str] = Field(description="Hints the workflow's author wrote into it, cut short.")

    @classmethod
    def of(cls, entry: Entry) -> Self:
        """An entry of the catalog as it is shown."""
        signature = entry.signature
        return cls(
            name=entry.name,
            deployment_id=entry.deployment_id,
            environment=entry.environment,
            description=entry.description,
            inputs=None if signature is None else [Input.of(one) for one in signature.inputs],
            outputs=list(signature.outputs) if signature else [],
            notes=list(signature.notes) if signature else [],
        )


class WorkflowForm(WorkflowView):
    """A deployment of one workflow, with what a form builder needs."""

    model_config = ConfigDict(serialize_by_alias=True)

    form: dict[str, Any] | None = Field(
        serialization_alias="schema",
        description="JSON Schema (2020-12) of `inputs`; null when the API does not say. `x-kind`, `x-multiline` and "
        "`x-step` are as in `inputs`.",
    )

    @classmethod
    def of(cls, entry: Entry) -> Self:
        """An entry of the catalog as it is shown alone."""
        view = WorkflowView.of(entry)
        return cls(**dict(view), form=form_of(entry.signature) if entry.signature else None)


class _Aged(BaseModel):
    age_seconds: float = Field(description="How old the copy is.")
    stale: bool = Field(description="Older than it should be: the API cannot be reached, or no worker runs.")
    warnings: list[str] = Field(
        description="What could not be read, and names that are too much alike, in sentences.", examples=[[]]
    )


class WorkflowList(_Aged):
    """What can be run, from our copy of the API's deployments."""

    workflows: list[WorkflowView]


class WorkflowForms(_Aged):
    """The deployments of one workflow, from our copy."""

    workflows: list[WorkflowForm]


class FileView(BaseModel):
    """A file that was taken; `url` is what goes into `inputs`."""

    url: str
    file_id: str | None
    filename: str
    content_type: str
    size: int = Field(description="Bytes.")


class Health(BaseModel):
    """Whether this process can do its work."""

    status: str = Field(examples=["ok"])
    checks: dict[str, str] = Field(default_factory=dict, examples=[{"redis": "ok", "catalog": "ok"}])
