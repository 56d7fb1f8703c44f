"""The connection: scripts load themselves, an outage is `Unavailable` and over when Redis is back, with the data."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from producers.local.redis_server import RedisServer
from shared.database import Database, script_text
from shared.errors import Unavailable
from shared.following.due import DueSet
from shared.jobs.lanes import Lanes
from shared.jobs.states import JobState
from shared.jobs.store import JobStore, Target
from shared.settings import Settings
from tests.redis.stage import SCRIPT_NAMES, look_at, put, request, take


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A server of the test's own, to be killed."""
    async with RedisServer(tmp_path / "redis") as server:
        yield server


async def test_scripts_survive_a_script_flush(database: Database) -> None:
    """After SCRIPT FLUSH, as after a restart, the next call sends the text again and is answered."""
    first = await put(database)

    await database.redis.script_flush()

    second = await put(database)
    assert await take(database) == [first, second]


async def test_a_script_is_sent_once_and_then_named_by_its_hash(database: Database) -> None:
    """A call costs one round trip without the text: the second call of a script finds it loaded."""
    await database.redis.script_flush()
    await put(database)
    sha = database._scripts["create"].sha

    assert await database.redis.script_exists(sha) == [True]


async def test_every_script_compiles(database: Database) -> None:
    """The server takes the text of each script as the loader composes it."""
    for name in SCRIPT_NAMES:
        assert len(await database.redis.script_load(script_text(name))) == 40


async def test_two_prefixes_on_one_redis_do_not_meet(database: Database, redis_server: RedisServer) -> None:
    """A second installation on the same server sees no job of the first."""
    await put(database)
    async with Database.open(redis_server.url, prefix=f"{database.keys.prefix}other:") as other:
        assert await take(other) == []


async def test_two_dispatchers_never_take_the_same_job(database: Database, redis_server: RedisServer) -> None:
    """Eight processes dispatch at the same time: every job goes to one of them, and the window holds."""
    jobs = {await put(database, f"user-{n % 7}") for n in range(120)}
    others = [Database.open(redis_server.url, prefix=database.keys.prefix) for _ in range(8)]

    taken = await asyncio.gather(*(take(other, 7, window=100) for other in others for _ in range(4)))

    ids = [job_id for batch in taken for job_id in batch]
    assert len(ids) == len(set(ids)) == 100
    assert set(ids) < jobs
    for other in others:
        await other.aclose()


async def test_more_calls_than_connections_wait_their_turn(database: Database) -> None:
    """A worker with a thousand things to ask at once is busy, not cut off: every call is answered."""
    job_id = await put(database)

    places = await asyncio.gather(*(database.run("place", job_id, 200, 20) for _ in range(1_000)))

    assert places == [[0, -1, ""]] * 1_000


async def test_redis_away_is_unavailable_and_over_when_it_is_back(server: RedisServer) -> None:
    """A killed server makes every call `Unavailable`; restarted on its port the same client works again."""
    async with Database.open(server.url) as database:
        job_id = await put(database)
        server.kill()

        with pytest.raises(Unavailable, match=r"Redis.* is away"):
            await take(database)
        with pytest.raises(Unavailable, match=r"Redis.* is away"):
            await database.hash(database.keys.job(job_id))
        with pytest.raises(Unavailable, match=r"Redis.* is away"):
            await JobStore(database).get(job_id)
        with pytest.raises(Unavailable, match=r"Redis.* is away"):
            await JobStore(database).find([job_id])
        with pytest.raises(Unavailable, match=r"Redis.* is away"):
            await DueSet(database, "me").in_flight("wf")
        with pytest.raises(Unavailable, match=r"Redis.* is away"):
            await Lanes(database, Settings()).settled("closing", job_id)
        with pytest.raises(Unavailable, match=r"Redis.* is away"):
            await database.now_ms()

        await asyncio.to_thread(server.start)

        # The append-only file kept what was answered, so the job is where it was.
        assert await take(database) == [job_id]


async def test_jobs_live_on_through_a_crash_of_redis(server: RedisServer) -> None:
    """Waiting, dispatched and running jobs, their events and the windows are all there after `kill -9`."""
    async with Database.open(server.url) as database:
        store, lanes = JobStore(database), Lanes(database, Settings())
        running, dispatched, waiting = [await put(database, user) for user in ("ada", "bob", "cy")]
        assert await lanes.dispatch(2) == [running, dispatched]
        await store.move(running, JobState.SUBMITTING)
        await store.move(running, JobState.SUBMITTED, run_id="r", first_look_seconds=60)
        await store.move(running, JobState.RUNNING)
        before = await look_at(database)

        server.kill()
        await asyncio.to_thread(server.start)

        assert await look_at(database) == before
        assert await lanes.dispatch() == [waiting]
        key, _ = await store.create(request(), Target())
        assert await lanes.dispatch() == [key]


async def test_a_server_that_refuses_is_told_within_seconds() -> None:
    """Nobody hangs on a Redis that is not there: three quick retries, then `Unavailable`."""
    async with asyncio.timeout(5), Database.open("redis://127.0.0.1:1/0") as nowhere:
        with pytest.raises(Unavailable):
            await nowhere.run("place", "x")


async def test_a_mistake_of_ours_is_not_an_outage(database: Database) -> None:
    """Only a server that is away is `Unavailable`; a script error says what it is."""
    with pytest.raises(Exception, match="script") as told:
        await database.run("create", "id", "not json", 5, 0, 60, "", 60)

    assert not isinstance(told.value, Unavailable)


async def test_closing_twice_is_fine(redis_server: RedisServer) -> None:
    """Shutdown code need not know who closed first."""
    database = Database.open(redis_server.url)

    await database.aclose()
    await database.aclose()
