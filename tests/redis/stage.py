"""The stage for tests on a real Redis: a clock the test moves, short ways to put jobs on it, and one look at all of it.

The scripts read Redis TIME. Here the same script texts run on the same server with that one call replaced by reading a
list the test writes; nothing else about them changes, so a test decides what time it is and needs no sleep.
"""

import asyncio
import json
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar
from uuid import uuid4

from shared.database import SCRIPTS, Database, script_text
from shared.identifiers import new_job_id
from shared.jobs.request import JobRequest
from shared.jobs.store import JobStore, Target

#: 2026-11-20 20:53:20 UTC, as good a moment as any.
START_MS = 1_795_208_000_000

SCRIPT_NAMES = sorted(path.stem for path in SCRIPTS.glob("*.lua") if path.stem != "prelude")

T = TypeVar("T")

_TIME = "redis.call('TIME')"
_TEST_TIME = "redis.call('LRANGE', ARGV[1] .. 'test:clock', 0, -1)"


def on_test_clock(name: str) -> str:
    """A script that asks the test for the time."""
    text = script_text(name)
    assert _TIME in text
    text = text.replace(_TIME, _TEST_TIME)
    assert "'TIME'" not in text
    return text


@dataclass
class Clock:
    """What time it is for the scripts of one database."""

    database: Database
    now_us: int = START_MS * 1000

    @classmethod
    async def of(cls, database: Database) -> Self:
        """Stop the time of a database; from now on it passes only by `advance`."""
        for name in SCRIPT_NAMES:
            database._scripts[name] = database.redis.register_script(on_test_clock(name))
        clock = cls(database)
        await clock.advance(0)
        return clock

    @property
    def now_ms(self) -> int:
        """As the scripts see it."""
        return self.now_us // 1000

    async def advance(self, seconds: float) -> None:
        """Let time pass; a negative number sets the clock back, as NTP may."""
        self.now_us += round(seconds * 1_000_000)
        key = f"{self.database.keys.prefix}test:clock"
        async with self.database.redis.pipeline(transaction=True) as pipe:
            pipe.delete(key)
            pipe.rpush(key, self.now_us // 1_000_000, self.now_us % 1_000_000)
            await pipe.execute()


def request(user: str = "ada", **parts: Any) -> JobRequest:
    """A request that is accepted."""
    return JobRequest.read({"workflow": "Portrait", "frontend": "web", "user": {"id": user}} | parts)


def lane_user(user: str) -> str:
    """A user of `request` as lanes and windows name him."""
    return f"web:{user}"


async def put(
    database: Database,
    user: str = "ada",
    *,
    pool: str = "",
    pool_limit: int = 0,
    workflow_id: str = "wf",
    job_id: str = "",
    weight: int = 1,
    **parts: Any,
) -> str:
    """Put one job into its lane."""
    target = Target(workflow_id=workflow_id, deployment_id="dep", pool=pool, pool_limit=pool_limit)
    ask, store = request(user, **parts), JobStore(database)
    known, _ = await store.create(ask, target, job_id=job_id or new_job_id(), weight=weight)
    return known


async def take(
    database: Database,
    most: int = 1000,
    *,
    window: int = 1_000_000,
    user_window: int = 1_000_000,
    starting: int = 1_000_000,
    patience_ms: int = 15_000,
) -> list[str]:
    """Dispatch with these windows; without any, everything that may go goes."""
    taken: list[str] = await database.run("dispatch", most, window, user_window, starting, patience_ms)
    return taken


async def move(database: Database, job_id: str, from_: str, to: str, *, delay_ms: int = 0, **fields: str) -> list[str]:
    """Move a job with the raw script, announced under the name of its new state."""
    event = "" if to in ("queued", "submitting") else f"job.{to}"
    keep = 86_400_000 if event and to not in ("submitted", "running") else delay_ms
    reply: list[str] = await database.run("transition", job_id, from_, to, event, json.dumps(fields), keep)
    return reply


async def submit(database: Database, job_id: str, run_id: str = "", *, delay_ms: int = 0) -> str:
    """Take a dispatched job to `submitted`; answers its run."""
    run_id = run_id or f"run-{uuid4().hex[:8]}"
    assert (await move(database, job_id, "queued", "submitting"))[0] == "moved"
    assert (await move(database, job_id, "submitting", "submitted", delay_ms=delay_ms, run_id=run_id))[0] == "moved"
    return run_id


@dataclass
class Sight:
    """Everything a database holds about jobs, read in one go."""

    jobs: dict[str, dict[str, str]] = field(default_factory=dict)
    #: Job id -> the data of its events, in stream order.
    events: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    #: Sorted sets by their name below the prefix.
    sets: dict[str, dict[str, float]] = field(default_factory=dict)
    #: The other hashes.
    hashes: dict[str, dict[str, str]] = field(default_factory=dict)
    parked: dict[str, set[str]] = field(default_factory=dict)

    def lanes(self) -> dict[tuple[str, str], list[str]]:
        """(pool, user) -> waiting jobs in their order."""
        return {
            (name.split(":")[1], name.split(":", 2)[2]): list(members)
            for name, members in self.sets.items()
            if name.startswith("lane:")
        }


async def look_at(database: Database) -> Sight:
    """Read all keys below the database's prefix."""
    prefix, redis = database.keys.prefix, database.redis
    names = sorted([str(key) async for key in redis.scan_iter(match=f"{prefix}*", count=1000)])
    async with redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.type(name)
        types = await pipe.execute()
        for name, type_ in zip(names, types, strict=True):
            match type_:
                case "hash":
                    pipe.hgetall(name)
                case "zset":
                    pipe.zrange(name, 0, -1, withscores=True)
                case "stream":
                    pipe.xrange(name)
                case "set":
                    pipe.smembers(name)
                case _:
                    pipe.exists(name)
        values = await pipe.execute()

    sight = Sight()
    for full, type_, value in zip(names, types, values, strict=True):
        name = full.removeprefix(prefix)
        if type_ == "hash" and name.startswith("job:"):
            sight.jobs[name.removeprefix("job:")] = value
        elif type_ == "hash":
            sight.hashes[name] = value
        elif type_ == "zset":
            sight.sets[name] = {member: float(score) for member, score in value}
        elif type_ == "set" and name.startswith("parked:"):
            sight.parked[name.removeprefix("parked:")] = set(value)
        elif type_ == "stream" and name.startswith("results:"):
            for _, entry in value:
                data = json.loads(entry["data"])
                assert (entry["type"], entry["job_id"], entry["seq"]) == (
                    data["type"],
                    data["job_id"],
                    str(data["seq"]),
                )
                sight.events.setdefault(entry["job_id"], []).append(data)
    return sight


class Theatre:
    """A database on a stopped clock with an event loop of its own, for tests that are not coroutines."""

    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner()
        self.database = Database.open(url, prefix=f"t{uuid4().hex[:10]}:")
        self.clock = self(Clock.of(self.database))

    def __call__(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def close(self) -> None:
        """Forget everything below the prefix and end the loop."""
        self(self._forget())
        self._runner.close()

    async def _forget(self) -> None:
        if names := [key async for key in self.database.redis.scan_iter(match=f"{self.database.keys.prefix}*")]:
            await self.database.redis.delete(*names)
        await self.database.aclose()
