"""When will it end? The distribution of a duration, from the last few of its kind.

Pure: seconds go in, chances come out. Each known duration stands for a small log-normal hump around itself, so warm and cold
starts are two humps without anybody telling; newer ones weigh more, so a deployment that gets slower is believed within
some ten runs. A wide hump for "who knows" keeps some chance for what was never seen, and makes a run that has outlived
everything known be asked about ever more rarely instead of all the time.

What a schedule needs of it is E[(t - T)+], the time one has waited in vain by `t`: for a log-normal T that is the price of a
put option without interest (Black and Scholes 1973), so it is exact and cheap. It is tabulated once per history on a
logarithmic grid; everything else reads the table.

Read next: `history.py`, which remembers the durations, and `tasks/schedule.py`, which plans looks with this.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

#: Weight of a duration relative to the one after it: the last ten make up half of what is believed.
FORGETTING = 0.95
#: How many are kept: the oldest weighs 0.95^31, a fifth of the newest.
KEPT = 32
#: The hump for "who knows": its weight beside the newest duration's 1.0, its width on the log scale, and where it stands
#: when nothing is known.
DOUBT_WEIGHT = 0.6
DOUBT_WIDTH = 1.3
DOUBT_MEDIAN_SECONDS = 12.0
#: Width of a known duration's hump on the log scale: not narrower than 4 %, a share of the spread of its neighbours.
LEAST_WIDTH = 0.04

#: The grid: from a tenth of a second to a day, five per cent apart.
GRID = tuple(0.1 * 1.05**step for step in range(282))


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is believed of a duration T, as a table over `GRID`."""

    #: P(T <= t).
    chance: tuple[float, ...]
    #: E[(t - T)+] in seconds.
    waited: tuple[float, ...]

    def chance_by(self, seconds: float) -> float:
        """P(T <= seconds)."""
        return _read(self.chance, seconds)

    def waited_by(self, seconds: float, *, age: float) -> float:
        """The time waited in vain by `seconds`, expected at `age` by someone who knows that it has not ended by then."""
        alive = 1.0 - _read(self.chance, age)
        if alive <= 1e-9 or seconds <= age:
            return 0.0
        gone = _read(self.waited, age) + (seconds - age) * (1.0 - alive)
        return max(0.0, (_read(self.waited, seconds) - gone) / alive)

    def by_chance(self, chance: float, *, age: float) -> float:
        """The age by which it has ended with this chance, for someone who knows at `age` that it has not; at most a day."""
        at_age = _read(self.chance, age)
        aim = at_age + chance * (1.0 - at_age)
        index = bisect_left(self.chance, aim)
        if index >= len(GRID):
            return GRID[-1]
        low, high = (self.chance[index - 1], self.chance[index]) if index else (0.0, self.chance[0])
        start = GRID[index - 1] if index else 0.0
        part = (aim - low) / (high - low) if high > low else 1.0
        return max(age, start + part * (GRID[index] - start))

    def ended_by(self, seconds: float, *, age: float) -> float:
        """P(T <= seconds | T > age)."""
        at_age = _read(self.chance, age)
        return max(0.0, (_read(self.chance, seconds) - at_age) / max(1e-9, 1.0 - at_age))


@lru_cache(maxsize=512)
def forecast(history: tuple[float, ...]) -> Forecast:
    """What `history` (seconds, the newest first) makes one believe of the next."""
    known = [max(GRID[0], seconds) for seconds in history[:KEPT]]
    humps = [(FORGETTING**place, seconds, width) for place, (seconds, width) in enumerate(_widths(known))]
    middle = sorted(known)[len(known) // 2] if known else DOUBT_MEDIAN_SECONDS
    humps.append((DOUBT_WEIGHT, middle * (1.5 if known else 1.0), DOUBT_WIDTH))
    whole = sum(weight for weight, _, _ in humps)
    chance, waited = [], []
    for t in GRID:
        p = g = 0.0
        for weight, median, width in humps:
            d = math.log(t / median) / width
            below = _normal(d)
            p += weight * below
            g += weight * (t * below - median * math.exp(width * width / 2) * _normal(d - width))
        chance.append(p / whole)
        waited.append(g / whole)
    return Forecast(tuple(chance), tuple(waited))


def _widths(known: Sequence[float]) -> list[tuple[float, float]]:
    """Each duration with the width of its hump: a share of how far apart its neighbours lie, so that two humps stay two."""
    logs = sorted(math.log(seconds) for seconds in known)
    reach = max(1, round(len(logs) ** 0.5 / 2))
    result = []
    for seconds in known:
        place = bisect_right(logs, math.log(seconds)) - 1
        low, high = logs[max(0, place - reach)], logs[min(len(logs) - 1, place + reach)]
        result.append((seconds, max(LEAST_WIDTH, (high - low) / 2.5, 0.35 / len(logs))))
    return result


def _normal(z: float) -> float:
    """The standard normal distribution function."""
    return 0.5 * math.erfc(-z * math.sqrt(0.5))


_LOG_STEP = math.log(GRID[1] / GRID[0])


def _read(table: Sequence[float], seconds: float) -> float:
    """A table's value between its grid points."""
    if seconds <= GRID[0]:
        return table[0] * max(0.0, seconds) / GRID[0]
    place = math.log(seconds / GRID[0]) / _LOG_STEP
    index = int(place)
    if index >= len(table) - 1:
        return table[-1]
    low, high = table[index], table[index + 1]
    # Linear in time, not in its logarithm: between two points the waiting grows with the seconds.
    part = (seconds - GRID[index]) / (GRID[index + 1] - GRID[index])
    return low + part * (high - low)
