"""Whatever JSON holds, the parsers give the value or None and never raise."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.comfydeploy import values

#: Anything a JSON document can hold, NaN and infinity included: some servers send those.
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
moments = st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2100, 1, 1))  # noqa: DTZ001 - drawn naive, read as UTC

SPELLINGS = [
    ("2026-11-20T22:10:19.165000Z", datetime(2026, 11, 20, 22, 10, 19, 165000, UTC)),
    ("2026-11-20T22:10:19.165Z", datetime(2026, 11, 20, 22, 10, 19, 165000, UTC)),
    ("2026-11-20T10:11Z", datetime(2026, 11, 20, 10, 11, tzinfo=UTC)),
    ("2026-11-20T22:10:34.094510", datetime(2026, 11, 20, 22, 10, 34, 94510, UTC)),
    ("2026-11-20 22:10:18.793829", datetime(2026, 11, 20, 22, 10, 18, 793829, UTC)),
    ("2026-11-20T22:10:35.735841+00Z", datetime(2026, 11, 20, 22, 10, 35, 735841, UTC)),
    ("2026-11-21T00:10:19+02:00", datetime(2026, 11, 20, 22, 10, 19, tzinfo=UTC)),
]


@pytest.mark.parametrize(("text", "expected"), SPELLINGS)
def test_each_spelling_of_a_time_is_read_as_utc(text, expected):
    """All five spellings of CONTRACT section 3, the minutes-only one, and another zone give an aware time in UTC."""
    assert values.time_at(text) == expected
    assert values.time_at(text).tzinfo is UTC


@given(moments)
def test_one_moment_reads_the_same_in_every_spelling(moment):
    """However the server spells a moment, we read that moment (the listings cut it to milliseconds)."""
    expected = moment.replace(tzinfo=UTC)
    micro = moment.isoformat(timespec="microseconds")
    for text in (f"{micro}Z", micro, micro.replace("T", " "), f"{micro}+00Z"):
        assert values.time_at(text) == expected
    cut = expected.replace(microsecond=expected.microsecond // 1000 * 1000)
    assert values.time_at(moment.isoformat(timespec="milliseconds") + "Z") == cut


@given(json_values)
def test_no_value_makes_a_parser_raise(value):
    """Null, odd and hostile values are nothing said; a finite answer is the only other one."""
    at = values.time_at(value)
    assert at is None or at.utcoffset() == timedelta(0)
    number = values.number(value)
    assert number is None or abs(number) < float("inf")
    progress = values.fraction(value)
    assert progress is None or 0 <= progress <= 1
    assert values.whole(value) is None or isinstance(values.whole(value), int)
    assert isinstance(values.mapping(value), dict)
    values.word(value)
    values.flag(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_duration_reads_the_same_as_a_number_and_as_a_string(duration):
    """GET /run gives numbers, every listing strings; negative ones exist after late updates and stay."""
    assert values.duration_seconds(duration) == values.duration_seconds(str(duration)) == duration


@pytest.mark.parametrize(
    ("raw", "expected"),
    [(0.4300000071525574, 0.43), (-1, None), (None, None), (0, 0.0), (1.2, 1.0), ("0.5", 0.5), (True, None)],
)
def test_progress_is_a_fraction_or_unknown(raw, expected):
    """The 32-bit noise goes, -1 is unknown, and nothing exceeds 1."""
    assert values.fraction(raw) == expected


NOW = datetime(2026, 11, 20, 22, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "date", "expected"),
    [
        ("7", None, 7.0),
        ("0.5", None, 0.5),
        ("-3", None, 0.0),
        ("99999999", None, values.LONGEST_RETRY_AFTER_SECONDS),
        ("Fri, 20 Nov 2026 22:00:30 GMT", None, 30.0),
        ("Fri, 20 Nov 2026 22:00:30 GMT", "Fri, 20 Nov 2026 22:00:20 GMT", 10.0),
        ("Fri, 20 Nov 2026 21:00:00 GMT", None, 0.0),
        ("soon", None, None),
        ("", None, None),
        ("inf", None, None),
        (None, None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header, date, expected):
    """Both forms of RFC 9110 are read, against the server's own clock when it tells it; the wait is never absurd."""
    assert values.retry_after_seconds(header, date=date, now=NOW) == expected


@given(st.text(), st.none() | st.text())
def test_no_header_makes_retry_after_raise(header, date):
    """A header is somebody else's text; the worst it can do is say nothing."""
    wait = values.retry_after_seconds(header, date=date, now=NOW)
    assert wait is None or 0 <= wait <= values.LONGEST_RETRY_AFTER_SECONDS


def test_a_zone_far_from_utc_at_the_end_of_time_says_nothing():
    """A time that cannot be moved to UTC is None, not an OverflowError."""
    assert values.time_at(datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5))).isoformat()) is None
