"""The doctor on a running installation: nothing to say when all is well, and each fault found by its line.

Real processes: two workers, the gateway, the simulator, a Redis of their own. Faults are planted from outside, one at a time.
"""

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import SimpleNamespace

import httpx
import pytest
import pytest_asyncio
from redis.asyncio import Redis
from typer.testing import CliRunner

from producers.cli.app import app
from producers.cli.doctor import server
from producers.local.processes import Supervised, procfile
from producers.local.redis_server import free_port
from shared.broker import QUEUE
from shared.database import Database
from shared.jobs.states import JobState
from shared.jobs.store import JobStore
from tests.e2e.site import Site, until

JOB_ID = "01a1fb4b-efc2-79a1-94b1-f3ed4809d12e"


class Ward:
    """The installation, and what the doctor is told of it."""

    def __init__(self, site: Site, env: dict[str, str], redis: Redis, worker: str) -> None:
        self.site, self.redis = site, redis
        #: The doctor's environment.
        self.env = env
        #: The node name of one worker, as Celery has it.
        self.worker = worker

    async def examine(self) -> tuple[int, list[dict[str, str]]]:
        """The exit code, and the lines that are not ok."""
        result = await asyncio.to_thread(CliRunner().invoke, app, ["doctor", "--json"], env=dict(self.env))
        assert not result.stderr, result.stderr
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        return result.exit_code, [line for line in lines if line["verdict"] != "ok"]

    async def conveyor(self, *words: str) -> None:
        """Another command of an operator."""
        result = await asyncio.to_thread(CliRunner().invoke, app, list(words), env=dict(self.env))
        assert result.exit_code == 0, result.output


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway(running: Site) -> AsyncIterator[dict[str, str]]:
    """A gateway as the Procfile starts it; answers the environment in which it is the public address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    env = running.stack.env | {"PORT": str(port), "CONVEYOR_PUBLIC_URL": url, "CONVEYOR_SECRET": "s3cret"}
    program = Supervised("gateway", procfile()["gateway"], env, running.stack.folder / "doctor-gateway.log")
    await program.start()

    async def up() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            async with httpx.AsyncClient(trust_env=False) as http:
                return (await http.get(f"{url}/healthz")).status_code == 200
        return False

    await until(up, what="the gateway is up")
    yield env
    await program.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def ward(site: Site, gateway: dict[str, str]) -> AsyncIterator[Ward]:
    """An installation in which all is well: two workers, a catalog, nothing left of other tests."""
    async with Redis.from_url(site.settings.redis_url, decode_responses=True) as redis:
        dead = [f"conveyor:results:{name}:dead" for name in await redis.smembers("conveyor:frontends")]
        signs = [str(key) async for key in redis.scan_iter("conveyor:worker:*")]
        up = {worker.name for worker in site.workers}
        here, ended = [], []
        for sign in sorted(signs):
            (here if sign.removeprefix("conveyor:worker:").split("@")[0] in up else ended).append(sign)
        await redis.delete("conveyor:rejected", *dead, *ended)
        yield Ward(site, dict(gateway), redis, here[0].removeprefix("conveyor:worker:"))


def environment(**env: str) -> Callable[[Ward], AbstractAsyncContextManager[None]]:
    """A setting is wrong."""

    @asynccontextmanager
    async def plant(ward: Ward) -> AsyncIterator[None]:
        ward.env |= env
        yield

    return plant


def configured(name: str, value: str) -> Callable[[Ward], AbstractAsyncContextManager[None]]:
    """Redis is set up wrongly."""

    @asynccontextmanager
    async def plant(ward: Ward) -> AsyncIterator[None]:
        before = (await ward.redis.config_get(name))[name]
        await ward.redis.config_set(name, value)
        try:
            yield
        finally:
            await ward.redis.config_set(name, before)

    return plant


@asynccontextmanager
async def no_worker(ward: Ward) -> AsyncIterator[None]:
    """A Redis database that nobody works on."""
    ward.env["REDIS_URL"] = ward.env["REDIS_URL"].rsplit("/", 1)[0] + "/9"
    yield


@asynccontextmanager
async def deaf_worker(ward: Ward) -> AsyncIterator[None]:
    """Somebody has cancelled its consumer."""
    control = ward.site.app.control

    def queues() -> list[dict[str, object]] | None:
        told: dict[str, list[dict[str, object]]] = (
            control.inspect(destination=[ward.worker], timeout=2, limit=1).active_queues() or {}
        )
        return told.get(ward.worker)

    async def consumes(*, wanted: bool) -> None:
        # A worker answers before it has done what it was told, and a busy one may miss it.
        async def done() -> bool:
            act = control.add_consumer if wanted else control.cancel_consumer
            await asyncio.to_thread(act, QUEUE, destination=[ward.worker], reply=True, timeout=2, limit=1)
            found = await asyncio.to_thread(queues)
            return found is not None and bool(found) == wanted

        await until(done, what="its consumer is as it was told")

    await consumes(wanted=False)
    try:
        yield
    finally:
        await consumes(wanted=True)


@asynccontextmanager
async def hung_worker(ward: Ward) -> AsyncIterator[None]:
    """It stands still."""
    program = next(one for one in ward.site.workers if one.name == ward.worker.split("@")[0])
    program.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        program.signal(signal.SIGCONT)


@asynccontextmanager
async def drained_worker(ward: Ward) -> AsyncIterator[None]:
    """An operator has drained it, and forgotten it."""
    await ward.conveyor("drain", ward.worker, "--reason", "a look inside")
    try:
        yield
    finally:
        await ward.conveyor("drain", ward.worker, "--undo")


@asynccontextmanager
async def stale_catalog(ward: Ward) -> AsyncIterator[None]:
    """Nobody has refreshed it; who would, believes that another does."""
    before = json.loads(await ward.redis.get("conveyor:catalog"))
    held = {"owner": "somebody", "held_until": f"{(time.time() + 60) * 1000:.0f}"}
    await ward.redis.hset("conveyor:refresh:catalog", mapping=held)
    await ward.redis.set("conveyor:catalog", json.dumps(before | {"read_at": time.time() - 900}))
    try:
        yield
    finally:
        await ward.redis.set("conveyor:catalog", json.dumps(before))
        await ward.redis.delete("conveyor:refresh:catalog")


@asynccontextmanager
async def lagging_group(ward: Ward) -> AsyncIterator[None]:
    """A frontend whose group reads nothing for ten minutes."""
    await ward.redis.sadd("conveyor:frontends", "lagging")
    at = f"{(time.time() - 600) * 1000:.0f}-0"
    await ward.redis.xadd("conveyor:results:lagging", {"type": "job.queued", "job_id": JOB_ID}, id=at)
    await ward.redis.xgroup_create("conveyor:results:lagging", "bot", id="0")
    try:
        yield
    finally:
        await ward.redis.delete("conveyor:results:lagging")
        await ward.redis.srem("conveyor:frontends", "lagging")


@asynccontextmanager
async def dead_letter(ward: Ward) -> AsyncIterator[None]:
    """An event nobody could deliver."""
    await ward.redis.sadd("conveyor:frontends", "web")
    await ward.redis.xadd("conveyor:results:web:dead", {"reason": "too large", "job_id": JOB_ID})
    try:
        yield
    finally:
        await ward.redis.delete("conveyor:results:web:dead")


@asynccontextmanager
async def stuck_job(ward: Ward) -> AsyncIterator[None]:
    """A job whose submit nobody takes up any more."""
    await ward.conveyor("pause", "--reason", "to set the stage")
    handle = await ward.site.enqueue()
    async with Database.open(ward.site.settings.redis_url) as database:
        store = JobStore(database)
        await ward.redis.zadd("conveyor:window", {handle.id: 1})
        assert await store.move(handle.id, JobState.SUBMITTING)
        await store.stamp(handle.id, submitting_at=str(int((time.time() - 3600) * 1000)))
        await ward.redis.zrem("conveyor:starting", handle.id)
        await ward.conveyor("resume")
        try:
            yield
        finally:
            await ward.conveyor("fail", handle.id, "--reason", "the test is over")
            await ward.redis.delete("conveyor:strays")


@asynccontextmanager
async def paused(ward: Ward) -> AsyncIterator[None]:
    """An operator has paused a frontend, and forgotten it."""
    await ward.conveyor("pause", "--frontend", "web", "--reason", "a busy evening")
    try:
        yield
    finally:
        await ward.conveyor("resume", "--frontend", "web")


@asynccontextmanager
async def wrong_clock(ward: Ward) -> AsyncIterator[None]:
    """This machine is ahead of Redis's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "time", SimpleNamespace(time=lambda: time.time() + 9, monotonic=time.monotonic))
        yield


