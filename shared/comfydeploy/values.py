"""What does the API mean by this value?

Every function takes whatever JSON held and gives the value, or None when it says nothing; none of them raises. The
server writes times in five spellings and durations as numbers or strings (CONTRACT section 3), and a field that is
missing, null or odd must never stop a job from being followed.

Pure: no clock of its own, no I/O.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from uuid import UUID

#: No answer may silence us for longer: a proxy with a broken clock would otherwise stop every worker for days.
LONGEST_RETRY_AFTER_SECONDS = 3600.0


def time_at(value: object) -> datetime | None:
    """Read a time in any of the server's spellings as an aware datetime in UTC; a time without a zone is UTC.

    Known: `…T22:10:19.165000Z`, `…T22:10:19.165Z` (also `…T10:11Z`), `…T22:10:34.094510`, `… 22:10:18.793829` and
    `…T22:10:35.735841+00Z`, which is not ISO.
    """
    if not isinstance(value, str):
        return None
    try:
        # A trailing Z carries nothing: without it the text has either no zone (UTC by contract) or the "+00" of "+00Z".
        at = datetime.fromisoformat(value.strip().removesuffix("Z"))
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def number(value: object) -> float | None:
    """Read a finite number, also from a string; booleans are not numbers."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        result = float(value)
    except (ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None


def duration_seconds(value: object) -> float | None:
    """Read a duration. It can be negative: late status updates move `started_at` behind `ended_at` (CONTRACT section 6)."""
    return number(value)


def fraction(value: object) -> float | None:
    """Read `progress` as a number from 0 to 1; below 0 (the API's -1) means unknown.

    Rounded to four places, because the server keeps it as a 32-bit float and 0.43 comes back as 0.4300000071525574.
    """
    progress = number(value)
    if progress is None or progress < 0:
        return None
    return min(round(progress, 4), 1.0)


def whole(value: object) -> int | None:
    """Read a whole number, also from a string or from 5.0."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    result = number(value)
    return int(result) if result is not None and result.is_integer() else None


def word(value: object) -> str | None:
    """Read a text that says something: an empty string counts as nothing."""
    return value if isinstance(value, str) and value else None


def flag(value: object) -> bool | None:
    """Read true or false, nothing else."""
    return value if isinstance(value, bool) else None


def mapping(value: object) -> dict[str, Any]:
    """Read an object; anything else is an empty one."""
    return value if isinstance(value, dict) else {}


def is_id(value: str) -> bool:
    """Tell whether a text can be an id. Some routes say 500 to one that cannot, where others say 404 (CONTRACT section 2)."""
    try:
        UUID(value)
    except ValueError:
        return False
    return True


def retry_after_seconds(value: str | None, *, date: str | None = None, now: datetime | None = None) -> float | None:
    """Read a `Retry-After` header: seconds or an HTTP date, never negative, at most one hour.

    A date is measured against the answer's own `Date` header when there is one, so a skewed clock on our side does no
    harm; `now` (default: the system clock) serves when there is none.
    """
    if value is None:
        return None
    wait = number(value)
    if wait is None:
        until = _http_date(value)
        if until is None:
            return None
        wait = (until - (_http_date(date) or now or datetime.now(UTC))).total_seconds()
    return min(max(wait, 0.0), LONGEST_RETRY_AFTER_SECONDS)


def _http_date(value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        at = parsedate_to_datetime(value)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None
