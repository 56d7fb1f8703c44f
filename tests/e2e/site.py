"""What a test of the running whole needs: ways to put jobs in, to wait for facts, and to check the promises."""

import asyncio
import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import httpx

from producers.handle import JobHandle
from producers.local.processes import Supervised
from producers.local.redis_server import RedisServer
from producers.local.stack import Stack
from producers.producer import Producer
from shared.broker import make_app
from shared.comfydeploy import ComfyDeploy
from shared.database import Database
from shared.jobs.event import Event
from shared.jobs.record import Job
from shared.jobs.store import JobStore
from shared.settings import Settings
from tests.hunt import PRIVATE
from tests.spans import Sink

RATE, BURST = 20.0, 20
FRONTENDS = ("telegram", "discord", "web")
#: Workflows that have nothing to use instead; the simulator does not fetch what is given.
NEEDED: dict[str, dict[str, Any]] = {
    "Caption Image": {"image": "https://pictures.example/fox.png"},
    "LoRA Training": {"images": ["https://pictures.example/fox.png"]},
}

T = TypeVar("T")


async def until(fact: Callable[[], Awaitable[T]], *, seconds: float = 20.0, what: str = "") -> T:
    """Wait until a fact is true and answer it; the deadline says what never came."""
    end = time.monotonic() + seconds
    while not (found := await fact()):
        assert time.monotonic() < end, f"never: {what or fact}"
        await asyncio.sleep(0.05)
    return found


class Flower:
    """Flower's HTTP API, and its process, which is started again whenever it ends."""

    def __init__(self, http: httpx.AsyncClient, program: Supervised) -> None:
        self.http, self.program = http, program

    async def workers(self) -> set[str]:
        """The nodes Flower lists."""
        try:
            answer = await self.http.get("/workers", params={"json": "1"})
        except httpx.TransportError:
            return set()
        return {row["hostname"] for row in answer.json()["data"]} if answer.status_code == 200 else set()

    async def sees_workers(self) -> bool:
        """Flower is up and has heard of the two workers."""
        return len(await self.workers()) >= 2

    async def rows(self) -> dict[str, dict[str, Any]]:
        """Every row by its task id."""
        answer = await self.http.get("/api/tasks", params={"limit": 10_000})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def forgot(self) -> bool:
        """It does not answer, or knows no job (any more)."""
        try:
            return not await self.rows()
        except httpx.TransportError:
            return True

    async def has(self, ids: set[str]) -> dict[str, dict[str, Any]]:
        """The rows of these jobs; none unless it has all of them."""
        try:
            rows = await self.rows()
        except httpx.TransportError:
            return {}
        return {job_id: rows[job_id] for job_id in ids} if ids <= set(rows) else {}


