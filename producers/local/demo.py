"""`make demo`: three frontends, a few users, about thirty jobs, two workers; pictures in `var/demo/`.

Everything is real but the GPU: the frontends use the `Producer` and the `ResultConsumer`, the workers are processes, and
the simulator answers as ComfyUI Deploy does. With `COMFY_DEPLOY_API_KEY` and `DEPLOYMENT` set, the GPU is real, too.
"""

import asyncio
import json
import os
import random
import shutil
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from producers.local.processes import ROOT
from producers.local.stack import Stack
from producers.producer import Producer
from producers.results import Delivery, ResultConsumer
from shared.database import Database
from shared.errors import ConveyorError
from shared.jobs.event import Event, Output
from shared.jobs.request import JobRequest
from shared.limits.bucket import TokenBucket
from shared.settings import Settings

FOLDER = ROOT / "var" / "demo"

#: Seconds after which the demo gives up waiting and says what is missing.
SIMULATED_PATIENCE_SECONDS = 120.0
REAL_PATIENCE_SECONDS = 1800.0

#: How many times faster than life the simulated runs are: a picture of 12 s takes 1.3 s.
SPEED = 9.0

USERS = {"telegram": ["ada", "grace", "linus"], "discord": ["margaret", "dennis"], "web": ["barbara", "alan"]}
SCENES = [
    "a lighthouse in a storm, oil painting",
    "a fox reading under a maple",
    "a tram crossing a bridge at dawn",
    "a kitchen full of copper pots",
    "a mountain lake from above",
    "a cat on a warm roof",
    "an orchard in the snow",
    "a robot watering roses",
]
#: A picture to describe; the simulator does not fetch it.
CAPTIONED = {"image": "https://pictures.example/lighthouse.png", "length": "long"}
#: What is asked for, and how often among ten jobs.
MIX = [("SDXL Portrait", 5), ("flux dev", 2), ("Sticker GIF", 1), ("image-and-video pack", 1), ("Caption Image", 1)]

_STYLES = {"succeeded": "green", "running": "yellow", "submitted": "cyan", "queued": "dim", "cancelled": "magenta"}


@dataclass
class Watched:
    """One job, as the demo has heard of it."""

    job_id: str
    frontend: str
    user: str
    workflow: str
    state: str = "queued"
    fraction: float = 0.0
    text: str = ""
    seqs: list[int] = field(default_factory=list)
    run_id: str | None = None
    final_at: float | None = None
    files: list[str] = field(default_factory=list)
    error: str = ""

    def hear(self, event: Event) -> None:
        """Take an event in."""
        self.state, self.run_id = event.state.value, event.run_id
        self.seqs.append(event.seq)
        if event.progress:
            self.fraction, self.text = event.progress.fraction or self.fraction, event.progress.text or ""
        if event.queue:
            self.text = f"{event.queue.ahead} ahead"
        if event.final:
            self.final_at, self.text = time.time(), ""
            self.error = event.error.user_message if event.error else ""

    @property
    def complete(self) -> bool:
        """Final, and every event from the first to the last has arrived once and in order."""
        return self.final_at is not None and self.seqs == list(range(1, len(self.seqs) + 1))


def run(*, jobs: int = 30, keep: bool = False, seed: int = 7) -> int:
    """Carry the demo out. 0 only if every job ended and every event arrived."""
    console = Console()
    try:
        return asyncio.run(_Demo(console, jobs, keep, seed).carry_out())
    except ConveyorError as error:
        console.print(f"[red]The demo could not run:[/] {error}", highlight=False)
        return 3
    except KeyboardInterrupt:
        console.print("Stopped; everything the demo had started is stopped, too.")
        return 130


