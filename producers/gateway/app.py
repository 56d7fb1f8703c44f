"""The gateway's app: what it holds, its layers, its routes."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse

from producers.equipment import Publishes
from producers.gateway import problems, reference
from producers.gateway.access import Access
from producers.gateway.door import Door
from producers.gateway.feed import Feed
from producers.gateway.inside import Inside
from producers.gateway.page_files import PageFiles
from producers.gateway.rates import Rates
from producers.gateway.routes import again, events, files, health, hooks, jobs, outputs, workflows
from producers.gateway.told import Teller
from producers.producer import Producer
from shared.archive.archive import Archive
from shared.catalog import Catalog
from shared.census import Census
from shared.comfydeploy import ComfyDeploy
from shared.database import Database
from shared.jobs.store import JobStore
from shared.limits.bucket import TokenBucket
from shared.loop_lag import watch_loop
from shared.media.uploads import Uploads
from shared.metrics import observe_call
from shared.settings import Settings

log = logging.getLogger(__name__)

VERSION = "1"
#: Uploads in memory at once.
MOST_UPLOADS = 4

_DESCRIPTION = """Jobs in, events out. See `docs/guides/add-a-frontend.md`."""


def make_app(settings: Settings, database: Database | None = None, *, publisher: Publishes | None = None) -> FastAPI:
    """The gateway as an ASGI app. A database or publisher that is given is not closed.

    Raises `MissingSetting` when `CONVEYOR_API_KEYS` cannot be read.
    """

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            inside = await _open(
                stack,
                settings,
                database=database,
                publisher=publisher,
                access=app.state.access,
            )
            app.state.inside = inside
            reading = asyncio.create_task(inside.feed.run())
            watching = asyncio.create_task(watch_loop())
            try:
                yield
            finally:
                inside.feed.stop()
                watching.cancel()
                reading.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await reading

    app = FastAPI(
        title="Conveyor",
        version=VERSION,
        description=_DESCRIPTION,
        lifespan=life,
        docs_url=None,
        redoc_url=None,
        # FastAPI's own would tell the queries of addresses, and the messages of errors (docs/decisions/0015).
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.access = Access(settings)
    app.state.rates = Rates(settings.requests_per_minute)
    problems.install(app)
    for routes in (jobs, again, outputs, events, workflows, files, hooks, health):
        app.include_router(routes.router)
    _describe(app)
    app.mount("/", PageFiles(str(Path(__file__).parent / "page")), name="page")
    # The layer added last is the outermost.
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "X-Request-ID"],
            expose_headers=["Location", "Retry-After", "RateLimit", "RateLimit-Policy", "X-Request-ID"],
            max_age=600,
        )
    app.add_middleware(
        Door,
        only_this_machine=app.state.access.is_open,
        upload_bytes=settings.upload_bytes,
        origins=settings.cors_origins,
    )
    return app


async def _open(
    stack: AsyncExitStack,
    settings: Settings,
    *,
    database: Database | None,
    publisher: Publishes | None,
    access: Access,
) -> Inside:
    if database is None:
        database = await stack.enter_async_context(Database.open(settings.redis_url))
    api = None
    if settings.api_key is not None:
        api = await stack.enter_async_context(
            ComfyDeploy(settings.api_url, settings.require_api_key(), observe=observe_call)
        )
    bucket = TokenBucket(database, settings)
    catalog = await stack.enter_async_context(Catalog(database, settings, bucket, api))
    producer = await stack.enter_async_context(
        Producer(settings, database, publisher=publisher, catalog=catalog, most_open=settings.user_jobs)
    )
    uploads = None
    if api is not None:
        uploads = await stack.enter_async_context(
            Uploads(database, bucket, api, settings.account, most_at_once=MOST_UPLOADS)
        )
    feed = Feed(database, access.frontends)
    return Inside(
        settings=settings,
        database=database,
        store=JobStore(database, keep_seconds=settings.job_keep_seconds),
        producer=producer,
        catalog=catalog,
        bucket=bucket,
        census=Census(database, settings),
        api=api,
        feed=feed,
        teller=Teller(database, feed),
        uploads=uploads,
        archive=Archive.open(settings.archive) if settings.archive else None,
    )


def _describe(app: FastAPI) -> None:
    def schema() -> dict[str, Any]:
        return reference.openapi(app)

    app.openapi = schema  # type: ignore[method-assign]  # as FastAPI's documentation says

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(reference.page(schema()))
