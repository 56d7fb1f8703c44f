"""How many jobs a second go from `enqueue` to the frontend, when the upstream costs nothing?

Conveyor and the plain submit-and-sleep design (`bench/plain_celery.py`: with the sleep of the product's documents, and
with hardly any) in one run, interleaved, two worker processes each, on one Redis. Prints jobs a second (median and spread),
the ratio, and how long a final state takes to reach a consumer. Quote ratios: machines differ.

    python -m bench.throughput [--jobs 400] [--rounds 3]
"""

import argparse
import asyncio
import re
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

from celery import Celery
from redis.asyncio import Redis

from producers import JobRequest, Producer, ResultConsumer
from producers.local.processes import Supervised, wait_for_words
from producers.local.stack import Stack
from shared.settings import Settings

WIDE_OPEN = {
    "CONVEYOR_RATE_PER_SECOND": "10000",
    "CONVEYOR_RATE_BURST": "10000",
    "CONVEYOR_WINDOW": "100000",
    "CONVEYOR_USER_WINDOW": "100000",
    "CONVEYOR_LOG_FORMAT": "json",
}
PATIENCE_SECONDS = 120.0


async def conveyor(settings: Settings, jobs: int) -> tuple[float, list[float]]:
    """Jobs a second, and for each job the seconds from its final state to the consumer."""
    delays: list[float] = []
    frontend = f"bench-{uuid.uuid4().hex[:8]}"
    async with Producer(settings) as producer, ResultConsumer(frontend, "bench", "one", settings=settings) as results:
        began = time.perf_counter()
        requests = [
            JobRequest.model_validate({"workflow": "Instant", "frontend": frontend, "user": {"id": f"u{n % 20}"}})
            for n in range(jobs)
        ]
        enqueuing = asyncio.create_task(producer.enqueue_many(requests))
        async for delivery in results:
            if delivery.event.final:
                delays.append(time.time() - delivery.event.at.timestamp())
            await delivery.ack()
            if len(delays) == jobs:
                break
        elapsed = time.perf_counter() - began
        await enqueuing
    return jobs / elapsed, delays


async def plain(url: str, jobs: int, queue: str) -> float:
    """Jobs a second of the plain design."""
    app = Celery("plain", broker=url, backend=url)
    async with Redis.from_url(url) as redis:
        await redis.delete("plain:results")
        began = time.perf_counter()

        def send() -> None:
            for n in range(jobs):
                app.send_task("plain.generate", args=[str(n), {"prompt": "x"}], queue=queue, ignore_result=True)

        sending = asyncio.create_task(asyncio.to_thread(send))
        while await redis.xlen("plain:results") < jobs:  # noqa: ASYNC110 - the event happens in Redis
            await asyncio.sleep(0.01)
        elapsed = time.perf_counter() - began
        await sending
    app.close()
    return jobs / elapsed


async def measure(jobs: int, rounds: int) -> int:
    """Run everything and print the table."""
    rates: dict[str, list[float]] = {}
    delays: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder), workers=0, settings=WIDE_OPEN, api_key="bench-key")
        async with stack:
            api = await stack.start("api", [sys.executable, "-m", "bench.instant_api"])
            line = await wait_for_words(api, "listening on")
            stack.env["COMFY_DEPLOY_API_URL"] = f"{re.sub('.* on ', '', line)}/api"
            await asyncio.gather(stack.start_worker("w1"), stack.start_worker("w2"))
            for queue, sleep in (("plain", "2.0"), ("eager", "0.01")):
                await asyncio.gather(*(_plain_worker(stack, queue, sleep, n) for n in (1, 2)))
            settings = Settings.from_env({k: v for k, v in stack.env.items() if k in Settings.names()})
            url = stack.env["REDIS_URL"]

            async def ours() -> float:
                rate, late = await conveyor(settings, jobs)
                delays.extend(late)
                return rate

            contests: dict[str, Callable[[], Awaitable[float]]] = {
                "conveyor": ours,
                "plain, sleeping 2 s": lambda: plain(url, 40, "plain"),
                "plain, sleeping 10 ms": lambda: plain(url, jobs, "eager"),
            }
            for number in range(rounds):
                for name, contest in contests.items():
                    async with asyncio.timeout(PATIENCE_SECONDS):
                        rates.setdefault(name, []).append(await contest())
                    print(f"round {number + 1}: {name:<22} {rates[name][-1]:8.1f} jobs/s", flush=True)
    ours_median = statistics.median(rates["conveyor"])
    print(f"\n{'design':<24}{'jobs/s':>10}{'min':>9}{'max':>9}{'conveyor is':>14}")
    for name, values in rates.items():
        median = statistics.median(values)
        print(f"{name:<24}{median:>10.1f}{min(values):>9.1f}{max(values):>9.1f}{ours_median / median:>13.1f}x")
    delays.sort()
    p50, p99 = delays[len(delays) // 2] * 1000, delays[int(len(delays) * 0.99)] * 1000
    print(f"\nfinal state to consumer under that load: p50 {p50:.1f} ms, p99 {p99:.1f} ms ({len(delays)} jobs)")
    return 0


async def _plain_worker(stack: Stack, queue: str, sleep: str, number: int) -> Supervised:
    command = ["celery", "-A", "bench.plain_celery", "worker", "--pool=threads", "--concurrency=8", "--loglevel=INFO"]
    command += ["--without-gossip", "--without-mingle", "-Q", queue, "-n", f"{queue}{number}@%h"]
    saved = dict(stack.env)
    stack.env["PLAIN_SLEEP_SECONDS"] = sleep
    program = await stack.start(f"{queue}{number}", command)
    stack.env = saved
    await wait_for_words(program, "ready.")
    return program


def main() -> int:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    return asyncio.run(measure(arguments.jobs, arguments.rounds))


if __name__ == "__main__":
    sys.exit(main())
