"""Have a worker take nothing new: before it is stopped, or while somebody looks at it.

What it follows needs no hand-over: other workers look at it when it is due (`workers/drain.py`). So draining the only worker
stops everything but what is under way.
"""

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

from shared.database import Database
from shared.jobs.by import By

#: Between two questions whether it has drained.
AGAIN_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Sign:
    """What a worker last said of itself."""

    name: str
    busy: int
    slots: int
    draining: bool
    starved_seconds: float

    @property
    def idle(self) -> bool:
        """It takes nothing new, and nothing is under way."""
        return self.draining and self.busy == 0


async def signs(database: Database) -> dict[str, Sign]:
    """The workers seen within half a minute, by node name. 2 round trips and a scan."""
    prefix = database.keys.worker("")
    with database.asking():
        keys = [str(key) async for key in database.redis.scan_iter(match=f"{prefix}*", count=1000)]
        texts = await database.redis.mget(keys) if keys else []
    found: dict[str, Sign] = {}
    for key, text in zip(keys, texts, strict=True):
        said: dict[str, Any] = json.loads(text or "{}")
        name = key.removeprefix(prefix)
        starved = float(said.get("starved_seconds", 0))
        found[name] = Sign(name, said.get("busy", 0), said.get("slots", 0), bool(said.get("draining")), starved)
    return found


async def drain(database: Database, worker: str, by: By, *, undo: bool = False) -> bool:
    """Tell a worker to take nothing new, or to take again; False when it was told before. One round trip."""
    return bool(await database.run("drain", worker, "1" if undo else "", by.json()) == "told")


async def drained(database: Database, worker: str, wait_seconds: float, *, undo: bool = False) -> Sign | None:
    """Wait until a worker has heard it, and for a drain until nothing is under way; its last sign, None when it is gone."""
    end = time.monotonic() + wait_seconds
    while True:
        sign = (await signs(database)).get(worker)
        done = sign is None or (not sign.draining if undo else sign.idle)
        if done or time.monotonic() >= end:
            return sign
        await asyncio.sleep(AGAIN_SECONDS)
