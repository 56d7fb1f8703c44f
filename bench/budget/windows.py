"""How many calls were there in the worst stretch of time, and how many were allowed?

Knows nothing of buckets: only when calls were made, in seconds, in order.
"""

from collections.abc import Sequence

LENGTHS = (1.0, 2.0, 10.0)


def highest(calls: Sequence[float], seconds: float) -> int:
    """The most calls in any window of this length, both ends included."""
    most, first = 0, 0
    for last, at in enumerate(calls):
        while at - calls[first] > seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def above(calls: Sequence[float], rate: float, burst: float, seconds: float) -> int:
    """How many windows of this length, one from each call on, hold more than `burst + rate * seconds`."""
    count, last = 0, 0
    for first, at in enumerate(calls):
        while last < len(calls) and calls[last] - at <= seconds:
            last += 1
        count += last - first > burst + rate * seconds
    return count


def excess(calls: Sequence[float], rate: float, burst: float) -> float:
    """By how much the worst window of any length is above what is allowed; negative when none is."""
    worst, least = float("-inf"), float("inf")
    for place, at in enumerate(calls):
        least = min(least, place - rate * at)
        worst = max(worst, place + 1 - rate * at - least)
    return worst - burst


def used(calls: Sequence[float], rate: float, since: float, until: float) -> float:
    """The share of the calls that the rate allows in a stretch of time which were made."""
    return sum(since <= at < until for at in calls) / (rate * (until - since))
