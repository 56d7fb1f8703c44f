"""What the metrics of the whole system say is what Redis holds, at a price that does not grow with the jobs."""

import asyncio
import json
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client.metrics_core import Metric
from pydantic import SecretStr

from shared.census import Census
from shared.database import Database
from shared.identifiers import new_job_id
from shared.jobs.lanes import Lanes
from shared.jobs.request import JobRequest
from shared.jobs.states import JobState
from shared.jobs.store import JobStore, Target
from shared.jobs.tiers import tier_name
from shared.limits.bucket import TokenBucket
from shared.settings import Settings
from shared.system_gauges import SYSTEM_GAUGES
from tasks.engine import Process
from workers import whole
from workers.whole import SystemCollector

pytestmark = pytest.mark.redis

Labels = tuple[str, ...]


@dataclass
class Site:
    """A database with jobs in it, and what is counted of them."""

    database: Database
    settings: Settings

    async def put(self, user: str, *, tier: str | None = None, pool: str = "", limit: int = 0) -> str:
        """One waiting job."""
        request = JobRequest.read({"workflow": "Portrait", "frontend": "web", "user": {"id": user, "tier": tier}})
        target = Target(deployment_id="dep", workflow_id="wf", pool=pool, pool_limit=limit)
        name = tier_name(tier, self.settings.tier_weights)
        return (await JobStore(self.database).create(request, target, job_id=new_job_id(), tier=name))[0]

    async def told(self) -> dict[str, dict[Labels, float]]:
        """Every number, counted anew."""
        await self.database.redis.delete(self.database.keys.census)
        metrics = await Census(self.database, self.settings).read()
        return {
            metric.name: {tuple(sample.labels.values()): sample.value for sample in metric.samples}
            for metric in metrics
        }


@pytest.fixture
def site(database: Database, settings: Settings) -> Site:
    """An empty database, and two tiers that have a name."""
    return Site(
        database, settings.model_copy(update={"tier_weights": {"free": 1, "pro": 2}, "api_key": SecretStr("k")})
    )


async def test_jobs_are_counted_by_state_and_waiting_ones_by_tier(site: Site) -> None:
    """Each state, however a job came into it; a tier nobody has named is `other`, and one that was not given `none`."""
    store, lanes = JobStore(site.database), Lanes(site.database, site.settings)
    past = [await site.put("ada", tier="pro", pool="m", limit=9) for _ in range(5)]
    assert await lanes.dispatch() == past
    waiting = [await site.put("bob", tier=tier) for tier in ("free", "free", "pro", "whale", None, None)]
    for job in past[1:]:
        assert await store.move(job, JobState.SUBMITTING)
    for job in past[2:]:
        assert await store.move(job, JobState.SUBMITTED, run_id=f"run {job}")
    for job in past[3:]:
        assert await store.move(job, JobState.RUNNING)
    assert await store.move(past[4], JobState.SUCCEEDED)

    told = await site.told()

    states = {"queued": 6, "dispatched": 1, "submitting": 1, "submitted": 1, "running": 1}
    assert told["conveyor_jobs"] == {(state,): number for state, number in states.items()}
    assert told["conveyor_lane_jobs"] == {("free",): 2, ("pro",): 1, ("none",): 2, ("other",): 1}
    assert told["conveyor_window_jobs"] == {(): 4}
    assert told["conveyor_window_places"] == {(): site.settings.window}
    assert (told["conveyor_machine_jobs"], told["conveyor_machine_places"]) == ({("m",): 4}, {("m",): 9})
    assert told["conveyor_backlog"]["closing",] == 1

    # However a job leaves its lane, and comes back to it.
    assert await store.cancel(waiting[0]) == "cancelled"
    assert await store.move(past[1], JobState.QUEUED)
    assert await lanes.give_back(past[0])
    told = await site.told()
    assert told["conveyor_lane_jobs"] == {("free",): 1, ("pro",): 3, ("none",): 2, ("other",): 1}
    assert await lanes.dispatch(1)
    assert sum((await site.told())["conveyor_lane_jobs"].values()) == 6


async def test_what_operators_set_is_counted_as_it_holds(site: Site) -> None:
    """A window that was set live, and pauses with the age of the oldest; a job that waits aside waits all the same."""
    database, lanes, by = site.database, Lanes(site.database, site.settings), json.dumps({"who": "op", "reason": ""})
    await database.redis.hset(database.keys.limits, mapping={"window": 7, "pool:m": 3})
    await site.put("ada", pool="m", limit=9)
    await database.run("pause", "workflow:wf", "wf", by)
    await database.run("pause", "user:web:bob", "bob", by)
    assert await lanes.dispatch() == []

    told = await site.told()

    assert (told["conveyor_window_places"], told["conveyor_machine_places"]) == ({(): 7}, {("m",): 3})
    assert told["conveyor_pauses"] == {("all",): 0, ("frontend",): 0, ("user",): 1, ("workflow",): 1}
    assert told["conveyor_pause_oldest_seconds"][()] < 10
    assert told["conveyor_lane_jobs"]["none",] == told["conveyor_jobs"]["queued",] == 1

    await database.run("resume", "workflow:wf", by)
    assert len(await lanes.dispatch()) == 1
    assert (await site.told())["conveyor_lane_jobs"]["none",] == 0


async def test_what_is_late_says_how_late(site: Site) -> None:
    """The age of the first that waits, and of the first that somebody should have done; a time to come is not late."""
    database, keys = site.database, site.database.keys
    job = await site.put("ada", tier="free")
    now = await database.now_ms()
    await database.redis.zadd(keys.waiting("free"), {job: now - 60_000})
    await database.redis.zadd(keys.due, {"wf": now - 30_000, "later": now + 90_000})

    told = await site.told()

    assert 60 <= told["conveyor_lane_oldest_seconds"]["free",] < 70
    assert 30 <= told["conveyor_overdue_seconds"]["due",] < 40
    assert told["conveyor_overdue_seconds"]["expiring",] == 0
    assert told["conveyor_backlog"]["due",] == 2


