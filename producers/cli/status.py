"""A job's status, for people and for programs."""

import json
from datetime import UTC, datetime

import typer

from producers.handle import Cancelled, Status
from shared.jobs.archive import ArchiveState
from shared.jobs.callback import CallbackState

#: What a cancellation did, as a sentence.
CANCELLED: dict[Cancelled, str] = {
    "cancelled": "Cancelled.",
    "requested": "Cancellation requested; the run may still succeed before it is stopped.",
    "final": "Too late: the job has ended.",
}


def _callback(callback: CallbackState) -> str:
    """How far a callback is, in one line."""
    text = f"{callback.state}, {callback.attempts} attempt{'' if callback.attempts == 1 else 's'}"
    if callback.last_error:
        text += f", {callback.last_error}"
    if callback.next_at and callback.attempts:
        text += f"; next at {_clock(callback.next_at)}"
    return text


def _archive(archive: ArchiveState) -> str:
    """How far the copying is, in one line."""
    count = len(archive.copies)
    text = f"{archive.state}, {count} file{'' if count == 1 else 's'}{f' in {archive.at}' if count else ''}"
    if archive.last_error:
        text += f", {archive.last_error}"
    if archive.next_at and archive.attempts:
        text += f"; next at {_clock(archive.next_at)}"
    return text


def _clock(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC).astimezone():%H:%M:%S}"


def show(status: Status, *, as_json: bool) -> None:
    """Print it."""
    if as_json:
        typer.echo(json.dumps(status.snapshot(), ensure_ascii=False))
        return
    job = status.job
    asked = datetime.fromtimestamp(job.created_at / 1000, UTC).astimezone()
    rows = {
        "job": job.id,
        "state": job.state.value,
        "workflow": job.request.label,
        "for": job.request.lane,
        "asked": asked.strftime("%Y-%m-%d %H:%M:%S"),
        "run": job.run_id,
    }
    if status.queue:
        rows["queue"] = f"position {status.queue.position}, {status.queue.ahead} ahead"
    if status.queue and status.queue.paused:
        rows["paused"] = status.queue.paused
    if status.eta_seconds is not None:
        rows["ends"] = f"probably within {status.eta_seconds:.0f} s"
    if job.progress and not job.final:
        fraction = "" if job.progress.fraction is None else f"{job.progress.fraction:.0%} "
        rows["progress"] = f"{fraction}{job.progress.text or ''}".strip()
    if job.cancel_requested_at and not job.final:
        rows["cancel"] = "requested"
    if job.error:
        rows["error"] = f"{job.error.code}: {job.error.message}"
    if job.callback:
        rows["callback"] = _callback(job.callback)
    if job.archive:
        rows["archive"] = _archive(job.archive)
    for output in job.result.outputs if job.result else []:
        rows[output.key] = output.url or output.text or output.filename
    for name, text in rows.items():
        if text:
            typer.echo(f"{name:<10} {text}")
