"""The later the milestone, the better the end is foretold."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.following import milestones
from shared.following.forecast import KEPT, forecast
from shared.following.history import HINTS_LATELY, Outlook, trust
from shared.jobs.record import Job
from shared.jobs.request import JobRequest
from shared.jobs.states import JobState

SUBMITTED = 1_000_000


def job(state: JobState = JobState.RUNNING, **fields: object) -> Job:
    """A job whose run was submitted and, when it runs, started two seconds later."""
    request = JobRequest.read({"workflow": "portrait", "frontend": "web", "user": {"id": "ada"}})
    known = {"id": "j", "seq": 3, "created_at": SUBMITTED, "submitted_at": SUBMITTED}
    if state is JobState.RUNNING:
        known["upstream_wait_ms"] = 2_000
    return Job(state=state, request=request, **(known | fields))  # type: ignore[arg-type]  # fields of a table


def outlook(**durations: float) -> Outlook:
    """Each milestone with ten durations within a few per cent of what is given; `_` stands for the colon."""
    near = (1.0, 0.97, 1.03, 0.98, 1.02, 0.99, 1.01, 1.0, 0.96, 1.04)
    return Outlook({name.replace("_", ":"): tuple(took * part for part in near) for name, took in durations.items()})


def test_the_latest_milestone_that_is_known_foretells_the_end() -> None:
    """A run seen at seven tenths is judged by how long runs take from there; before that by its start, then its submit."""
    known = outlook(total=20.0, run=18.0, tenth_7=3.0)
    at = SUBMITTED + 10_000
    late = job(seen={"tenth:5": at - 5_000, "tenth:7": at})

    etas = [milestones.eta_seconds(one, known, at) or 0.0 for one in (late, job(), job(JobState.SUBMITTED))]

    assert 2.5 < etas[0] < 4.5
    assert 9.0 < etas[1] < 13.0
    assert 9.0 < etas[2] < 13.0


def test_a_place_in_the_machines_queue_counts_until_the_run_starts() -> None:
    """Third in the queue ends later than next in the queue; once started, the queue says nothing more."""
    known = outlook(total=20.0, run=18.0, position_3=70.0, position_0=25.0)
    at = SUBMITTED + 1_000
    seen = {"position:3": at}

    third = milestones.eta_seconds(job(JobState.SUBMITTED, seen=seen), known, at) or 0.0
    first = milestones.eta_seconds(job(JobState.SUBMITTED, seen=seen | {"position:0": at + 1}), known, at + 1) or 0.0
    started = milestones.eta_seconds(job(seen=seen), known, at + 2_000) or 0.0

    assert third > 60.0
    assert 30.0 > first > started > 15.0


def test_nothing_is_foretold_of_a_deployment_nobody_has_seen() -> None:
    """Two runs are not enough, and a job without a run has no milestone."""
    assert milestones.eta_seconds(job(), Outlook({"total": (20.0, 21.0)}), SUBMITTED) is None
    assert milestones.eta_seconds(job(JobState.QUEUED, submitted_at=None), outlook(total=20.0), SUBMITTED) is None


@given(st.lists(st.floats(1.0, 100.0), min_size=3, max_size=KEPT), st.floats(0.0, 300.0))
def test_an_eta_is_the_time_by_which_four_of_five_have_ended(history: list[float], age: float) -> None:
    """The chance to have ended by the ETA, for a run that still goes on, is 80 %, whatever its age."""
    belief = forecast(tuple(history))

    by = belief.by_chance(milestones.ETA_CHANCE, age=age)

    assert by >= age
    assert abs(belief.ended_by(by, age=age) - milestones.ETA_CHANCE) < 0.01


@pytest.mark.parametrize("sigma", [0.05, 0.3, 0.6])
def test_a_promise_is_kept_as_often_as_it_says(sigma: float) -> None:
    """Learning from each run as it ends: about four of five end within the ETA given at their submit, or a few more."""
    rng = random.Random(7)
    history: list[float] = []
    kept = []
    for _ in range(400):
        took = 12.0 * math.exp(rng.gauss(0.0, sigma))
        if len(history) >= KEPT:
            kept.append(took <= forecast(tuple(history[:KEPT])).by_chance(milestones.ETA_CHANCE, age=0.0))
        history.insert(0, took)

    assert 0.75 < sum(kept) / len(kept) < 0.9


def test_what_a_finished_run_teaches() -> None:
    """From every milestone that was seen, the time to the end, on the API's own clock; nothing of what it did not tell."""
    one = job(seen={"position:1": SUBMITTED + 500, "tenth:7": SUBMITTED + 12_000})

    assert milestones.durations(one, 15.0, 13.0) == {"total": 15.0, "run": 13.0, "position:1": 14.5, "tenth:7": 3.0}
    assert milestones.durations(one, None, None) == {}


def test_hints_are_trusted_slowly_and_distrusted_fast() -> None:
    """Two hundred hits are worth 99.75 %; ten misses in a row after them leave nothing."""
    assert trust([]) == 0.0
    assert trust([True]) < 0.7
    assert 0.997 < trust([True] * 200) < 0.998
    assert trust([False] * HINTS_LATELY + [True] * 190) == 0.0
    assert trust([False] * 5 + [True] * 195) == 0.5
