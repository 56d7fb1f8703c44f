"""A worker that ends at any named point: another finds its job from state alone, and one run is paid for.

Each test plays a job's whole life in one worker, which ends at the point: killed (nothing of it reaches Redis or the API
any more) or cancelled (a stopping process; what its `finally` blocks still do counts). A second worker on the same Redis
then lives on; leases and graces are ended in Redis instead of being waited for.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Literal, get_args

import httpx
import pytest

from producers.local.redis_server import RedisServer
from shared.database import Database
from shared.jobs.states import JobState
from tasks.archiving import Archivist
from tasks.callback import deliver
from tasks.fault_points import FaultPoint, arm, arm_from, reach
from tasks.submit import submit_job
from tests.redis.stage import look_at
from tests.service.worker_fixtures import Api, Bench
from workers.upkeep import Upkeep

pytestmark = pytest.mark.redis

POINTS: tuple[FaultPoint, ...] = get_args(FaultPoint)

#: After these the record says that a run may exist, so nothing is posted before the grace is over.
INTENT_ALONE = {"after_intent"}


#: Somebody who takes every callback.
RECEIVER = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(204)))
CALLBACK = {"url": "https://receiver.test/", "secret": "whsec_" + "c2VjcmV0" * 4}


class Killed(BaseException):
    """The worker is dead: no handler of errors may catch this, as none catches SIGKILL."""


class NoConnection:
    """What a dead worker has in place of Redis."""

    def __getattr__(self, name: str) -> Any:
        raise Killed


def kill(bench: Bench) -> None:
    """From here on nothing of this worker reaches Redis or the API."""

    async def unreachable(_: httpx.Request) -> httpx.Response:
        raise Killed

    bench.database.redis = NoConnection()  # type: ignore[assignment]
    bench.database._scripts.clear()
    bench.wire.before = unreachable


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    """No point stays armed for the next test."""
    yield
    for point in POINTS:
        arm(point, None)


@pytest.fixture
async def heir(bench: Bench, tmp_path: Path) -> Bench:
    """The worker that lives on. Outputs are archived."""
    return bench.another(CONVEYOR_ARCHIVE=str(tmp_path))


@pytest.fixture
async def victims(bench: Bench, api: Api, redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[list[Bench]]:
    """Two workers with connections of their own, to lose them alone."""
    async with AsyncExitStack() as exits:
        victims = []
        for _ in range(2):
            own = Database.open(redis_server.url, prefix=bench.database.keys.prefix)
            exits.push_async_callback(own.redis.aclose)
            victims.append(Bench(api, own, redis_server.url, CONVEYOR_USER_WINDOW="1", CONVEYOR_ARCHIVE=str(tmp_path)))
            exits.push_async_callback(victims[-1].aclose)
        yield victims


async def live(worker: Bench, api: Api) -> None:
    """A job's whole life, as one worker sees it: dispatch, submit, the run's end, look, close."""
    for job_id in await worker.dispatch():
        await submit_job(worker.engine, job_id)
    for run in await api.runs():
        if run["status"] == "not-started":
            await api.finish(run["id"])
    await worker.look()
    for job_id in await worker.engine.lanes.overdue("callbacks"):
        await deliver(worker.engine.store, RECEIVER, job_id)
    if worker.engine.archive:
        for job_id in await worker.engine.lanes.overdue("archives"):
            await Archivist(worker.engine, worker.engine.archive).attempt(job_id)
    await Upkeep(worker.engine).close_rows()


async def carry_on(heir: Bench, api: Api) -> None:
    """One round of another worker's life, after everything the dead one held has ended."""
    redis, keys = heir.database.redis, heir.database.keys
    for job_id in await redis.zrange(keys.starting, 0, -1):
        await heir.end_hold(job_id)
    await redis.delete(keys.looking)
    for name in (keys.closing, keys.strays, keys.callbacks, keys.archives):
        for member in await redis.zrange(name, 0, -1):
            await redis.zadd(name, {member: 0})
    upkeep = Upkeep(heir.engine)
    await upkeep.rescue()
    for published in heir.published.take():
        await submit_job(heir.engine, published)
    await upkeep.check_strays()
    await live(heir, api)


