"""Whatever is killed, stopped or restarted under load: every job ends once, and no run is made twice."""

import asyncio
import signal
import time

from producers.handle import JobHandle
from producers.local.processes import Supervised
from shared.database import Database
from shared.jobs.states import JobState
from tests.e2e.site import Site, until

SUBMIT = "POST /run/deployment/queue"


async def under_load(site: Site, count: int = 24) -> list[JobHandle]:
    """Jobs of several users, some of them past the lanes already."""
    handles = [
        await site.enqueue(n=n, workflow=("SDXL Portrait", "Flux Dev", "Sticker GIF")[n % 3]) for n in range(count)
    ]

    async def under_way() -> bool:
        return sum(job.state is not JobState.QUEUED for job in await site.jobs(handle.id for handle in handles)) >= 4

    await until(under_way, what="jobs are under way")
    return handles


async def test_a_killed_workers_jobs_move_within_20_seconds(site: Site) -> None:
    """kill -9 of one of two workers in the middle of its submits: its jobs move again within 20 s, none is doubled."""
    # The rows are there at once, the answers a while later: the kill finds every submit between the two.
    await site.configure(faults=[{"kind": "slow_answer", "route": SUBMIT, "seconds": 2.5}])
    handles = [await site.enqueue(n=n, workflow=("SDXL Portrait", "Flux Dev")[n % 2]) for n in range(12)]

    async def all_posted() -> bool:
        return len(await site.runs()) == len(handles)

    await until(all_posted, what="every run is made")
    before = await site.jobs(handle.id for handle in handles)
    assert [job for job in before if job.state is JobState.SUBMITTING]
    victim = site.workers[0]
    victim.restart = False
    victim.signal(signal.SIGKILL)
    killed = time.monotonic()
    handles += [await site.enqueue(n=n) for n in range(10)]

    async def moved() -> bool:
        now = await site.jobs(job.id for job in before)
        return all(job.seq > old.seq or job.final for job, old in zip(now, before, strict=True))

    await until(moved, seconds=20 - (time.monotonic() - killed), what="the dead worker's jobs move")
    jobs = await site.final(handles)
    assert {job.state for job in jobs} == {JobState.SUCCEEDED}
    await site.check(handles, runs=len(handles))


async def test_sigterm_loses_nothing(site: Site) -> None:
    """SIGTERM while jobs wait for tokens: the worker is gone within 10 s and gives its jobs back at once; when all
    workers are stopped nothing moves, and a new worker finishes the rest."""
    await site.limit_rate(2)
    try:
        handles = await under_load(site)
        first, second = site.workers
        first.restart = second.restart = False
        assert await _stopped(first) < 10
        assert await _stopped(second) < 10
    finally:
        await site.limit_rate(None)
    left = [job for job in await site.jobs(handle.id for handle in handles) if not job.final]
    assert left
    # Nobody died in a submit: what was not posted waits in its lane, what was posted is submitted.
    assert not [job.id for job in left if job.state is JobState.SUBMITTING]
    await asyncio.gather(site.start_worker(), site.start_worker())
    jobs = await site.final(handles)
    assert {job.state for job in jobs} == {JobState.SUCCEEDED}
    await site.check(handles, runs=len(handles))


async def _stopped(worker: Supervised) -> float:
    began = time.monotonic()
    worker.signal(signal.SIGTERM)
    assert worker.process is not None
    code = await asyncio.wait_for(worker.process.wait(), 12)
    assert code == 0
    return time.monotonic() - began


async def test_redis_restarts_under_load(site: Site) -> None:
    """Redis crashes and comes back with its append-only file: the same workers go on, everything ends once."""
    handles = await under_load(site)
    pids = [worker.process.pid for worker in site.workers if worker.process]
    async with Database.open(site.settings.redis_url) as database:

        async def written() -> bool:
            info = await database.redis.info("persistence")
            return not info["aof_pending_bio_fsync"] and not info["aof_buffer_length"]

        # Otherwise what was just accepted may not be written yet, which `appendfsync everysec` allows for a second.
        await until(written, what="the append-only file is written")
    await asyncio.to_thread(site.redis.kill)
    await asyncio.to_thread(site.redis.start)
    await site.final(handles)
    await site.check(handles)
    assert [worker.process.pid for worker in site.workers if worker.process] == pids
    handle = await site.enqueue()
    assert (await handle.wait(20)).type == "job.succeeded"
