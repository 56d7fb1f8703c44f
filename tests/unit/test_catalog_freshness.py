"""Fresh, stale, forgotten, gone: the arithmetic of a copy's age."""

from hypothesis import given
from hypothesis import strategies as st

from shared.catalog.freshness import (
    DEPLOYMENTS_SECONDS,
    FIRST_REST_SECONDS,
    JITTER,
    LONGEST_REST_SECONDS,
    MACHINES_SECONDS,
    STALE_SECONDS,
    VERSION_SECONDS,
    Freshness,
    judge,
    lifetime,
    rest_seconds,
)

AGES = st.floats(-1e6, 1e6)
TIMES = st.sampled_from((MACHINES_SECONDS, DEPLOYMENTS_SECONDS, VERSION_SECONDS))
ROLLS = st.floats(0, 1, exclude_max=True)
ORDER = [Freshness.FRESH, Freshness.STALE, Freshness.GONE]


@given(AGES, AGES, TIMES)
def test_a_copy_only_gets_worse(one: float, other: float, fresh: float) -> None:
    """Fresh, then stale, then gone; never back."""
    young, old = sorted((one, other))
    assert ORDER.index(judge(young, fresh)) <= ORDER.index(judge(old, fresh))


@given(AGES, TIMES)
def test_the_borders_are_where_they_are_said_to_be(age: float, fresh: float) -> None:
    """Fresh for its time, stale for a day after it; a clock that goes back makes nothing older."""
    expected = ORDER[(age >= fresh) + (age >= fresh + STALE_SECONDS)]
    assert judge(age, fresh) is expected


@given(AGES, TIMES)
def test_what_was_forgotten_is_not_fresh(age: float, fresh: float) -> None:
    """It is renewed first, unless it is too old for anything."""
    forgotten = judge(age, fresh, forgotten=True)
    assert forgotten is (Freshness.GONE if judge(age, fresh) is Freshness.GONE else Freshness.FORGOTTEN)


@given(TIMES, ROLLS)
def test_jitter_only_shortens(fresh: float, roll: float) -> None:
    """No copy is fresh for longer than its kind says."""
    assert fresh * (1 - JITTER) <= lifetime(fresh, roll) <= fresh


@given(st.integers(1, 10_000), ROLLS)
def test_rests_grow_and_have_an_end(failures: int, roll: float) -> None:
    """Each failure at least as long a rest as the one before; a minute at most, and never none."""
    rest = rest_seconds(failures, roll)
    assert FIRST_REST_SECONDS / 2 <= rest <= LONGEST_REST_SECONDS
    assert rest <= rest_seconds(failures + 1, roll)
