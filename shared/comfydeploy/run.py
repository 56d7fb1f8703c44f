"""What does the API know about one run?

Two readings of the same thing: `Run` from `GET /run/{id}` (all of it) and `ListedRun` from the listings (status and
times, no inputs, progress or outputs; CONTRACT section 10). Plain frozen dataclasses, since a busy worker reads
hundreds of listed runs a second; only `id` and `status` must be there, everything else may be missing.

A status is kept as the word the API said. Words we do not know are possible, mean "look again", and are not final.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from shared.comfydeploy.answers import Answer, required, unexpected
from shared.comfydeploy.outputs import RunOutput, run_outputs
from shared.comfydeploy.values import duration_seconds, fraction, mapping, time_at, whole, word


class RunStatus(StrEnum):
    """The nine status words (CONTRACT section 6)."""

    NOT_STARTED = "not-started"
    QUEUED = "queued"
    STARTED = "started"
    RUNNING = "running"
    UPLOADING = "uploading"
    SUCCESS = "success"
    FAILED = "failed"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"

    @classmethod
    def of(cls, status: str) -> RunStatus | None:
        """Give the status for a word, None for a word we do not know."""
        return _KNOWN.get(status)


_KNOWN = {str(status): status for status in RunStatus}

#: A run never leaves these.
FINAL = frozenset({RunStatus.SUCCESS, RunStatus.FAILED, RunStatus.TIMEOUT, RunStatus.CANCELLED})


class _HasStatus:
    """What follows from the raw status word."""

    __slots__ = ()

    status: str

    @property
    def known_status(self) -> RunStatus | None:
        """The status if it is one of the nine, None for a word we do not know."""
        return RunStatus.of(self.status)

    @property
    def is_final(self) -> bool:
        """Whether the run can no longer change; never for an unknown word."""
        return self.status in FINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(_HasStatus):
    """One run, whole. Outputs can appear while it is still running."""

    id: str
    #: The word the API said; see `known_status` and `is_final`.
    status: str
    workflow_id: str | None
    workflow_version_id: str | None
    machine_id: str | None
    #: What was submitted, `_job_id` included; images sent as base64 and private URLs are replaced by other URLs.
    workflow_inputs: dict[str, Any]
    #: 0..1, or None. Jumps, usually ends below 1, and is a hint: late updates can move it back.
    progress: float | None
    #: `Executing <node class>`; the last one remains after the end.
    live_status: str | None
    #: Runs before this one on its machine; only when asked for and only while it waits.
    queue_position: int | None
    created_at: datetime | None
    queued_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    #: started - queued.
    cold_start_seconds: float | None
    #: ended - started. Can be negative after late updates.
    run_seconds: float | None
    #: ended - created.
    duration_seconds: float | None
    gpu: str | None
    outputs: tuple[RunOutput, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedRun(_HasStatus):
    """One run as the listings show it."""

    id: str
    status: str
    workflow_id: str | None
    deployment_id: str | None
    created_at: datetime | None
    #: None in the listing of a deployment, which does not say.
    queued_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    cold_start_seconds: float | None
    run_seconds: float | None
    duration_seconds: float | None
    gpu: str | None


def read_run(answer: Answer) -> Run:
    """Read the answer of `GET /run/{run_id}`. Raises UnexpectedAnswer when it names no id or status."""
    row = answer.body
    if not isinstance(row, dict):
        raise unexpected(answer, "a run")
    return Run(
        id=required(answer, row, "id"),
        status=required(answer, row, "status"),
        workflow_id=word(row.get("workflow_id")),
        workflow_version_id=word(row.get("workflow_version_id")),
        machine_id=word(row.get("machine_id")),
        workflow_inputs=mapping(row.get("workflow_inputs")),
        progress=fraction(row.get("progress")),
        live_status=word(row.get("live_status")),
        queue_position=whole(row.get("queue_position")),
        created_at=time_at(row.get("created_at")),
        queued_at=time_at(row.get("queued_at")),
        started_at=time_at(row.get("started_at")),
        ended_at=time_at(row.get("ended_at")),
        cold_start_seconds=duration_seconds(row.get("cold_start_duration")),
        run_seconds=duration_seconds(row.get("run_duration")),
        duration_seconds=duration_seconds(row.get("duration")),
        gpu=word(row.get("gpu")),
        outputs=run_outputs(row.get("outputs")),
    )


def read_listed_run(answer: Answer, row: dict[str, Any], *, duration_is_run: bool = False) -> ListedRun:
    """Read one row of a listing. Raises UnexpectedAnswer when it names no id or status.

    `duration_is_run`: in the listing of a deployment, `duration` is ended - started (CONTRACT section 11).
    """
    duration = duration_seconds(row.get("duration"))
    return ListedRun(
        id=required(answer, row, "id"),
        status=required(answer, row, "status"),
        workflow_id=word(row.get("workflow_id")),
        deployment_id=word(row.get("deployment_id")),
        created_at=time_at(row.get("created_at")),
        queued_at=time_at(row.get("queued_at")),
        started_at=time_at(row.get("started_at")),
        ended_at=time_at(row.get("ended_at")),
        cold_start_seconds=duration_seconds(row.get("cold_start_duration")),
        run_seconds=duration if duration_is_run else duration_seconds(row.get("run_duration")),
        duration_seconds=None if duration_is_run else duration,
        gpu=word(row.get("gpu")),
    )
