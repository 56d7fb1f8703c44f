"""One running Conveyor for the whole run of tests: Redis, the simulator at 50 times life, two workers as processes."""

import os
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from producers.local.processes import procfile
from producers.local.redis_server import RedisServer, free_port
from producers.local.stack import Stack
from producers.producer import Producer
from shared.settings import Settings
from tests.conftest import OURS
from tests.e2e.browser import browser
from tests.e2e.site import BURST, RATE, Flower, Site, until
from tests.hunt import API_KEY, HUNT, REDIS_PASSWORD, SECRET, Monitor
from tests.spans import Sink

__all__ = ["browser"]

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder: real processes, a real Redis, one event loop for all."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.redis)
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """The processes and a producer; they outlive the single test."""
    folder = tmp_path_factory.mktemp("site")
    with ExitStack() as exits:
        patch = exits.enter_context(pytest.MonkeyPatch.context())
        for name in list(os.environ):
            if name.startswith(OURS):
                patch.delenv(name)
        async with RedisServer(folder / "redis", password=REDIS_PASSWORD) as redis:
            patch.setenv("REDIS_URL", redis.url)
            limits = {"CONVEYOR_RATE_PER_SECOND": str(RATE), "CONVEYOR_RATE_BURST": str(BURST)}
            limits["CONVEYOR_METRICS_PORT"] = str(free_port())
            limits["CONVEYOR_CALLBACK_ALLOW_PRIVATE"] = "1"  # receivers of tests live on loopback
            sink = exits.enter_context(Sink())
            limits |= {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
            limits["CONVEYOR_SECRET"] = SECRET
            exits.enter_context(Monitor(HUNT, redis.port, redis.password))
            async with Stack(folder, workers=2, speed=50, simulator_key=API_KEY, settings=limits) as stack:
                names = {field.alias for field in Settings.model_fields.values()}
                settings = Settings.from_env({name: text for name, text in stack.env.items() if name in names})
                async with (
                    Producer(settings) as producer,
                    httpx.AsyncClient(base_url=stack.simulator_url, timeout=10, trust_env=False) as http,
                ):
                    yield Site(stack, redis, settings, producer, http, sink=sink)
            HUNT.redis(redis.url)
    HUNT.search()


@pytest_asyncio.fixture(loop_scope="session")
async def site(running: Site) -> AsyncIterator[Site]:
    """The running Conveyor with nothing in flight, a calm simulator without memories, and two workers."""
    await running.settle()
    yield running
    await running.calm()


async def _searched(response: httpx.Response) -> None:
    await response.aread()
    HUNT.text(f"Flower {response.url.path}", response.text)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def flower(running: Site) -> AsyncIterator[Flower]:
    """Flower as the Procfile starts it, on a free port."""
    port = free_port()
    running.stack.env["FLOWER_PORT"] = str(port)
    program = await running.stack.start("flower", procfile()["flower"])
    hooks = {"response": [_searched]}
    base_url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=base_url, timeout=10, trust_env=False, event_hooks=hooks) as http:
        flower = Flower(http, program)
        await until(flower.sees_workers, seconds=30, what="Flower sees the workers")
        yield flower
