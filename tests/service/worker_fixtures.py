"""A worker without its process: an `Engine` on the test's own loop, real Redis, the simulator as a real program.

Celery is left out: `bench.published` collects what would have been sent, `bench.rows` what Flower would have been told.
Where a test needs a moment to be over (a hold, a grace, a deadline), it moves the record's own times into the past.
"""

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from producers.local.redis_server import RedisServer
from shared.archive.archive import Archive
from shared.catalog import Catalog
from shared.comfydeploy import ComfyDeploy, Timeouts
from shared.comfydeploy.transport import Transport
from shared.database import Database
from shared.following.due import DueSet
from shared.following.history import History, Outlook
from shared.jobs.event import Event
from shared.jobs.lanes import Lanes
from shared.jobs.record import Job
from shared.jobs.request import REFERENCE_INPUT, JobRequest
from shared.jobs.states import JobState
from shared.jobs.store import JobStore
from shared.limits.bucket import TokenBucket
from shared.settings import Settings
from tasks.engine import Engine
from tasks.look import look
from tasks.schedule import Backoff
from tasks.submit import submit_job

ROOT = Path(__file__).parents[2]
DEADLINE_SECONDS = 10.0

SUBMIT = "POST /run/deployment/queue"
READ = "GET /run/{run_id}"
LIST = "GET /v2/workflow/{workflow_id}/runs"
CANCEL = "POST /run/{run_id}/cancel"

#: Fixtures of the simulator's studio: deployments `d…`, their workflows `b…`.
PORTRAIT, FLUX, WAN, CAPTION, PACK = (f"d0000000-0000-4000-8000-{n:012d}" for n in range(1, 6))
PORTRAIT_WORKFLOW = "b0000000-0000-4000-8000-000000000001"

T = TypeVar("T")


async def until(fact: Callable[[], Awaitable[T]], *, seconds: float = DEADLINE_SECONDS, what: str = "") -> T:
    """Wait until a fact is true and answer it; the deadline says what never came."""
    end = time.monotonic() + seconds
    while not (found := await fact()):
        assert time.monotonic() < end, f"never: {what or fact}"
        await asyncio.sleep(0.01)
    return found


class Api:
    """The simulator, as the test steers and reads it. Steering is not counted, except `update`, the GPU worker's own."""

    def __init__(self, url: str, http: httpx.AsyncClient) -> None:
        self.url = url
        self._http = http
        self._before: dict[str, int] = {}

    async def configure(self, **patch: Any) -> None:
        """Change its settings: faults, durations, speed."""
        answer = await self._http.post("/_sim/config", json=patch)
        assert answer.status_code == 200, answer.text

    async def fault(self, kind: str, route: str | None = None, **more: Any) -> None:
        """Have exactly this go wrong from now on."""
        await self.configure(faults=[{"kind": kind, "route": route, **more}])

    async def reset(self) -> None:
        """Forget runs and counters."""
        assert (await self._http.post("/_sim/reset")).status_code == 200
        self._before = {}

    async def reset_counts(self) -> None:
        """Count calls from here on; runs stay."""
        self._before = (await self.stats())["calls"]

    async def stats(self, **query: Any) -> dict[str, Any]:
        """What clients did."""
        return dict((await self._http.get("/_sim/stats", params=query)).json())

    async def calls(self, route: str | None = None) -> int:
        """How often a route, or the API, was called; what GPU workers report does not count."""
        calls = (await self.stats())["calls"]
        since = {name: count - self._before.get(name, 0) for name, count in calls.items()}
        since.pop("POST /update-run", None)
        return sum(since.values()) if route is None else since.get(route, 0)

    async def runs(self, job_id: str | None = None) -> list[dict[str, Any]]:
        """Every run there is, or every run made for a job, in order of creation."""
        runs = (await self._http.get("/_sim/runs")).json()
        return [run for run in runs if job_id is None or run["_job_id"] == job_id]

    async def update(self, run_id: str, **report: Any) -> None:
        """Report as the GPU worker of a run: `status`, `progress`, `live_status`, `output_data`."""
        answer = await self._http.post("/api/update-run", json={"run_id": run_id, **report})
        assert answer.status_code == 200, answer.text

    async def finish(self, run_id: str, *, status: str = "success") -> None:
        """Let a run end, with a text as its output when it ends well."""
        if status == "success":
            await self.output(run_id, {"text": ["a caption"]})
        await self.update(run_id, status=status)

    async def output(self, run_id: str, data: dict[str, Any], node: str = "9") -> None:
        """Add an output to a run."""
        await self.update(run_id, output_data=data, node_meta={"node_id": node})

    async def make_run(self, job_id: str | None = None, deployment_id: str = PORTRAIT) -> str:
        """Make a run behind everybody's back; it counts as a call."""
        inputs = {} if job_id is None else {REFERENCE_INPUT: job_id}
        answer = await self._http.post(
            "/api/run/deployment/queue", json={"deployment_id": deployment_id, "inputs": inputs}
        )
        return str(answer.json()["run_id"])


