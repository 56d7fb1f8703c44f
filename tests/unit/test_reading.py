"""What a look's answer means: the table of status words, and how a job ends by it."""

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.comfydeploy import ListedRun, Run, RunStatus
from shared.comfydeploy.outputs import RunOutput
from shared.comfydeploy.run import FINAL as FINAL_STATUSES
from shared.jobs.record import Job
from shared.jobs.request import REFERENCE_INPUT, JobRequest
from shared.jobs.states import FINAL, JobState
from tasks import reading

NOW_MS = 1_795_208_000_000
NOW = datetime.fromtimestamp(NOW_MS / 1000, UTC)

#: The whole table, written a second time by hand from docs/job-lifecycle.md.
MEANINGS = {
    "not-started": JobState.SUBMITTED,
    "queued": JobState.SUBMITTED,
    "started": JobState.RUNNING,
    "running": JobState.RUNNING,
    "uploading": JobState.RUNNING,
    "success": JobState.SUCCEEDED,
    "failed": JobState.FAILED,
    "timeout": JobState.TIMED_OUT,
    "cancelled": JobState.CANCELLED,
}


def job(state: JobState = JobState.RUNNING, *, run_timeout_seconds: int = 600, **fields: Any) -> Job:
    """A followed job, asked for ten seconds ago."""
    request = JobRequest.read(
        {"workflow": "Portrait", "frontend": "web", "user": {"id": "1"}, "run_timeout_seconds": run_timeout_seconds}
    )
    times = {"created_at": NOW_MS - 10_000, "submitting_at": NOW_MS - 9_000, "submitted_at": NOW_MS - 8_000}
    return Job(id="j1", state=state, seq=2, request=request, run_id="r1", **(times | fields))


def listed(status: str, **fields: Any) -> ListedRun:
    """A row of a listing."""
    facts: dict[str, Any] = dict.fromkeys(field.name for field in dataclasses.fields(ListedRun))
    return ListedRun(**(facts | {"id": "r1", "status": status} | fields))


def read(status: str, *, outputs: tuple[RunOutput, ...] = (), **fields: Any) -> Run:
    """A run that was read whole."""
    facts: dict[str, Any] = dict.fromkeys(field.name for field in dataclasses.fields(Run))
    facts |= {"id": "r1", "status": status, "outputs": outputs, "workflow_inputs": {}} | fields
    return Run(**facts)


TEXT = (RunOutput(id="o1", output_id=None, node_id="9", node_class=None, data={"text": ["hello"]}),)


@pytest.mark.parametrize("status", list(RunStatus))
def test_every_status_word_has_a_meaning(status: RunStatus) -> None:
    """Each of the nine words means one state, and the final words are exactly those that mean a final state."""
    assert reading.state_of(str(status)) is MEANINGS[str(status)]
    assert (status in FINAL_STATUSES) is (MEANINGS[str(status)] in FINAL)


def test_the_table_knows_every_word_of_the_contract() -> None:
    """No word was added to the client without a meaning here."""
    assert {str(status) for status in RunStatus} == set(MEANINGS)


@given(st.text().filter(lambda word: word not in MEANINGS))
def test_an_unknown_word_means_look_again(word: str) -> None:
    """No unknown word is final, ends a job or moves it."""
    assert reading.state_of(word) is None
    assert not listed(word).is_final
    assert reading.ending_of(job(), read(word, outputs=TEXT), NOW_MS) is None
    assert reading.ending_of(job(), listed(word), NOW_MS) is None


@pytest.mark.parametrize(
    "word", ["Success", "SUCCESS", " success", "success ", "succeeded", "completed", "canceled", ""]
)
def test_words_that_look_final_are_not(word: str) -> None:
    """Only the exact word counts: another spelling is an unknown word."""
    assert reading.state_of(word) is None


@pytest.mark.parametrize("status", [s for s in RunStatus if s not in FINAL_STATUSES])
def test_a_run_that_goes_on_ends_nothing(status: RunStatus) -> None:
    """As long as the run goes on there is no ending, whoever tells and whatever outputs are there already."""
    assert reading.ending_of(job(), read(status, outputs=TEXT), NOW_MS) is None
    assert reading.ending_of(job(), listed(status), NOW_MS) is None


@pytest.mark.parametrize(
    ("status", "state", "code"),
    [
        ("failed", JobState.FAILED, "upstream_failed"),
        ("timeout", JobState.TIMED_OUT, "timed_out"),
        ("cancelled", JobState.CANCELLED, "cancelled"),
    ],
)
@pytest.mark.parametrize("answer", [read, listed], ids=["read", "listed"])
def test_an_unhappy_end_is_proven_by_either_answer(answer: Any, status: str, state: JobState, code: str) -> None:
    """A listing is enough to end a job that did not succeed, with an error that fits a chat window."""
    ending = reading.ending_of(job(), answer(status), NOW_MS)
    assert ending is not None
    assert (ending.state, ending.result) == (state, None)
    assert ending.error is not None
    assert ending.error.code == code
    assert 0 < len(ending.error.user_message) <= 200
    assert "r1" in ending.error.message
    assert "r1" not in ending.error.user_message


def test_a_listing_does_not_prove_success() -> None:
    """A listed success has no outputs, so the run has to be read."""
    assert reading.ending_of(job(), listed("success"), NOW_MS) is None


