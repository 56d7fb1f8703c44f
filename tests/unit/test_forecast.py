"""What is believed of a duration, and what the schedule makes of it."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.following.forecast import GRID, forecast
from tasks.schedule import (
    LEAST_SECONDS,
    MOST_SECONDS,
    PRICE_SECONDS,
    Pending,
    next_look,
    price,
    waiting,
    worth_reading,
)

durations = st.lists(st.floats(0.05, 5_000.0), max_size=40)
seconds = st.floats(0.0, 10_000.0)


def images(count: int = 32, median: float = 12.0, seed: int = 1) -> tuple[float, ...]:
    """Durations as a picture takes them."""
    rng = random.Random(seed)
    return tuple(median * math.exp(rng.gauss(0, 0.2)) for _ in range(count))


@settings(max_examples=60, deadline=None)
@given(durations, st.lists(seconds, min_size=2, max_size=2))
def test_a_forecast_is_a_distribution(history: list[float], two: list[float]) -> None:
    """Chances rise from 0 towards 1; the time waited in vain rises, and never faster than time goes by."""
    belief = forecast(tuple(history))
    early, late = sorted(two)

    assert 0.0 <= belief.chance_by(early) <= belief.chance_by(late) <= 1.0
    grown = belief.waited_by(late, age=0.0) - belief.waited_by(early, age=0.0)
    assert -1e-6 <= grown <= (late - early) * (1 + 1e-6) + 1e-6


@settings(max_examples=60, deadline=None)
@given(durations, seconds, st.floats(0.0, 1_000.0))
def test_what_is_known_to_go_on_has_caused_no_waiting_yet(history: list[float], age: float, more: float) -> None:
    """From an age at which a run was seen going on, the waiting starts at zero and stays below the time that passes."""
    belief = forecast(tuple(history))

    assert belief.waited_by(age, age=age) == 0.0
    assert 0.0 <= belief.waited_by(age + more, age=age) <= more * (1 + 1e-6) + 1e-6
    assert 0.0 <= belief.ended_by(age + more, age=age) <= 1.0


def test_the_table_agrees_with_what_it_was_made_from() -> None:
    """Of 32 pictures around 12 s about half are believed to end by 12 s, nearly none by 5 s, nearly all by 30 s."""
    belief = forecast(images())

    assert belief.chance_by(12.0) == pytest.approx(0.5, abs=0.12)
    assert belief.chance_by(5.0) < 0.05
    assert belief.chance_by(30.0) > 0.95


def test_cold_and_warm_starts_are_two_humps() -> None:
    """Who has not ended after the warm hump is expected with the cold one, not soon."""
    belief = forecast(tuple(60.0 if n % 6 == 0 else 12.0 + n / 20 for n in range(32)))

    assert belief.ended_by(30.0, age=18.0) < 0.25
    assert belief.ended_by(66.0, age=40.0) > 0.5


def test_a_slower_deployment_is_believed_within_twenty_runs() -> None:
    """Runs that suddenly take 36 s instead of 12: after 20 of them the median has followed."""
    slower = images(20, median=36.0, seed=2) + images(12)

    assert forecast(slower).chance_by(30.0) < 0.5
    assert forecast(slower).chance_by(15.0) < 0.25


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(seconds, st.floats(0.0, 1.0)), min_size=1, max_size=30), st.floats(0.01, 50.0))
def test_the_next_look_is_when_the_waiting_is_worth_the_call(ages: list[tuple[float, float]], cost: float) -> None:
    """Between the bounds, the waiting expected by the chosen moment is the price; jitter aside."""
    belief = forecast(images())
    pending = [Pending(belief, age, age * part) for age, part in ages]

    chosen = next_look(pending, cost)

    assert LEAST_SECONDS * 0.9 <= chosen <= MOST_SECONDS * 1.1
    if waiting(pending, LEAST_SECONDS) < cost < waiting(pending, MOST_SECONDS):
        assert waiting(pending, chosen / 1.06) <= cost <= waiting(pending, chosen / 0.94)


def test_more_runs_are_looked_at_more_often_and_cheaper_each() -> None:
    """Ten runs in flight: looks come sooner than for one, but not ten times as often."""
    belief = forecast(images())
    one = next_look([Pending(belief, 10.0, 10.0)], PRICE_SECONDS)
    ten = next_look([Pending(belief, 10.0, 10.0)] * 10, PRICE_SECONDS)

    assert one / 10 < ten < one


def test_a_scarce_call_and_a_reliable_hint_make_looks_rarer() -> None:
    """The price rises with the wait for tokens, with the share of ends that hints announce and with the crowd in flight."""
    assert price(0.0, 0.0) == pytest.approx(PRICE_SECONDS, rel=0.01)
    assert price(0.0, 0.0, in_flight=10_000) > 20 * PRICE_SECONDS
    assert price(2.0, 0.0) > price(0.5, 0.0) > price(0.0, 0.0)
    assert price(0.0, 0.99) > 20 * PRICE_SECONDS


def test_probably_ended_runs_are_read_and_a_crowd_is_listed() -> None:
    """One run that should be over is read; eight of which any may be over are listed; one alone is always read."""
    belief = forecast(images())
    over, young, unsure = (Pending(belief, age, 0.0) for age in (25.0, 2.0, 11.5))

    assert worth_reading([over, young, young]) == [0]
    assert worth_reading([unsure] * 8) is None
    assert worth_reading([young]) == [0]


def test_a_hinted_run_is_read() -> None:
    """A hint makes it likely that its run has ended, however young it is."""
    belief = forecast(images())

    assert worth_reading([Pending(belief, 2.0, 1.0), Pending(belief, 2.0, 1.0, hinted=True)]) == [1]


def test_the_grid_reaches_from_a_blink_to_a_day() -> None:
    """Anything the API does fits into the table."""
    assert GRID[0] == 0.1
    assert GRID[-1] > 86_400
