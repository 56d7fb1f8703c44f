"""How much does the way by HTTP cost, and how soon does an end reach a page?

    .venv/bin/python -m bench.gateway            # or: make bench-gateway

1. Enqueue with 50 clients, through the gateway (a process of its own, over loopback) and through the Python producer (in
   this process), one after the other on the same Redis: each client asks, thinks for a while, asks again; then the same
   without thinking, which shows how many jobs a second are the most.
2. The final event, from the script's answer in Redis to the client of an open stream, with 500 streams open.
3. 2,000 open streams on one process: all hear their end, and what the process weighs.

Starts its own Redis and gateway. What is measured is this machine's mood, too: compare the two ways, not two days.
"""

import argparse
import asyncio
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp

from producers import Producer
from producers.local.processes import Supervised, environment, wait_for_words
from producers.local.redis_server import RedisServer, free_port
from shared.database import Database
from shared.jobs.event import Output, Result
from shared.jobs.states import JobState
from shared.jobs.store import JobStore
from shared.settings import Settings

CLIENTS = 50
Ask = Callable[[int], Awaitable[None]]


def job(client: int) -> dict[str, object]:
    """One job of a client."""
    return {"workflow": "portrait", "user": {"id": f"u{client}"}, "inputs": {"prompt": "a fox in the snow"}}


def quantile(times: list[float], share: float) -> float:
    """In milliseconds."""
    return 1000 * sorted(times)[min(len(times) - 1, int(share * len(times)))]


async def clients(ask: Ask, *, seconds: float, think_seconds: float) -> tuple[list[float], float]:
    """So many clients for so long: how long each ask took, and asks a second."""
    times: list[float] = []
    end = time.perf_counter() + seconds

    async def one(client: int) -> None:
        await asyncio.sleep(random.uniform(0, think_seconds))
        while time.perf_counter() < end:
            began = time.perf_counter()
            await ask(client)
            times.append(time.perf_counter() - began)
            if think_seconds:
                await asyncio.sleep(random.uniform(0.5, 1.5) * think_seconds)

    began = time.perf_counter()
    await asyncio.gather(*(one(client) for client in range(CLIENTS)))
    return times, len(times) / (time.perf_counter() - began)


async def enqueues(url: str, database: Database, settings: Settings, seconds: float) -> None:
    """Part 1."""
    async with Producer(settings, database) as producer, session() as http:

        async def by_http(client: int) -> None:
            async with http.post(f"{url}/v1/jobs", json=job(client)) as answer:
                assert answer.status == 202, await answer.text()
                await answer.read()

        async def by_python(client: int) -> None:
            await producer.enqueue(job(client) | {"frontend": "web"})

        print(f"enqueue, {CLIENTS} clients             jobs/s    p50 ms    p95 ms    p99 ms")
        for think in (0.5, 0.0):
            for name, ask in (("Python", by_python), ("HTTP", by_http)):
                await clients(ask, seconds=1.0, think_seconds=think)
                times, rate = await clients(ask, seconds=seconds, think_seconds=think)
                how = f"{name}, each {1 / think:.0f} a second" if think else f"{name}, without a pause"
                figures = "".join(f"{quantile(times, share):10.1f}" for share in (0.5, 0.95, 0.99))
                print(f"  {how:30} {rate:8.0f}{figures}", flush=True)


async def ends(url: str, database: Database, streams: int) -> None:
    """Parts 2 and 3: so many streams, each of its own job, which end one after the other."""
    store = JobStore(database)
    result = Result(outputs=[Output(key="9:images:0", kind="image", url="https://pictures.test/fox.png")])
    heard: dict[str, float] = {}
    async with session() as http:
        settings = Settings(redis_url="redis://unused")
        async with Producer(settings, database, publisher=Nobody()) as producer:
            handles = await producer.enqueue_many([job(n) | {"frontend": "web"} for n in range(streams)])
        ids = [handle.id for handle in handles]
        # All of them past their lanes, whatever the windows say.
        await database.run("dispatch", streams, 10 * streams, streams, 10 * streams, 60_000)
        opened = 0
        all_open = asyncio.Event()

        async def follow(job_id: str) -> None:
            nonlocal opened
            async with http.get(f"{url}/v1/jobs/{job_id}/events") as answer:
                assert answer.status == 200, await answer.text()
                async for line in answer.content:
                    if line == b"event: job.queued\n":
                        opened += 1
                        if opened == streams:
                            all_open.set()
                    elif line == b"event: job.succeeded\n":
                        heard[job_id] = time.perf_counter()

        began = time.perf_counter()
        following = [asyncio.create_task(follow(job_id)) for job_id in ids]
        async with asyncio.timeout(60):
            await all_open.wait()
        opening = time.perf_counter() - began
        ended: dict[str, float] = {}
        for job_id in ids:
            await store.move(job_id, JobState.SUBMITTING)
            await store.move(job_id, JobState.SUBMITTED, run_id=f"r-{job_id}", workflow_id="w")
            await store.move(job_id, JobState.SUCCEEDED, result=result)
            ended[job_id] = time.perf_counter()
            await asyncio.sleep(0.005)
        async with asyncio.timeout(60):
            await asyncio.gather(*following)
    # The event may be heard before the script's answer is read here: then it took no time.
    times = [max(0.0, heard[job_id] - ended[job_id]) for job_id in ids]
    spread = "  ".join(
        f"p{share:.0%}".replace("%", "") + f" {quantile(times, share):.1f} ms" for share in (0.5, 0.95, 0.99)
    )
    print(f"final event, {streams} open streams: {spread}  worst {1000 * max(times):.1f} ms; opened in {opening:.1f} s")


class Nobody:
    """No broker."""

    async def publish(self, job_ids: list[str]) -> None:
        """Nobody is told."""

    def close(self) -> None:
        """Nothing to close."""


def session() -> aiohttp.ClientSession:
    """A client without a limit of its own."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=120))


def weight(pid: int) -> float:
    """Megabytes a process has in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


async def main(seconds: float) -> None:
    """Measure all three."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))
    print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        async with RedisServer(Path(folder)) as server, Database.open(server.url) as database:
            port = free_port()
            env = environment(REDIS_URL=server.url, PORT=str(port), CONVEYOR_REQUESTS_PER_MINUTE="1000000")
            env |= {"CONVEYOR_USER_JOBS": "0", "CONVEYOR_LOG_FORMAT": "json"}
            command = [sys.executable, "-m", "producers.gateway"]
            gateway = Supervised("gateway", command, env, Path(folder) / "gateway.log", restart=False)
            await gateway.start()
            try:
                await wait_for_words(gateway, "gateway listens")
                url = f"http://127.0.0.1:{port}"
                settings = Settings(redis_url=server.url)
                await enqueues(url, database, settings, seconds)
                await database.redis.flushall()
                assert gateway.process
                before = weight(gateway.process.pid)
                for streams in (500, 2000):
                    await ends(url, database, streams)
                print(f"the process: {before:.0f} MB before the streams, {weight(gateway.process.pid):.0f} MB after")
            finally:
                await gateway.stop()
    print(f"load after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each part of the enqueues")
    asyncio.run(main(parser.parse_args().seconds))
