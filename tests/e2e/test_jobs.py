"""The main job, end to end, through two workers."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from celery.exceptions import TaskRevokedError

from producers.local.processes import ROOT, procfile
from shared.broker import QUEUE, SUBMIT_TASK
from shared.database import Database
from shared.errors import JobFailed
from shared.jobs.states import JobState
from tasks.outputs import outputs_of
from tests.e2e.site import Site, until

WORKFLOWS = [
    "SDXL Portrait",
    "sdxl portrait",
    "Flux Dev",
    "Sticker GIF",
    "Image and Video Pack",
    "Caption Image",
    "LoRA Training",
    "Wan Video 2.1",
    "Restyle Image",
    "SDXL Portrait",
]


async def test_thirty_jobs_through_two_workers(site: Site) -> None:
    """Thirty jobs of several users, frontends and workflows: one run and one final event each, within the budget."""
    await site.configure(faults=[{"kind": "failed", "count": 2}])
    handles = [
        await site.enqueue(WORKFLOWS[n % len(WORKFLOWS)], n=n, progress=n % 2 == 0, context={"chat_id": str(n)})
        for n in range(30)
    ]
    jobs = await site.final(handles)
    told = await site.check(handles, runs=30)
    await site.check_rate()

    states = [job.state for job in jobs]
    assert (states.count(JobState.SUCCEEDED), states.count(JobState.FAILED)) == (28, 2)
    for n, handle in enumerate(handles):
        events = told[handle.id]
        types = [event.type for event in events]
        assert types[:2] == ["job.queued", "job.submitted"]
        assert {event.context["chat_id"] for event in events} == {str(n)}
        assert events[-1].run_id == (await site.runs(handle.id))[0]["id"]
        progress = [event.progress.fraction or 0 for event in events if event.progress]
        assert progress == sorted(progress)
        assert n % 2 == 0 or not progress

    outputs = [output for events in told.values() if events[-1].result for output in events[-1].result.outputs]
    assert {output.kind for output in outputs} == {"image", "animation", "video", "text", "file"}
    await _keys_stay(site, told[handles[4].id][-1])

    by_state = {job.state: job for job in jobs}
    good = by_state[JobState.SUCCEEDED]
    assert good.result is not None
    assert (await site.celery_result(good.id)) == good.result.model_dump(mode="json")
    with pytest.raises(JobFailed, match="upstream_failed"):
        await site.celery_result(by_state[JobState.FAILED].id)


async def _keys_stay(site: Site, event: Any) -> None:
    """The run read again has the same keys, and every private address is fresh and can be fetched."""
    if event.result is None:
        return
    async with site.client() as client:
        run = await client.runs.get(event.run_id)
    again = outputs_of(run, read_at=datetime.now(UTC))
    assert [output.key for output in again] == [output.key for output in event.result.outputs]
    for output in again:
        if output.url:
            assert (await site.http.get(output.url)).status_code == 200


async def test_a_cancelled_job_raises_for_who_asks_celery(site: Site) -> None:
    """Cancelled while it runs: the run is cancelled upstream, one final event, and `get()` raises."""
    await site.configure(durations={"video": {"median": 5000, "sigma": 0}})
    handle = await site.enqueue("Wan Video 2.1")

    async def running() -> bool:
        return (await handle.status()).job.state is JobState.RUNNING

    await until(running)
    assert await handle.cancel() == "requested"
    event = await handle.wait(10)
    assert (event.type, event.final) == ("job.cancelled", True)
    assert [run["status"] for run in await site.runs(handle.id)] == ["cancelled"]
    await site.check([handle], runs=1)
    with pytest.raises(TaskRevokedError):
        await site.celery_result(handle.id)


async def test_foreign_messages_are_refused_and_counted(site: Site) -> None:
    """Garbage, strange envelopes, unknown tasks, pickles and wrong arguments: counted, and the workers go on."""
    pids = {worker.process.pid for worker in site.workers if worker.process}
    async with Database.open(site.settings.redis_url) as database:
        redis, key = database.redis, database.keys.rejected
        before = {name: int(count) for name, count in (await redis.hgetall(key)).items()}
        for garbage in (
            b"\xff\xfe\x00",
            "[1, 2",
            '"text"',
            "17",
            "null",
            "[]",
            '{"a": 1}',
            '{"body": 1, "headers": 2}',
        ):
            await redis.lpush(QUEUE, garbage)

        def send() -> None:
            site.app.send_task("no.such.task", args=["x"], ignore_result=True)
            site.app.send_task(SUBMIT_TASK, args=[{"job": 1}], ignore_result=True)
            site.app.send_task(SUBMIT_TASK, args=["a", "b"], ignore_result=True)
            site.app.send_task(SUBMIT_TASK, kwargs={"job": "a"}, ignore_result=True)
            site.app.send_task(SUBMIT_TASK, args=["no-such-job"], ignore_result=True)
            site.app.send_task(SUBMIT_TASK, args=["x"], serializer="pickle", ignore_result=True)

        await asyncio.to_thread(send)
        handle = await site.enqueue()
        assert (await handle.wait(20)).type == "job.succeeded"

        async def counted() -> dict[str, int]:
            now = {name: int(count) for name, count in (await redis.hgetall(key)).items()}
            new = {name: count - before.get(name, 0) for name, count in now.items()}
            return new if sum(new.values()) >= 13 else {}

        found = await until(counted, seconds=5, what="all refused messages are counted")
    assert found["not_json"] == 2
    assert found["not_an_envelope"] == 6
    assert found["unknown_task"] == 1
    assert found.get("undecodable", 0) + found.get("invalid_task", 0) == 1
    assert found["bad_arguments"] == 3
    assert {worker.process.pid for worker in site.workers if worker.process} == pids


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"COMFY_DEPLOY_API_KEY": ""}, "COMFY_DEPLOY_API_KEY"),
        ({"CONVEYOR_PUBLIC_URL": "https://conveyor.example", "CONVEYOR_SECRET": ""}, "CONVEYOR_SECRET"),
        ({"CONVEYOR_WINDO": "5"}, "CONVEYOR_WINDO"),
        ({"CONVEYOR_SLOTS": "many"}, "CONVEYOR_SLOTS"),
    ],
)
async def test_a_worker_that_cannot_work_says_why(site: Site, change: dict[str, str], named: str) -> None:
    """A missing or wrong setting: the worker names the variable, no value, and exits with an error."""
    process = await asyncio.create_subprocess_exec(
        *procfile()["worker"],
        "-n",
        "lame@%h",
        cwd=ROOT,
        env={**site.stack.env, **change},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode not in {0, None}
    assert named in said.decode()
    assert "many" not in said.decode().replace("how many", "")
    assert "Traceback" not in said.decode()
    assert site.settings.require_api_key() not in said.decode()


async def test_a_worker_serves_its_metrics(site: Site) -> None:
    """On the port it was given: what it asked the API, the tokens for it, and its looks. The second worker, which finds the
    port taken, works all the same."""
    await site.final([await site.enqueue(WORKFLOWS[0], n=n) for n in range(6)])
    async with httpx.AsyncClient(trust_env=False, timeout=5) as http:

        async def served() -> str:
            text = (await http.get(f"http://127.0.0.1:{site.settings.metrics_port}/metrics")).text
            return text if all(f"{name}{{" in text for name in wanted) else ""

        wanted = ("conveyor_api_calls_total", "conveyor_tokens_total", "conveyor_looks_total")
        text = await until(served, what="metrics of calls, tokens and looks")

    assert 'conveyor_api_call_seconds_bucket{le="0.005",route="' in text
    assert not any(handle in text for handle in ("sim-key", "ada"))
