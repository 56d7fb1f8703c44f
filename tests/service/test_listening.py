"""The API's progress streams only ever make us look sooner, and cost a job nothing when they fail."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from shared.errors import Unavailable
from shared.jobs.record import Job
from shared.jobs.states import JobState
from tests.service.worker_fixtures import FLUX, PORTRAIT_WORKFLOW, READ, Api, Bench, until
from workers import listening
from workers.listening import Listening
from workers.ticker import Ticker

pytestmark = pytest.mark.redis

STREAM = "GET /v2/stream-progress"
LISTEN = "/api/v2/stream-progress"


class Streams:
    """Stands for the API's streams: a test says what is heard, and when a stream ends."""

    def __init__(self, bench: Bench) -> None:
        self.asked: list[str] = []
        #: What the next requests are answered with; a stream when empty.
        self.answers: list[Callable[[], httpx.Response]] = []
        self._open: list[asyncio.Queue[bytes]] = []
        bench.wire.before = self._answer

    @property
    def open(self) -> int:
        """Streams that are being read."""
        return len(self._open)

    def say(self, **event: object) -> None:
        """Send an event on every stream."""
        for stream in self._open:
            stream.put_nowait(b"data: " + json.dumps({"progress": -1, **event}).encode() + b"\n\n")

    def end(self) -> None:
        """End every stream."""
        for stream in self._open:
            stream.put_nowait(b"")

    async def _answer(self, request: httpx.Request) -> httpx.Response | None:
        if request.url.path != LISTEN:
            return None
        self.asked.append(request.url.params["workflow_id"])
        if self.answers:
            return self.answers.pop(0)()
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=self._content())

    async def _content(self) -> AsyncIterator[bytes]:
        said: asyncio.Queue[bytes] = asyncio.Queue()
        self._open.append(said)
        try:
            while chunk := await said.get():
                yield chunk
        finally:
            self._open.remove(said)


@asynccontextmanager
async def listening_of(bench: Bench) -> AsyncIterator[Listening]:
    """The streams of a worker; a test calls `tend` itself."""
    ours = Listening(bench.engine)
    try:
        yield ours
    finally:
        await ours.aclose()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between streams are over at once."""
    monkeypatch.setattr(listening, "delay", lambda *_: 0.0)


async def fact(value: bool) -> bool:
    """For `until`, which waits for a coroutine."""
    return value


async def nudged(bench: Bench, job: Job) -> bool:
    """Whether a hint has been noted for a job."""
    return (await bench.job(job.id)).hinted_at is not None


async def put_off(bench: Bench, job: Job) -> None:
    """Its next look is far away."""
    database = bench.database
    await database.redis.zadd(database.keys.inflight(PORTRAIT_WORKFLOW), {f"{job.id} {job.run_id}": 9e12})
    await database.redis.zadd(database.keys.due, {PORTRAIT_WORKFLOW: 9e12})


async def is_due(bench: Bench) -> bool:
    """Whether the workflow is worth a look now."""
    at = await bench.database.redis.zscore(bench.database.keys.due, PORTRAIT_WORKFLOW)
    return at is not None and at <= await bench.database.now_ms()


# --------------------------------------------------------------------------- what is heard


async def test_the_end_of_a_run_is_looked_at_when_the_stream_tells(bench: Bench, api: Api) -> None:
    """A look was an age away; the simulator's own stream tells of the end, a worker looks, and the hint is counted."""
    worker = bench.another(CONVEYOR_SSE="1")
    job = await bench.submit()
    assert job.run_id
    await put_off(bench, job)
    ticker = asyncio.create_task(Ticker(worker.engine).run())
    try:
        await until(lambda: api.calls(STREAM), what="a stream")
        # The answer begins a moment before the server listens, and nothing is replayed: tell it until it was heard.
        await api.output(job.run_id, {"text": ["a caption"]})

        async def heard() -> bool:
            await api.update(job.run_id or "", status="success")
            return await nudged(bench, job)

        await until(heard, what="the hint")

        async def succeeded() -> bool:
            return (await bench.job(job.id)).state is JobState.SUCCEEDED

        await until(succeeded, what="the job's end")
        hints = bench.database.keys.hints
        await until(lambda: bench.database.redis.lrange(hints, 0, -1), what="a hint that is counted")
    finally:
        worker.engine.stopping.set()
        await asyncio.wait_for(ticker, 5)
    assert await api.calls(STREAM) == 1
    assert await bench.database.redis.lrange(hints, 0, -1) == ["1"]