class Recorder:
    """Stands for the publisher: notes what would have been sent to the broker."""

    def __init__(self) -> None:
        self.job_ids: list[str] = []

    async def publish(self, job_ids: list[str]) -> None:
        self.job_ids += job_ids

    def close(self) -> None:
        pass

    def take(self) -> list[str]:
        """What was published since the last time."""
        taken, self.job_ids = self.job_ids, []
        return taken


class RowRecorder:
    """Stands for Flower's rows."""

    def __init__(self) -> None:
        self.closed: list[str] = []
        self.shown: list[str] = []
        #: What the next closings raise.
        self.errors: list[Exception] = []

    def close_row(self, job: Job) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.closed.append(job.id)

    def show_progress(self, job: Job, text: str) -> None:
        self.shown.append(text)

    def close(self) -> None:
        pass


class AtOnce(Backoff):
    """A schedule that finds every run worth a look at once."""

    def first_look(self, job: Job, outlook: Outlook | None = None, call_price: float = 0.0) -> float:
        return 0.0

    def next_look(self, job: Job) -> float:
        return 0.0


@dataclass
class Wire:
    """The engine's way to the API: passes on to the real transport, unless a test puts something in between."""

    real: httpx.AsyncBaseTransport = field(default_factory=Transport)
    #: Called before each request; an answer it gives is the API's answer, what it raises is the network's.
    before: Callable[[httpx.Request], Awaitable[httpx.Response | None]] | None = None
    requests: list[str] = field(default_factory=list)

    async def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(f"{request.method} {request.url.path}")
        if self.before is not None and (answer := await self.before(request)) is not None:
            return answer
        return await self.real.handle_async_request(request)


class _WireTransport(httpx.AsyncBaseTransport):
    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._wire.handle(request)

    async def aclose(self) -> None:
        await self._wire.real.aclose()


