"""What falls on the floor is found from state alone, and put right once."""

import asyncio
import contextlib
from typing import Any

import pytest
from kombu.exceptions import OperationalError

from shared.errors import ConveyorError
from shared.jobs.states import JobState
from tasks.submit import submit_job
from tests.service.worker_fixtures import PORTRAIT_WORKFLOW, SUBMIT, Api, Bench, until
from workers.ticker import Ticker
from workers.transport import dropped
from workers.upkeep import Upkeep

pytestmark = pytest.mark.redis


@pytest.fixture
def upkeep(bench: Bench) -> Upkeep:
    """The chores of one worker."""
    return Upkeep(bench.engine)


# --------------------------------------------------------------------------- rescue


async def test_a_lost_message_is_sent_again(bench: Bench, upkeep: Upkeep, api: Api) -> None:
    """Dispatched and the broker lost the message: not before the hold is over, then it is published again, once."""
    job_id = await bench.enqueue()
    assert await bench.dispatch() == [job_id]
    await upkeep.rescue()
    assert bench.published.take() == []
    await bench.end_hold(job_id)
    await upkeep.rescue()
    await Upkeep(bench.another().engine).rescue()
    assert bench.published.take() == [job_id]
    await submit_job(bench.engine, job_id)
    assert (await bench.job(job_id)).state is JobState.SUBMITTED
    await bench.end_hold(job_id)
    await upkeep.rescue()
    assert bench.published.take() == []


async def test_a_dead_holders_job_is_rescued(bench: Bench, upkeep: Upkeep, api: Api) -> None:
    """A worker died while it held a job: when the hold is over another takes it."""
    job_id = await bench.enqueue()
    await bench.dispatch()
    await bench.engine.lanes.hold(job_id, "dead", seconds=0.2)
    await submit_job(bench.engine, job_id)
    assert await api.calls(SUBMIT) == 0

    async def rescued() -> list[str]:
        await upkeep.rescue()
        return bench.published.take()

    assert await until(rescued) == [job_id]
    await submit_job(bench.engine, job_id)
    assert (await bench.job(job_id)).state is JobState.SUBMITTED


async def test_a_dead_submitters_run_is_adopted(bench: Bench, upkeep: Upkeep, api: Api) -> None:
    """A worker died after its POST: rescue finds the job from state alone, and its run is adopted."""
    job_id = await bench.enqueue()
    await bench.dispatch()
    await bench.engine.lanes.hold(job_id, "dead")
    await bench.engine.store.move(job_id, JobState.SUBMITTING)
    run_id = await api.make_run(job_id)
    await bench.end_hold(job_id)
    await upkeep.rescue()
    assert bench.published.take() == [job_id]
    await submit_job(bench.engine, job_id)
    assert (await bench.job(job_id)).run_id == run_id
    assert len(await api.runs(job_id)) == 1


async def test_held_jobs_are_not_rescued(bench: Bench, upkeep: Upkeep) -> None:
    """Who renews its hold is left alone."""
    job_id = await bench.enqueue()
    await bench.dispatch()
    await bench.end_hold(job_id)
    await bench.engine.lanes.hold(job_id, "alive")
    await upkeep.rescue()
    assert bench.published.take() == []


# --------------------------------------------------------------------------- expire


async def test_a_job_nobody_got_round_to_expires(bench: Bench, upkeep: Upkeep) -> None:
    """Past its queue timeout a waiting job ends as `expired`, is told so once, and leaves its lane."""
    job_id = await bench.enqueue(queue_timeout_seconds=1)
    await upkeep.expire()
    assert await bench.told(job_id) == ["queued"]

    async def expired() -> bool:
        await upkeep.expire()
        return (await bench.job(job_id)).final

    await until(expired)
    await upkeep.expire()
    event = (await bench.events(job_id))[-1]
    assert (event.type, event.seq) == ("job.expired", 2)
    assert event.error is not None
    assert (event.error.code, event.error.retryable) == ("expired", True)
    assert await bench.in_lane() == []
    assert await bench.dispatch() == []


async def test_an_expired_job_is_not_submitted_by_a_late_message(bench: Bench, upkeep: Upkeep, api: Api) -> None:
    """A job that is past the lanes does not expire; one that did is not started."""
    job_id = await bench.enqueue(queue_timeout_seconds=1)
    await bench.dispatch()
    await bench.past(job_id, 60, "expires_at")
    await upkeep.expire()
    assert not (await bench.job(job_id)).final
    await bench.engine.lanes.give_back(job_id)
    await upkeep.expire()
    assert (await bench.job(job_id)).state is JobState.EXPIRED
    await submit_job(bench.engine, job_id)
    assert await api.calls(SUBMIT) == 0