async def test_only_an_end_of_ours_moves_a_look(bench: Bench) -> None:
    """Starts, outputs and other people's runs change nothing; an end, and a cancel's null, move that job's look forward."""
    streams = Streams(bench)
    job, cancelled = await bench.submit_all(2)
    for one in (job, cancelled):
        await put_off(bench, one)
    async with listening_of(bench) as ours:
        await ours.tend()
        await until(lambda: fact(streams.open == 1))
        for status in ("input", "queued", "running", "output", "a new word"):
            streams.say(run_id=job.run_id, status=status)
        streams.say(run_id="somebody else's", status="success")
        streams.say(run_id=cancelled.run_id, status=None)
        await until(lambda: nudged(bench, cancelled))
        assert not await nudged(bench, job)
        await put_off(bench, cancelled)
        streams.say(run_id=job.run_id, status="failed")
        await until(lambda: is_due(bench))
    assert (await bench.job(job.id)).state is JobState.SUBMITTED


async def test_another_runs_end_does_not_end_the_listening(bench: Bench) -> None:
    """One stream goes on through the ends of others, and tells of ours after them."""
    streams = Streams(bench)
    job = await bench.submit()
    async with listening_of(bench) as ours:
        await ours.tend()
        await until(lambda: fact(streams.open == 1))
        streams.say(run_id="another", status="success")
        streams.say(run_id=job.run_id, status="success")
        await until(lambda: nudged(bench, job))
    assert streams.asked == [PORTRAIT_WORKFLOW]


