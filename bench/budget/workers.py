"""Celery workers with a full lane on the simulator: how much of the budget becomes calls, end to end?"""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import httpx

from bench.budget import windows
from producers import JobRequest, Producer
from producers.local.stack import Stack
from shared.settings import Settings

RATE, BURST = 40.0, 20
SECONDS = 14.0
#: More than can be submitted in that time: the lane stays full.
JOBS = 800
LIMITS = {
    "CONVEYOR_RATE_PER_SECOND": str(RATE),
    "CONVEYOR_RATE_BURST": str(BURST),
    "CONVEYOR_WINDOW": "100000",
    "CONVEYOR_USER_WINDOW": "100000",
    "CONVEYOR_MACHINE_WINDOW_FACTOR": "1000",
    "CONVEYOR_LOG_FORMAT": "json",
}
SUBMIT = "POST /run/deployment/queue"


@dataclass(frozen=True)
class Fleet:
    """What so many workers did with the budget."""

    processes: int
    rate: float
    burst: int
    used: float
    #: When each call reached the simulator, in seconds from the first.
    calls: list[float]
    submits: int


async def fleet(folder: Path, processes: int) -> Fleet:
    """Start everything, fill the lanes, and read what the simulator wrote down meanwhile."""
    ours = ("COMFY_DEPLOY_", "CONVEYOR_", "REDIS_URL")
    calm = {name: text for name, text in os.environ.items() if not name.startswith(ours)}
    with mock.patch.dict(os.environ, calm, clear=True):
        stack = Stack(folder, workers=0, speed=10, settings=LIMITS)
        async with stack, asyncio.timeout(180):
            settings = Settings.from_env({k: v for k, v in stack.env.items() if k in Settings.names()})
            async with Producer(settings) as producer, httpx.AsyncClient(base_url=stack.simulator_url) as http:
                requests = [
                    JobRequest.read(
                        {
                            "workflow": "SDXL Portrait",
                            "frontend": "bench",
                            "user": {"id": f"u{n % 20}"},
                            "inputs": {"prompt": "x"},
                        }
                    )
                    for n in range(JOBS)
                ]
                await producer.enqueue_many(requests)
                await asyncio.gather(*(stack.start_worker(f"w{n}") for n in range(processes)))
                await asyncio.sleep(SECONDS + 2)
                log = (await http.get("/_sim/stats", params={"calls": "1"})).json()["call_log"]
                left = JOBS - sum(route == SUBMIT for _, route in log)
    if left <= 0:
        raise RuntimeError("the lanes ran empty before the time was up")
    # The workers are up, and the burst is spent, a second after the first submit.
    since = min(at for at, route in log if route == SUBMIT) + 1.0
    return Fleet(
        processes=processes,
        rate=RATE,
        burst=BURST,
        used=windows.used([at for at, _ in log], RATE, since, since + SECONDS - 2),
        calls=[at - log[0][0] for at, _ in log],
        submits=sum(route == SUBMIT for _, route in log),
    )
