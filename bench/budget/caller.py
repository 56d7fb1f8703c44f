"""One process full of callers, for `python -m bench.budget`; prints what it saw as one line of JSON.

    python -m bench.budget.caller DESIGN PROCESSES SECONDS CALLERS

It has as many callers at once as CALLERS says, four fifths of them submits and looks; each takes a call, makes it, and asks
for the next. To make a call is to append the time of Redis to a list, which is all that the windows are judged by: the bucket
has no part in it.
"""

import asyncio
import json
import os
import sys
import time
from collections import defaultdict

from bench.budget.designs import design
from shared.database import Database
from shared.limits.bucket import CallClass
from shared.settings import Settings

#: Of ten callers.
MIX: tuple[CallClass, ...] = (
    "submit",
    "look",
    "submit",
    "look",
    "cancel",
    "submit",
    "look",
    "submit",
    "look",
    "catalog",
)

CALL = "local t = redis.call('TIME'); return redis.call('RPUSH', KEYS[1], t[1] .. string.format('%06d', t[2]))"


async def work(name: str, processes: int, seconds: float, callers: int) -> dict[str, object]:
    """Call for so long; begins when everybody is ready."""
    settings, prefix = Settings.from_env(), os.environ["BENCH_PREFIX"]
    waits: defaultdict[str, list[float]] = defaultdict(list)
    async with Database.open(settings.redis_url, prefix=prefix) as database:
        shared = design(name, database, settings, processes)
        call = database.redis.register_script(CALL)
        calls = f"{prefix}calls"
        # Loads the script: the first call shall be as quick as the others.
        await call(keys=[f"{prefix}warm"])
        await database.redis.incr(f"{prefix}ready")
        await database.redis.blpop([f"{prefix}go"], timeout=9)

        async def caller(class_: CallClass) -> None:
            while True:
                began = time.monotonic()
                await shared.take(class_)
                waits[class_].append(time.monotonic() - began)
                await call(keys=[calls])

        cpu = time.process_time()
        tasks = [asyncio.create_task(caller(MIX[n % len(MIX)])) for n in range(callers)]
        await asyncio.wait(tasks, timeout=seconds)
        cpu = time.process_time() - cpu
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        for one in ended:
            if not isinstance(one, asyncio.CancelledError):
                raise one if isinstance(one, BaseException) else RuntimeError("a caller ended")
    return {"asks": shared.asks, "cpu": cpu, "waits": waits}


if __name__ == "__main__":
    given = sys.argv
    print(json.dumps(asyncio.run(work(given[1], int(given[2]), float(given[3]), int(given[4])))))
