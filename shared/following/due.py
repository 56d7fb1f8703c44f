"""Which workflows are due for a look, and who looks?

Every worker asks; a claim is a lease, so that the looks of a killed worker are taken over when it ends. What is worth
asking when is `tasks/schedule.py`'s business; this only remembers the answer.

Read `shared/lua/claim_due.lua` and `shared/lua/settle_look.lua` beside it.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

from shared.database import Database

#: A look that takes longer than this, or a worker that was killed, loses its claim (promise 4).
LEASE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class InFlight:
    """One run that is being followed."""

    job_id: str
    run_id: str
    #: When it is worth a look, in ms on Redis's clock.
    look_at: int

    @property
    def member(self) -> str:
        """How the run is written in the in-flight set."""
        return f"{self.job_id} {self.run_id}"


class DueSet:
    """The workflows with runs in flight, by when to look next."""

    def __init__(self, database: Database, owner: str) -> None:
        self._db = database
        self._owner = owner

    async def claim(self, most: int) -> tuple[list[str], float | None]:
        """Take due workflows for a lease. Also answers the seconds until the next is due; None when none is known."""
        next_ms, *workflows = await self._db.run("claim_due", self._owner, most, round(LEASE_SECONDS * 1000))
        return workflows, None if int(next_ms) < 0 else int(next_ms) / 1000

    async def in_flight(self, workflow_id: str) -> tuple[int, list[InFlight]]:
        """The time (ms) and all runs of a workflow, the one most worth a look first. One round trip."""
        pipe = self._db.redis.pipeline(transaction=False)
        pipe.time()
        pipe.zrange(self._db.keys.inflight(workflow_id), 0, -1, withscores=True)
        with self._db.asking():
            (seconds, microseconds), members = await pipe.execute()
        runs = []
        for member, at in members:
            job_id, _, run_id = member.partition(" ")
            runs.append(InFlight(job_id, run_id, look_at=int(at)))
        return seconds * 1000 + microseconds // 1000, runs

    async def settle(
        self,
        workflow_id: str,
        next_looks: dict[str, float],
        put_off: dict[str, float] | None = None,
        *,
        looked_at: int | None = None,
    ) -> float | None:
        """End a look: seconds from now until each run looked at is worth the next, by member.

        `put_off` are runs that were not looked at, but can wait; `looked_at` is when the look began (ms). Answers the
        seconds until the workflow is due again, None when nothing of it is in flight.
        """
        looked, waiting = (
            json.dumps({member: round(seconds * 1000) for member, seconds in runs.items()})
            for runs in (next_looks, put_off or {})
        )
        reply = await self._db.run("settle_look", workflow_id, self._owner, looked, waiting, looked_at or "")
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
