"""Why do timestamps of one API come in five spellings?

Because each endpoint serialises by another route. A client must parse them all, so the simulator writes them all.
Every spelling is UTC; a run's times are real wall-clock times whatever the speed of the simulator's clock is.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

DAY_SECONDS = 24 * 3600.0


def now() -> datetime:
    return datetime.now(UTC)


def millis(at: datetime | None) -> str | None:
    """Spell a time as run listings and webhooks do: `2026-11-20T22:10:19.165Z`, cut and not rounded.

    When the stored microseconds are exactly 0 the whole seconds vanish (`...T10:11Z`), as they do upstream.
    """
    if at is None:
        return None
    if at.microsecond == 0:
        return at.strftime("%Y-%m-%dT%H:%MZ")
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


def model(at: datetime | None) -> str | None:
    """Spell a time as `GET /run` and the deployments do: milliseconds written as six digits, `...19.165000Z`.

    The model re-parses the listing spelling, so it inherits both its cut and its lost seconds.
    """
    if at is None:
        return None
    if at.microsecond == 0:
        return at.strftime("%Y-%m-%dT%H:%M:00Z")
    cut = at.microsecond // 1000 * 1000
    if cut == 0:
        return at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"{at:%Y-%m-%dT%H:%M:%S}.{cut:06d}Z"


def naive(at: datetime | None) -> str | None:
    """Spell a time as machines and `/deployment/{id}/runs` do: microseconds and no zone."""
    return None if at is None else at.replace(tzinfo=None).isoformat()


def blank(at: datetime | None) -> str | None:
    """Spell a time as `/workflows` does: a blank instead of the T, and no zone."""
    return None if at is None else at.replace(tzinfo=None).isoformat(" ")


def broken(at: datetime) -> str:
    """Spell a time as a new workflow version does: `+00Z`, which no ISO parser accepts."""
    return f"{at.replace(tzinfo=None).isoformat(timespec='microseconds')}+00Z"


def seconds_between(start: datetime | None, end: datetime | None) -> float | None:
    """Tell a duration as `GET /run` does: a number, null until both ends exist, negative when a late update moved one."""
    if start is None or end is None:
        return None
    return (end - start) / timedelta(seconds=1)


def seconds_text(start: datetime | None, end: datetime | None) -> str | None:
    """Tell a duration as every listing does: a string with six decimals."""
    value = seconds_between(start, end)
    return None if value is None else f"{value:.6f}"
