"""A few points of the frontier with real processes: do the workers do what virtual time says?

One worker, a real Redis, the simulator at the speed of life (image: log-normal, median 12 s, sigma 0.3) and, for webhooks,
the gateway. So many runs are kept in flight; calls are counted by the simulator, delays are between the end it noted and the
final event on the stream, on one machine's clock. The worker begins with 32 durations in its history, as a warm one has.
"""

import asyncio
import json
import math
import random
import statistics
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from producers import JobRequest, Producer, ResultConsumer
from producers.local.processes import procfile
from producers.local.redis_server import free_port
from producers.local.stack import Stack
from shared.comfydeploy import ComfyDeploy
from shared.database import Database
from shared.following.forecast import KEPT
from shared.following.history import History
from shared.settings import Settings

MACHINE = "a0000000-0000-4000-8000-000000000001"
#: Deployments of that machine with one picture each; runs of different workflows share no listing.
DEPLOYMENTS = tuple(f"d0000000-0000-4000-8000-0000000000{number:02}" for number in (1, 8, 7))
MEDIAN_SECONDS, SIGMA = 12.0, 0.3
#: Runs that end in this time are not counted: the first ones all began at once.
WARM_UP_SECONDS = 20.0
SETTINGS = {
    "CONVEYOR_RATE_PER_SECOND": "200",
    "CONVEYOR_RATE_BURST": "200",
    "CONVEYOR_USER_WINDOW": "1000",
    "CONVEYOR_WINDOW": "1000",
    "CONVEYOR_LOG_FORMAT": "json",
}


@dataclass(frozen=True)
class Point:
    """What was measured."""

    name: str
    in_flight: str
    jobs: int
    calls_per_job: float
    mean_delay: float
    p95_delay: float


@asynccontextmanager
async def running(**more: str) -> AsyncIterator[tuple[Stack, Settings, httpx.AsyncClient]]:
    """The processes, with a machine that is large enough for all runs and a history that is warm."""
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder), workers=0, speed=1.0, seed=7, settings={**SETTINGS, **more})
        async with stack, httpx.AsyncClient(base_url=stack.simulator_url, timeout=10, trust_env=False) as http:
            durations = {"image": {"median": MEDIAN_SECONDS, "sigma": SIGMA}}
            patch = {"durations": durations, "cold_start_seconds": 0.5, "warm_start_seconds": 0.4}
            (await http.post("/_sim/config", json=patch)).raise_for_status()
            key = {"authorization": f"Bearer {stack.env['COMFY_DEPLOY_API_KEY']}"}
            answer = await http.patch(f"/api/machine/serverless/{MACHINE}", json={"concurrency_limit": 64}, headers=key)
            answer.raise_for_status()
            settings = Settings.from_env({name: stack.env[name] for name in Settings.names() if name in stack.env})
            rng = random.Random(1)
            async with Database.open(settings.redis_url) as database:
                for deployment in DEPLOYMENTS:
                    for _ in range(KEPT):
                        took = MEDIAN_SECONDS * math.exp(rng.gauss(0.0, SIGMA))
                        await History(database).record(deployment, {"total": took + 0.6, "run": took})
            if settings.public_url:
                port = settings.public_url.rpartition(":")[2]
                stack.env["PORT"] = port
                await stack.start("gateway", procfile()["gateway"])
            await stack.start_worker("w1")
            yield stack, settings, http


