"""Which workflows are due for a look, and who looks?

Every worker asks; a claim is a lease, so that the looks of a killed worker are taken over when it ends. What is worth
asking when is `tasks/schedule.py`'s business; this only remembers the answer.

Read `shared/lua/claim_due.lua` and `shared/lua/settle_look.lua` beside it.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import cast

from shared.database import Database

#: A look that takes longer than this, or a worker that was killed, loses its claim (promise 4).
LEASE_SECONDS = 15.0

#: The part of a crowd that may be due on its own account and is still looked at by itself.
FEW = 0.1


@dataclass(frozen=True, slots=True)
class InFlight:
    """One run that is being followed."""

    job_id: str
    run_id: str
    #: When it is worth a look, in ms on Redis's clock.
    look_at: int
    #: Whether that time is its own; else it is the one all runs of the workflow share since they were last looked at.
    own: bool = True

    @property
    def member(self) -> str:
        """How the run is written in the in-flight set."""
        return f"{self.job_id} {self.run_id}"


@dataclass(frozen=True, slots=True)
class Flight:
    """Runs of a workflow, at one moment."""

    now_ms: int
    #: When all of them were last looked at (ms); 0 for never.
    looked_ms: int
    #: The run most worth a look first.
    runs: list[InFlight]
    #: Whether these are all; else only those whose own time has come, of very many.
    whole: bool = True


@dataclass(slots=True)
class Settlement:
    """What a look leaves behind. Runs are named by their members, times are seconds from now."""

    #: Runs that were looked at, by when they are worth the next look of their own.
    own: dict[str, float] = field(default_factory=dict)
    #: Runs that were not looked at, but can wait.
    put_off: dict[str, float] = field(default_factory=dict)
    #: Runs that were looked at and have the common time from now on.
    joined: list[str] = field(default_factory=list)
    #: When all runs without a time of their own are worth the next look; None leaves that as it is.
    common: float | None = None
    #: Whether the look answered for all runs but those put off.
    whole: bool = False
    #: When the look began, in ms; 0 for now.
    began_ms: int = 0


class DueSet:
    """The workflows with runs in flight, by when to look next."""

    def __init__(self, database: Database, owner: str) -> None:
        self._db = database
        self._owner = owner

    async def claim(self, most: int) -> tuple[list[str], float | None]:
        """Take due workflows for a lease. Also answers the seconds until the next is due; None when none is known."""
        next_ms, *workflows = await self._db.run("claim_due", self._owner, most, round(LEASE_SECONDS * 1000))
        return workflows, None if int(next_ms) < 0 else int(next_ms) / 1000

    async def in_flight(self, workflow_id: str, *, crowd: int | None = None, soon_ms: int = 0) -> Flight:
        """All runs of a workflow. With more than `crowd` of them, only those whose own time comes within `soon_ms`, when
        these are few and the common time has not come. Two round trips."""
        keys, redis = self._db.keys, self._db.redis
        with self._db.asking():
            pipe = redis.pipeline(transaction=False)
            pipe.time()
            pipe.hget(keys.together, workflow_id)
            pipe.zcard(keys.inflight(workflow_id))
            (seconds, microseconds), told, count = await pipe.execute()
            now_ms = seconds * 1000 + microseconds // 1000
            looked_ms, common_ms = map(int, (told or "0 0").split())
            whole, lowest, highest = True, "-inf", "+inf"
            if crowd is not None and count > crowd and common_ms > now_ms + soon_ms:
                lowest, highest = f"({looked_ms}", str(now_ms + soon_ms)
                whole = await redis.zcount(keys.inflight(workflow_id), lowest, highest) > crowd * FEW
                if whole:
                    lowest, highest = "-inf", "+inf"
            found = await redis.zrangebyscore(keys.inflight(workflow_id), lowest, highest, withscores=True)
        members = cast(list[tuple[str, float]], found)
        runs = []
        for member, at in members:
            job_id, _, run_id = member.partition(" ")
            own = at > looked_ms
            runs.append(InFlight(job_id, run_id, look_at=int(at) if own else common_ms, own=own))
        runs.sort(key=attrgetter("look_at"))
        return Flight(now_ms, looked_ms, runs, whole)

    async def settle(self, workflow_id: str, settlement: Settlement) -> float | None:
        """End a look. One round trip.

        Answers the seconds until the workflow is due again, None when nothing of it is in flight.
        """
        own, put_off = (
            json.dumps({member: round(seconds * 1000) for member, seconds in runs.items()})
            for runs in (settlement.own, settlement.put_off)
        )
        reply = await self._db.run(
            "settle_look",
            workflow_id,
            self._owner,
            own,
            put_off,
            settlement.began_ms or "",
            json.dumps(settlement.joined),
            "" if settlement.common is None else round(settlement.common * 1000),
            "1" if settlement.whole else "",
        )
        due_ms = int(reply)
        return None if due_ms < 0 else due_ms / 1000

    async def forgotten(self) -> AsyncIterator[str]:
        """Workflows with runs in flight that are not in the due-set. O(keys): a scan, for upkeep."""
        prefix = self._db.keys.inflight("")
        with self._db.asking():
            async for key in self._db.redis.scan_iter(match=f"{prefix}*", count=500):
                workflow_id = key.removeprefix(prefix)
                if await self._db.redis.zscore(self._db.keys.due, workflow_id) is None:
                    yield workflow_id