def test_success_carries_the_result() -> None:
    """A read success has the outputs, the inputs without our own reference, timing and cost."""
    inputs = {"prompt": "a fox", REFERENCE_INPUT: "j1"}
    run = read("success", outputs=TEXT, workflow_inputs=inputs, gpu="A10G", run_seconds=12.0)
    ending = reading.ending_of(job(), run, NOW_MS)
    assert ending is not None
    assert (ending.state, ending.error) == (JobState.SUCCEEDED, None)
    assert ending.result is not None
    assert [output.text for output in ending.result.outputs] == ["hello"]
    assert ending.result.inputs_final == {"prompt": "a fox"}
    assert ending.result.cost is not None
    assert ending.result.timing == ending.timing


def test_success_without_outputs_is_waited_for() -> None:
    """A success without outputs is no end when it is first seen, nor within the grace; after it, `no_outputs`."""
    grace_ms = round(reading.NO_OUTPUTS_GRACE_SECONDS * 1000)
    empty = read("success")
    assert reading.ending_of(job(), empty, NOW_MS) is None
    assert reading.ending_of(job(no_outputs_at=NOW_MS - grace_ms + 1), empty, NOW_MS) is None
    ending = reading.ending_of(job(no_outputs_at=NOW_MS - grace_ms), empty, NOW_MS)
    assert ending is not None
    assert ending.state is JobState.FAILED
    assert ending.error is not None
    assert ending.error.code == "no_outputs"


def test_outputs_that_come_late_count() -> None:
    """When the outputs come after all, the job succeeds, even past the grace."""
    ending = reading.ending_of(job(no_outputs_at=NOW_MS - 3_600_000), read("success", outputs=TEXT), NOW_MS)
    assert ending is not None
    assert ending.state is JobState.SUCCEEDED


def test_a_node_without_items_is_no_output() -> None:
    """An output row that holds nothing is as good as none."""
    hollow = (RunOutput(id="o1", output_id=None, node_id="9", node_class=None, data={"images": []}),)
    assert reading.ending_of(job(), read("success", outputs=hollow), NOW_MS) is None


@given(st.integers(1, 86_400), st.integers(0, 7_200_000))
def test_the_deadline_counts_from_the_start_of_the_run(timeout: int, started_after: int) -> None:
    """A running job has its timeout and the margin from when it started; a waiting one the upstream queue as well."""
    allowed = round((timeout + reading.DEADLINE_MARGIN_SECONDS) * 1000)
    started = NOW_MS + started_after
    assert reading.deadline_ms(job(run_timeout_seconds=timeout, started_at=started)) == started + allowed
    queue = round(reading.UPSTREAM_QUEUE_SECONDS * 1000)
    waiting = job(JobState.SUBMITTED, run_timeout_seconds=timeout)
    assert waiting.submitted_at is not None
    assert reading.deadline_ms(waiting) == waiting.submitted_at + queue + allowed


def test_the_margin_covers_the_kill_of_the_container() -> None:
    """The container is killed 20 s after the run's timeout; we do not give up before."""
    assert reading.DEADLINE_MARGIN_SECONDS > 20


def test_an_overdue_job_says_how_long_it_was_allowed() -> None:
    """The end of an overdue job is `timed_out`, with the user's own limit in the message."""
    ending = reading.overdue(job(run_timeout_seconds=77), NOW_MS)
    assert ending.state is JobState.TIMED_OUT
    assert ending.error is not None
    assert ending.error.code == "timed_out"
    assert "77 s" in ending.error.message
    assert ending.timing is not None
    assert ending.timing.total == 10.0


def test_timing_splits_the_time_between_us_and_them() -> None:
    """Queued is ours, upstream queue, cold start and run are theirs, total is from the ask."""
    run = read("success", created_at=NOW, queued_at=NOW + timedelta(seconds=2), cold_start_seconds=3.5, run_seconds=12)
    timing = reading.timing_of(job(), run, NOW_MS)
    assert timing.model_dump() == {"queued": 1.0, "upstream_queue": 2.0, "cold_start": 3.5, "run": 12.0, "total": 10.0}


def test_negative_times_are_left_out() -> None:
    """Late updates make upstream durations negative; no frontend ever sees one."""
    run = read(
        "success", created_at=NOW, queued_at=NOW - timedelta(seconds=2), cold_start_seconds=-3.5, run_seconds=-0.1
    )
    timing = reading.timing_of(job(), run, NOW_MS)
    assert (timing.upstream_queue, timing.cold_start, timing.run) == (None, None, None)


@given(st.sampled_from(sorted(MEANINGS)), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_no_answer_makes_a_negative_time(status: str, run_seconds: float, cold: float) -> None:
    """Whatever the API says, the times of an ending are not negative."""
    run = read(status, outputs=TEXT, run_seconds=run_seconds, cold_start_seconds=cold, gpu="A10G")
    ending = reading.ending_of(job(), run, NOW_MS)
    if ending is not None and ending.timing is not None:
        assert all(value is None or value >= 0 for value in ending.timing.model_dump().values())


@pytest.mark.parametrize(
    ("live", "text"),
    [("Executing KSampler", "KSampler"), ("KSampler", "KSampler"), ("Executing ", None), (None, None), ("", None)],
)
def test_progress_names_the_node(live: str | None, text: str | None) -> None:
    """Progress shows the node's class without the word in front of it."""
    progress = reading.progress_of(read("running", progress=0.25, live_status=live))
    assert (progress.fraction, progress.text) == (0.25, text)
