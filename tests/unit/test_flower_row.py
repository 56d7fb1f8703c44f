"""A job's row in Flower, from its record."""

import json
from typing import Any

import pytest
from celery import states

from shared.jobs.states import JobState
from workers.monitor.row import FIELDS, LONGEST_RESULT, row_of

RUN = "7a2fcaf1-0000-4000-8000-000000000001"
QUEUED = {
    "id": "01a1fb52-f096-76b3-915b-49e82266f9cd",
    "state": "queued",
    "label": "SDXL Portrait for telegram:42",
    "frontend": "telegram",
    "user": "telegram:42",
    "created_at": "1000000",
    "workflow_id": "wf-1",
    "priority": "5",
}
SUBMITTING = {**QUEUED, "state": "submitting", "submitting_at": "1003500", "attempt": "1", "worker": "w1@host"}
SUBMITTED = {**SUBMITTING, "state": "submitted", "run_id": RUN}
RUNNING = {**SUBMITTED, "state": "running", "started_at": "1005000", "upstream_wait_ms": "1400"}
AGAIN = {**QUEUED, "attempt": "1", "submitting_at": "1003500"}


def final(state: str, **more: Any) -> dict[str, str]:
    """The record of a job that has ended."""
    return {
        **RUNNING,
        "state": state,
        "final_at": "1009750",
        **{name: json.dumps(value) for name, value in more.items()},
    }


def error(code: str, message: str = "it says why") -> dict[str, str]:
    """As records keep it."""
    return {"code": code, "message": message, "user_message": "Sorry."}


def row(record: dict[str, str], *, dispatched: bool = False, **pauses: str) -> dict[str, Any]:
    """The row, with pauses of these scopes for these reasons."""
    told = {scope.replace("__", ":"): json.dumps({"reason": reason}) for scope, reason in pauses.items()}
    assert set(record) <= set(FIELDS)
    return row_of(record, dispatched=dispatched, pauses=told)


@pytest.mark.parametrize(
    ("record", "dispatched", "state", "result"),
    [
        (QUEUED, False, states.RECEIVED, "waiting in its lane"),
        (QUEUED, True, states.RECEIVED, "on its way to a worker"),
        (AGAIN, False, states.RETRY, "waiting in its lane, to be submitted again"),
        (AGAIN, True, states.RETRY, "on its way to a worker, to be submitted again"),
        (SUBMITTING, True, states.STARTED, "submitting"),
        ({**SUBMITTING, "undecided_until": "1"}, True, states.STARTED, "answer lost, looking for its run"),
        (SUBMITTED, True, states.STARTED, "run 7a2fcaf1: waiting for a GPU"),
        (RUNNING, True, states.STARTED, "run 7a2fcaf1: running"),
        (
            {**RUNNING, "progress": '{"fraction":0.574,"text":"KSampler"}'},
            True,
            states.STARTED,
            "run 7a2fcaf1: 57% KSampler",
        ),
        ({**RUNNING, "progress": '{"fraction":0.5,"text":null}'}, True, states.STARTED, "run 7a2fcaf1: 50%"),
        ({**RUNNING, "cancel_requested_at": "1"}, True, states.STARTED, "cancelling; run 7a2fcaf1: running"),
        (final("succeeded", result={"outputs": [{}]}), False, states.SUCCESS, "run 7a2fcaf1: 1 output"),
        (final("succeeded", result={"outputs": [{}, {}]}), False, states.SUCCESS, "run 7a2fcaf1: 2 outputs"),
        (final("failed", error=error("upstream_failed")), False, states.FAILURE, "upstream_failed: it says why"),
        (final("timed_out", error=error("timed_out")), False, states.FAILURE, "timed_out: it says why"),
        (final("cancelled", error=error("cancelled")), False, states.REVOKED, "cancelled: it says why"),
        (final("expired", error=error("expired")), False, states.REVOKED, "expired: it says why"),
        (final("cancelled"), False, states.REVOKED, "cancelled"),
    ],
)
def test_a_state_and_what_it_is_at(record: dict[str, str], dispatched: bool, state: str, result: str) -> None:
    """Every state of a job is one of Celery's, so that Flower has the right button, and words."""
    told = row(record, dispatched=dispatched)
    assert (told["state"], told["result"]) == (state, result)
    assert (told["exception"] is not None) == (state == states.FAILURE)
    assert told["job_state"] == record["state"]


