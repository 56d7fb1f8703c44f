"""What does a worker process hold while it works? One event loop, and on it one of each thing that talks.

A Celery task is synchronous; it hands its coroutine to the loop and waits (`Process.run`). Everything that does I/O lives
on that loop, so nothing is written twice and one process follows thousands of runs.
"""

import asyncio
import threading
import uuid
from collections.abc import Awaitable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from celery import Celery

from shared import tracing
from shared.archive.archive import Archive
from shared.broker import Publisher
from shared.catalog import Catalog
from shared.comfydeploy import ComfyDeploy
from shared.database import Database
from shared.errors import Stopping
from shared.following.due import DueSet
from shared.following.history import History
from shared.jobs.lanes import Lanes
from shared.jobs.record import Followed
from shared.jobs.store import JobStore
from shared.limits.bucket import TokenBucket
from shared.metrics import observe_call
from shared.settings import Settings
from tasks.closing import Rows
from tasks.fault_points import reach
from tasks.schedule import Learned, Schedule

T = TypeVar("T")

#: A stopping worker finishes or hands back within 10 s; what is left of that after the drain closes connections.
DRAIN_SECONDS = 8.0


def _observe(route: str, status: int | None, seconds: float) -> None:
    observe_call(route, status, seconds)
    tracing.called(route, status, seconds)


@dataclass
class Engine:
    """Everything a task or a look works with."""

    #: The Celery node name, as Flower shows it.
    hostname: str
    #: Who holds our leases; unique, no blanks.
    name: str
    settings: Settings
    database: Database
    client: ComfyDeploy
    bucket: TokenBucket
    catalog: Catalog
    store: JobStore
    lanes: Lanes
    due: DueSet
    publisher: Publisher
    rows: Rows
    history: History
    #: Where outputs are copied to; None for nowhere.
    archive: Archive | None = None
    schedule: Schedule = field(default_factory=Learned)
    #: Workflow -> when (monotonic seconds) its listing may be asked for again; the API refused it.
    unlistable: dict[str, float] = field(default_factory=dict)
    #: Workflow -> when (monotonic seconds) it may be asked again why its runs fail; the answer did not help.
    unexplained: dict[str, float] = field(default_factory=dict)
    #: Workflow -> run -> why it failed, of the newest answer.
    reasons: dict[str, dict[str, str | None]] = field(default_factory=dict)
    #: Workflow -> job id -> (when it was read, what is known of it), of the runs of crowded workflows.
    followed: dict[str, dict[str, tuple[float, Followed]]] = field(default_factory=dict)
    #: Set when the process was told to stop: whoever waits for a token gives its job back.
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def open(cls, settings: Settings, app: Celery, hostname: str) -> Self:
        """Prepare everything; nothing connects yet. Raises `MissingSetting` when a worker could not work."""
        client = ComfyDeploy(settings.api_url, settings.require_api_key(), observe=_observe)
        if settings.public_url:
            settings.require_secret()
        database = Database.open(settings.redis_url)
        # Nodes may share a name (two containers of one image); the owner of a lease must not.
        name = f"{hostname}#{uuid.uuid4().hex[:6]}"
        bucket = TokenBucket(database, settings)
        return cls(
            hostname=hostname,
            name=name,
            settings=settings,
            database=database,
            client=client,
            bucket=bucket,
            catalog=Catalog(database, settings, bucket, client),
            store=JobStore(database, keep_seconds=settings.job_keep_seconds, archives=bool(settings.archive)),
            lanes=Lanes(database, settings),
            due=DueSet(database, owner=name),
            history=History(database),
            publisher=Publisher(app, database),
            rows=Rows(app, hostname),
            archive=Archive.open(settings.archive) if settings.archive else None,
        )

    async def dispatch(self) -> None:
        """Take what may go out of the lanes and publish its submit tasks. 1 round trip when nothing may go."""
        taken = await self.lanes.dispatch()
        for job_id in taken:
            await reach("after_dispatch", job_id)
        await self.publisher.publish(taken)

    async def unless_stopping(self, waiting: Awaitable[T]) -> T:
        """Wait for something, but not when the process stops: then raises `Stopping`, and the wait is cancelled."""
        work = asyncio.ensure_future(waiting)
        stop = asyncio.create_task(self.stopping.wait())
        try:
            await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            raise Stopping("This worker is stopping.")
        finally:
            stop.cancel()
            if not work.done():
                work.cancel()

    async def aclose(self) -> None:
        """Close every connection."""
        await asyncio.to_thread(self.publisher.close)
        await asyncio.to_thread(self.rows.close)
        await self.catalog.aclose()
        await self.client.aclose()
        await self.database.aclose()


class Process:
    """The event loop of this worker process, in a thread of its own. Starting and stopping twice is fine."""

    def __init__(self) -> None:
        self.engine: Engine | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._running: set[Future[Any]] = set()

    def start(self, settings: Settings, app: Celery, hostname: str) -> Engine:
        """Start the loop and open the engine on it."""
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name="conveyor-loop", daemon=True)
        self._thread.start()

        async def open_engine() -> Engine:
            return Engine.open(settings, app, hostname)

        self.engine = asyncio.run_coroutine_threadsafe(open_engine(), loop).result()
        return self.engine

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
        """Start a coroutine on the loop, from any thread."""
        if self._loop is None:
            coroutine.close()
            raise Stopping("This worker has no event loop (any more).")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        return future

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Carry a coroutine out on the loop and wait for it; what a Celery task does."""
        return self.spawn(coroutine).result()

    def tell_to_stop(self) -> None:
        """Whoever only waits stops waiting, from any thread."""
        if self._loop is not None and self.engine is not None:
            self._loop.call_soon_threadsafe(self.engine.stopping.set)

    def stop(self) -> None:
        """Let what runs finish for a while, then cancel it: rescue elsewhere finds a half-made submit."""
        loop, self._loop = self._loop, None
        if loop is None or self._thread is None:
            return
        engine = self.engine

        async def drain() -> None:
            if engine is not None:
                engine.stopping.set()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            if others:
                _, late = await asyncio.wait(others, timeout=DRAIN_SECONDS)
                for task in late:
                    task.cancel()
                await asyncio.gather(*late, return_exceptions=True)
            if engine is not None:
                await engine.aclose()

        asyncio.run_coroutine_threadsafe(drain(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()
        loop.close()
        self.engine = None


#: One for each worker process; started by `workers/start.py`, empty everywhere else.
process = Process()
