"""How does a test get a simulator? Without sockets, on a real port of this process, or as a process of its own.

`in_process` is for most tests; `served` for cut connections and streams, with the service's state still within reach;
`process` is for clients of other languages and for the command line itself.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from simulator.app import create_app
from simulator.service import Service
from simulator.settings import Settings
from simulator.sockets import CuttableProtocol

ROOT = Path(__file__).parents[3]
PORTRAIT, FLUX, WAN, CAPTION, PACK, TRAINING, RESTYLE, STICKER = (
    f"d0000000-0000-4000-8000-{number:012d}" for number in range(1, 9)
)
PORTRAIT_WORKFLOW = "b0000000-0000-4000-8000-000000000001"
OWNER = {"Authorization": "Bearer sim-key"}
QUICK = {"cold_start_seconds": 1.0, "speed": 200.0}


class Simulated:
    """A simulator and a client with the owner's key."""

    def __init__(self, client: httpx.AsyncClient, service: Service) -> None:
        self.client, self.service = client, service

    async def submit(self, deployment_id: str = PORTRAIT, /, **more: Any) -> str:
        answer = await self.client.post("/api/run/deployment/queue", json={"deployment_id": deployment_id, **more})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["run_id"])

    async def run(self, run_id: str, **query: Any) -> dict[str, Any]:
        answer = await self.client.get(f"/api/run/{run_id}", params=query)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def until(self, run_id: str, wanted: str | Callable[[dict[str, Any]], bool], seconds: float = 5.0) -> Any:
        """Read a run until it has a status or meets a condition."""
        end = time.monotonic() + seconds
        while True:
            run = await self.run(run_id)
            if run["status"] == wanted if isinstance(wanted, str) else wanted(run):
                return run
            assert time.monotonic() < end, f"never {wanted}: {run}"
            await asyncio.sleep(0.005)

    async def configure(self, **patch: Any) -> None:
        answer = await self.client.post("/_sim/config", json=patch)
        assert answer.status_code == 200, answer.text

    async def stats(self, **query: Any) -> dict[str, Any]:
        return dict((await self.client.get("/_sim/stats", params=query)).json())


_application = cache(create_app)


@asynccontextmanager
async def in_process(**settings: Any) -> AsyncIterator[Simulated]:
    """Call a simulator without sockets: quickest, for all that does not cut connections or stream."""
    # One application for all: its routes cost more than a test. The service is new each time.
    app = _application()
    app.state.service = Service(Settings.model_validate({**QUICK, **settings}))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://simulator", headers=OWNER) as client:
        yield Simulated(client, app.state.service)
    await app.state.service.close()


@asynccontextmanager
async def served(**settings: Any) -> AsyncIterator[Simulated]:
    """Serve a simulator of this process on a free port."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as `python -m simulator` does
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    app = create_app(Settings.model_validate({**QUICK, **settings}), base_url=url)
    config = uvicorn.Config(app, http=CuttableProtocol, ws="none", log_level="critical", timeout_graceful_shutdown=0)
    server = uvicorn.Server(config)
    # Not serve(): it would take over the test runner's signals.
    serving = asyncio.create_task(server._serve(sockets=[listening]))
    try:
        # Not httpx's own transport: it would load certificates for every test.
        transport = httpx.AsyncHTTPTransport(verify=False)
        async with httpx.AsyncClient(transport=transport, base_url=url, headers=OWNER, timeout=10) as client:
            yield Simulated(client, app.state.service)
    finally:
        server.should_exit = True
        await serving
        listening.close()


@contextmanager
def process(*arguments: str) -> Iterator[str]:
    """Run `python -m simulator --port 0 …` and give its URL."""
    running = subprocess.Popen(
        [sys.executable, "-m", "simulator", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert running.stdout is not None
    try:
        line = running.stdout.readline()
        found = re.search(r"http://[^/ ]+", line)
        assert found, f"the simulator said: {line!r}"
        yield found[0]
    finally:
        running.terminate()
        running.wait(10)
        running.stdout.close()
