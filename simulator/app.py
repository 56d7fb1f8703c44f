"""How do the parts hang together? `create_app` makes one simulated service and its ASGI application.

socket ─▶ sockets.py ─▶ gate.py (counting, faults, keys) ─▶ routes/ ─▶ tables.py
                                                              │
                                engine.py (scripts of runs) ──┴─▶ updates.py ─▶ hooks.py, broadcast.py
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse

from simulator.answers import Crash
from simulator.gate import PREFIX, Gate
from simulator.routes import API_ROUTERS, CONTROL_ROUTERS
from simulator.service import Service
from simulator.settings import Settings


def create_app(
    settings: Settings | None = None,
    *,
    keys: Sequence[str] = ("sim-key",),
    base_url: str = "http://simulator",
    world: str = "studio",
) -> FastAPI:
    """Make the application; its service is at `app.state.service`."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await app.state.service.close()

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.service = Service(settings, keys, base_url, world)
    for router in API_ROUTERS:
        app.include_router(router, prefix=PREFIX)
    for router in CONTROL_ROUTERS:
        app.include_router(router)
    app.add_exception_handler(Crash, _crashed)
    app.add_middleware(Gate, routers=API_ROUTERS)
    return app


async def _crashed(_request: Request, _error: Exception) -> PlainTextResponse:
    return PlainTextResponse("Internal Server Error", status_code=500)
