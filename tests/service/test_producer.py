"""The producer on a real Redis: what is refused leaves nothing behind, what is accepted is heard of to its end."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from producers import JobRequest, Producer, SyncProducer
from producers.local.redis_server import RedisServer
from shared.database import Database
from shared.errors import InvalidInput, JobNotFound, Unavailable, WorkflowNotFound
from shared.jobs.event import JobError, Progress
from shared.jobs.states import JobState
from shared.jobs.store import JobStore
from shared.settings import Settings

pytestmark = pytest.mark.redis


@dataclass
class Published:
    """Stands in for the broker: remembers what it was to send."""

    job_ids: list[str] = field(default_factory=list)

    async def publish(self, job_ids: list[str]) -> None:
        """Remember."""
        self.job_ids += job_ids

    def close(self) -> None:
        """Nothing to close."""


@pytest.fixture
def published() -> Published:
    """The submit tasks that were sent."""
    return Published()


@pytest.fixture
async def producer(settings: Settings, database: Database, published: Published) -> AsyncIterator[Producer]:
    """A producer below the test's prefix, with no broker."""
    async with Producer(settings, database, publisher=published) as producer:
        yield producer


def request(**fields: object) -> dict[str, object]:
    """The least there is to a request."""
    return {"workflow": "portrait", "frontend": "web", "user": {"id": "ada"}} | fields


async def catalog_of(database: Database, *names: str) -> None:
    """What a worker wrote of the API's deployments, a minute ago."""
    entries = [
        {"deployment_id": f"d-{name}", "workflow_id": f"w-{name}", "name": name, "environment": "production"}
        | {"pool": "m", "concurrency": 2}
        for name in names
    ]
    await database.redis.set(database.keys.catalog, json.dumps({"read_at": time.time() - 60, "entries": entries}))


async def keys_of(database: Database) -> set[str]:
    """Every key there is."""
    return {key async for key in database.redis.scan_iter(f"{database.keys.prefix}*")}


async def walk(database: Database, job_id: str, *states: str) -> None:
    """Move a job as a worker would."""
    store = JobStore(database)
    for state in states:
        extra = {"run_id": "run-1", "workflow_id": "w"} if state == "submitted" else {}
        error = JobError(code="upstream_failed", message="x", user_message="x") if state == "failed" else None
        assert await store.move(job_id, JobState(state), error=error, **extra)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"inputs": {"seed": None}}, "inputs.seed"),
        ({"workflow": None}, "workflow"),
        ({"run_timout_seconds": 5}, "run_timout_seconds"),
        ({"meta": {"x": "y" * 9000}}, "meta"),
        ({"user": {"id": 42}}, "user.id"),
    ],
)
async def test_a_refused_request_leaves_nothing(
    producer: Producer, database: Database, fields: dict[str, object], problem: str
) -> None:
    """The refusal names the field, and no key is written, not even for the good jobs beside it."""
    before = await keys_of(database)
    with pytest.raises(InvalidInput) as refusal:
        await producer.enqueue_many([request(), request(**fields)])
    assert [one.field for one in refusal.value.problems] == [f"1.{problem}"]
    with pytest.raises(InvalidInput):
        await producer.enqueue(request(**fields))
    assert await keys_of(database) == before == set()


async def test_an_unknown_workflow_is_refused_with_suggestions(producer: Producer, database: Database) -> None:
    """A name that is certainly unknown is refused at the door."""
    await catalog_of(database, "portrait", "landscape")
    before = await keys_of(database)
    with pytest.raises(WorkflowNotFound, match="Did you mean 'portrait'"):
        await producer.enqueue(request(workflow="portrit"))
    assert await keys_of(database) == before


async def test_an_accepted_job_is_dispatched_and_published(producer: Producer, published: Published) -> None:
    """The id comes back, the submit task is sent, and the status tells the job."""
    job = await producer.enqueue(JobRequest.read(request()))
    assert job.created
    assert published.job_ids == [job.id]
    status = await job.status()
    assert (status.job.state, status.queue) == (JobState.QUEUED, None)


async def test_the_same_key_answers_the_same_job(producer: Producer) -> None:
    """An idempotency key belongs to its frontend."""
    first = await producer.enqueue(request(idempotency_key="k"))
    again = await producer.enqueue(request(idempotency_key="k"))
    other = await producer.enqueue(request(idempotency_key="k", frontend="discord"))
    assert (again.id, again.created) == (first.id, False)
    assert other.id != first.id


async def test_jobs_beyond_the_window_wait_with_their_place(
    settings: Settings, database: Database, published: Published
) -> None:
    """Positions are exact, and a cancelled job makes room for the next."""
    tight = settings.model_copy(update={"window": 1})
    async with Producer(tight, database, publisher=published) as producer:
        jobs = await producer.enqueue_many([request() for _ in range(3)])
        places = [(await job.status()).queue for job in jobs]
        assert [place and (place.position, place.ahead) for place in places] == [None, (1, 0), (2, 1)]
        assert await jobs[0].cancel() == "cancelled"
        assert published.job_ids == [jobs[0].id, jobs[1].id]
        assert await jobs[0].cancel() == "final"


