"""What does a worker process cost while many runs are in flight? Memory, and CPU for each job that ends.

    python -m bench.in_flight [--seconds 60] [100 1000 10000]

One worker process, Valkey, the simulator; all runs are of one workflow and log-normal (median 120 s, sigma 0.8). Jobs and
runs are put there directly, as if they had been submitted, so that only following them is measured. For each number of runs:
CPU seconds of the worker per ended job, its memory, calls per ended job, and how late the ends were noticed.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx

from bench.document import put
from producers import JobRequest
from producers.local.stack import Stack
from shared.database import Database
from shared.following.history import History
from shared.jobs.lanes import Lanes
from shared.jobs.states import JobState
from shared.jobs.store import JobStore, Target
from shared.settings import Settings

MACHINE = "a0000000-0000-4000-8000-000000000001"
WORKFLOW, DEPLOYMENT = "b0000000-0000-4000-8000-000000000001", "d0000000-0000-4000-8000-000000000001"
DURATIONS = {"image": {"median": 120.0, "sigma": 0.8}}
#: Runs begin to end, and the worker settles.
WARM_UP_SECONDS = 30.0
SETTINGS = {
    "CONVEYOR_RATE_PER_SECOND": "200",
    "CONVEYOR_RATE_BURST": "200",
    "CONVEYOR_USER_WINDOW": "100000",
    "CONVEYOR_WINDOW": "100000",
    "CONVEYOR_LOG_FORMAT": "json",
}


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int, field: str = "VmRSS") -> float:
    """Resident memory of a process; `VmHWM` is the most it ever had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


async def fill(database: Database, settings: Settings, http: httpx.AsyncClient, count: int) -> None:
    """Put `count` jobs with their runs in flight."""
    store, lanes = JobStore(database), Lanes(database, settings)
    target = Target(workflow_id=WORKFLOW, deployment_id=DEPLOYMENT)
    key = {"authorization": f"Bearer {settings.require_api_key()}"}
    room = asyncio.Semaphore(32)

    async def begin(number: int) -> None:
        async with room:
            user = {"id": f"u{number % 50}"}
            fields = {
                "deployment_id": DEPLOYMENT,
                "frontend": "bench",
                "user": user,
                "inputs": {"prompt": "a fox " * 10},
            }
            job_id, _ = await store.create(JobRequest.model_validate(fields), target)
            while not (await database.redis.zscore(database.keys.window, job_id)):
                await lanes.dispatch()
            await lanes.hold(job_id, "bench")
            await store.move(job_id, JobState.SUBMITTING)
            body = {"deployment_id": DEPLOYMENT, "inputs": {"_job_id": job_id}}
            answer = await http.post("/api/run/deployment/queue", json=body, headers=key)
            await store.move(job_id, JobState.SUBMITTED, run_id=answer.json()["run_id"], first_look_seconds=10.0)

    await asyncio.gather(*(begin(number) for number in range(count)))


async def measure(count: int, seconds: float) -> tuple[float, float, float, float, int]:
    """CPU ms per ended job, most memory in MB, calls per ended job, mean delay in s, ended jobs."""
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder), workers=0, seed=3, settings=SETTINGS)
        async with stack, httpx.AsyncClient(base_url=stack.simulator_url, timeout=60, trust_env=False) as http:
            patch = {"durations": DURATIONS, "cold_start_seconds": 0.1, "warm_start_seconds": 0.1}
            (await http.post("/_sim/config", json=patch)).raise_for_status()
            key = {"authorization": f"Bearer {stack.env['COMFY_DEPLOY_API_KEY']}"}
            await http.patch(f"/api/machine/serverless/{MACHINE}", json={"concurrency_limit": 2 * count}, headers=key)
            settings = Settings.from_env({name: stack.env[name] for name in Settings.names() if name in stack.env})
            async with Database.open(settings.redis_url) as database:
                for took in (40.0, 60.0, 80.0, 100.0, 120.0, 150.0, 180.0, 240.0, 360.0):
                    await History(database).record(DEPLOYMENT, {"total": took, "run": took})
                await fill(database, settings, http, count)
                worker = await stack.start_worker("w1")
                assert worker.process is not None
                pid = worker.process.pid
                await asyncio.sleep(WARM_UP_SECONDS)
                before, calls = cpu_seconds(pid), (await http.get("/_sim/stats")).json()["calls_total"]
                since = time.time()
                await asyncio.sleep(seconds)
                spent = cpu_seconds(pid) - before
                called = (await http.get("/_sim/stats")).json()["calls_total"] - calls
                until = time.time()
                most = memory_mb(pid, "VmHWM")
                ends = {
                    run["_job_id"]: run["ended_at"] for run in (await http.get("/_sim/runs")).json() if run["ended_at"]
                }
                entries = await database.redis.xrange(database.keys.results("bench"))
    finals = {
        fields["job_id"]: int(entry.partition("-")[0]) / 1000
        for entry, fields in entries
        if fields["type"] == "job.succeeded"
    }
    late = [at - ends[job_id] for job_id, at in finals.items() if since < at <= until]
    return spent / len(late) * 1000, most, called / len(late), statistics.fmean(late), len(late)


def main() -> int:
    """Measure each number, print, and write the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", type=int, nargs="*", default=[100, 1_000, 10_000])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--write", action="store_true", help="write its part of docs/performance.md")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    lines = [
        "## Many runs in flight",
        "",
        (
            f"`python -m bench.in_flight --seconds {given.seconds:g}`: one worker process, all runs of one workflow (log-normal, median "
            f"120 s, sigma 0.8), only followed; load average {load:.1f} when it began."
        ),
        "",
        "| in flight | ended jobs | CPU per ended job, ms | memory at most, MB | calls per ended job | mean delay, s |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for count in given.counts:
        cpu, memory, calls, delay, ended = asyncio.run(measure(count, given.seconds))
        lines.append(f"| {count:,} | {ended} | {cpu:.1f} | {memory:.0f} | {calls:.2f} | {delay:.2f} |")
        print(lines[-1], flush=True)
    if given.write:
        put("in flight", "\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