# --------------------------------------------------------------------------- close


async def finished(bench: Bench, api: Api, count: int = 1) -> list[str]:
    """Jobs that have ended well."""
    jobs = await bench.submit_all(count)
    for job in jobs:
        await api.finish(str(job.run_id))
    await bench.look()
    return [job.id for job in jobs]


async def test_rows_of_ended_jobs_are_closed_once(bench: Bench, upkeep: Upkeep, api: Api) -> None:
    """Every ended job's Celery row is closed, by one worker, and forgotten then."""
    ids = await finished(bench, api, 3)
    other = bench.another()
    await asyncio.gather(upkeep.close_rows(), Upkeep(other.engine).close_rows())
    assert sorted(bench.rows.closed + other.rows.closed) == sorted(ids)
    assert await bench.database.redis.zcard(bench.database.keys.closing) == 0


@pytest.mark.parametrize("error", [OperationalError("away"), ConnectionResetError("cut")])
async def test_a_row_that_could_not_be_closed_is_closed_later(
    bench: Bench, upkeep: Upkeep, api: Api, error: Exception
) -> None:
    """The broker is away: the row stays on the list and is closed when its turn comes again."""
    (job_id,) = await finished(bench, api)
    bench.rows.errors = [error]
    await _quietly(upkeep)
    closing = bench.database.keys.closing
    assert await bench.database.redis.zcard(closing) == 1
    await bench.database.redis.zadd(closing, {job_id: 0})
    await upkeep.close_rows()
    assert bench.rows.closed == [job_id]
    assert await bench.database.redis.zcard(closing) == 0


async def _quietly(upkeep: Upkeep) -> None:
    """A chore may say that it failed; the ticker repeats it."""
    with contextlib.suppress(ConveyorError):
        await upkeep.close_rows()


async def test_one_row_that_cannot_be_closed_does_not_hold_up_the_others(
    bench: Bench, upkeep: Upkeep, api: Api
) -> None:
    """A job whose row never closes stands in nobody's way."""
    await finished(bench, api, 4)
    poison: set[str] = set()

    def close_row(job: Any) -> None:
        if not poison:
            poison.add(job.id)
        if job.id in poison:
            raise TypeError("this cannot be written")
        bench.rows.closed.append(job.id)

    bench.rows.close_row = close_row  # type: ignore[method-assign]
    closing = bench.database.keys.closing
    for _ in range(5):
        with contextlib.suppress(ConveyorError, TypeError):
            await upkeep.close_rows()
        for job_id in await bench.database.redis.zrange(closing, 0, -1):
            await bench.database.redis.zadd(closing, {job_id: 0})
    assert len(bench.rows.closed) == 3


async def test_a_forgotten_jobs_row_is_let_go(bench: Bench, upkeep: Upkeep) -> None:
    """A job that is no longer kept leaves the list."""
    await bench.database.redis.zadd(bench.database.keys.closing, {"gone": 0})
    await upkeep.close_rows()
    assert await bench.database.redis.zcard(bench.database.keys.closing) == 0


# --------------------------------------------------------------------------- mend


async def test_a_workflow_that_fell_out_of_the_due_set_is_put_back(bench: Bench, upkeep: Upkeep, api: Api) -> None:
    """Runs in flight and nobody will look: mending makes the workflow due again, and the job ends."""
    job = await bench.submit()
    await api.finish(str(job.run_id))
    await bench.database.redis.delete(bench.database.keys.due)
    assert (await bench.engine.due.claim(10))[0] == []
    await upkeep.mend_due_set()
    assert (await bench.engine.due.claim(10))[0] == [PORTRAIT_WORKFLOW]
    await bench.look()
    assert (await bench.job(job.id)).state is JobState.SUCCEEDED


async def test_mending_leaves_what_is_due_alone(bench: Bench, upkeep: Upkeep) -> None:
    """A healthy due-set is not touched, nor another's lease."""
    await bench.submit()
    keys, redis = bench.database.keys, bench.database.redis
    await bench.engine.due.claim(10)
    before = await redis.zrange(keys.due, 0, -1, withscores=True), await redis.hgetall(keys.looking)
    await Upkeep(bench.another().engine).mend_due_set()
    assert (await redis.zrange(keys.due, 0, -1, withscores=True), await redis.hgetall(keys.looking)) == before


