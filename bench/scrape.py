"""What does a scrape cost? Redis's time and commands for the numbers of the whole system, with 10,000 lanes and with one.

    .venv/bin/python -m bench.scrape

Starts its own Redis. `counted` is a scrape for which Redis counts, `kept` one that gets the answer another process had a
moment ago; `in Redis` is what the server says the script took, with all commands in it.
"""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from prometheus_client import REGISTRY, disable_created_metrics, generate_latest
from pydantic import SecretStr

from producers.local.redis_server import RedisServer
from shared.census import Census, Counted
from shared.database import Database
from shared.identifiers import new_job_id
from shared.jobs.request import JobRequest
from shared.jobs.store import JobStore, Target
from shared.settings import Settings

ROUNDS = 200


async def fill(database: Database, lanes: int, frontends: int, machines: int) -> None:
    """One waiting job in each lane, three consumer groups on each stream, of which one has read nothing."""
    store = JobStore(database)
    for start in range(0, lanes, 100):
        await asyncio.gather(*(put(store, n, frontends, machines) for n in range(start, min(start + 100, lanes))))
    for frontend in await database.redis.smembers(database.keys.frontends):
        for group in ("bot", "audit", "mail"):
            await database.redis.xgroup_create(
                database.keys.results(str(frontend)), group, "$" if group == "bot" else "0"
            )


async def put(store: JobStore, n: int, frontends: int, machines: int) -> None:
    """One waiting job of a user of his own."""
    request = JobRequest.read({"workflow": "w", "frontend": f"f{n % frontends}", "user": {"id": str(n)}})
    target = Target(deployment_id="d", workflow_id="w", pool=f"m{n % machines}", pool_limit=4)
    await store.create(request, target, job_id=new_job_id())


async def stats(database: Database) -> tuple[int, float]:
    """Commands so far, and the microseconds scripts have taken."""
    told = await database.redis.info("commandstats")
    return sum(int(one["calls"]) for one in told.values()), float(told.get("cmdstat_evalsha", {}).get("usec", 0))


async def measure(lanes: int, frontends: int, machines: int) -> None:
    """Print one line."""
    with tempfile.TemporaryDirectory() as folder:
        async with RedisServer(Path(folder)) as server, Database.open(server.url) as database:
            settings = Settings(redis_url=server.url, api_key=SecretStr("k"))
            await fill(database, lanes, frontends, machines)
            census = Census(database, settings)
            await census.read()
            found = {}
            for kind in ("counted", "kept"):
                took, in_redis, commands = [], [], 0
                for _ in range(ROUNDS):
                    if kind == "counted":
                        await database.redis.delete(database.keys.census)
                    else:
                        await census.read()
                    before = await stats(database)
                    began = time.perf_counter()
                    await census.read()
                    took.append((time.perf_counter() - began) * 1000)
                    after = await stats(database)
                    commands = after[0] - before[0] - 1  # the INFO itself
                    in_redis.append((after[1] - before[1]) / 1000)
                found[kind] = (statistics.median(took), max(took), statistics.median(in_redis), commands)
            began = time.perf_counter()
            text = generate_latest(REGISTRY) + generate_latest(Counted(await census.read()))
            wrote = (time.perf_counter() - began) * 1000
    print(f"{lanes:>6} lanes, {frontends} frontends with 3 groups, {machines} machines")
    for kind, (median, worst, in_redis, commands) in found.items():
        print(
            f"    {kind:<8} {median:6.2f} ms (worst {worst:.1f}), in Redis {in_redis:.3f} ms, {commands} commands, most inside it"
        )
    print(f"    page     {len(text.splitlines())} lines, {len(text) / 1000:.0f} kB, {wrote:.1f} ms to write")


async def main() -> None:
    """Few and many lanes; then many frontends, too."""
    disable_created_metrics()  # as workers and gateways do
    for lanes, frontends, machines in ((1, 1, 1), (10_000, 3, 5), (10_000, 30, 50)):
        await measure(lanes, frontends, machines)


if __name__ == "__main__":
    asyncio.run(main())
