"""A job id is a UUIDv7: it sorts by age and fits where a chat platform leaves 64 bytes."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import identifiers
from shared.identifiers import new_job_id

#: Nanoseconds; UUIDv7 has room for 48 bits of milliseconds, to the year 10889.
moments = st.integers(min_value=0, max_value=((1 << 48) - 1) * 1_000_000)


def at(nanoseconds: int) -> str:
    """A job id made at this moment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identifiers.time, "time_ns", lambda: nanoseconds)
        return new_job_id()


def test_has_36_characters_in_the_usual_spelling() -> None:
    """A job id is 36 characters, lower case, and reads back as the same UUID."""
    job_id = new_job_id()

    assert len(job_id) == 36
    assert str(uuid.UUID(job_id)) == job_id


@given(moments)
def test_says_version_7_and_the_rfc_variant(nanoseconds: int) -> None:
    """Whatever the clock says, the version bits are 7 and the variant bits are those of RFC 9562."""
    made = uuid.UUID(at(nanoseconds))

    assert made.version == 7
    assert made.variant == uuid.RFC_4122


@given(moments)
def test_carries_the_millisecond_it_was_made(nanoseconds: int) -> None:
    """The first 48 bits are Unix milliseconds, so that an operator can read the age off the id."""
    assert uuid.UUID(at(nanoseconds)).int >> 80 == nanoseconds // 1_000_000


@given(moments, moments)
def test_sorts_by_age_as_text(one: int, other: int) -> None:
    """Of two ids made at least a quarter of a microsecond apart the older one sorts first, as plain text."""
    older, newer = sorted((one, other))
    if newer - older < 1_000_000 / 4096:
        return

    assert at(older) < at(newer)


def test_ids_made_one_after_the_other_sort_in_that_order() -> None:
    """A frontend that asks for several pictures at once gets them in the order it asked."""
    made = [new_job_id() for _ in range(1_000)]

    assert made == sorted(made)


def test_ids_of_one_moment_differ() -> None:
    """62 random bits keep ids made at the same moment apart."""
    assert len({at(1_700_000_000_000_000_000) for _ in range(2_000)}) == 2_000