async def test_progress_is_told_to_those_who_asked(bench: Bench, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event with a fraction is announced for a job with `progress`, throttled, never backwards, and for no other."""
    streams = Streams(bench)
    wanting, other = await bench.submit(user="a", progress=True), await bench.submit(user="b")
    for job in (wanting, other):
        await api.update(job.run_id or "", status="running")
    await bench.look_at_all()
    async with listening_of(bench) as ours:
        await ours.tend()
        await until(lambda: fact(streams.open == 1))

        async def say(job: Job, progress: float) -> None:
            streams.say(run_id=job.run_id, status="running", progress=progress, node_class="Executing KSampler")

        async def progress_of(job: Job) -> list[float | None]:
            events = await bench.events(job.id)
            return [event.progress.fraction for event in events if event.type == "job.progress" and event.progress]

        await say(other, 0.5)
        await say(wanting, 0.3)
        await say(wanting, 0.4)  # too soon
        streams.say(run_id=other.run_id, status="success")  # heard after the others
        await until(lambda: nudged(bench, other))
        monkeypatch.setattr(listening, "PROGRESS_SECONDS", 0.0)
        ours._quiet_until.clear()
        for fraction in (0.2, 0.5):
            await say(wanting, fraction)

        async def at_half() -> bool:
            return 0.5 in await progress_of(wanting)

        await until(at_half)
        assert await progress_of(wanting) == [0.0, 0.3, 0.5]  # the first is the look's
        assert await progress_of(other) == []
        assert not await nudged(bench, wanting)


# --------------------------------------------------------------------------- who listens


async def test_of_two_workers_one_listens(bench: Bench) -> None:
    """Both tend; one has the lease. When it closes, the other takes over; when it dies, its lease ends by itself."""
    other = bench.another()
    first, second = Streams(bench), Streams(other)
    await bench.submit()
    lease = bench.database.keys.lease(f"listen:{PORTRAIT_WORKFLOW}")
    async with listening_of(bench) as ours, listening_of(other) as theirs:
        for _ in range(3):
            await ours.tend()
            await theirs.tend()
        await until(lambda: fact(first.open == 1))
        assert 0 < await bench.database.redis.pttl(lease) <= listening.LEASE_SECONDS * 1000
        await ours.aclose()
        await until(lambda: fact(first.open == 0))
        await theirs.tend()
        await until(lambda: fact(second.open == 1))
        # Another worker's name in the lease: ours had run out while this process stood still.
        await bench.database.redis.set(lease, "another", px=15_000)
        await theirs.tend()
        await until(lambda: fact(second.open == 0))
    assert (len(first.asked), len(second.asked)) == (1, 1)
    assert await bench.database.redis.get(lease) == "another"


async def test_a_stream_ends_a_while_after_its_last_run(
    bench: Bench, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lingers for the next job, and is then closed and given back."""
    streams = Streams(bench)
    job = await bench.submit()
    lease = bench.database.keys.lease(f"listen:{PORTRAIT_WORKFLOW}")
    async with listening_of(bench) as ours:
        await ours.tend()
        await until(lambda: fact(streams.open == 1))
        await api.finish(job.run_id or "")
        await bench.look_at_all()
        assert (await bench.job(job.id)).final
        await ours.tend()
        assert streams.open == 1
        monkeypatch.setattr(listening, "LINGER_SECONDS", 0.0)
        await ours.tend()
        await until(lambda: fact(streams.open == 0))
        assert await bench.database.redis.get(lease) is None


async def test_a_process_listens_to_so_many(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is beyond the bound is left to other workers."""
    monkeypatch.setattr(listening, "MOST_STREAMS", 1)
    other = bench.another()
    first, second = Streams(bench), Streams(other)
    await bench.submit()
    await bench.submit(user="bob", deployment_id=FLUX)
    async with listening_of(bench) as ours, listening_of(other) as theirs:
        for one in (ours, ours, theirs):
            await one.tend()
        await until(lambda: fact(first.open == second.open == 1))
    assert {*first.asked}.isdisjoint(second.asked)


async def test_off_means_no_connection(bench: Bench, api: Api) -> None:
    """Without the setting no stream is opened, and no hint is counted as missed."""
    streams = Streams(bench)
    job = await bench.submit()
    await api.finish(job.run_id or "")
    ticker = asyncio.create_task(Ticker(bench.engine).run())

    async def over() -> bool:
        return (await bench.job(job.id)).final and bool(bench.rows.closed)

    try:
        await until(over)
    finally:
        bench.engine.stopping.set()
        await asyncio.wait_for(ticker, 5)
    assert streams.asked == []
    assert await bench.database.redis.exists(bench.database.keys.hints) == 0


# --------------------------------------------------------------------------- trouble


@pytest.mark.usefixtures("quick")
async def test_a_stream_that_ends_is_opened_again(bench: Bench) -> None:
    """A cut costs one more call, and what comes after it is heard."""
    streams = Streams(bench)
    job = await bench.submit()
    async with listening_of(bench) as ours:
        await ours.tend()
        await until(lambda: fact(streams.open == 1))
        streams.end()
        await until(lambda: fact(len(streams.asked) == 2 and streams.open == 1))
        streams.say(run_id=job.run_id, status="success")
        await until(lambda: nudged(bench, job))


async def test_streams_that_are_cut_at_once_are_not_opened_in_a_row(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pause grows while streams do not last."""
    attempts: list[int] = []

    def noted(_wait: object, attempt: int) -> float:
        attempts.append(attempt)
        return 0.0 if len(attempts) < 4 else 60.0

    monkeypatch.setattr(listening, "delay", noted)
    streams = Streams(bench)
    streams.answers = [lambda: httpx.Response(200, headers={"content-type": "text/event-stream"})] * 4
    await bench.submit()
    async with listening_of(bench) as ours:
        await ours.tend()
        await until(lambda: fact(len(attempts) == 4))
        assert attempts == [1, 2, 3, 4]
        assert len(streams.asked) == 4


async def test_a_forbidden_stream_is_left_alone(bench: Bench, api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """Asked once by all workers together, said once, and the job is followed by looks."""
    streams = Streams(bench)
    streams.answers = [lambda: httpx.Response(403, json={"detail": "Not authorized to access this progress"})]
    job = await bench.submit()
    lease = bench.database.keys.lease(f"listen:{PORTRAIT_WORKFLOW}")

    async def refused() -> bool:
        return await bench.database.redis.get(lease) == "refused"

    async with listening_of(bench) as ours, listening_of(bench.another()) as theirs:
        await ours.tend()
        await until(refused)
        for _ in range(3):
            await ours.tend()
            await theirs.tend()
        assert await bench.database.redis.pttl(lease) > listening.REFUSED_SECONDS * 900
        await api.finish(job.run_id or "")
        await bench.look_at_all()
        # The pause is over: asked again, and not said again.
        streams.answers = [lambda: httpx.Response(403)]
        await bench.submit(user="bob")
        await bench.database.redis.delete(lease)
        await ours.tend()
        await until(refused)
    assert len(streams.asked) == 2
    assert (await bench.job(job.id)).state is JobState.SUCCEEDED
    warnings = [
        record for record in caplog.records if record.message == "stream refused" and record.levelname == "WARNING"
    ]
    assert len(warnings) == 1


async def test_streams_in_trouble_pause_no_calls(bench: Bench, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several workflows and no streams to be had: one is tried, the other waits, and reads go on."""
    monkeypatch.setattr(listening, "delay", lambda *_: 60.0)
    streams = Streams(bench)
    streams.answers = [lambda: httpx.Response(503)] * 10
    job = await bench.submit()
    await bench.submit(user="bob", deployment_id=FLUX)
    async with listening_of(bench) as ours:
        await ours.tend()
        await until(lambda: fact(bool(streams.asked)))
        for _ in range(3):
            await ours.tend()
        assert len(streams.asked) == 1
        await api.finish(job.run_id or "")
        await bench.look_at_all()
    assert await bench.closed_for() == 0
    assert (await bench.job(job.id)).state is JobState.SUCCEEDED
    assert await api.calls(READ) == 1


@pytest.mark.usefixtures("quick")
async def test_a_hint_that_cannot_be_noted_is_dropped(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis was away for a moment: the stream stays, and the next event counts."""
    streams = Streams(bench)
    job = await bench.submit()
    nudge, away = bench.engine.store.nudge, [True]

    async def unsteady(job_id: str) -> str:
        if away:
            away.clear()
            raise Unavailable("Redis is away")
        return await nudge(job_id)

    monkeypatch.setattr(bench.engine.store, "nudge", unsteady)
    async with listening_of(bench) as ours:
        await ours.tend()
        await until(lambda: fact(streams.open == 1))
        for _ in range(2):
            streams.say(run_id=job.run_id, status="success")
        await until(lambda: nudged(bench, job))
    assert len(streams.asked) == 1


async def test_a_stream_costs_one_token(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening it is a call of the class `look`; hearing it is free."""
    taken: list[str] = []
    take = bench.engine.bucket.take

    async def noted(class_: str, **more: bool) -> Awaitable[int] | int:
        taken.append(class_)
        return await take(class_, **more)  # type: ignore[arg-type]

    streams = Streams(bench)
    job = await bench.submit()
    monkeypatch.setattr(bench.engine.bucket, "take", noted)
    async with listening_of(bench) as ours:
        await ours.tend()
        await until(lambda: fact(streams.open == 1))
        streams.say(run_id=job.run_id, status="success")
        await until(lambda: nudged(bench, job))
    assert taken == ["look"]
