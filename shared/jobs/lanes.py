"""Whose job goes next? The waiting jobs of each user stand in a lane; windows say how many may be past the lanes.

The Celery queue stays short: a job leaves its lane only when it may be submitted, so one user's burst does not hold
up another, places in the queue are exact, and cancelling a waiting job is instant. Whoever calls `dispatch` publishes
the submit tasks of the jobs it was given; a publisher that dies in between is made good by rescue.

Read `shared/lua/dispatch.lua` beside it.
"""

from typing import Literal

from shared.database import Database
from shared.jobs.event import QueuePlace
from shared.settings import Settings

#: Jobs dispatched or submitting at once. Submits are bounded by the budget, so more would only wait in the broker.
STARTING_WINDOW = 64

#: A dispatched job that nobody picked up, or whose holder went silent, is rescued after this long.
HOLD_SECONDS = 15.0


class Lanes:
    """Take jobs out of the lanes, and put them back."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._db = database
        self._settings = settings

    async def dispatch(self, most: int = STARTING_WINDOW) -> list[str]:
        """Take up to `most` jobs while the windows have room; the caller publishes their submit tasks."""
        taken: list[str] = await self._db.run(
            "dispatch",
            most,
            self._settings.window,
            self._settings.user_window,
            STARTING_WINDOW,
            round(HOLD_SECONDS * 1000),
        )
        return taken

    async def hold(
        self, job_id: str, holder: str, *, seconds: float = HOLD_SECONDS
    ) -> tuple[Literal["held", "busy", "refused", "missing"], str]:
        """Work on a dispatched job, alone; repeat it every few seconds. Answers the word and the job's state.

        A last hold of chosen length puts the job off: rescue starts it again when it ends.
        """
        word, state = await self._db.run("hold", job_id, holder, round(seconds * 1000))
        return word, state

    async def give_back(self, job_id: str) -> bool:
        """Put a dispatched job nobody started back where it stood; False when it is not dispatched."""
        return bool(await self._db.run("give_back", job_id) == "given back")

    async def place(self, job_id: str) -> QueuePlace | None:
        """Where a job waits, and when its turn is; None when it does not wait in a lane. O(waiting users)."""
        ahead, turn_ms, paused = await self._db.run("place", job_id, self._settings.window, self._settings.user_window)
        if ahead < 0:
            return None
        eta = None if turn_ms < 0 else turn_ms / 1000
        return QueuePlace(position=ahead + 1, ahead=ahead, eta_seconds=eta, paused=paused or None)

    async def overdue(
        self,
        which: Literal["starting", "expiring", "closing", "strays", "callbacks", "archives"],
        *,
        most: int = 100,
        again_seconds: float = HOLD_SECONDS,
    ) -> list[str]:
        """Take what has waited too long; it is handed out again after `again_seconds` unless it was repaired."""
        ids: list[str] = await self._db.run("overdue", which, most, round(again_seconds * 1000))
        return ids

    async def suspect(self, job_id: str, run_ids: list[str]) -> None:
        """Have upkeep check runs that carry a job's id: all but the job's own are cancelled."""
        members = dict.fromkeys((f"{job_id} {run_id}" for run_id in run_ids), await self._db.now_ms())
        with self._db.asking():
            await self._db.redis.zadd(self._db.keys.strays, members, nx=True)

    async def sooner(self, which: Literal["callbacks", "archives"], members: list[str], seconds: float) -> None:
        """Have what was just taken handed out again `seconds` sooner than it would be."""
        pipe = self._db.redis.pipeline(transaction=False)
        for member in members:
            pipe.zadd(f"{self._db.keys.prefix}{which}", {member: -round(seconds * 1000)}, xx=True, incr=True)
        with self._db.asking():
            await pipe.execute()

    async def later(self, which: Literal["archives"], member: str, seconds: float) -> None:
        """Keep what was taken for so long from now; nothing when it is repaired."""
        until = await self._db.now_ms() + round(seconds * 1000)
        with self._db.asking():
            await self._db.redis.zadd(f"{self._db.keys.prefix}{which}", {member: until}, xx=True)

    async def settled(self, which: Literal["closing", "strays"], member: str) -> bool:
        """It is repaired, and need not be handed out again. True for the one of several callers who said so first."""
        with self._db.asking():
            return bool(await self._db.redis.zrem(f"{self._db.keys.prefix}{which}", member))
