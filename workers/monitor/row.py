"""How does a job look in Flower? One row, made of its record and of nothing else.

Inputs are not shown: a prompt is its author's business, and an input may hold a secret.
"""

import json
from collections.abc import Mapping
from typing import Any

from celery import states

from shared.jobs.states import FINAL, JobState

#: The fields of a record that a row is made of. Not the request: it may be a quarter of a megabyte.
FIELDS = (
    "id",
    "state",
    "seq",
    "label",
    "frontend",
    "user",
    "created_at",
    "submitting_at",
    "started_at",
    "upstream_wait_ms",
    "final_at",
    "cancel_requested_at",
    "undecided_until",
    "attempt",
    "looks",
    "priority",
    "pool",
    "deployment_id",
    "workflow_id",
    "run_id",
    "worker",
    "progress",
    "result",
    "error",
)

#: What fits a table; the whole error is in `exception`, on the job's own page.
LONGEST_RESULT = 120

#: Final state -> Celery's, and the field of Flower's that has its time.
_ENDS = {
    JobState.SUCCEEDED: (states.SUCCESS, "succeeded"),
    JobState.FAILED: (states.FAILURE, "failed"),
    JobState.TIMED_OUT: (states.FAILURE, "failed"),
    JobState.CANCELLED: (states.REVOKED, "revoked"),
    JobState.EXPIRED: (states.REVOKED, "revoked"),
}


def row_of(record: dict[str, str], *, dispatched: bool, pauses: Mapping[str, str]) -> dict[str, Any]:
    """The attributes of Flower's task for a job; times are seconds. `dispatched` is whether it has left its lane; `pauses`
    are those that go on, by scope, as JSON.

    Raises `ValueError` or `KeyError` when the record cannot be read.
    """
    state = JobState(record["state"])

    def at(name: str) -> float | None:
        return int(record[name]) / 1000 if record.get(name) else None

    asked, began, ended = int(record["created_at"]) / 1000, at("submitting_at"), at("final_at")
    frontend, lane, label = record.get("frontend", ""), record.get("user", ""), record.get("label", "")
    row: dict[str, Any] = {
        "seq": int(record.get("seq") or 0),
        "name": label,
        "args": label,
        "kwargs": str(
            {
                "workflow": label.removesuffix(f" for {lane}"),
                "frontend": frontend,
                "user": lane.removeprefix(f"{frontend}:"),
            }
        ),
        "received": asked,
        "started": began,
        "timestamp": ended or at("started_at") or began or asked,
        "retries": max(0, int(record.get("attempt") or 0) - 1) or None,
        "worker": record.get("worker"),
        "job_state": state.value,
        # Told on the job's own page only: it changes with every other job.
        "jobs_ahead": None,
        "run_id": record.get("run_id"),
        "deployment_id": record.get("deployment_id") or None,
        "machine": record.get("pool") or None,
        "priority": record.get("priority"),
        "looks": record.get("looks"),
        "waited_in_lane": _seconds(began - asked) if began else None,
        "waited_for_gpu": _seconds(int(record["upstream_wait_ms"]) / 1000) if record.get("upstream_wait_ms") else None,
        "runtime": None,
        "exception": None,
        "succeeded": None,
        "failed": None,
        "revoked": None,
    }
    if state in FINAL:
        row["state"], moment = _ENDS[state]
        row[moment] = ended
        row["runtime"] = max(0.0, (ended or asked) - (began or asked))
        row["result"] = _ending(record, state)
        if row["state"] == states.FAILURE:
            row["exception"] = row["result"]
        # The whole id is on the job's page, and would take the place of the reason.
        row["result"] = row["result"].replace(row["run_id"] or "-", (row["run_id"] or "-")[:8])
        if len(row["result"]) > LONGEST_RESULT:
            row["result"] = f"{row['result'][: LONGEST_RESULT - 1]}…"
    else:
        row["state"], row["result"] = _standing(record, state, dispatched=dispatched)
        if state is JobState.QUEUED and not dispatched and (reason := _paused(record, pauses)) is not None:
            row["result"] = f"paused: {reason}".rstrip(": ")
        if record.get("cancel_requested_at"):
            row["result"] = f"cancelling; {row['result']}"
    return row


def _standing(record: dict[str, str], state: JobState, *, dispatched: bool) -> tuple[str, str]:
    """The Celery state of a job that has not ended, and what it is at.

    Flower's buttons go by the state: Revoke for RECEIVED and RETRY, Terminate for STARTED, and none for words of our own.
    """
    run = f"run {record.get('run_id', '')[:8]}"
    match state:
        case JobState.QUEUED:
            again = int(record.get("attempt") or 0) > 0
            where = "on its way to a worker" if dispatched else "waiting in its lane"
            return (states.RETRY, f"{where}, to be submitted again") if again else (states.RECEIVED, where)
        case JobState.SUBMITTING:
            lost = bool(record.get("undecided_until"))
            return states.STARTED, "answer lost, looking for its run" if lost else "submitting"
        case JobState.SUBMITTED:
            return states.STARTED, f"{run}: waiting for a GPU"
        case _:
            progress = json.loads(record["progress"]) if record.get("progress") else {}
            if progress.get("fraction") is None:
                return states.STARTED, f"{run}: running"
            return states.STARTED, f"{run}: {progress['fraction']:.0%} {progress.get('text') or ''}".rstrip()


def _paused(record: dict[str, str], pauses: Mapping[str, str]) -> str | None:
    """Why operators hold a waiting job back; None when they do not."""
    workflow = f"workflow:{record.get('workflow_id', '')}"
    for scope in ("all", f"frontend:{record.get('frontend', '')}", f"user:{record.get('user', '')}", workflow):
        if scope in pauses:
            return str(json.loads(pauses[scope]).get("reason") or "")
    return None


def _ending(record: dict[str, str], state: JobState) -> str:
    """What came of a final job."""
    if state is JobState.SUCCEEDED:
        outputs = len(json.loads(record["result"])["outputs"]) if record.get("result") else 0
        return f"run {record.get('run_id', '')[:8]}: {outputs} output{'' if outputs == 1 else 's'}"
    if not record.get("error"):
        return state.value
    error = json.loads(record["error"])
    return f"{error['code']}: {error['message']}"


def _seconds(seconds: float) -> str:
    return f"{max(0.0, seconds):.1f} s"