async def test_what_an_older_worker_left_behind_is_not_counted(site: Site) -> None:
    """A version that does not know the sets for counting moves a job past them, or its record is gone: they mend themselves."""
    database, keys = site.database, site.database.keys
    gone, ended, waits = [await site.put("ada", tier="free") for _ in range(3)]
    await database.redis.zadd(keys.running, {gone: 1, ended: 2})
    await database.redis.delete(keys.job(gone))
    await database.redis.hset(keys.job(ended), "state", "failed")

    told = await site.told()

    assert told["conveyor_lane_jobs"]["free",] == 1
    assert told["conveyor_jobs"]["running",] == 0
    assert await database.redis.zrange(keys.waiting("free"), 0, -1) == [waits]


async def test_streams_are_counted_by_group(site: Site) -> None:
    """Length, what a group has not read, what it has not acknowledged, the age of the oldest, and dead letters."""
    database, stream = site.database, site.database.keys.results("web")
    for _ in range(3):
        await site.put("ada")
    await database.redis.xgroup_create(stream, "bot", "0")
    await database.redis.xgroup_create(stream, "audit", "$")
    await database.redis.xreadgroup("bot", "b1", {stream: ">"}, count=1)
    await database.redis.xadd(database.keys.dead("web"), {"reason": "blocked"})
    await asyncio.sleep(0.002)

    told = await site.told()

    assert told["conveyor_result_stream_length"] == {("web",): 3}
    assert told["conveyor_dead_letters"] == {("web",): 1}
    assert told["conveyor_group_lag"] == {("web", "bot"): 2, ("web", "audit"): 0}
    assert told["conveyor_group_pending"] == {("web", "bot"): 1, ("web", "audit"): 0}
    assert 0 < told["conveyor_group_oldest_seconds"]["web", "bot"] < 10
    assert told["conveyor_group_oldest_seconds"]["web", "audit"] == 0


async def test_the_budget_is_our_accounts(site: Site) -> None:
    """Rate, breaker and pause as they hold now; a process without a key says nothing of them rather than something wrong."""
    bucket = TokenBucket(site.database, site.settings)
    for _ in range(5):
        await bucket._report("failed")

    told = await site.told()
    assert told["conveyor_breaker_open"] == {(): 1}
    assert told["conveyor_budget_closed_seconds"][()] > 0
    assert told["conveyor_budget_rate"] == {(): site.settings.rate_per_second}

    site.settings = site.settings.model_copy(update={"api_key": None})
    told = await site.told()
    assert "conveyor_breaker_open" not in told
    assert "conveyor_jobs" in told


async def test_one_answer_serves_everybody_for_a_moment(site: Site) -> None:
    """Redis counts once, however many processes ask; the answer ends by itself."""
    database = site.database
    await site.told()
    await site.put("ada")

    metrics = {metric.name: metric for metric in await Census(database, site.settings).read()}

    assert sum(sample.value for sample in metrics["conveyor_lane_jobs"].samples) == 0
    assert 0 < await database.redis.pttl(database.keys.census) <= 4000
    assert json.loads(str(await database.redis.get(database.keys.census)))


async def test_what_a_newer_version_has_counted_is_read_as_far_as_it_is_known(site: Site) -> None:
    """In a rolling deploy the answer of either version serves both."""
    database = site.database
    await database.redis.set(database.keys.census, json.dumps([["moons", 3, "full"], ["window_jobs", 2]]))

    names = {metric.name for metric in await Census(database, site.settings).read()}

    assert "conveyor_window_jobs" in names
    assert "conveyor_moons" not in names


async def test_ten_thousand_lanes_cost_as_much_as_one(site: Site) -> None:
    """The commands of one count do not depend on how many jobs and lanes there are."""
    database = site.database

    async def commands() -> int:
        before = (await database.redis.info("commandstats")).items()
        await site.told()
        after = (await database.redis.info("commandstats")).items()
        spent = dict(after)
        for name, stats in before:
            spent[name] = {"calls": spent[name]["calls"] - stats["calls"]}
        return sum(int(stats["calls"]) for stats in spent.values())

    await site.put("ada")
    few = await commands()
    for n in range(200):
        await site.put(f"user {n}")

    assert await commands() <= few + 2


async def test_without_redis_it_says_only_that(settings: Settings) -> None:
    """No number that may be old: they are missing, and one says why."""
    async with Database.open("redis://127.0.0.1:1/0") as nowhere:
        metrics = await Census(nowhere, settings).read()

    assert [(metric.name, metric.samples[0].value) for metric in metrics] == [("conveyor_redis_reached", 0.0)]


def test_a_loop_that_is_stuck_costs_a_scrape_no_more_than_its_patience(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker's page comes without the numbers of the whole, and what was asked for is not waited for any longer."""
    monkeypatch.setattr(whole, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(whole, "LOOP_SECONDS", 0.01)
    reading = Future[list[Metric]]()

    def spawn(coroutine: Coroutine[Any, Any, list[Metric]]) -> Future[list[Metric]]:
        coroutine.close()
        return reading

    engine = SimpleNamespace(database=Database.open(settings.redis_url), settings=settings)
    stuck = SystemCollector(cast(Process, SimpleNamespace(engine=engine, spawn=spawn)))

    assert list(stuck.collect()) == []
    assert reading.cancelled()
    assert list(SystemCollector(Process()).collect()) == []  # not started, or stopped
    assert {family.name for family in stuck.describe()} == set(SYSTEM_GAUGES)