async def test_a_killed_workers_looks_are_taken_over(bench: Bench, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker claimed a workflow and died: when its lease ends another claims it, not before."""
    monkeypatch.setattr("shared.following.due.LEASE_SECONDS", 0.4)
    await bench.submit()
    other = bench.another()
    assert (await bench.engine.due.claim(10))[0] == [PORTRAIT_WORKFLOW]
    assert (await other.engine.due.claim(10))[0] == []

    async def taken_over() -> list[str]:
        return (await other.engine.due.claim(10))[0]

    assert await until(taken_over) == [PORTRAIT_WORKFLOW]


# --------------------------------------------------------------------------- prune


async def test_unread_events_are_never_trimmed(bench: Bench, upkeep: Upkeep, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever their age: what a group has not acknowledged stays; what all groups have goes."""
    monkeypatch.setattr("workers.upkeep.KEEP_EVENTS_SECONDS", -3600.0)
    stream, redis = bench.database.keys.results("web"), bench.database.redis
    for _ in range(6):
        await bench.enqueue()
    await redis.xgroup_create(stream, "fast", id="0")
    await redis.xgroup_create(stream, "slow", id="0")
    await upkeep.prune()
    assert await redis.xlen(stream) == 6
    ids = []
    for group, count in (("fast", 6), ("slow", 4)):
        ((_, entries),) = await redis.xreadgroup(group, "c", {stream: ">"}, count=count)
        ids = [entry for entry, _ in entries]
        await redis.xack(stream, group, *(ids if group == "fast" else ids[:2]))
    await upkeep.prune()
    left = [entry for entry, _ in await redis.xrange(stream)]
    assert left[0] == ids[2]
    assert len(left) == 4


async def test_young_events_stay_though_they_are_read(bench: Bench, upkeep: Upkeep) -> None:
    """A follower may want to replay the last hour."""
    stream, redis = bench.database.keys.results("web"), bench.database.redis
    await bench.enqueue()
    await redis.xgroup_create(stream, "g", id="$")
    await upkeep.prune()
    assert await redis.xlen(stream) == 1


# --------------------------------------------------------------------------- counted


async def test_refused_messages_are_counted(bench: Bench, upkeep: Upkeep, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the transport dropped is added to the count in Redis, and only once."""
    monkeypatch.setitem(dropped, "not_json", 2)
    await upkeep.count_rejected()
    await upkeep.count_rejected()
    assert await bench.database.redis.hgetall(bench.database.keys.rejected) == {"not_json": "2"}


# --------------------------------------------------------------------------- the ticker


async def test_the_ticker_does_it_all_by_itself(bench: Bench, api: Api) -> None:
    """One ticker and somebody who carries messages: jobs go out of their lanes, are followed, end, and close."""
    await api.configure(autopilot=True, cold_start_seconds=0)
    ids = [await bench.enqueue(user=f"u{n}", progress=True) for n in range(6)]
    ticker = asyncio.create_task(Ticker(bench.engine).run())

    async def closed() -> bool:
        for job_id in bench.published.take():
            await submit_job(bench.engine, job_id)
        return sorted(bench.rows.closed) == sorted(ids)

    try:
        await until(closed)
    finally:
        bench.engine.stopping.set()
        await asyncio.wait_for(ticker, 5)
    for job_id in ids:
        told = await bench.told(job_id)
        assert (told[0], told[-1]) == ("queued", "succeeded")
    stats = await api.stats()
    assert (stats["runs_total"], stats["double_submits_count"]) == (6, 0)


async def test_two_tickers_look_once(bench: Bench, api: Api) -> None:
    """Two workers tick over the same due-set: about as many looks as one would make, one end for each job."""
    await api.configure(autopilot=True, cold_start_seconds=0)
    other = bench.another()
    jobs = await bench.submit_all(4)
    tickers = [asyncio.create_task(Ticker(worker.engine).run()) for worker in (bench, other)]

    async def over() -> bool:
        return all([(await bench.job(job.id)).final for job in jobs])

    try:
        await until(over)
    finally:
        for worker in (bench, other):
            worker.engine.stopping.set()
        await asyncio.wait_for(asyncio.gather(*tickers), 5)
    for job in jobs:
        assert (await bench.told(job.id))[-1] == "succeeded"


async def test_a_stopping_ticker_ends_soon(bench: Bench, api: Api) -> None:
    """Told to stop while looks wait for tokens: the ticker is over within seconds."""
    await bench.submit()
    await bench.engine.bucket.push_back(60, slow_down=False)
    ticker = asyncio.create_task(Ticker(bench.engine).run())
    await until(lambda: bench.database.redis.hexists(bench.database.keys.looking, PORTRAIT_WORKFLOW), what="a look")
    bench.engine.stopping.set()
    await asyncio.wait_for(ticker, 5)