class Site:
    """The running Conveyor."""

    def __init__(
        self,
        stack: Stack,
        redis: RedisServer,
        settings: Settings,
        producer: Producer,
        http: httpx.AsyncClient,
        *,
        sink: Sink,
    ) -> None:
        self.stack, self.redis, self.settings, self.producer = stack, redis, settings, producer
        self.http = http
        #: What the processes tell as traces.
        self.sink = sink
        self.app = make_app(settings)
        self._names = 2

    # -- the simulator ------------------------------------------------------------------------------------------

    async def configure(self, **patch: Any) -> None:
        """Change the simulator's settings."""
        answer = await self.http.post("/_sim/config", json=patch)
        assert answer.status_code == 200, answer.text

    async def stats(self, **query: Any) -> dict[str, Any]:
        """What the API saw."""
        return dict((await self.http.get("/_sim/stats", params=query)).json())

    async def runs(self, job_id: str | None = None) -> list[dict[str, Any]]:
        """Runs by the job that made them."""
        return [run for run in (await self.http.get("/_sim/runs")).json() if job_id in (None, run["_job_id"])]

    async def calm(self) -> None:
        """Nothing goes wrong any more."""
        await self.configure(scenario="calm", durations={"video": {"median": 20}, "training": {"median": 20}})

    # -- workers ------------------------------------------------------------------------------------------------

    @property
    def workers(self) -> list[Supervised]:
        """The workers that run."""
        return [program for program in self.stack.processes if program.name.startswith("w") and program.running]

    async def start_worker(self) -> Supervised:
        """One more worker."""
        self._names += 1
        return await self.stack.start_worker(f"w{self._names}")

    async def settle(self) -> None:
        """Two workers, nothing in flight, a calm and empty simulator."""
        await self.calm()
        missing = 2 - len(self.workers)
        await asyncio.gather(*(self.start_worker() for _ in range(missing)))
        async with Database.open(self.settings.redis_url) as database:
            await until(lambda: self._idle(database), what="nothing is in flight")
        assert (await self.http.post("/_sim/reset")).status_code == 200

    async def _idle(self, database: Database) -> bool:
        return not await database.redis.zcard(database.keys.window)

    # -- jobs ---------------------------------------------------------------------------------------------------

    async def enqueue(self, workflow: str = "SDXL Portrait", *, n: int = 0, **parts: Any) -> JobHandle:
        """One job; `n` spreads jobs over frontends and users."""
        request = {
            "workflow": workflow,
            "frontend": FRONTENDS[n % 3],
            "user": {"id": f"u{n % 7}"},
            "meta": {"session_token": PRIVATE},
        }
        return await self.producer.enqueue(request | {"inputs": NEEDED.get(workflow, {})} | parts)

    async def jobs(self, ids: Iterable[str]) -> list[Job]:
        """The records as they are now."""
        async with Database.open(self.settings.redis_url) as database:
            return await JobStore(database).find(ids)

    async def final(self, handles: Iterable[JobHandle], *, seconds: float = 40.0) -> list[Job]:
        """Wait until every job has ended."""
        ids = [handle.id for handle in handles]

        async with Database.open(self.settings.redis_url) as database:
            store = JobStore(database)

            async def all_final() -> list[Job]:
                found = await store.find(ids)
                assert len(found) == len(ids)
                return found if all(job.final for job in found) else []

            try:
                return await until(all_final, seconds=seconds, what="every job ends")
            except AssertionError:
                open_ = [(job.id, job.state.value, job.attempt) for job in await store.find(ids) if not job.final]
                raise AssertionError(f"did not end: {open_}") from None

    async def events(self, ids: Iterable[str]) -> dict[str, list[Event]]:
        """Every event of these jobs, in stream order."""
        found: dict[str, list[Event]] = {job_id: [] for job_id in ids}
        async with Database.open(self.settings.redis_url) as database:
            for frontend in FRONTENDS:
                for _, entry in await database.redis.xrange(database.keys.results(frontend)):
                    if entry["job_id"] in found:
                        found[entry["job_id"]].append(Event.model_validate_json(entry["data"]))
        return found

    async def check(self, handles: Iterable[JobHandle], *, runs: int | None = None) -> dict[str, list[Event]]:
        """The promises: one final event for each job, numbers without gaps, at most one run for each."""
        told = await self.events(handle.id for handle in handles)
        for job_id, events in told.items():
            assert [event.seq for event in events] == list(range(1, len(events) + 1)), job_id
            assert [event.final for event in events] == [False] * (len(events) - 1) + [True], job_id
        stats = await self.stats()
        assert stats["double_submits"] == {}
        if runs is not None:
            assert stats["runs_total"] == runs
        return told

    async def check_rate(self) -> None:
        """In no window of one or ten seconds the API saw more than the budget."""
        times = sorted(at for at, _ in (await self.stats(calls=True))["call_log"])
        for length in (1.0, 10.0):
            for first, at in enumerate(times):
                count = bisect_right(times, at + length) - first
                assert count <= BURST + RATE * length + 1, f"{count} calls in {length} s"

    def client(self) -> ComfyDeploy:
        """A client of the simulator."""
        return ComfyDeploy(self.settings.api_url, self.settings.require_api_key())

    async def limit_rate(self, per_second: float | None) -> None:
        """Set the budget's rate, as an operator would; None takes that back."""
        async with Database.open(self.settings.redis_url) as database:
            key = database.keys.budget(self.settings.account)
            if per_second is None:
                await database.redis.hdel(key, "rate")
            else:
                await database.redis.hset(key, mapping={"rate": str(per_second), "tokens": "0"})

    async def celery_result(self, job_id: str) -> Any:
        """`AsyncResult(job_id).get()`, as any Celery program would ask."""
        return await asyncio.to_thread(self.app.AsyncResult(job_id).get, timeout=10, interval=0.05)
