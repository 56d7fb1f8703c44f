"""How do several programs run side by side on one machine, and end together?

A small supervisor for `make demo`, `make up`, tests and benchmarks: it starts commands, keeps their output, starts again
what ended by itself, and ends everything in good order. In production compose or systemd does this.
"""

import asyncio
import contextlib
import logging
import os
import random
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from shared.errors import MissingSetting

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]

#: A process that is told to stop gets this long; a worker's own drain takes 8 s.
STOP_SECONDS = 15.0
#: A process that keeps ending is started again after 1, 2, 4 … seconds, at most this.
LONGEST_PAUSE_SECONDS = 30.0


def environment(**more: str) -> dict[str, str]:
    """This process's environment with our console scripts on the path, and more."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", **more}


def procfile(path: Path = ROOT / "Procfile") -> dict[str, list[str]]:
    """The commands of the Procfile by name. Its lines need no shell."""
    lines = [line.partition(":") for line in path.read_text().splitlines() if line.strip() and line[0] != "#"]
    return {name.strip(): command.split() for name, _, command in lines}


@dataclass
class Supervised:
    """One program that shall run."""

    name: str
    command: list[str]
    env: Mapping[str, str]
    log_path: Path
    #: Whether it is started again when it ends by itself.
    restart: bool = True
    process: asyncio.subprocess.Process | None = None
    restarts: int = 0
    _keeping: asyncio.Task[None] | None = None
    _stopping: bool = field(default=False)

    async def start(self) -> None:
        """Start it; its output goes to the end of its log file."""
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        await self._launch()
        self._keeping = asyncio.create_task(self._keep())

    async def _launch(self) -> None:
        with self.log_path.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                *self.command,
                cwd=ROOT,
                env=dict(self.env),
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                stdin=asyncio.subprocess.DEVNULL,
                # Ctrl-C in the terminal reaches us alone, and we end the others in order.
                start_new_session=True,
            )

    async def _keep(self) -> None:
        while self.process is not None:
            code = await self.process.wait()
            if self._stopping or not self.restart:
                return
            self.restarts += 1
            pause = min(LONGEST_PAUSE_SECONDS, 2.0 ** (self.restarts - 1)) * random.uniform(0.5, 1.0)
            log.warning("process ended", extra={"program": self.name, "exit": code, "again_in": round(pause, 1)})
            await asyncio.sleep(pause)
            await self._launch()

    @property
    def running(self) -> bool:
        """Whether it runs at this moment."""
        return self.process is not None and self.process.returncode is None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    async def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL when that takes too long. Stopping twice is fine."""
        self._stopping = True
        if self._keeping is not None:
            self.signal(signal.SIGTERM)
            if self.running and self.process is not None:
                try:
                    async with asyncio.timeout(STOP_SECONDS):
                        await self.process.wait()
                except TimeoutError:
                    self.signal(signal.SIGKILL)
            self._keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeping
            self._keeping = None

    def last_words(self, lines: int = 15) -> str:
        """The end of its log."""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])


async def wait_for_words(program: Supervised, words: str, *, seconds: float = 30.0) -> str:
    """Wait until a program has printed a line with `words`, and answer that line.

    Raises `MissingSetting` with the end of its log when it ended or said nothing of it in time.
    """
    try:
        async with asyncio.timeout(seconds):
            while program.running:
                text = program.log_path.read_text(errors="replace") if program.log_path.exists() else ""
                for line in text.splitlines():
                    if words in line:
                        return line
                await asyncio.sleep(0.05)
    except TimeoutError:
        pass
    raise MissingSetting(f"{program.name} did not start.", check=f"its log {program.log_path}:\n{program.last_words()}")
