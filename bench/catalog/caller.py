"""One process that looks names up at a steady rate; started by `__main__.py`, prints what it met as JSON.

python -m bench.catalog.caller DESIGN SECONDS PER_SECOND
"""

import asyncio
import json
import os
import random
import sys
import time

from bench.catalog.designs import DESIGNS
from shared.comfydeploy import ComfyDeploy
from shared.database import Database
from shared.errors import ConveyorError
from shared.settings import Settings

#: Every design begins with nothing; that is not counted.
WARM_UP_SECONDS = 2.0

NAMES = ("SDXL Portrait", "flux dev", "Wan Video 2.1", "caption image", "restyle-image", "STICKER GIF")


async def main(design: str, seconds: float, per_second: float) -> None:
    """Look up, each question on its own, however long the others take."""
    settings, rng = Settings.from_env(), random.Random(os.getpid())
    waits: list[float] = []
    failed = 0
    async with (
        Database.open(settings.redis_url, prefix=os.environ["BENCH_PREFIX"]) as database,
        ComfyDeploy(settings.api_url, settings.require_api_key()) as client,
    ):
        keeper = DESIGNS[design](database, settings, client)

        async def ask() -> None:
            nonlocal failed
            at = time.perf_counter()
            try:
                found = await keeper.look_up(rng.choice(NAMES))
            except ConveyorError:
                found = ""
            if at > counting_from:
                failed += not found
                waits.append(time.perf_counter() - at)

        await database.redis.incr(f"{database.keys.prefix}ready")
        await database.redis.blpop([f"{database.keys.prefix}go"], timeout=60)
        began = time.perf_counter()
        counting_from, hits = began + WARM_UP_SECONDS, None
        asking: set[asyncio.Task[None]] = set()
        while time.perf_counter() < began + seconds:
            if hits is None and time.perf_counter() > counting_from:
                hits = keeper.hits
            task = asyncio.create_task(ask())
            asking.add(task)
            task.add_done_callback(asking.discard)
            await asyncio.sleep(rng.expovariate(per_second))
        if asking:
            await asyncio.wait(asking, timeout=30)
        hits = keeper.hits - (hits or 0)
        await keeper.aclose()
    print(json.dumps({"waits": waits, "failed": failed, "hits": hits}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3])))
