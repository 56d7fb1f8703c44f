"""The gateway in this process, on a real Redis: `gateway(...)` opens one, `Client` asks it."""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from producers.gateway.app import make_app
from shared.database import Database
from shared.jobs.event import JobError, Output, Result
from shared.jobs.states import JobState
from shared.jobs.store import JobStore
from shared.settings import Settings

KEYS = {"web": "web-key-1234", "telegram": "telegram-key-1234"}
#: As settings take them.
API_KEYS = ",".join(f"{name}:{key}" for name, key in KEYS.items())


@dataclass
class Published:
    """Stands in for the broker: remembers what it was to send."""

    job_ids: list[str] = field(default_factory=list)

    async def publish(self, job_ids: list[str]) -> None:
        """Remember."""
        self.job_ids += job_ids

    def close(self) -> None:
        """Nothing to close."""


@dataclass
class Gateway:
    """A gateway that runs in this process."""

    app: FastAPI
    http: httpx.AsyncClient
    database: Database
    published: Published

    async def enqueue(self, user: str = "ada", **more: Any) -> str:
        """Put a job in; its id."""
        answer = await self.http.post("/v1/jobs", json=job(user, **more))
        assert answer.status_code == 202, answer.text
        return str(answer.json()["job_id"])

    def client(self, frontend: str = "", **options: Any) -> httpx.AsyncClient:
        """Another client: with a frontend's key, or with another transport's options."""
        headers = {"authorization": f"Bearer {KEYS[frontend]}"} if frontend else {}
        transport = httpx.ASGITransport(self.app, **{"client": ("127.0.0.1", 50_000), **options})
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", headers=headers)


Open = Callable[..., Awaitable[Gateway]]


def job(user: str = "ada", **more: Any) -> dict[str, Any]:
    """The least there is to a job."""
    return {"workflow": "portrait", "user": {"id": user}} | more


@asynccontextmanager
async def opened(settings: Settings, database: Database) -> AsyncIterator[Gateway]:
    """One gateway with these settings."""
    published = Published()
    app = make_app(settings, database, publisher=published)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        one = Gateway(app, httpx.AsyncClient(), database, published)
        await one.http.aclose()
        one.http = await stack.enter_async_context(one.client("web" if settings.api_keys else ""))
        yield one


@pytest.fixture
async def open_gateway(settings: Settings, database: Database) -> AsyncIterator[Open]:
    """Opens gateways with settings of their own, by their names in the environment."""
    async with AsyncExitStack() as stack:

        async def open_one(**environ: str) -> Gateway:
            knobs = Settings.from_env({"REDIS_URL": settings.redis_url, **environ})
            return await stack.enter_async_context(opened(knobs, database))

        yield open_one


@pytest.fixture
async def gateway(open_gateway: Open) -> Gateway:
    """A gateway without keys, as on a developer's machine."""
    return await open_gateway()


async def walk(database: Database, job_id: str, *states: str) -> None:
    """Move a job as a worker would."""
    store = JobStore(database)
    for state in states:
        extra = {"run_id": f"run-{job_id}", "workflow_id": "w"} if state == "submitted" else {}
        error = JobError(code="upstream_failed", message="x", user_message="x") if state == "failed" else None
        outputs = [Output(key="9:images:0", kind="image", url="https://pictures.test/fox.png")]
        result = Result(outputs=outputs) if state == "succeeded" else None
        assert await store.move(job_id, JobState(state), error=error, result=result, **extra)


RUN = ("submitting", "submitted", "running", "succeeded")


async def catalog_of(database: Database, *names: str, signature: dict[str, Any] | None = None, age: float = 60) -> None:
    """What a worker wrote of the API's deployments, a minute ago."""
    entries = [
        {"deployment_id": f"d-{name}", "workflow_id": f"w-{name}", "name": name, "environment": "production"}
        | {"pool": "m", "concurrency": 2, "description": None, "signature": signature}
        for name in names
    ]
    await database.redis.set(database.keys.catalog, json.dumps({"read_at": time.time() - age, "entries": entries}))


async def keys_of(database: Database) -> set[str]:
    """Every key there is."""
    return {key async for key in database.redis.scan_iter(f"{database.keys.prefix}*")}
