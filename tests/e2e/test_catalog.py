"""The API is gone, for real: what still answers, and what becomes of the jobs that were taken meanwhile."""

import asyncio
import json
import time

import httpx

from producers.local.processes import ROOT
from shared.database import Database
from shared.jobs.states import JobState
from tests.e2e.site import Site, until

HOURS = 2


async def stop_the_api(site: Site) -> None:
    """The simulator's process ends. It comes back where it was."""
    program = next(program for program in site.stack.processes if program.name == "simulator")
    program.command[program.command.index("--port") + 1] = site.stack.simulator_url.rpartition(":")[2]
    await program.stop()


async def start_the_api(site: Site) -> None:
    """It is there again, with its fixtures and without a memory."""
    await next(program for program in site.stack.processes if program.name == "simulator").start()

    async def answers() -> bool:
        try:
            return (await site.http.get("/_sim/config")).status_code == 200
        except httpx.TransportError:
            return False

    await until(answers, what="the simulator is back")


async def age_the_catalog(site: Site) -> None:
    """As if the API had been gone for hours."""
    async with Database.open(site.settings.redis_url) as database:
        for key in (database.keys.catalog, database.keys.catalog_machines):
            if not (text := await database.redis.get(key)):
                continue  # nobody has asked for a machine's limit yet
            stored = json.loads(text)
            head = {"stamp": f"{time.time()}", "read_at": stored["read_at"] - 3600 * HOURS}
            await database.redis.set(key, json.dumps(head | {k: v for k, v in stored.items() if k not in head}))


async def told(site: Site, *arguments: str) -> tuple[int, str, str]:
    """What `conveyor` in a process of its own leaves with and says."""
    pipe = asyncio.subprocess.PIPE
    program = await asyncio.create_subprocess_exec(
        "conveyor", *arguments, cwd=ROOT, env=site.stack.env, stdout=pipe, stderr=pipe
    )
    async with asyncio.timeout(30):
        out, err = await program.communicate()
    return program.returncode or 0, out.decode(), err.decode()


async def test_without_the_api_workflows_are_listed_and_jobs_wait_for_it(site: Site) -> None:
    """The listing answers, flagged and with its age; a known workflow is taken by name and runs when the API is back."""
    assert (await site.producer.workflows()).entries
    await stop_the_api(site)
    try:
        await age_the_catalog(site)
        code, out, _ = await told(site, "workflows", "--json")
        entries = [json.loads(line) for line in out.splitlines()]
        assert code == 0
        assert "SDXL Portrait" in {entry["name"] for entry in entries}
        assert {entry["stale"] for entry in entries} == {True}
        assert all(3600 * HOURS <= entry["age_seconds"] < 3600 * HOURS + 900 for entry in entries)
        code, out, err = await told(site, "workflows", "--refresh")
        assert (code, "SDXL Portrait" in out, "as of 2 h ago, which is too old" in out) == (3, True, True)
        assert "Not refreshed: " in err
        handle = await site.enqueue("sdxl portrait")
        assert (await handle.status()).job.workflow_id
    finally:
        await start_the_api(site)
        await site.calm()
    [job] = await site.final([handle], seconds=60)
    assert job.state is JobState.SUCCEEDED
    await site.check([handle], runs=1)
