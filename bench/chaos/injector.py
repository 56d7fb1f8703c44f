"""How is each fault done? One method a kind; every one ends by itself and writes down what it really did."""

import asyncio
import contextlib
import json
import logging
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from bench.chaos.plan import Fault
from bench.chaos.site import Site
from bench.chaos.wards import Ward, Watcher
from producers.local.processes import Supervised
from shared.broker import QUEUE
from shared.database import REDIS_AWAY

log = logging.getLogger(__name__)

#: How long a kill waits for a moment in which the worker has something in its hands.
AIM_SECONDS, AIM_STEP_SECONDS = 2.0, 0.005
#: What a power cut may take with `appendfsync everysec`.
POWER_LOSS_SECONDS = 1.0
HEART = "chaos:heart"


@dataclass(frozen=True, slots=True)
class Outage:
    """Something was away as a whole; unix seconds."""

    what: str
    began: float
    ended: float


@dataclass
class Injected:
    """What was really done."""

    at: float
    kind: str
    detail: str


@dataclass
class Injector:
    """Carries out a plan."""

    site: Site
    watcher: Watcher
    began: float = 0.0
    done: list[Injected] = field(default_factory=list)
    #: What was away as a whole, and when.
    outages: list[Outage] = field(default_factory=list)
    #: Acknowledged writes Redis had forgotten when it came back, by outage.
    forgotten_writes: list[int] = field(default_factory=list)
    #: How long each worker took to end in a rolling restart.
    stops: list[float] = field(default_factory=list)
    _simulated: dict[int, Fault] = field(default_factory=dict)
    _redis_lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def carry_out(self, plan: list[Fault]) -> None:
        """Start each fault at its time, beside those that still last; returns when all have ended."""
        self.began = time.monotonic()
        try:
            async with asyncio.TaskGroup() as group:
                for fault in plan:
                    await asyncio.sleep(max(0.0, fault.at - (time.monotonic() - self.began)))
                    group.create_task(self._one(fault))
        finally:
            with contextlib.suppress(Exception):
                await self.site.configure(faults=[])

    async def _one(self, fault: Fault) -> None:
        try:
            async with asyncio.timeout(60):
                if fault.simulator:
                    await self._simulator(fault)
                else:
                    await getattr(self, f"_{fault.kind}")(fault)
        except (*REDIS_AWAY, RedisError, TimeoutError) as error:
            self._note(fault.kind, f"not done: {error!r}")

    def _note(self, kind: str, detail: str) -> None:
        self.done.append(Injected(round(time.monotonic() - self.began, 1), kind, detail))

    # -- processes ----------------------------------------------------------------------------------------------

    async def _kill_worker(self, fault: Fault) -> None:
        worker = self.site.workers[fault.pick % len(self.site.workers)]
        # Aim: a worker that holds nothing proves nothing. A third of the kills comes blindly all the same.
        until = time.monotonic() + (AIM_SECONDS if fault.pick % 3 else 0)
        wards: list[Ward] = []
        held = "nothing"
        try:
            wards = await self.watcher.holds(worker.name)
            while not wards and time.monotonic() < until:
                await asyncio.sleep(AIM_STEP_SECONDS)
                wards = await self.watcher.holds(worker.name)
        except REDIS_AWAY:
            held = "nobody knows, Redis is away"
        if self._end(worker, signal.SIGKILL):
            self.watcher.killed(wards)
            held = ", ".join(f"{count} {how}" for how, count in Counter(ward.how for ward in wards).items()) or held
            self._note("kill_worker", f"{worker.name}, in its hands: {held}")

    async def _kill_consumer(self, fault: Fault) -> None:
        consumer = self.site.consumers[fault.pick % len(self.site.consumers)]
        # Aim, too: just after it wrote an event down, most likely before it acknowledged it.
        file = self.site.deliveries(consumer.name)
        size = file.stat().st_size
        for _ in range(round(AIM_SECONDS / AIM_STEP_SECONDS)):
            if file.stat().st_size != size:
                break
            await asyncio.sleep(AIM_STEP_SECONDS)
        if self._end(consumer, signal.SIGKILL):
            self._note("kill_consumer", consumer.name)

    def _end(self, program: Supervised, how: signal.Signals) -> bool:
        if not program.running:
            return False
        self.site.note_pids()
        # The supervisor's pause grows with each end; this one is not the program's fault.
        program.restarts = 0
        self.site.ended_by_us[program.name] = self.site.ended_by_us.get(program.name, 0) + 1
        program.signal(how)
        return True

    async def _rolling_restart(self, _: Fault) -> None:
        for worker in self.site.workers:
            log_from = worker.log_path.stat().st_size
            told_at = time.monotonic()
            if not self._end(worker, signal.SIGTERM):
                continue
            if worker.process is not None:
                await worker.process.wait()
            self.stops.append(time.monotonic() - told_at)
            await self.site.restarted(worker, log_from, seconds=30)
        self._note("rolling_restart", f"all workers, slowest stop {max(self.stops, default=0):.1f} s")

    # -- Redis --------------------------------------------------------------------------------------------------

    async def _redis_restart(self, fault: Fault) -> None:
        async with self._redis_lock, self._beating():
            await asyncio.to_thread(self.site.redis.stop)
            await self._back_after(fault.seconds)
        self._note("redis_restart", f"SIGTERM, away for {fault.seconds} s")

    async def _redis_kill(self, fault: Fault) -> None:
        async with self._redis_lock, self._beating() as redis:
            # What was acknowledged up to here is on the disk; what comes in the microseconds after it may not be.
            await redis.set("chaos:mark", "1")
            synced = await redis.execute_command("WAITAOF", 1, 0, 3000)
            await asyncio.to_thread(self.site.redis.kill)
            await self._back_after(fault.seconds)
        self._note("redis_kill", f"SIGKILL after WAITAOF {synced}, away for {fault.seconds} s")

    async def _redis_power_loss(self, fault: Fault) -> None:
        """As if the machine went dark: what was written in the last second is gone from the append-only file, too."""
        async with self._redis_lock, self._beating():
            path = max(self.site.redis.folder.glob("appendonlydir/*.incr.aof"), key=lambda file: file.stat().st_mtime)
            size = path.stat().st_size
            await asyncio.sleep(POWER_LOSS_SECONDS)
            await asyncio.to_thread(self.site.redis.kill)
            lost = path.stat().st_size - size
            with path.open("ab") as file:
                file.truncate(size)
            await self._back_after(fault.seconds)
        self._note("redis_power_loss", f"the last {POWER_LOSS_SECONDS} s ({lost} bytes) forgotten")

    async def _back_after(self, seconds: float) -> None:
        began = time.time()
        await asyncio.sleep(seconds)
        await asyncio.to_thread(self.site.redis.start)
        self.outages.append(Outage("Redis", began, time.time()))

    @contextlib.asynccontextmanager
    async def _beating(self) -> AsyncIterator[Any]:
        """Write a number all the time, and see afterwards which acknowledged number Redis still knows."""
        acknowledged = 0

        async def beat(redis: Any) -> None:
            nonlocal acknowledged
            with contextlib.suppress(*REDIS_AWAY, RedisError):
                while True:
                    await redis.set(HEART, acknowledged + 1)
                    acknowledged += 1
                    await asyncio.sleep(0.002)

        one = Redis.from_url(self.site.redis.url, decode_responses=True, single_connection_client=True)
        two = Redis.from_url(self.site.redis.url, decode_responses=True, single_connection_client=True)
        async with one, two:
            beating = asyncio.create_task(beat(one))
            try:
                yield two
            finally:
                beating.cancel()
                await asyncio.gather(beating, return_exceptions=True)
        async with Redis.from_url(self.site.redis.url, decode_responses=True) as redis:
            known = int(await redis.get(HEART) or 0)
            await redis.delete(HEART, "chaos:mark")
        self.forgotten_writes.append(max(0, acknowledged - known))

    async def _script_flush(self, _: Fault) -> None:
        await self.site.client.script_flush()
        self._note("script_flush", "every script forgotten")

    # -- the broker ---------------------------------------------------------------------------------------------

    async def _take_messages(self, fault: Fault) -> AsyncIterator[bytes]:
        """Take messages off the list beside the workers, who wait there as we do."""
        until = time.monotonic() + fault.seconds
        redis: Any
        async with Redis.from_url(self.site.redis.url, socket_timeout=5) as redis:
            left = fault.count
            while left and time.monotonic() < until:
                reply = await redis.brpop([QUEUE], timeout=1)
                if reply:
                    left -= 1
                    yield reply[1]

    async def _drop_messages(self, fault: Fault) -> None:
        dropped = 0
        async for message in self._take_messages(fault):
            self.watcher.dropped(json.loads(message)["headers"]["id"])
            dropped += 1
        self._note("drop_messages", f"{dropped} of {fault.count}")

    async def _double_messages(self, fault: Fault) -> None:
        doubled = 0
        redis: Any
        async with Redis.from_url(self.site.redis.url) as redis:
            async for message in self._take_messages(fault):
                await redis.lpush(QUEUE, message, message)
                doubled += 1
        self._note("double_messages", f"{doubled} of {fault.count}")

    # -- the API ------------------------------------------------------------------------------------------------

    async def _simulator(self, fault: Fault) -> None:
        began = time.time()
        self._simulated[id(fault)] = fault
        await self._tell_simulator(fault.pick)
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            del self._simulated[id(fault)]
            await self._tell_simulator(fault.pick + 1)
        if fault.kind.startswith("outage"):
            self.outages.append(Outage("the API", began, time.time()))
        chance = fault.simulator[0]["probability"]
        self._note(fault.kind, f"for {fault.seconds} s, probability {chance:g}")

    async def _tell_simulator(self, seed: int) -> None:
        # A new menu rolls its dice from the seed, so each gets another.
        lines = [line for fault in self._simulated.values() for line in fault.simulator]
        await self.site.configure(faults=lines, seed=seed)
