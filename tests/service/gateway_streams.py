"""A gateway with a socket, in this process or as one, and clients that read its streams."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import httpx
import uvicorn
from pydantic_core import from_json

from tests.service.gateway_fixtures import Gateway

DEADLINE_SECONDS = 15.0


@dataclass
class Heard:
    """One event as a client gets it."""

    type: str
    id: str
    data: dict[str, Any]


@dataclass
class Stream:
    """An open stream. Reads only when it is asked to."""

    response: httpx.Response
    #: Comments that came so far.
    comments: list[str] = field(default_factory=list)
    _lines: AsyncIterator[str] | None = None

    async def next(self) -> Heard | None:
        """The next event; None when the stream has ended."""
        self._lines = self._lines or self.response.aiter_lines()
        fields: dict[str, str] = {}
        async with asyncio.timeout(DEADLINE_SECONDS):
            async for line in self._lines:
                if line.startswith(":"):
                    self.comments.append(line)
                elif line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif "data" in fields:
                    return Heard(fields["event"], fields["id"], from_json(fields["data"]))
        return None

    async def rest(self) -> list[Heard]:
        """Every event up to the end."""
        heard = []
        while event := await self.next():
            heard.append(event)
        return heard

    async def some(self, count: int) -> list[Heard]:
        """So many events."""
        heard = [await self.next() for _ in range(count)]
        assert all(heard)
        return [one for one in heard if one]


@asynccontextmanager
async def stream(url: str, path: str, last: str = "", **params: str) -> AsyncIterator[Stream]:
    """Open a stream."""
    headers = {"last-event-id": last} if last else {}
    async with (
        httpx.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http,
        http.stream("GET", path, headers=headers, params=params) as response,
    ):
        assert response.status_code == 200, await response.aread()
        yield Stream(response)


def listening() -> socket.socket:
    """A socket on a free port."""
    sock = socket.socket()
    # What is accepted inherits it: a client who does not read is noticed soon.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
    sock.bind(("127.0.0.1", 0))
    return sock


@asynccontextmanager
async def served(gateway: Gateway) -> AsyncIterator[str]:
    """The gateway of this process behind a real server; its address."""
    sock = listening()
    server = uvicorn.Server(uvicorn.Config(gateway.app, log_config=None, access_log=False, lifespan="off"))
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    async with AsyncExitStack() as stack:
        stack.callback(sock.close)
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        gateway.app.state.inside.feed.stop()
        server.should_exit = True
        await serving


class Process:
    """`python -m producers.gateway` on a port that stays the same."""

    def __init__(self, redis_url: str, **environ: str) -> None:
        with listening() as sock:
            self.port = sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._env = {"REDIS_URL": redis_url, "PORT": str(self.port), "PATH": os.environ["PATH"], **environ}
        self._process: subprocess.Popen[bytes] | None = None
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process

    def start(self) -> Self:
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "producers.gateway"],
            env=self._env,
            # Not a pipe, which would be full some day and make it wait.
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        end = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < end:
            try:
                if httpx.get(f"{self.url}/healthz", timeout=1).status_code == 200:
                    return self
            except httpx.HTTPError:
                assert self._process.poll() is None, self.end(signal.SIGTERM)
                time.sleep(0.05)
        raise AssertionError("never answered")

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Send a signal and wait for its end: the exit code, and what it said."""
        assert self._process
        self._process.send_signal(number)
        code = self._process.wait(timeout=DEADLINE_SECONDS)
        self._process = None
        self._output.seek(0)
        return code, self._output.read().decode()

    def close(self) -> None:
        """End it if it still runs."""
        if self._process:
            self.end(signal.SIGKILL)
        self._output.close()
