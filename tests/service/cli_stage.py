"""A stage for the command line: a Redis database of its own, empty for each test, and workers played by hand."""

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import pytest
import redis
from typer.testing import CliRunner, Result

from producers.cli.app import app
from producers.local.redis_server import RedisServer
from shared.database import Database
from shared.jobs.event import JobError, Output, Progress
from shared.jobs.event import Result as Outcome
from shared.jobs.states import JobState
from shared.jobs.store import JobStore
from tests.hunt import HUNT

SCRIPT = Path(sys.executable).with_name("conveyor")
DEADLINE_SECONDS = 20.0

T = TypeVar("T")


def conveyor(*arguments: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, list(arguments))


class Stage:
    """One Redis database, below the prefix every installation has."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.redis = redis.Redis.from_url(url, decode_responses=True)
        self.redis.flushdb()

    def close(self) -> None:
        self.redis.flushdb()
        self.redis.close()

    def with_database(self, work: Callable[[Database], Awaitable[T]]) -> T:
        """Do something with our own client."""

        async def open_and_work() -> T:
            async with Database.open(self.url) as database:
                return await work(database)

        return asyncio.run(open_and_work())

    def run(self, job_id: str) -> None:
        """Have a dispatched job run, half-way through."""

        async def work(database: Database) -> None:
            store = JobStore(database)
            assert await store.move(job_id, JobState.SUBMITTING)
            assert await store.move(job_id, JobState.SUBMITTED, run_id=f"run-{job_id}")
            assert await store.move(job_id, JobState.RUNNING)
            assert await store.progress(job_id, Progress(fraction=0.5, text="KSampler"))

        self.with_database(work)

    def succeed(self, job_id: str) -> None:
        """Have a running job end well."""
        outcome = Outcome(outputs=[Output(key="9:images:0", kind="image", url="https://pictures.test/fox.png")])
        self.with_database(lambda database: JobStore(database).move(job_id, JobState.SUCCEEDED, result=outcome))

    def fail(self, job_id: str) -> None:
        """Have a running job end badly."""
        error = JobError(code="upstream_failed", message="CUDA out of memory", user_message="It failed.")
        self.with_database(lambda database: JobStore(database).move(job_id, JobState.FAILED, error=error))

    def jobs(self, frontend: str = "cli") -> list[str]:
        """The jobs of a frontend, as soon as there are any."""
        stream = f"conveyor:results:{frontend}"
        self.until(lambda: bool(self.redis.exists(stream)))
        entries = cast(list[Any], self.redis.xrange(stream))
        return list(dict.fromkeys(fields["job_id"] for _, fields in entries))

    def until(self, fact: Callable[[], bool]) -> None:
        """Wait for a fact, with a deadline."""
        end = time.monotonic() + DEADLINE_SECONDS
        while not fact():
            assert time.monotonic() < end, "never"
            time.sleep(0.01)


class Program:
    """The console script as a process: on a terminal, or with its output in a pipe."""

    def __init__(self, *arguments: str, url: str, terminal: bool = False) -> None:
        self._read, write = pty.openpty() if terminal else os.pipe()
        if terminal:
            fcntl.ioctl(write, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 140, 0, 0))
        env = {"REDIS_URL": url, "TERM": "xterm-256color", "PATH": os.environ["PATH"]}
        self._process = subprocess.Popen(
            [SCRIPT, *arguments],
            stdin=write if terminal else subprocess.DEVNULL,
            stdout=write,
            stderr=write,
            env=env,
            start_new_session=True,
        )
        os.close(write)
        #: What it said, without and with what steers a terminal.
        self.text, self.raw = "", b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._read)

    def until(self, words: str) -> None:
        """Wait until it has said these words."""
        end = time.monotonic() + DEADLINE_SECONDS
        while words not in self.text:
            assert time.monotonic() < end, f"never said {words!r}: {self.text}"
            if not self._hear(0.05):
                raise AssertionError(f"ended without {words!r}: {self.text}")

    def _hear(self, seconds: float) -> bool:
        """Take in what it says; False when it has ended."""
        if not select.select([self._read], [], [], seconds)[0]:
            return True
        try:
            heard = os.read(self._read, 65_536)
        except OSError:  # a terminal whose last process has gone
            return False
        self.raw += heard
        self.text += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", heard.decode(errors="replace"))
        return bool(heard)

    def modes(self) -> list[Any]:
        """How its terminal is set: whether it shows what is typed, and so on."""
        return termios.tcgetattr(self._read)

    def type(self, keys: str) -> None:
        """Type on its terminal."""
        os.write(self._read, keys.encode())

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def interrupt_at_prompt(self) -> None:
        """Ctrl-C, again as a person would: one that comes in the moment before the read of the answer begins is not seen
        by Python until the read is over."""
        end = time.monotonic() + DEADLINE_SECONDS
        while self._process.poll() is None:
            assert time.monotonic() < end, f"Ctrl-C does not end it: {self.text}"
            self.interrupt()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(3.0)

    def end(self) -> int:
        """Wait for its end; the exit code."""
        end = time.monotonic() + DEADLINE_SECONDS
        while self._hear(0.05):
            assert time.monotonic() < end, f"never ended: {self.text}"
        return self._process.wait(DEADLINE_SECONDS)


@pytest.fixture
def stage(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """An empty database that commands in this process use, too."""
    stage = Stage(f"{redis_server.url.removesuffix('0')}7")
    monkeypatch.setenv("REDIS_URL", stage.url)
    monkeypatch.setenv("COLUMNS", "200")
    yield stage
    HUNT.database(stage.url)
    stage.close()
