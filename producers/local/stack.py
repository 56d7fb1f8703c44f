"""Everything Conveyor needs, on this machine: Redis, an API and workers, each started only when it was not given.

`REDIS_URL` unset: a Redis of our own. `COMFY_DEPLOY_API_KEY` unset: the simulator stands for ComfyUI Deploy.
"""

import asyncio
import os
import re
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from producers.local.processes import Supervised, environment, procfile, wait_for_words
from producers.local.redis_server import RedisServer

SIMULATOR_KEY = "sim-key"


@dataclass
class Stack:
    """A running Conveyor without frontends. Use it as `async with`; leaving stops what it started, newest first."""

    #: Where logs and the embedded Redis keep their files.
    folder: Path
    workers: int = 1
    #: How many times faster than life simulated runs are.
    speed: float = 1.0
    seed: int = 1
    #: A key for an API that is started elsewhere; with it, no simulator is.
    api_key: str = ""
    #: What the simulator takes as an API key.
    simulator_key: str = SIMULATOR_KEY
    #: 0 takes any free port.
    simulator_port: int = 0
    #: Settings for the workers, beside those of this process's environment.
    settings: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    #: `http://127.0.0.1:port` of the simulator, empty when the real service is used.
    simulator_url: str = ""
    processes: list[Supervised] = field(default_factory=list)
    _exit: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self.env = environment(**self.settings)
            if not os.environ.get("REDIS_URL"):
                redis = await self._exit.enter_async_context(RedisServer(self.folder / "redis"))
                self.env["REDIS_URL"] = redis.url
            if self.api_key:
                self.env["COMFY_DEPLOY_API_KEY"] = self.api_key
            elif not os.environ.get("COMFY_DEPLOY_API_KEY"):
                await self._start_simulator()
            await asyncio.gather(*(self.start_worker(f"w{n}") for n in range(1, self.workers + 1)))
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Workers first and together: each may take seconds to drain, and needs Redis and the API for it.
        await asyncio.gather(*(program.stop() for program in self.processes if program.name != "simulator"))
        await self._exit.aclose()

    async def start(self, name: str, command: list[str], *, restart: bool = True) -> Supervised:
        """Start one more program with this stack's environment."""
        program = Supervised(name, command, self.env, self.folder / f"{name}.log", restart=restart)
        program.log_path.unlink(missing_ok=True)
        await program.start()
        self.processes.append(program)
        self._exit.push_async_callback(program.stop)
        return program

    async def _start_simulator(self) -> None:
        command = [sys.executable, "-m", "simulator", "--port", str(self.simulator_port), "--key", self.simulator_key]
        command += ["--speed", str(self.speed), "--seed", str(self.seed)]
        line = await wait_for_words(await self.start("simulator", command), "listening on")
        found = re.search(r"http://[\d.]+:\d+", line)
        self.simulator_url = found.group() if found else ""
        self.env |= {"COMFY_DEPLOY_API_URL": f"{self.simulator_url}/api", "COMFY_DEPLOY_API_KEY": self.simulator_key}

    async def start_worker(self, name: str) -> Supervised:
        """Start a worker as the Procfile does, under a node name of its own; returns when it takes messages."""
        program = await self.start(name, [*procfile()["worker"], "-n", f"{name}@%h"])
        await wait_for_words(program, "ready.")
        return program