class Bench:
    """One worker's engine, and short ways to put jobs before it. `Bench.another` gives a second worker on the same Redis."""

    def __init__(
        self, api: Api, database: Database, redis_url: str, *, api_key: str = "sim-key", api_url: str = "", **more: Any
    ) -> None:
        names = {"COMFY_DEPLOY_API_KEY": api_key, "COMFY_DEPLOY_API_URL": api_url or f"{api.url}/api"}
        limits = {"CONVEYOR_RATE_PER_SECOND": "1000", "CONVEYOR_RATE_BURST": "1000"}
        settings = Settings.from_env({**names, "REDIS_URL": redis_url, **limits, **more})
        self.api, self.database, self.settings = api, database, settings
        self.wire = Wire()
        self.published, self.rows = Recorder(), RowRecorder()
        self._opened: list[Bench] = []
        client = ComfyDeploy(
            settings.api_url,
            settings.require_api_key(),
            transport=_WireTransport(self.wire),
            timeouts=Timeouts(submit_seconds=2.0, read_seconds=2.0, connect_seconds=1.0),
        )
        bucket = TokenBucket(database, settings)
        name = f"test@host#{id(self):x}"
        self.engine = Engine(
            hostname=name,
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
            archive=Archive.open(settings.archive) if settings.archive else None,
            publisher=self.published,  # type: ignore[arg-type]
            rows=self.rows,  # type: ignore[arg-type]
            schedule=AtOnce(),
        )

    def another(self, **more: Any) -> "Bench":
        """Another worker on the same Redis, with other settings when given; closed with this one."""
        bench = Bench(self.api, self.database, self.settings.redis_url, **more)
        self._opened.append(bench)
        return bench

    async def aclose(self) -> None:
        for bench in (*self._opened, self):
            await bench.engine.client.aclose()

    # -- jobs ---------------------------------------------------------------------------------------------------

    async def enqueue(self, user: str = "ada", deployment_id: str = PORTRAIT, **parts: Any) -> str:
        """Put a job into its lane, as a producer does."""
        request = JobRequest.read(
            {"deployment_id": deployment_id, "frontend": "web", "user": {"id": user}, "inputs": {"prompt": "a fox"}}
            | parts
        )
        job_id, _ = await self.engine.store.create(request, await self.engine.catalog.resolve(request))
        return job_id

    async def dispatch(self) -> list[str]:
        """Let out of the lanes what may go; what a worker would now get messages for."""
        await self.engine.dispatch()
        return self.published.take()

    async def submit(self, **parts: Any) -> Job:
        """Enqueue, dispatch and submit one job."""
        job_id = await self.enqueue(**parts)
        assert job_id in await self.dispatch()
        await submit_job(self.engine, job_id)
        return await self.job(job_id)

    async def submit_all(self, count: int, **parts: Any) -> list[Job]:
        """Submit several jobs of as many users."""
        return [await self.submit(user=f"u{n}", **parts) for n in range(count)]

    async def again(self, job_id: str) -> Job:
        """What rescue does: the hold is over, another message comes."""
        await self.end_hold(job_id)
        await submit_job(self.engine, job_id)
        return await self.job(job_id)

    async def settled(self, job_id: str) -> Job:
        """Rescue until the job is no longer undecided: a search may itself meet a connection the API has just cut."""

        async def decided() -> Job | None:
            await self.open_bucket()
            job = await self.again(job_id)
            return None if job.state is JobState.SUBMITTING else job

        job = await until(decided, what="the submit is decided")
        assert job is not None
        return job

    async def end_hold(self, job_id: str) -> None:
        """The holder has been silent long enough."""
        keys = self.database.keys
        await self.database.redis.hdel(keys.job(job_id), "holder")
        await self.database.redis.zadd(keys.starting, {job_id: 0}, xx=True)

    async def look(self, workflow_id: str = PORTRAIT_WORKFLOW) -> None:
        """Look at a workflow as a tick does, with a claim."""
        await self.engine.due.claim(100)
        await look(self.engine, workflow_id)

    async def look_at_all(self, workflow_id: str = PORTRAIT_WORKFLOW) -> None:
        """Look again now, whatever was put off."""
        inflight = self.database.keys.inflight(workflow_id)
        await self.database.redis.hdel(self.database.keys.together, workflow_id)
        for member in await self.database.redis.zrange(inflight, 0, -1):
            await self.database.redis.zadd(inflight, {member: 0})
        await self.look(workflow_id)

    async def job(self, job_id: str) -> Job:
        return await self.engine.store.get(job_id)

    async def kept(self, job_id: str) -> list[str]:
        """The kinds of what the archive has of a job."""
        assert self.engine.archive
        found = await self.engine.archive.find(job_id)
        return [str(one.output.kind) for one in found.outputs] if found else []

    async def past(self, job_id: str, seconds: float, *names: str) -> None:
        """Move times of a job into the past."""
        at = await self.database.now_ms() - round(seconds * 1000)
        await self.engine.store.stamp(job_id, **dict.fromkeys(names, str(at)))

    async def events(self, job_id: str, frontend: str = "web") -> list[Event]:
        """Every event of a job, in stream order; their numbers have no gaps and only the last may be final."""
        entries = await self.database.redis.xrange(self.database.keys.results(frontend))
        events = [Event.model_validate_json(entry["data"]) for _, entry in entries if entry["job_id"] == job_id]
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert not any(event.final for event in events[:-1])
        return events

    async def told(self, job_id: str) -> list[str]:
        """The types of a job's events without their `job.`"""
        return [event.type.removeprefix("job.") for event in await self.events(job_id)]

    async def in_lane(self, user: str = "ada") -> list[str]:
        """The waiting jobs of a user, all pools together."""
        keys = [key async for key in self.database.redis.scan_iter(match=self.database.keys.lane("*", f"web:{user}"))]
        return [job for key in keys for job in await self.database.redis.zrange(key, 0, -1)]

    async def in_flight(self, workflow_id: str = PORTRAIT_WORKFLOW) -> set[str]:
        """The jobs of a workflow whose runs are followed."""
        runs = (await self.engine.due.in_flight(workflow_id)).runs
        return {run.job_id for run in runs}

    async def closed_for(self) -> float:
        """Seconds for which nobody may call the API."""
        until_ = float((await self.engine.bucket.state()).get("closed_until", 0))
        return max(0.0, until_ - await self.database.now_ms() / 1000)

    async def open_bucket(self) -> None:
        """End the pause the API asked for."""
        key = self.database.keys.budget(self.settings.account)
        await self.database.redis.hset(key, mapping={"closed_until": "0", "factor": "1"})