class _Demo:
    def __init__(self, console: Console, jobs: int, keep: bool, seed: int) -> None:
        self.console = console
        self.count = jobs
        self.keep = keep
        self.random = random.Random(seed)
        self.seed = seed
        self.jobs: dict[str, Watched] = {}
        #: Events that arrived before `enqueue` told us the job's id.
        self.early: dict[str, list[Event]] = {}
        self.news = asyncio.Event()
        self.began = time.time()

    async def carry_out(self) -> int:
        if not self.keep:
            shutil.rmtree(FOLDER, ignore_errors=True)
        real = bool(os.environ.get("COMFY_DEPLOY_API_KEY"))
        self.console.print("Starting Redis, the API and two workers …" if not real else "Starting two workers …")
        async with Stack(FOLDER / "run", workers=2, speed=SPEED, seed=self.seed) as stack:
            settings = Settings.from_env({k: v for k, v in stack.env.items() if k in Settings.names()})
            async with Producer(settings) as producer, httpx.AsyncClient(timeout=60) as http:
                self.began = time.time()
                consumers = [asyncio.create_task(self._consume(name, settings, http)) for name in USERS]
                try:
                    await self._play(producer, real)
                finally:
                    for consumer in consumers:
                        consumer.cancel()
                    await asyncio.gather(*consumers, return_exceptions=True)
            return await self._sum_up(stack, settings)

    async def _play(self, producer: Producer, real: bool) -> None:
        """Enqueue everything, and show what happens until it is over."""
        with Live(console=self.console, refresh_per_second=8, get_renderable=self._table) as live:
            enqueuing = asyncio.create_task(self._enqueue(producer))
            try:
                async with asyncio.timeout(REAL_PATIENCE_SECONDS if real else SIMULATED_PATIENCE_SECONDS):
                    await enqueuing
                    while not all(job.complete for job in self.jobs.values()):
                        self.news.clear()
                        await self.news.wait()
            except TimeoutError:
                live.console.print("[red]Not everything ended in time.[/]")
            finally:
                enqueuing.cancel()

    async def _enqueue(self, producer: Producer) -> None:
        deployment = os.environ.get("DEPLOYMENT")
        for number in range(self.count):
            frontend = list(USERS)[number % len(USERS)]
            user = self.random.choice(USERS[frontend])
            workflow = self.random.choices([name for name, _ in MIX], [weight for _, weight in MIX])[0]
            scene = self.random.choice(SCENES)
            inputs: dict[str, Any] = {"prompt": scene} if workflow != "Caption Image" else CAPTIONED
            request = JobRequest.read(
                {
                    **({"deployment_id": deployment} if deployment else {"workflow": workflow}),
                    "frontend": frontend,
                    "user": {"id": user, "name": user.title()},
                    "inputs": {} if deployment else inputs,
                    "context": {"chat_id": str(1000 + number)},
                    "progress": True,
                }
            )
            handle = await producer.enqueue(request)
            job = Watched(handle.id, frontend, user, deployment or workflow)
            self.jobs[handle.id] = job
            for event in self.early.pop(handle.id, []):
                job.hear(event)
            if number == self.count - 1 and not deployment and self.count > 10:
                await handle.cancel()  # somebody always changes their mind
            await asyncio.sleep(0.05)

    async def _consume(self, frontend: str, settings: Settings, http: httpx.AsyncClient) -> None:
        """What a frontend does: hear, deliver, acknowledge."""
        async with ResultConsumer(frontend, "demo", f"demo-{frontend}", settings=settings) as results:
            async for delivery in results:
                await self._hear(delivery, frontend, http)

    async def _hear(self, delivery: Delivery, frontend: str, http: httpx.AsyncClient) -> None:
        event = delivery.event
        job = self.jobs.get(event.job_id)
        if event.result:
            files = [await self._save(http, frontend, event, output) for output in event.result.outputs]
            if job:
                job.files = [name for name in files if name]
        if job:
            job.hear(event)
        else:
            self.early.setdefault(event.job_id, []).append(event)
        await delivery.ack()
        self.news.set()

    async def _save(self, http: httpx.AsyncClient, frontend: str, event: Event, output: Output) -> str | None:
        folder = FOLDER / frontend
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{event.user.id}-{event.job_id[-6:]}-{output.key.replace(':', '-')}"
        if output.url is None:
            path = folder / f"{name}.txt"
            path.write_text((output.text or "") + "\n")
        else:
            path = folder / f"{name}{Path(output.filename or '').suffix}"
            answer = (await http.get(output.url)).raise_for_status()
            path.write_bytes(answer.content)
        return str(path.relative_to(FOLDER))

    def _table(self) -> Group:
        table = Table(box=None, padding=(0, 1), expand=False)
        for column, width in (("frontend", 8), ("user", 8), ("workflow", 20), ("state", 9), ("", 16)):
            table.add_column(column, no_wrap=True, min_width=width)
        table.add_column("picture", no_wrap=True, overflow="ellipsis")
        room = max(5, self.console.height - 5) if self.console.is_terminal else 1000
        jobs = sorted(self.jobs.values(), key=lambda job: (job.final_at is not None, job.job_id))
        for job in jobs[:room]:
            style = _STYLES.get(job.state, "red")
            table.add_row(
                job.frontend,
                job.user,
                job.workflow,
                Text(job.state, style),
                _bar(job),
                job.files[0] if job.files else "",
            )
        states = Counter(job.state for job in self.jobs.values())
        line = "   ".join(f"{name} {number}" for name, number in sorted(states.items()))
        return Group(table, Text(f"{time.time() - self.began:5.1f} s   {line}\n", style="bold"))

    async def _sum_up(self, stack: Stack, settings: Settings) -> int:
        jobs = list(self.jobs.values())
        ended = [job for job in jobs if job.final_at is not None]
        complete = [job for job in jobs if job.complete]
        summary: dict[str, Any] = {
            "jobs": len(jobs),
            "ended": len(ended),
            "every_event_arrived": len(complete) == len(jobs),
            "by_state": dict(Counter(job.state for job in jobs)),
            "files": sum(len(job.files) for job in jobs),
            "seconds": round(time.time() - self.began, 1),
            "rate_allowed": {"per_second": settings.rate_per_second, "burst": settings.rate_burst},
        }
        async with Database.open(settings.redis_url) as database:
            budget = await TokenBucket(database, settings).state()
        calls = sum(int(count) for name, count in budget.items() if name.startswith("granted:"))
        summary |= {"api_calls": calls, "api_calls_per_job": round(calls / max(1, len(ended)), 2)}
        if stack.simulator_url:
            summary |= await self._ask_simulator(stack.simulator_url, ended)
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
        good = bool(jobs) and len(complete) == len(jobs) == self.count and not summary.get("runs_paid_twice")
        self._print(summary, good)
        return 0 if good else 1

    async def _ask_simulator(self, url: str, ended: list[Watched]) -> dict[str, Any]:
        async with httpx.AsyncClient(base_url=url) as http:
            stats = (await http.get("/_sim/stats")).json()
            runs = {row["id"]: row for row in (await http.get("/_sim/runs")).json()}
        delays = [
            job.final_at - runs[job.run_id]["ended_at"]
            for job in ended
            if job.final_at and job.run_id in runs and runs[job.run_id]["ended_at"]
        ]
        return {
            "api_calls_seen_upstream": stats["calls_total"],
            "highest_rate_seen": stats["highest_rate_per_second"],
            "runs": stats["runs_total"],
            "runs_paid_twice": stats["double_submits_count"],
            "seconds_from_end_of_run_to_arrival": {
                "median": round(statistics.median(delays), 2) if delays else None,
                "longest": round(max(delays), 2) if delays else None,
            },
        }

    def _print(self, summary: dict[str, Any], good: bool) -> None:
        table = Table(title="Summary", show_header=False, title_justify="left", box=None, padding=(0, 2))
        for name, value in summary.items():
            shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
            table.add_row(name.replace("_", " "), shown)
        self.console.print(table)
        if good:
            self.console.print(f"[green]Every job ended and every event arrived.[/] Pictures: {_here(FOLDER)}")
        else:
            self.console.print("[red]Something is missing.[/] Logs of the processes: " + _here(FOLDER / "run"))
            for job in self.jobs.values():
                if not job.complete:
                    self.console.print(f"  {job.job_id} {job.state} events {job.seqs}", highlight=False)


def _bar(job: Watched) -> Text:
    if job.error:
        return Text(job.error[:32])
    if job.state != "running":
        return Text(job.text)
    full = round(job.fraction * 10)
    return Text("█" * full + "░" * (10 - full) + f" {job.text}"[:16], "yellow")


def _here(path: Path) -> str:
    return f"{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}/"
