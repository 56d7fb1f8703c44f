"""When to look next: bounds and jitter of the first policy."""

import statistics
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenacity import wait_fixed

from shared.following.forecast import forecast
from shared.following.history import Outlook
from shared.following.milestones import TOTAL
from shared.jobs.states import JobState
from tasks.schedule import MOST_SECONDS, TROUBLE, Backoff, Learned, Pending, by_age, delay, waiting, worth
from tests.unit.test_reading import job


def test_the_first_look_comes_after_a_second() -> None:
    """Nothing ends in less, and nobody waits longer for the news."""
    assert Backoff().first_look(job(JobState.SUBMITTED)) == 1.0


def test_who_wants_progress_hears_soon_that_it_runs() -> None:
    """Also of a deployment whose runs are known to take an hour, and are else not asked about for long."""
    known, submitted = Outlook({TOTAL: (3600.0,) * 8}), job(JobState.SUBMITTED)
    wanted = replace(submitted, request=submitted.request.model_copy(update={"progress": True}))

    assert Learned().first_look(submitted, known) > 30
    assert Learned().first_look(wanted, known) < 2.5


@given(st.integers(0, 10_000))
def test_a_look_is_never_far_and_never_at_once(looks: int) -> None:
    """However often was asked, the next look comes in half a second to five and a quarter."""
    assert 0.5 <= Backoff().next_look(job(looks=looks)) <= 5.25


def test_looks_become_rarer() -> None:
    """Each of the first looks waits longer than the one before, on average; then it stays at five seconds."""
    means = [statistics.fmean(Backoff().next_look(job(looks=n)) for _ in range(300)) for n in range(10)]
    assert means[:6] == sorted(means[:6])
    assert means[0] < 1.0
    assert means[5] > 3.0
    assert abs(means[9] - means[8]) < 0.1


def test_a_long_run_is_asked_about_ever_more_rarely() -> None:
    """Every fiftieth of its age, up to a minute: a run of three hours costs some 400 looks, not one each five seconds."""
    submitted, age, looks = 1_000_000, 0.0, 0
    while age < 3 * 3600:
        run = job(submitted_at=submitted, looked_at=submitted + round(age * 1000), looks=looks)
        assert by_age(run) <= MOST_SECONDS
        age += Backoff().next_look(run)
        looks += 1
    assert 250 < looks < 420
    assert by_age(job(looked_at=None)) == 0.0


def test_runs_submitted_together_drift_apart() -> None:
    """Two runs looked at together are not looked at together next time: delays differ."""
    assert len({Backoff().next_look(job(looks=1)) for _ in range(50)}) > 40


@given(st.integers(-3, 100_000))
def test_trouble_is_bounded(attempt: int) -> None:
    """After trouble the API is left alone for at least a second and at most half a minute."""
    assert 1.0 <= delay(TROUBLE, attempt) <= 30.0


def test_trouble_grows() -> None:
    """Who fails again and again waits longer."""
    means = [statistics.fmean(delay(TROUBLE, attempt) for _ in range(300)) for attempt in (1, 3, 6)]
    assert means[0] < means[1] < means[2]


@pytest.mark.parametrize("attempt", [-1, 0, 1, 7])
def test_any_wait_object_serves(attempt: int) -> None:
    """The policy is tenacity's: any of its wait objects can be asked."""
    assert delay(wait_fixed(3), attempt) == 3.0


def test_a_run_that_has_ended_is_worth_the_most() -> None:
    """Overdue above due, due above young, a hint above none, and above all what a listing has said to be over."""
    usual = forecast((12.0,) * 20)
    young, due, overdue = (Pending(usual, age, 1.0) for age in (5.0, 12.0, 16.0))

    assert worth(None) == 0.0
    assert worth(young) < worth(due) < worth(overdue) == pytest.approx(waiting([overdue]))
    assert worth(Pending(usual, 12.0, 1.0, hinted=True)) > worth(due)
    assert worth(due, ended=True) > worth(due)
    assert worth(overdue, ended=True) > worth(overdue)