async def test_cancelling_a_run_is_a_request(producer: Producer, database: Database) -> None:
    """A job past its lane is cancelled by the next look."""
    job = await producer.enqueue(request())
    await walk(database, job.id, "submitting", "submitted")
    assert await job.cancel() == "requested"


async def test_unknown_jobs_are_told(producer: Producer) -> None:
    """Every question about a job that is not there says so."""
    with pytest.raises(JobNotFound):
        await producer.status("nobody")
    with pytest.raises(JobNotFound):
        await producer.cancel("nobody")
    with pytest.raises(JobNotFound):
        await producer.wait("nobody")


async def test_follow_replays_then_goes_on(producer: Producer, database: Database) -> None:
    """Old events first, then live ones, ending with the final one; other jobs are left out."""
    job, other = await producer.enqueue_many([request(), request()])
    await walk(database, job.id, "submitting", "submitted")
    await walk(database, other.id, "submitting", "submitted")
    seqs = []
    async with asyncio.timeout(10):
        async for event in job.events():
            assert event.job_id == job.id
            seqs.append((event.seq, event.type))
            if event.seq == 2:
                await walk(database, job.id, "running")
                await JobStore(database).progress(job.id, Progress(fraction=0.5))
                await walk(database, job.id, "succeeded")
    assert [seq for seq, _ in seqs] == [1, 2, 3, 4, 5]
    assert seqs[-1] == (5, "job.succeeded")
    assert [event.seq async for event in job.events(3)] == [4, 5]
    assert [event.seq async for event in job.events(5)] == []


async def test_follow_tells_the_record_when_the_stream_was_trimmed(producer: Producer, database: Database) -> None:
    """What the stream no longer holds is told from the record, once, with its seq."""
    job = await producer.enqueue(request())
    await walk(database, job.id, "submitting", "submitted")
    await database.redis.xtrim(database.keys.results("web"), maxlen=0)
    told = []
    async with asyncio.timeout(10):
        async for event in job.events():
            told.append((event.seq, event.type))
            if len(told) == 1:
                await walk(database, job.id, "running", "failed")
    assert told == [(2, "job.submitted"), (3, "job.running"), (4, "job.failed")]
    await database.redis.xtrim(database.keys.results("web"), maxlen=0)
    final = await job.wait(5)
    assert (final.seq, final.type, final.error and final.error.code) == (4, "job.failed", "upstream_failed")


async def test_follow_rides_out_a_restart(tmp_path: Path, published: Published) -> None:
    """No event is lost or told twice across a Redis restart."""
    async with RedisServer(tmp_path) as server, Database.open(server.url) as database:
        producer = Producer(Settings(redis_url=server.url), database, publisher=published)
        job = await producer.enqueue(request())
        await walk(database, job.id, "submitting", "submitted")
        seqs: list[int] = []
        first_two = asyncio.Event()

        async def follow() -> None:
            async for event in job.events():
                seqs.append(event.seq)
                if event.seq == 2:
                    first_two.set()

        following = asyncio.create_task(follow())
        async with asyncio.timeout(20):
            await first_two.wait()
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)
            await walk(database, job.id, "running", "succeeded")
            await following
        assert seqs == [1, 2, 3, 4]


async def test_wait_has_an_end(producer: Producer) -> None:
    """A wait ends after its timeout, and the job goes on."""
    job = await producer.enqueue(request())
    with pytest.raises(TimeoutError):
        await job.wait(0.05)
    assert (await job.status()).job.state is JobState.QUEUED


async def test_leaving_a_follower_is_clean(producer: Producer) -> None:
    """A follower can be closed between and inside events."""
    job = await producer.enqueue(request())
    async with aclosing(producer.follow(job.id)) as events:
        assert (await anext(events)).seq == 1
    task = asyncio.create_task(job.wait())
    await asyncio.sleep(0)
    task.cancel()
    assert (await asyncio.wait({task}, timeout=5))[0]


async def test_redis_away_is_unavailable(tmp_path: Path) -> None:
    """The caller hears `Unavailable`, not the client's own errors."""
    server = RedisServer(tmp_path)
    await asyncio.to_thread(server.start)
    await asyncio.to_thread(server.stop)
    async with Producer(Settings(redis_url=server.url)) as producer:
        for question in (producer.enqueue(request()), producer.status("x"), producer.cancel("x")):
            with pytest.raises(Unavailable):
                await question


def test_the_blocking_producer_answers_the_same(redis_server: RedisServer) -> None:
    """Enqueue, status, cancel and wait without an event loop, through a real broker queue."""
    with SyncProducer(Settings(redis_url=redis_server.url.replace("/0", "/5"))) as producer:
        job_id, created = producer.enqueue(request())
        assert created
        assert producer.status(job_id).job.state is JobState.QUEUED
        with pytest.raises(TimeoutError):
            producer.wait(job_id, 0.05)
        assert producer.cancel(job_id) == "cancelled"
        assert producer.wait(job_id, 5).type == "job.cancelled"
