"""What version 0.1 wrote must decode today: jobs outlive a deploy in Redis, and events wait for frontends that are down.

The files in `golden/` are what the scripts of that version wrote, and are never changed; a new version adds its own.
"""

import json
from pathlib import Path

import pytest

from shared.jobs.event import Event
from shared.jobs.record import Job
from shared.jobs.states import FINAL, JobState

GOLDEN = Path(__file__).parent / "golden"

JOBS = [
    pytest.param(fields, id=f"{path.stem}:{fields['state']}:{fields['id'][-2:]}")
    for path in sorted(GOLDEN.glob("jobs-*.json"))
    for fields in json.loads(path.read_text())
]
EVENTS = [
    pytest.param(entry, id=f"{path.stem}:{entry['type']}:{entry['job_id'][-2:]}:{entry['seq']}")
    for path in sorted(GOLDEN.glob("events-*.json"))
    for entry in json.loads(path.read_text())
]


def golden_job(state: str) -> Job:
    """The first job of version 0.1 in this state."""
    return next(Job.from_hash(f) for f in json.loads((GOLDEN / "jobs-0.1.json").read_text()) if f["state"] == state)


@pytest.mark.parametrize("fields", JOBS)
def test_a_job_of_an_older_version_is_read(fields: dict[str, str]) -> None:
    """The hash of a job decodes, with its request, whatever state it was left in."""
    job = Job.from_hash(fields)

    assert job.id == fields["id"]
    assert job.state == fields["state"]
    assert job.final is (job.state in FINAL)
    assert job.request.user.id
    assert job.created_at == int(fields["created_at"])
    assert job.snapshot()["job_id"] == job.id


def test_a_job_that_succeeded_keeps_its_result() -> None:
    """Outputs, times and cost of an older version's result are all there."""
    job = golden_job("succeeded")

    assert job.result
    assert [output.kind for output in job.result.outputs] == ["image", "text"]
    assert job.result.cost
    assert job.result.cost.usd == "0.0041"
    assert job.result.timing.run == 4.25
    assert job.run_id
    assert job.progress


def test_a_job_that_failed_keeps_its_reason() -> None:
    """The error of an older version still says what to tell the user and whether to ask again."""
    job = golden_job("failed")

    assert job.error
    assert (job.error.code, job.error.retryable, job.error.upstream_status) == ("upstream_failed", True, 500)


def test_a_job_in_the_middle_of_its_life_goes_on() -> None:
    """A worker of today knows of an older version's job what it needs to submit or follow it."""
    submitting, running = golden_job("submitting"), golden_job("running")

    assert submitting.submitting_at
    assert submitting.attempt == 1
    assert submitting.request.inputs["strength"] == 0.75
    assert (running.workflow_id, running.run_id) != ("", None)
    assert running.request.run_timeout_seconds == 300


def test_the_golden_jobs_cover_every_state() -> None:
    """A state without a golden job could break unseen."""
    assert {fields["state"] for fields in json.loads((GOLDEN / "jobs-0.1.json").read_text())} == {*JobState}


@pytest.mark.parametrize("entry", EVENTS)
def test_an_event_of_an_older_version_is_read(entry: dict[str, str]) -> None:
    """A stream entry decodes, and its short fields say the same as its data."""
    event = Event.model_validate_json(entry["data"])

    assert (event.type, event.job_id, str(event.seq)) == (entry["type"], entry["job_id"], entry["seq"])
    assert event.schema_ == "conveyor.event/1"
    assert event.final is (event.state in FINAL)
    assert event.user.id
    assert event.at.tzinfo is not None