def test_every_state_of_a_job_has_a_row() -> None:
    """A state that is added needs one, too."""
    for state in JobState:
        assert row({**RUNNING, "state": state.value})["state"]


def test_times_and_names() -> None:
    """Seconds; the runtime is the job's own, from its last submit to its end."""
    told = row(final("succeeded", result={"outputs": []}))
    assert told["name"] == told["args"] == "SDXL Portrait for telegram:42"
    assert told["kwargs"] == "{'workflow': 'SDXL Portrait', 'frontend': 'telegram', 'user': '42'}"
    assert (told["received"], told["started"], told["succeeded"], told["timestamp"]) == (
        1000.0,
        1003.5,
        1009.75,
        1009.75,
    )
    assert told["runtime"] == 6.25
    assert (told["waited_in_lane"], told["waited_for_gpu"]) == ("3.5 s", "1.4 s")
    assert told["worker"] == "w1@host"
    assert told["retries"] is None
    assert row(RUNNING)["runtime"] is None


def test_a_job_that_never_began_has_lasted_since_it_was_asked_for() -> None:
    """Cancelled while it waited."""
    told = row({**QUEUED, "state": "cancelled", "final_at": "1002000"})
    assert (told["runtime"], told["started"], told["revoked"]) == (2.0, None, 1002.0)


def test_the_reason_comes_before_the_end_of_a_line() -> None:
    """A run's id in the middle of it is as short as everywhere in the list."""
    told = row(final("failed", error=error("upstream_failed", f"Run {RUN} failed: no memory.")))
    assert told["result"] == "upstream_failed: Run 7a2fcaf1 failed: no memory."
    assert told["exception"] == f"upstream_failed: Run {RUN} failed: no memory."


def test_a_long_reason_is_shortened_in_the_list_only() -> None:
    """The whole is on the job's page."""
    told = row(final("failed", error=error("upstream_failed", "x" * 500)))
    assert len(told["result"]) == LONGEST_RESULT
    assert told["result"].endswith("…")
    assert told["exception"] == f"upstream_failed: {'x' * 500}"


@pytest.mark.parametrize("scope", ["all", "frontend__telegram", "user__telegram__42", "workflow__wf-1"])
def test_a_waiting_job_that_is_paused_says_why(scope: str) -> None:
    """Whoever paused it and for whatever scope; one that has left its lane is not held back."""
    assert row(QUEUED, **{scope: "out of credit"})["result"] == "paused: out of credit"
    assert row(QUEUED, **{scope: ""})["result"] == "paused"
    assert row(QUEUED, dispatched=True, **{scope: "no"})["result"] == "on its way to a worker"
    assert row(RUNNING, dispatched=True, **{scope: "no"})["result"] == "run 7a2fcaf1: running"


def test_a_pause_of_others_is_none() -> None:
    """Another frontend, user or workflow."""
    assert (
        row(QUEUED, frontend__web="no", user__web__42="no", **{"workflow__wf-2": "no"})["result"]
        == "waiting in its lane"
    )


@pytest.mark.parametrize(
    "broken", [{"state": "dancing"}, {"created_at": "soon"}, {"state": "running", "progress": "{"}]
)
def test_a_record_that_cannot_be_read_says_so(broken: dict[str, str]) -> None:
    """The reader leaves it out and goes on."""
    with pytest.raises((ValueError, KeyError)):
        row({**QUEUED, **broken})
