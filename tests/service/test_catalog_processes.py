"""Many processes, one catalog: what a burst on a cold start costs the API."""

import asyncio
import json
import sys
from typing import Any

import pytest
import redis.asyncio

from producers.local.processes import ROOT, environment
from producers.local.redis_server import RedisServer
from shared.comfydeploy import ComfyDeploy
from tests.service.worker_fixtures import Api

pytestmark = pytest.mark.redis

PROCESSES, WORKFLOWS, JOBS = 4, 20, 500
MACHINE = "a0000000-0000-4000-8000-000000000001"
GRAPH: dict[str, Any] = {"1": {"class_type": "ComfyUIDeployExternalText", "inputs": {"input_id": "prompt"}}}

PROGRAM = """
import asyncio, json, sys
from producers import Producer

async def main() -> None:
    names, count = json.loads(sys.argv[1]), int(sys.argv[2])
    requests = [
        {"workflow": names[n % len(names)], "frontend": "web", "user": {"id": f"u{n}"}, "inputs": {"prompt": "a fox"}}
        for n in range(count)
    ]
    async with Producer.from_env() as producer:
        print("ready", flush=True)
        sys.stdin.readline()
        await asyncio.gather(*(producer.enqueue(request) for request in requests))

asyncio.run(main())
"""


async def test_five_hundred_enqueues_from_several_processes_cost_one_refresh(
    api: Api, redis_server: RedisServer
) -> None:
    """Of twenty workflows, by name, with nothing known before: every job is taken resolved, and the API was read once."""
    url = redis_server.url.replace("/0", "/9")
    async with ComfyDeploy(f"{api.url}/api", "sim-key") as client:
        names = [one.name or "" for one in await client.workflows.list()]
        made = [f"Burst {number}" for number in range(WORKFLOWS - len(names))]
        for name in made:
            await client.workflows.create(name, {"nodes": []}, GRAPH, machine_id=MACHINE)
    # What has to be given something is left to those that have not.
    names = [name for name in names if name not in ("Caption Image", "LoRA Training")] + made
    env = environment(
        REDIS_URL=url,
        COMFY_DEPLOY_API_URL=f"{api.url}/api",
        COMFY_DEPLOY_API_KEY="sim-key",
        CONVEYOR_RATE_PER_SECOND="1000",
        CONVEYOR_RATE_BURST="1000",
    )
    command = [sys.executable, "-c", PROGRAM, json.dumps(names), str(JOBS // PROCESSES)]
    async with redis.asyncio.Redis.from_url(url, decode_responses=True) as client, asyncio.timeout(60):
        await client.flushdb()
        await api.reset_counts()
        pipe = asyncio.subprocess.PIPE
        programs = [
            await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=env, stdin=pipe, stdout=pipe)
            for _ in range(PROCESSES)
        ]
        try:
            for program in programs:
                assert program.stdout is not None
                assert await program.stdout.readline() == b"ready\n"
            ended = await asyncio.gather(*(program.communicate(b"go\n") for program in programs))
        finally:
            for program in programs:
                if program.returncode is None:
                    program.kill()
                    await program.wait()
        assert [program.returncode for program in programs] == [0] * PROCESSES, ended
        jobs = [key async for key in client.scan_iter("conveyor:job:*", count=1000)]
        assert len(jobs) == JOBS
        for key in jobs:
            assert all(await client.hmget(key, ["workflow_id", "deployment_id", "pool"])), key
        await client.flushdb()
    calls = {route: await api.calls(route) for route in ("GET /deployments", "GET /workflows", "GET /machines")}
    # The listing of deployments has two halves.
    assert calls == {"GET /deployments": 2, "GET /workflows": 1, "GET /machines": 1}
    assert await api.calls() - sum(calls.values()) == await api.calls("GET /machine/{machine_id}") <= 5
