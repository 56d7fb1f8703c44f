"""kill -9 at an exact place: a worker process dies there, another finds its job, and one run is paid for.

Four workers die one after the other, each at its own point with a job of its own; then one healthy worker starts. The
leases are the real ones of 15 s, so all four jobs wait for them together.
"""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from producers.handle import JobHandle
from producers.local.processes import Supervised, procfile, wait_for_words
from producers.local.redis_server import RedisServer
from producers.local.stack import Stack
from producers.producer import Producer
from shared.database import Database
from shared.jobs.states import JobState
from shared.settings import Settings
from tasks.adopt import LONGEST_SEARCH_SECONDS, SETTLED_SECONDS
from tasks.fault_points import FaultPoint
from tests.e2e.site import Site, until
from tests.hunt import API_KEY, HUNT, REDIS_PASSWORD
from tests.spans import Sink, connected

pytestmark = pytest.mark.long

#: Promise 4, and what a slow machine may add to it.
PROMISE_SECONDS, SLACK_SECONDS = 20.0, 5.0

SUBMIT, LIST = "POST /run/deployment/queue", "GET /v2/workflow/{workflow_id}/runs"

#: Each job has a workflow of its own: a dead worker's lease on a workflow's looks delays no other job.
WORKFLOWS: dict[FaultPoint, str] = {
    "after_intent": "SDXL Portrait",
    "after_post": "Flux Dev",
    "after_read": "Caption Image",
    "after_final": "Sticker GIF",
}


@dataclass
class Death:
    """What became of one victim and its job."""

    handle: JobHandle
    exit_code: int
    died: float
    ended: float = 0.0


@dataclass
class Aftermath:
    """The site after four deaths and one recovery."""

    site: Site
    deaths: dict[FaultPoint, Death]
    #: Seconds from the death between intent and POST until another worker looked for a run.
    searched_after: float
    #: What the workers told of it as traces.
    sink: Sink


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def aftermath(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Aftermath]:
    """Four workers die, one lives on."""
    folder = tmp_path_factory.mktemp("killed-at")
    async with AsyncExitStack() as exits:
        patch = exits.enter_context(pytest.MonkeyPatch.context())
        redis = await exits.enter_async_context(RedisServer(folder / "redis", password=REDIS_PASSWORD))
        patch.setenv("REDIS_URL", redis.url)
        sink = exits.enter_context(Sink())
        traces = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        patch.delenv("COMFY_DEPLOY_API_KEY", raising=False)
        stack = await exits.enter_async_context(
            Stack(folder, workers=0, speed=50, simulator_key=API_KEY, settings=traces)
        )
        names = Settings.names()
        settings = Settings.from_env({name: text for name, text in stack.env.items() if name in names})
        producer = await exits.enter_async_context(Producer(settings))
        http = httpx.AsyncClient(base_url=stack.simulator_url, timeout=10, trust_env=False)
        site = Site(stack, redis, settings, producer, await exits.enter_async_context(http), sink=sink)
        await site.calm()

        deaths = {point: await dies(site, folder, point, workflow) for point, workflow in WORKFLOWS.items()}
        listed = (await site.stats())["calls"].get(LIST, 0)
        await stack.start_worker("healthy")

        async def searched() -> bool:
            return bool((await site.stats())["calls"].get(LIST, 0) > listed)

        await until(searched, seconds=30, what="somebody looks for the run of the job without one")
        searched_after = time.monotonic() - deaths["after_intent"].died
        await asyncio.gather(*(ends(site, death) for death in deaths.values()))
        yield Aftermath(site, deaths, searched_after, sink)
        HUNT.redis(redis.url)


async def dies(site: Site, folder: Path, point: FaultPoint, workflow: str) -> Death:
    """Start a worker that dies at the point, give it a job, and wait for its death."""
    command = [*procfile()["worker"], "-n", f"{point}@%h"]
    env = {**site.stack.env, "FAULT_POINTS": f"{point}:kill"}
    victim = Supervised(point, command, env, folder / f"{point}.log", restart=False)
    await victim.start()
    try:
        await wait_for_words(victim, "ready.")
        handle = await site.enqueue(workflow)
        assert victim.process is not None
        code = await asyncio.wait_for(victim.process.wait(), 20)
        return Death(handle, code, time.monotonic())
    finally:
        await victim.stop()


