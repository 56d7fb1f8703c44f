"""Who puts jobs in? Users of three frontends, some busier than others, some asking twice, some changing their mind.

Each ask has an idempotency key, so an ask without an answer (Redis was away) is repeated until there is one: then the
job is accepted, and the run is held to it.
"""

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import RedisError

from bench.chaos.site import FRONTENDS
from producers.producer import Producer
from shared.errors import ConveyorError, JobNotFound, TryLater

#: Name -> how often, compared with the others.
WORKFLOWS = {"SDXL Portrait": 4, "Flux Dev": 3, "Sticker GIF": 2, "Caption Image": 3, "Wan Video 2.1": 1}
USERS = 6
REPEATED = 0.1
CANCELLED = 0.06
#: With the margin of a minute that Conveyor adds, a stuck run ends within what we wait at the end.
RUN_TIMEOUT_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Ask:
    """One wish of a user."""

    at: float
    request: dict[str, Any]
    #: Seconds after which the same is asked again; None for never.
    again_after: float | None
    cancel_after: float | None


def make_asks(seed: int, seconds: float, per_second: float) -> list[Ask]:
    """Every ask of a run, from the seed alone. Now and then a user asks for a dozen at once."""
    dice = random.Random(f"crowd:{seed}")
    asks: list[Ask] = []
    at = 0.0
    while at < seconds:
        frontend, user = dice.choice(FRONTENDS), f"u{int(dice.triangular(0, USERS, 0))}"
        burst = 12 if dice.random() < 0.02 else 1
        for _ in range(burst):
            workflow = dice.choices(list(WORKFLOWS), list(WORKFLOWS.values()))[0]
            inputs = (
                {"image": f"https://pictures.example/{len(asks)}.png"}
                if workflow == "Caption Image"
                else {"prompt": f"number {len(asks)}"}
            )
            request = {
                "workflow": workflow,
                "inputs": inputs,
                "frontend": frontend,
                "user": {"id": user},
                "context": {"chat_id": user},
                "idempotency_key": f"{seed}-{len(asks)}",
                "priority": dice.choice([5, 5, 5, 7]),
                "run_timeout_seconds": RUN_TIMEOUT_SECONDS,
                "progress": dice.random() < 0.4,
            }
            again = dice.uniform(0, 5) if dice.random() < REPEATED else None
            cancel = dice.uniform(0, 5) if dice.random() < CANCELLED else None
            asks.append(Ask(at, request, again, cancel))
        at += dice.expovariate(per_second / 1.22)  # bursts bring 1.22 jobs an ask on average
    return asks


@dataclass
class Crowd:
    """Carries the asks out and remembers what was promised."""

    producer: Producer
    #: Job id -> monotonic seconds of the acceptance.
    accepted: dict[str, float] = field(default_factory=dict)
    #: Idempotency key -> every job id it was ever answered with.
    answers: dict[str, set[str]] = field(default_factory=dict)
    repeats: int = 0
    cancels: int = 0
    #: Times an ask or a cancel had to be repeated because there was no answer.
    unanswered: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def live(self, asks: list[Ask]) -> None:
        """Ask everything at its time; returns when every ask has its answer."""
        began = time.monotonic()
        try:
            for ask in asks:
                await asyncio.sleep(max(0.0, ask.at - (time.monotonic() - began)))
                task = asyncio.create_task(self._carry_out(ask))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            await asyncio.gather(*self._tasks)
        finally:
            for task in self._tasks:
                task.cancel()

    async def _carry_out(self, ask: Ask) -> None:
        job_id = await self._ask(ask)
        later = [self._repeat(ask)] if ask.again_after is not None else []
        later += [self._cancel(ask, job_id)] if ask.cancel_after is not None else []
        await asyncio.gather(*later)

    async def _ask(self, ask: Ask) -> str:
        while True:
            try:
                handle = await self.producer.enqueue(ask.request)
            except (TryLater, RedisError, OSError):
                self.unanswered += 1
                await asyncio.sleep(0.3)
                continue
            self.accepted.setdefault(handle.id, time.monotonic())
            self.answers.setdefault(ask.request["idempotency_key"], set()).add(handle.id)
            return handle.id

    async def _repeat(self, ask: Ask) -> None:
        await asyncio.sleep(ask.again_after or 0)
        await self._ask(ask)
        self.repeats += 1

    async def _cancel(self, ask: Ask, job_id: str) -> None:
        await asyncio.sleep(ask.cancel_after or 0)
        for _ in range(100):
            try:
                await self.producer.cancel(job_id)
            except JobNotFound:
                return  # only after a power loss; the scorecard misses the job by itself
            except (ConveyorError, RedisError, OSError):
                self.unanswered += 1
                await asyncio.sleep(0.3)
                continue
            self.cancels += 1
            return