Plant = Callable[[Ward], AbstractAsyncContextManager[None]]

#: What was planted -> the line, its verdict, and a word of its finding or fix.
FAULTS: dict[str, tuple[Plant, str, str, str]] = {
    "Redis without an append-only file": (configured("appendonly", "no"), "aof", "warn", "forgets jobs"),
    "Redis that evicts": (configured("maxmemory-policy", "allkeys-lru"), "eviction", "fail", "noeviction"),
    "Redis away": (environment(REDIS_URL="redis://127.0.0.1:9/0"), "redis", "fail", "REDIS_URL"),
    "a wrong key": (environment(COMFY_DEPLOY_API_KEY="wr0ng"), "api", "fail", "COMFY_DEPLOY_API_KEY"),
    "the API down": (environment(COMFY_DEPLOY_API_URL="http://127.0.0.1:9/api"), "api", "fail", "is the API up"),
    "no worker": (no_worker, "workers", "fail", "start one"),
    "a worker that does not consume": (deaf_worker, "worker", "fail", "takes no messages"),
    "a worker that hangs": (hung_worker, "worker", "warn", "does not answer"),
    "a worker that was drained": (drained_worker, "worker", "warn", "--undo"),
    "a stale catalog": (stale_catalog, "catalog", "warn", "no worker refreshes it"),
    "a wrong public address": (
        environment(CONVEYOR_PUBLIC_URL="http://127.0.0.1:9"),
        "webhooks",
        "fail",
        "cannot be reached",
    ),
    "another secret at the gateway": (environment(CONVEYOR_SECRET="other"), "webhooks", "fail", "CONVEYOR_SECRET"),
    "a group that lags": (lagging_group, "→ lagging", "warn", "the oldest has waited"),
    "dead letters": (dead_letter, "→ web", "warn", "conveyor results replay web"),
    "a stuck job": (stuck_job, "stuck", "fail", "conveyor requeue"),
    "a pause": (paused, "pauses", "warn", "a busy evening"),
    "a wrong clock": (wrong_clock, "clock", "warn", "NTP"),
}
#: Lines that follow from a fault: without Redis nothing else is asked, without a worker nobody fills the catalog.
FOLLOW = {"rest", "catalog"}


async def test_a_healthy_installation_has_nothing_to_say(ward: Ward) -> None:
    """Every line ok, exit code 0; webhooks made their round trip."""
    assert await ward.examine() == (0, [])


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_planted_fault_is_found(ward: Ward, fault: str) -> None:
    """By its own line, with how to fix it, and by no other; only what fails changes the exit code."""
    plant, name, verdict, words = FAULTS[fault]
    async with plant(ward):
        code, lines = await ward.examine()
    assert [line["name"] for line in lines if line["name"] not in FOLLOW - {name}] == [name], lines
    [line] = [line for line in lines if line["name"] == name]
    assert (line["verdict"], code) == (verdict, 3 if verdict == "fail" else 0)
    assert words in f"{line['finding']} {line['fix']}"
    assert line["fix"]