async def ends(site: Site, death: Death) -> None:
    """Wait for the job's end and for its Celery row's."""
    await site.final([death.handle], seconds=40)
    death.ended = time.monotonic()
    await site.celery_result(death.handle.id)


@pytest.mark.parametrize("point", WORKFLOWS)
async def test_a_worker_killed_at_a_point_loses_and_doubles_nothing(aftermath: Aftermath, point: FaultPoint) -> None:
    """The worker died of SIGKILL there; its job has one run and one final event, and succeeded."""
    death, site = aftermath.deaths[point], aftermath.site
    assert death.exit_code == -signal.SIGKILL
    (job,) = await site.jobs([death.handle.id])
    assert job.state is JobState.SUCCEEDED
    assert [(run["id"], run["status"]) for run in await site.runs(job.id)] == [(job.run_id, "success")]
    events = (await site.check([death.handle]))[job.id]
    assert [event.type for event in events if event.final] == ["job.succeeded"]
    result = await site.celery_result(job.id)
    assert job.result is not None
    assert result == job.result.model_dump(mode="json")


@pytest.mark.parametrize("point", [point for point in WORKFLOWS if point != "after_intent"])
async def test_its_job_ends_within_the_promise(aftermath: Aftermath, point: FaultPoint) -> None:
    """From the death to the job's end: a lease, and what the other worker needs."""
    death = aftermath.deaths[point]
    assert death.ended - death.died < PROMISE_SECONDS + SLACK_SECONDS


async def test_a_job_without_a_run_is_looked_for_within_the_promise(aftermath: Aftermath) -> None:
    """Killed between intent and POST: another worker looks for the run a lease later, and posts when there is none."""
    assert aftermath.searched_after < PROMISE_SECONDS + SLACK_SECONDS
    death = aftermath.deaths["after_intent"]
    assert death.ended - death.died < SETTLED_SECONDS + LONGEST_SEARCH_SECONDS + SLACK_SECONDS
    (job,) = await aftermath.site.jobs([death.handle.id])
    assert job.attempt == 2
    assert (await aftermath.site.stats())["calls"][SUBMIT] == len(WORKFLOWS)


@pytest.mark.parametrize("point", WORKFLOWS)
async def test_its_trace_is_whole(aftermath: Aftermath, point: FaultPoint) -> None:
    """What the dead worker had not sent yet is missing; all the others told hangs together, the run and the end among it."""
    job_id = aftermath.deaths[point].handle.id

    async def told() -> bool:
        return "publish" in {span.name for span in aftermath.sink.of(job_id)}

    await until(told, what="the end is told")
    spans = aftermath.sink.of(job_id)
    assert connected(spans)
    names = [span.name for span in spans]
    assert {name: names.count(name) for name in ("enqueue", "wait", "run", "publish")} == dict.fromkeys(
        ("enqueue", "wait", "run", "publish"), 1
    )
    assert {span.service for span in spans} == {"conveyor-worker"}
    if point == "after_post":
        # The one that died had the answer and had noted nothing: another found the run.
        assert "GET /v2/workflow/{workflow_id}/runs" in names
        assert names.count("submit") == 1


async def test_nothing_is_left_of_four_dead_workers(aftermath: Aftermath) -> None:
    """No window, no hold, nothing to look at, to close or to check."""
    async with Database.open(aftermath.site.settings.redis_url) as database:
        keys = database.keys

        async def nothing_left() -> bool:
            sets = (keys.window, keys.starting, keys.expiring, keys.due, keys.closing, keys.strays)
            hashes = (keys.window_users, keys.window_pools, keys.looking)
            return not [key for key in (*sets, *hashes) if await database.redis.exists(key)]

        await until(nothing_left, seconds=10, what="every set is empty")