# --------------------------------------------------------------------------- fixtures


@contextmanager
def simulated(*, speed: float) -> Iterator[str]:
    """The URL of a simulator as a program of its own."""
    program = subprocess.Popen(
        [sys.executable, "-u", "-m", "simulator", "--port", "0", "--speed", str(speed)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert program.stdout is not None
    try:
        line = program.stdout.readline()
        found = re.search(r"http://[\d.]+:\d+", line)
        assert found, f"the simulator said: {line!r}"
        yield found[0]
    finally:
        program.terminate()
        program.wait(10)
        program.stdout.close()


@pytest.fixture(scope="session")
def simulator() -> Iterator[str]:
    """The URL of one simulator program for all tests of this process."""
    with simulated(speed=50) as url:
        yield url


@pytest.fixture
async def api(simulator: str) -> AsyncIterator[Api]:
    """The simulator on a calm day, empty; its GPU workers do nothing until `autopilot` is switched on."""
    # A closed connection answers at once; on a kept one the kernel holds back the second half of an answer for 40 ms.
    headers = {"Authorization": "Bearer sim-key", "Connection": "close"}
    async with httpx.AsyncClient(base_url=simulator, headers=headers, timeout=10, trust_env=False) as http:
        api = Api(simulator, http)
        await api.configure(scenario="calm", autopilot=False)
        await api.reset()
        yield api


@pytest.fixture(scope="session")
def known_catalog() -> dict[str, str]:
    """The catalog as the first test read it, by key: reading it costs ten calls, and every test has an empty Redis."""
    return {}


@pytest.fixture
async def bench(
    api: Api, database: Database, redis_server: RedisServer, known_catalog: dict[str, str]
) -> AsyncIterator[Bench]:
    """A worker's engine with a warm catalog; every call so far is forgotten."""
    bench = Bench(api, database, redis_server.url)
    if not known_catalog:
        await bench.engine.catalog.refresh()
        for key in (database.keys.catalog, database.keys.catalog_machines):
            known_catalog[key.removeprefix(database.keys.prefix)] = str(await database.redis.get(key))
        await api.reset()
    for key, text in known_catalog.items():
        # As if it had just been read: nobody shall renew it in the middle of a test.
        fresh = json.loads(text) | {"read_at": time.time()}
        await database.redis.set(f"{database.keys.prefix}{key}", json.dumps(fresh))
    yield bench
    await bench.aclose()
