"""How good is a copy of this age? Pure arithmetic, all of it in seconds.

    read ──── fresh ────▶ stale ──────────── for a day ─────────────▶ gone
              given        given at once, renewed meanwhile            not believed any more
                  │
                  └─ forgotten (somebody changed what it is a copy of): renewed first, if that is quick; else as stale

How long a copy stays fresh is drawn when it is made and stored with it: all processes agree on it, and copies that were
made together do not all end together.
"""

from enum import StrEnum

#: Deployments and the names of workflows, read together.
DEPLOYMENTS_SECONDS = 300.0
#: Their limits decide how many jobs are let past the lanes.
MACHINES_SECONDS = 60.0
#: A version never changes; a newer one is another.
VERSION_SECONDS = 24 * 3600.0

#: While the API is down a copy is given for so long after it was fresh.
STALE_SECONDS = 24 * 3600.0

#: A copy is fresh for up to this share less than its kind says.
JITTER = 0.1
#: Workers renew a copy when this share of its time is over, so that nobody meets a stale one.
EARLY = 0.8

#: Nobody tries again for so long after a renewal that failed; it doubles with each that follows.
FIRST_REST_SECONDS = 2.0
LONGEST_REST_SECONDS = 60.0


class Freshness(StrEnum):
    """What may be done with a copy."""

    FRESH = "fresh"
    STALE = "stale"
    FORGOTTEN = "forgotten"
    GONE = "gone"


def judge(age_seconds: float, fresh_seconds: float, *, forgotten: bool = False) -> Freshness:
    """What a copy of this age is good for. An age below zero (a clock that went back) is none."""
    if age_seconds >= fresh_seconds + STALE_SECONDS:
        return Freshness.GONE
    if forgotten:
        return Freshness.FORGOTTEN
    return Freshness.FRESH if age_seconds < fresh_seconds else Freshness.STALE


def lifetime(seconds: float, roll: float) -> float:
    """How long a new copy stays fresh; `roll` is drawn from 0 to 1."""
    return seconds * (1 - JITTER * roll)


def rest_seconds(failures: int, roll: float) -> float:
    """How long nobody tries after so many failures in a row (1 or more); `roll` is drawn from 0 to 1."""
    longest = min(LONGEST_REST_SECONDS, FIRST_REST_SECONDS * 2.0 ** min(failures - 1, 16))
    return longest * (0.5 + roll / 2)
