"""Which processes does a run consist of? A Redis, the simulator, workers and consumers, all on loopback, all ours; of an
even seed also the gateway, which webhooks reach.

Every process writes its log into the run's folder. What is killed is started again by the small supervisor of
`producers.local`, as compose would.
"""

import asyncio
import os
import re
import shutil
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from producers.local.processes import Supervised, environment, procfile, wait_for_words
from producers.local.redis_server import RedisServer, free_port
from producers.local.stack import SIMULATOR_KEY
from shared.database import Database
from shared.settings import PREFIX, Settings

WORKERS = 3
SPEED = 20
RATE, BURST = 20, 30
#: Two consumers share a group, so that events change hands.
CONSUMERS = {"tg-1": "telegram", "tg-2": "telegram", "dc-1": "discord", "web-1": "web"}
FRONTENDS = tuple(dict.fromkeys(CONSUMERS.values()))
#: Simulated seconds; divided by the speed. Long enough that work is under way whenever something is killed.
DURATIONS = {"image": {"median": 60}, "video": {"median": 100}, "text": {"median": 20}}

LIMITS = {
    "CONVEYOR_RATE_PER_SECOND": str(RATE),
    "CONVEYOR_RATE_BURST": str(BURST),
    "CONVEYOR_SECRET": "chaos-only",
}


@dataclass
class Site:
    """A running Conveyor. Use it as `async with`; leaving ends every process it started."""

    folder: Path
    seed: int
    redis: RedisServer = field(init=False)
    settings: Settings = field(init=False)
    database: Database = field(init=False)
    http: httpx.AsyncClient = field(init=False)
    workers: list[Supervised] = field(default_factory=list)
    consumers: list[Supervised] = field(default_factory=list)
    #: Program -> how often we ended it ourselves.
    ended_by_us: dict[str, int] = field(default_factory=dict)
    _pids: dict[str, set[int]] = field(default_factory=dict)
    _exit: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> Self:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        try:
            await self._start()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._end()

    async def _start(self) -> None:
        self.redis = await self._exit.enter_async_context(RedisServer(self.folder / "redis"))
        ours = ("COMFY_DEPLOY_", "REDIS_URL", PREFIX)
        env = {name: text for name, text in environment().items() if not name.startswith(ours)}
        # Of an odd seed webhooks are asked for and reach nobody, for nobody listens there.
        port = str(free_port())
        env |= LIMITS | {"REDIS_URL": self.redis.url, "PORT": port, "CONVEYOR_PUBLIC_URL": f"http://127.0.0.1:{port}"}

        simulator = [sys.executable, "-m", "simulator", "--port", "0", "--key", SIMULATOR_KEY]
        simulator += ["--speed", str(SPEED), "--seed", str(self.seed)]
        program = await self._launch("simulator", simulator, env)
        found = re.search(r"http://[\d.]+:\d+", await wait_for_words(program, "listening on"))
        url = found.group() if found else ""
        env |= {"COMFY_DEPLOY_API_URL": f"{url}/api", "COMFY_DEPLOY_API_KEY": SIMULATOR_KEY}
        self.http = await self._exit.enter_async_context(httpx.AsyncClient(base_url=url, timeout=20, trust_env=False))
        await self.configure(durations=DURATIONS)

        self.settings = Settings.from_env({n: t for n, t in env.items() if n.startswith(ours)})
        self.database = await self._exit.enter_async_context(Database.open(self.redis.url))
        for name, frontend in CONSUMERS.items():
            self.deliveries(name).touch()
            command = [sys.executable, "-m", "bench.chaos.frontend", frontend, name, str(self.deliveries(name))]
            self.consumers.append(await self._launch(name, command, env))
        if self.seed % 2 == 0:
            gateway = await self._launch("gateway", procfile()["gateway"], env)
            await wait_for_words(gateway, "gateway listens")
        names = [f"w{n}" for n in range(1, WORKERS + 1)]
        self.workers += await asyncio.gather(
            *(self._launch(name, [*procfile()["worker"], "-n", f"{name}@%h"], env) for name in names)
        )
        await asyncio.gather(*(wait_for_words(worker, "ready.", seconds=60) for worker in self.workers))

    async def _launch(self, name: str, command: list[str], env: dict[str, str]) -> Supervised:
        program = Supervised(name, command, env, self.folder / f"{name}.log")
        await program.start()
        self._exit.push_async_callback(program.stop)
        return program

    async def _end(self) -> None:
        # Together: each may take seconds to drain, and needs Redis and the API for it.
        await asyncio.gather(*(program.stop() for program in [*self.workers, *self.consumers]))
        await self._exit.aclose()

    @property
    def client(self) -> Any:
        """The Redis client, untyped: redis-py's hints know neither `decode_responses` nor async."""
        return self.database.redis

    def deliveries(self, name: str) -> Path:
        """Where a consumer writes what it was handed."""
        return self.folder / f"{name}.jsonl"

    async def configure(self, **patch: Any) -> None:
        """Change the simulator's settings."""
        answer = await self.http.post("/_sim/config", json=patch)
        answer.raise_for_status()

    def note_pids(self) -> None:
        """Remember which processes there were; asked again and again while the run lasts."""
        for program in [*self.workers, *self.consumers]:
            if program.process is not None:
                self._pids.setdefault(program.name, set()).add(program.process.pid)

    def ended_alone(self) -> dict[str, int]:
        """Programs that ended more often than we ended them."""
        self.note_pids()
        ends = {name: len(pids) - 1 - self.ended_by_us.get(name, 0) for name, pids in self._pids.items()}
        return {name: count for name, count in ends.items() if count > 0}

    async def restarted(self, program: Supervised, log_from: int, *, seconds: float = 60.0) -> None:
        """Wait until a worker that ended is back and takes messages."""
        async with asyncio.timeout(seconds):
            while True:
                with program.log_path.open("rb") as log:
                    log.seek(log_from, os.SEEK_SET)
                    if b"ready." in log.read():
                        return
                await asyncio.sleep(0.1)
