"""No schedule of workers, clocks, pauses and operators ever exceeds the budget in any window.

Each worker asks, waits as long as it is told by a clock of its own, which runs too fast or too slow, and asks again; a
granted one asks again at once. Meanwhile the API pushes back, calls fail, an operator turns the rate up and down, and the
clock of Redis itself is set. Time is the test's: nothing here sleeps.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal
from uuid import uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.database import Database
from shared.limits.bucket import FLOORS, CallClass, TokenBucket
from shared.settings import Settings
from tests.exploring import examples
from tests.redis.stage import Clock

#: Rounding of stored numbers (nine digits) and of the clock (microseconds at 10,000 tokens a second).
EPSILON = 0.02
#: A burst holds a token for each class and one for whoever comes.
LEAST_BURST = len(FLOORS) + 1
MOST_ASKS = 120

What = Literal["push_back", "unavailable", "failed", "answered", "rate", "burst", "reset", "clock"]


@dataclass(frozen=True)
class Worker:
    """One caller that always wants the next call."""

    class_: CallClass
    #: How fast its clock runs: at 2.0 it waits half as long as it is told.
    pace: float
    retry: bool


@dataclass(frozen=True)
class Happening:
    """Something that happens to the budget, and when."""

    at: float
    what: What
    #: Seconds of a pause or of a step of Redis's clock, calls a second, calls at once.
    amount: float


@dataclass
class Play:
    """What was granted, and what was allowed when. Times are true seconds from the beginning."""

    rate: float
    burst: float
    grants: list[float] = field(default_factory=list)
    #: (time, rate, burst, extra): what holds from then on, and what a clock that jumps ahead may bring once.
    rules: list[tuple[float, float, float, float]] = field(default_factory=list)

    def rule(self, at: float, extra: float = 0.0) -> None:
        self.rules.append((at, self.rate, max(self.burst, LEAST_BURST), extra))

    def check(self) -> None:
        """Every window from a grant to a grant holds at most its burst, its rate times its length, and the jumps in it."""
        for first, a in enumerate(self.grants):
            before = [rule for rule in self.rules if rule[0] < a][-1:]
            later = [rule for rule in self.rules if rule[0] >= a]
            for last in range(first, len(self.grants)):
                b = self.grants[last]
                inside = [rule for rule in later if rule[0] <= b]
                rate = max(rule[1] for rule in before + inside)
                burst = max(rule[2] for rule in before + inside)
                allowed = burst + rate * (b - a) + sum(min(rate * rule[3], burst) for rule in inside)
                assert last - first + 1 <= allowed + EPSILON, (a, b, allowed)


classes = st.sampled_from(list(FLOORS))
workers = st.lists(
    st.builds(Worker, classes, st.sampled_from([0.3, 0.9, 1.0, 1.1, 3.0, 50.0]), st.booleans()), min_size=1, max_size=8
)


def happening(what: What, amounts: Sequence[float]) -> st.SearchStrategy[Happening]:
    """One of these, some time in the first seconds; in grains of a microsecond, so that the clock has them exactly."""
    times = st.integers(0, 5_000_000).map(lambda us: us / 1e6)
    return st.builds(Happening, times, st.just(what), st.sampled_from(amounts))


happenings = st.lists(
    happening("push_back", [0.001, 0.3, 2.0])
    | happening("unavailable", [0.001, 0.3, 2.0])
    | happening("failed", [0.0])
    | happening("answered", [0.0])
    | happening("rate", [0.5, 10.0, 200.0])
    | happening("burst", [1.0, 7.0, 40.0])
    | happening("reset", [0.0])
    | happening("clock", [-3600.0, -1.0, 0.7, 60.0]),
    max_size=12,
)


async def carry_out(play: Play, one: Happening, bucket: TokenBucket, database: Database, clock: Clock) -> None:
    """Let it happen."""
    key, before = database.keys.budget(bucket._account), play.rate
    match one.what:
        case "push_back" | "unavailable":
            await bucket.push_back(one.amount, slow_down=one.what == "push_back")
        case "failed" | "answered":
            for _ in range(5 if one.what == "failed" else 1):
                await bucket._report(one.what)
        case "rate":
            play.rate = one.amount
            await database.redis.hset(key, "rate", str(one.amount))
        case "burst":
            play.burst = one.amount
            await database.redis.hset(key, "burst", str(one.amount))
        case "reset":
            play.rate, play.burst = bucket._rate, bucket._burst
            await database.redis.hdel(key, "rate", "burst", "factor", "recovers_from")
        case "clock":
            await clock.advance(one.amount)
    # Time that nobody asked in is credited at the rate of the next call: the higher of the two holds here.
    held, play.rate = play.rate, max(play.rate, before)
    play.rule(one.at, max(0.0, one.amount) if one.what == "clock" else 0.0)
    play.rate = held
    play.rule(one.at)


@settings(deadline=None, max_examples=examples(30), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([3.0, 10.0, 97.3]), st.sampled_from([10, 20, 33]), workers, happenings)
async def test_no_schedule_exceeds_the_budget_in_any_window(  # noqa: PLR0917 - drawn by hypothesis, called by nobody
    database: Database, clock: Clock, rate: float, burst: int, crew: list[Worker], story: list[Happening]
) -> None:
    """Whoever asks, however wrong his clock, whatever happens meanwhile: at most `burst + rate * T` in any T.

    Where an operator changes them, the highest that held in the window count. A clock of Redis that is set ahead may bring
    what the time it skips would have brought, never more than a burst; one that is set back brings nothing.
    """
    bucket = TokenBucket(
        database, Settings.model_validate({"api_key": uuid4().hex, "rate_per_second": rate, "rate_burst": burst})
    )
    play, now = Play(rate, burst), 0.0
    play.rule(-1.0)
    wakes = [(0.0, number) for number in range(len(crew))]
    story = sorted(story, key=lambda one: -one.at)
    for _ in range(MOST_ASKS):
        while story and story[-1].at <= wakes[0][0]:
            one = story.pop()
            await clock.advance(max(0.0, one.at - now))
            now = max(now, one.at)
            await carry_out(play, one, bucket, database, clock)
        at, number = heapq.heappop(wakes)
        await clock.advance(max(0.0, at - now))
        now, worker = max(now, at), crew[number]
        wait, _ = await bucket._ask(worker.class_, retry=worker.retry)
        if wait == 0:
            play.grants.append(now)
        # No worker sleeps for longer than a second at a time (`TokenBucket.take`).
        heapq.heappush(wakes, (round(now + min(1.0, wait) / worker.pace, 6), number))

    play.check()
