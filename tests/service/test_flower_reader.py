"""Flower's rows follow our records on a real Redis: at the start, while things move, and when they are gone."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import REGISTRY

from shared.database import Database
from shared.errors import Unavailable
from shared.jobs.event import JobError, Progress, Result
from shared.jobs.lanes import Lanes
from shared.jobs.request import JobRequest
from shared.jobs.states import JobState
from shared.jobs.store import JobStore, Target
from shared.settings import Settings
from workers.monitor import reader as module
from workers.monitor.reader import Reader
from workers.monitor.table import Row, Table


class Desk:
    """Jobs, moved by hand, and what Flower has of them."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.database, self.store, self.lanes = database, JobStore(database), Lanes(database, settings)
        self.settings = settings
        self.open(most=100)

    def open(self, most: int) -> None:
        """An empty table, as after a start."""
        self.table = Table(most)
        self.reader = Reader(self.database, self.table, self.settings.model_copy(update={"flower_history": most}))

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """The reader runs."""
        task = asyncio.create_task(self.reader.run())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def ask(self, user: str = "42", frontend: str = "telegram") -> str:
        """A job in its lane."""
        request = JobRequest.read({"workflow": "SDXL Portrait", "frontend": frontend, "user": {"id": user}})
        job_id, _ = await self.store.create(request, Target(workflow_id="wf"))
        return job_id

    async def bring(self, to: JobState, job_id: str = "") -> str:
        """A job in this state, the usual way."""
        job_id = job_id or await self.ask()
        await self.lanes.dispatch()
        await self.store.move(job_id, JobState.SUBMITTING, worker="w1@host")
        if to is not JobState.SUBMITTING:
            await self.store.move(job_id, JobState.SUBMITTED, run_id=f"run-{job_id}")
        if to in (JobState.RUNNING, JobState.SUCCEEDED):
            await self.store.move(job_id, JobState.RUNNING)
        if to is JobState.SUCCEEDED:
            await self.store.move(job_id, to, result=Result(outputs=[]))
        return job_id

    def row(self, job_id: str) -> Row | None:
        """As Flower has it."""
        return self.table.tasks.data.get(job_id)

    def said(self, job_id: str) -> tuple[str, str]:
        """State and result."""
        row = self.row(job_id)
        return (row.state, str(row.result)) if row else ("", "")

    async def until(self, fact: Callable[[], Any]) -> None:
        """Wait for the reader."""
        end = time.monotonic() + 5
        while not fact():
            assert time.monotonic() < end, {job_id: self.said(job_id) for job_id in self.table.tasks.data}
            await asyncio.sleep(0.01)