async def conveyor(name: str, deployments: int, each: int, seconds: float, **more: str) -> Point:
    """Keep `each` runs of so many workflows in flight, and count."""
    async with running(**more) as (_, settings, http):
        frontend = f"bench-{uuid.uuid4().hex[:8]}"
        ended: dict[str, float] = {}
        async with (
            Producer(settings) as producer,
            ResultConsumer(frontend, "bench", "one", settings=settings) as results,
        ):

            async def ask(deployment: str) -> None:
                user = {"id": f"u{random.randrange(8)}"}
                request = {
                    "deployment_id": deployment,
                    "frontend": frontend,
                    "user": user,
                    "context": {"d": deployment},
                }
                await producer.enqueue(JobRequest.model_validate(request | {"inputs": {"prompt": "a fox"}}))

            for deployment in DEPLOYMENTS[:deployments]:
                for _ in range(each):
                    await ask(deployment)
            counting_from, began = time.time() + WARM_UP_SECONDS, await _calls(http)
            started = False
            async for delivery in results:
                event = delivery.event
                await delivery.ack()
                if event.final:
                    if event.at.timestamp() > counting_from:
                        if not started:
                            started, began = True, await _calls(http)
                        else:
                            ended[event.job_id] = event.at.timestamp()
                    await ask(event.context["d"])
                if time.time() > counting_from + seconds:
                    break
            calls = await _calls(http) - began
        runs = {run["_job_id"]: run["ended_at"] for run in (await http.get("/_sim/runs")).json()}
    delays = sorted(at - runs[job_id] for job_id, at in ended.items())
    return _point(name, f"{each}" + (f" of each of {deployments} workflows" if deployments > 1 else ""), calls, delays)


async def every(pause: float, in_flight: int, seconds: float) -> Point:
    """The plain client: submit, ask after each pause, again for each run."""
    async with running() as (stack, _, http):
        delays: list[float] = []
        stop = time.time() + WARM_UP_SECONDS + seconds
        counting_from = time.time() + WARM_UP_SECONDS
        ended: list[tuple[str, float]] = []
        async with ComfyDeploy(f"{stack.simulator_url}/api", stack.env["COMFY_DEPLOY_API_KEY"]) as api:

            async def follow() -> None:
                while time.time() < stop:
                    run_id = await api.runs.submit(DEPLOYMENTS[0], {"prompt": "a fox"})
                    while not (await api.runs.get(run_id)).is_final and time.time() < stop:  # noqa: ASYNC110 - the loop is what is measured
                        await asyncio.sleep(pause)
                    if counting_from < time.time() < stop:
                        ended.append((run_id, time.time()))

            following = asyncio.gather(*(follow() for _ in range(in_flight)))
            await asyncio.sleep(WARM_UP_SECONDS)
            began = await _calls(http)
            await following
            calls = await _calls(http) - began
        runs = {run["id"]: run["ended_at"] for run in (await http.get("/_sim/runs")).json()}
        delays = sorted(at - runs[run_id] for run_id, at in ended)
    return _point(f"every {pause:g} s", str(in_flight), calls, delays)


async def _calls(http: httpx.AsyncClient) -> int:
    """Calls about runs so far; the catalog's are the same for everybody."""
    stats: dict[str, Any] = (await http.get("/_sim/stats")).json()
    return sum(count for route, count in stats["calls"].items() if "run" in route or "stream" in route)


def _point(name: str, in_flight: str, calls: int, delays: list[float]) -> Point:
    p95 = delays[int(0.95 * len(delays))]
    return Point(name, in_flight, len(delays), calls / len(delays), statistics.fmean(delays), p95)


async def measure(seconds: float) -> list[Point]:
    """All points, one after the other."""
    hooks = {"CONVEYOR_PUBLIC_URL": f"http://127.0.0.1:{free_port()}", "CONVEYOR_SECRET": uuid.uuid4().hex}
    return [
        await conveyor("Conveyor, polling", 3, 1, 3 * seconds),
        await conveyor("Conveyor, polling", 1, 40, seconds),
        await conveyor("Conveyor, webhooks", 1, 40, seconds, **hooks),
        await conveyor("Conveyor, SSE", 1, 40, seconds, CONVEYOR_SSE="1"),
        await every(2.0, 40, seconds),
        await every(0.5, 40, seconds),
    ]


def table(points: list[Point], seconds: float) -> str:
    """The points in Markdown."""
    lines = [
        "### The same with real processes",
        "",
        f"`python -m bench.looks --processes {seconds:g}`: one worker, Valkey, the simulator at the speed of life, {seconds:g} s each, the first three times as long.",
        "",
        "| policy | runs in flight | jobs | calls per job | mean delay, s | p95 delay, s |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for p in points:
        row = (
            f"| {p.name} | {p.in_flight} | {p.jobs} | {p.calls_per_job:.2f} | {p.mean_delay:.2f} | {p.p95_delay:.2f} |"
        )
        lines.append(row)
        print(json.dumps(p.__dict__), flush=True)
    return "\n".join(lines) + "\n"
