"""What runs taught is in Redis, so a worker that starts knows what the last one knew."""

import math
import random

from shared.database import Database
from shared.following.forecast import KEPT
from shared.following.history import History


def pictures(count: int, median: float, seed: int) -> list[float]:
    """Durations as a picture takes them."""
    rng = random.Random(seed)
    return [median * math.exp(rng.gauss(0, 0.2)) for _ in range(count)]


async def remember(history: History, durations: list[float]) -> None:
    """As many finished runs."""
    for seconds in durations:
        await history.record("dep", {"total": seconds, "run": seconds - 1.0})


async def median(database: Database) -> float:
    """The middle of what a worker that has just started believes of the next run."""
    forecast = (await History(database).outlook("dep")).since("total")
    assert forecast is not None
    return forecast.by_chance(0.5, age=0.0)


async def test_what_was_learned_survives_a_restart(database: Database) -> None:
    """Another process reads what the first wrote: durations from each milestone, and how far hints are trusted."""
    first = History(database)
    for seconds in (10.0, 12.0, 14.0):
        await first.record("dep", {"total": seconds, "tenth:7": seconds / 4}, hinted=True)

    after = await History(database).outlook("dep")

    assert after.since("run") is None
    total, late = after.since("total"), after.since("tenth:7")
    assert total
    assert late
    assert 10.0 < total.by_chance(0.5, age=0.0) < 15.0
    assert 2.0 < late.by_chance(0.5, age=0.0) < 4.0
    assert await History(database).hint_rate() > 0.8


async def test_a_deployment_that_gets_slower_or_faster_is_tracked_within_twenty_runs(database: Database) -> None:
    """From 12 s to 36 s and back to 12 s: after twenty runs the median is within a quarter of the truth, each time."""
    history = History(database)
    await remember(history, pictures(KEPT, 12.0, seed=1))
    assert 10.0 < await median(database) < 14.0

    await remember(history, pictures(20, 36.0, seed=2))
    assert 27.0 < await median(database) < 45.0

    await remember(history, pictures(20, 12.0, seed=3))
    assert 9.0 < await median(database) < 15.0


async def test_only_the_last_durations_are_kept(database: Database) -> None:
    """A deployment's history does not grow: 32 durations of each milestone, the newest first."""
    await remember(History(database), [float(n) for n in range(2, 60)])

    kept = (await database.hash(database.keys.history("dep")))["total"].split()

    assert kept == [f"{n:.3f}" for n in range(59, 59 - KEPT, -1)]