async def nothing_left(bench: Bench) -> bool:
    """Whether no lane, window or list holds anything."""
    sight = await look_at(bench.database)
    kept = {name: value for name, value in sight.hashes.items() if name.startswith("window") or name == "looking"}
    # `turns` remembers who was served, and names no job; `jobs` lists a user's jobs for as long as they are kept.
    return (
        not {name for name in sight.sets if not name.startswith(("turns:", "jobs:"))} and not kept and not sight.parked
    )


@pytest.mark.parametrize("how", ["killed", "cancelled"])
@pytest.mark.parametrize("point", POINTS)
async def test_a_worker_that_ends_anywhere_loses_and_doubles_nothing(
    heir: Bench, victims: list[Bench], api: Api, point: FaultPoint, how: Literal["killed", "cancelled"]
) -> None:
    """At every point: one final event, one run, the row closed, nothing left behind, and the user's next job goes."""
    victim = victims[0]
    first, second = await victim.enqueue(callback=CALLBACK), await victim.enqueue()
    reached: list[str] = []

    async def end(job_id: str) -> None:
        reached.append(job_id)
        arm(point, None)
        if how == "killed":
            kill(victim)
            raise Killed
        raise asyncio.CancelledError

    arm(point, end)
    with pytest.raises((Killed, asyncio.CancelledError)):
        await live(victim, api)
    assert reached == [first], "a point that no job's life reaches has no test"
    if point in INTENT_ALONE:
        # The request may be under way: within the grace it is only looked for.
        await carry_on(heir, api)
        assert (await heir.job(first)).state is JobState.SUBMITTING
        await heir.past(first, 3600, "submitting_at")

    for _ in range(4):
        await carry_on(heir, api)

    for job_id in (first, second):
        assert (await heir.told(job_id)) == ["queued", "submitted", "succeeded"]
        runs = await api.runs(job_id)
        assert [run["status"] for run in runs] == ["success"]
        assert (await heir.job(job_id)).run_id == runs[0]["id"]
        assert (await heir.kept(job_id)) == ["text"]
    assert {*victim.rows.closed, *heir.rows.closed} == {first, second}
    assert await nothing_left(heir)


@pytest.mark.parametrize("point", POINTS)
async def test_the_next_worker_may_end_there_too(
    heir: Bench, victims: list[Bench], api: Api, point: FaultPoint
) -> None:
    """Two workers in a row are killed at the same point of the same job: the third still pays for one run."""
    job_id = await victims[0].enqueue(callback=CALLBACK)
    for victim in victims:

        async def end(_: str, victim: Bench = victim) -> None:
            kill(victim)
            raise Killed

        arm(point, end)
        # The second finds the grace of the first over; at some points there is nothing left for it to end in.
        with contextlib.suppress(Killed):
            for _ in range(4):
                await heir.past(job_id, 3600, "submitting_at")
                await carry_on(victim, api)
        arm(point, None)
    await heir.past(job_id, 3600, "submitting_at")
    for _ in range(4):
        await carry_on(heir, api)
    assert await heir.told(job_id) == ["queued", "submitted", "succeeded"]
    assert [run["status"] for run in await api.runs(job_id)] == ["success"]
    assert {job for worker in (*victims, heir) for job in worker.rows.closed} == {job_id}
    assert await nothing_left(heir)


# --------------------------------------------------------------------------- the points themselves


async def test_an_unarmed_point_does_nothing() -> None:
    """In production every point is this."""
    for point in POINTS:
        await reach(point, "job")


@pytest.mark.parametrize("text", ["after_pots:kill", "after_post", "after_post:stop", ":kill"])
def test_a_misspelt_point_is_refused(text: str) -> None:
    """A chaos run that arms nothing would prove nothing."""
    with pytest.raises(ValueError, match="FAULT_POINTS"):
        arm_from(text)