@pytest.fixture
def desk(database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Nothing asked for yet; the reader's rhythm is quick."""
    monkeypatch.setattr(module, "BLOCK_MS", 20)
    monkeypatch.setattr(module, "ROUND_SECONDS", 0.05)
    return Desk(database, settings)


async def test_a_job_is_followed_from_its_lane_to_its_end(desk: Desk) -> None:
    """Also of a frontend that nobody has heard of before, and through the moves that have no event."""
    async with desk.following():
        job = await desk.ask(frontend="brand-new")
        await desk.until(lambda: desk.said(job) == ("RECEIVED", "waiting in its lane"))
        await desk.lanes.dispatch()
        await desk.until(lambda: desk.said(job) == ("RECEIVED", "on its way to a worker"))
        await desk.store.move(job, JobState.SUBMITTING, worker="w1@host")
        await desk.until(lambda: desk.said(job) == ("STARTED", "submitting"))
        await desk.store.move(job, JobState.QUEUED)
        await desk.until(lambda: desk.said(job) == ("RETRY", "waiting in its lane, to be submitted again"))
        await desk.bring(JobState.RUNNING, job)
        await desk.until(lambda: desk.said(job)[1].endswith(": running"))
        await desk.store.progress(job, Progress(fraction=0.5, text="KSampler"))
        await desk.until(lambda: desk.said(job)[1].endswith(": 50% KSampler"))
        await desk.store.cancel(job)
        await desk.until(lambda: desk.said(job)[1].startswith("cancelling; run "))
        error = JobError(code="timed_out", message="Too slow.", user_message="Sorry.")
        await desk.store.move(job, JobState.TIMED_OUT, error=error)
        await desk.until(lambda: desk.said(job) == ("FAILURE", "timed_out: Too slow."))
    row = desk.row(job)
    assert row
    assert (row.exception, row.worker.hostname, row.retries) == ("timed_out: Too slow.", "w1@host", 1)
    assert "w1@host" not in desk.table.workers  # nobody has heard of it: it must not be listed


async def test_a_start_finds_every_job(desk: Desk) -> None:
    """Whatever state it is in, with what became of it."""
    jobs = {state: await desk.bring(state) for state in (JobState.SUBMITTING, JobState.RUNNING, JobState.SUCCEEDED)}
    waiting = await desk.ask()
    async with desk.following():
        await desk.until(lambda: len(desk.table.tasks) == 4)
        assert desk.said(waiting)[0] == "RECEIVED"
        assert {state: desk.said(job)[0] for state, job in jobs.items()} == {
            JobState.SUBMITTING: "STARTED",
            JobState.RUNNING: "STARTED",
            JobState.SUCCEEDED: "SUCCESS",
        }
        found = desk.table.search_engine.search(desk.table.tasks, "kwargs:user=42 state:SUCCESS")
        assert found.task_ids == [jobs[JobState.SUCCEEDED]]


async def test_the_newest_are_kept_and_whatever_goes_on(desk: Desk) -> None:
    """At the start and later alike: a job that waits longest of all is worth more than the hundredth that succeeded."""
    desk.open(most=4)
    waiting = await desk.ask("patient")
    ended = [await desk.bring(JobState.SUCCEEDED) for _ in range(5)]
    async with desk.following():
        await desk.until(lambda: set(desk.table.tasks) == {waiting, *ended[2:]})
        ended.append(await desk.bring(JobState.SUCCEEDED))
        await desk.until(lambda: set(desk.table.tasks) == {waiting, *ended[3:]})
        # The page of a single job is read anew, however old.
        await desk.reader.look_closely_at(ended[0])
        assert desk.said(ended[0])[0] == "SUCCESS"


async def test_a_jobs_own_page_tells_its_place(desk: Desk) -> None:
    """How many go first, exactly, at the moment it is looked at; nothing of one that has left its lane."""
    first, second = await desk.ask(), await desk.ask()
    for job, ahead in ((first, 0), (second, 1)):
        await desk.reader.look_closely_at(job)
        assert (row := desk.row(job))
        assert row.jobs_ahead == ahead
    await desk.bring(JobState.RUNNING, first)
    await desk.reader.look_closely_at(first)
    assert (row := desk.row(first))
    assert row.jobs_ahead is None


async def test_what_redis_keeps_no_longer_leaves_the_list(desk: Desk) -> None:
    """Because its time is over, or because somebody's data was erased; nobody tells Flower."""
    kept, gone = await desk.bring(JobState.SUCCEEDED), await desk.bring(JobState.SUCCEEDED)
    async with desk.following():
        await desk.until(lambda: len(desk.table.tasks) == 2)
        await desk.database.redis.delete(desk.database.keys.job(gone))
        await desk.until(lambda: set(desk.table.tasks) == {kept})
    assert set(desk.table.search_engine.documents) == {kept}


async def test_what_was_read_earlier_and_comes_later_is_dropped(desk: Desk) -> None:
    """Two reads of a job may overtake each other, and an end must not be taken back."""
    job = await desk.bring(JobState.SUCCEEDED)
    await desk.reader.look_at([job])
    row = desk.row(job)
    assert row
    desk.table.put(job, {"seq": row.seq - 1, "state": "STARTED", "result": "run 7a2fcaf1: running"})
    assert desk.said(job)[0] == "SUCCESS"


async def test_one_unreadable_record_hides_no_other(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """It is left out and logged."""
    broken, whole = await desk.ask(), await desk.ask()
    await desk.database.redis.hset(desk.database.keys.job(broken), "state", "dancing")
    async with desk.following():
        await desk.until(lambda: desk.row(whole))
    assert desk.row(broken) is None
    assert "no row for a record" in caplog.text


async def test_a_pause_is_told_in_the_rows_it_holds_back(desk: Desk) -> None:
    """And its end, too."""
    job, keys = await desk.ask(), desk.database.keys
    async with desk.following():
        await desk.database.redis.hset(keys.pauses, "frontend:telegram", '{"reason":"out of credit"}')
        await desk.until(lambda: desk.said(job) == ("RECEIVED", "paused: out of credit"))
        await desk.database.redis.delete(keys.pauses)
        await desk.until(lambda: desk.said(job) == ("RECEIVED", "waiting in its lane"))


async def test_an_outage_is_caught_up_with(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows stay while Redis is away; afterwards the records are read again, whatever the streams still have."""
    job = await desk.ask()
    away = asyncio.Event()
    events = desk.reader._events

    async def sometimes() -> set[str]:
        if away.is_set():
            raise Unavailable("Redis is away.")
        return await events()

    monkeypatch.setattr(desk.reader, "_events", sometimes)
    monkeypatch.setattr(module, "delay", lambda *_: 0.01)
    async with desk.following():
        await desk.until(lambda: desk.row(job))
        away.set()
        later = await desk.bring(JobState.SUCCEEDED)
        await desk.database.redis.delete(desk.database.keys.results("telegram"))
        await desk.until(lambda: desk.reader.behind_seconds() > 0.3)
        assert desk.said(job)[0] == "RECEIVED"
        away.clear()
        await desk.until(lambda: desk.said(later)[0] == "SUCCESS" and desk.reader.behind_seconds() < 0.3)


def test_celerys_events_are_counted_and_make_no_rows() -> None:
    """They name workers and add up; a row, or a label of a metric, is not made of what anybody may send."""
    table = Table(10)
    for n in range(3):
        event = {
            "type": "task-succeeded",
            "hostname": "w9@host",
            "uuid": f"job-{n}",
            "name": f"made up {n}",
            "runtime": 1.0,
        }
        table.event({**event, "clock": n, "timestamp": time.time(), "local_received": time.time()})
    assert not table.tasks
    assert table.hinted == {"job-0", "job-1", "job-2"}
    table.event({"type": "task-sent", "hostname": "gen1@elsewhere", "uuid": "job-3"})
    assert table.counter["w9@host"]["task-succeeded"] == 3
    assert "gen1@elsewhere" not in table.counter
    labels = {"worker": "w9@host", "type": "task-succeeded", "task": "tasks.submit"}
    assert REGISTRY.get_sample_value("flower_events_total", labels) == 3
    assert [
        s.labels["task"] for m in REGISTRY.collect() for s in m.samples if s.labels.get("worker") == "w9@host"
    ].count("made up 0") == 0
