"""From a dispatched job to exactly one run, whatever the API answers or does not."""

import asyncio
import json
import uuid
from typing import Any

import httpx
import pytest

from producers.local.redis_server import free_port
from shared.jobs.states import JobState
from tasks import search
from tasks import submit as submit_module
from tasks.submit import submit_job
from tests.service.worker_fixtures import CANCEL, LIST, PORTRAIT, READ, SUBMIT, Api, Bench, until
from workers.upkeep import Upkeep

pytestmark = pytest.mark.redis


async def only_run(api: Api, job_id: str) -> dict[str, Any]:
    """The one run made for a job."""
    runs = await api.runs(job_id)
    assert len(runs) == 1, runs
    return runs[0]


# --------------------------------------------------------------------------- all goes well


async def test_a_job_becomes_a_run(bench: Bench, api: Api) -> None:
    """One POST makes one run; the job is submitted, followed, and the frontend has heard of it."""
    job = await bench.submit()
    run = await only_run(api, job.id)
    assert (job.state, job.run_id, job.attempt) == (JobState.SUBMITTED, run["id"], 1)
    assert await bench.told(job.id) == ["queued", "submitted"]
    assert (await bench.events(job.id))[-1].run_id == run["id"]
    assert await bench.in_flight() == {job.id}
    assert await api.calls() == 1


async def test_the_job_id_travels_with_the_run(bench: Bench, api: Api) -> None:
    """The run carries our job id beside the user's inputs, and neither changes the other."""
    job = await bench.submit(inputs={"prompt": "a fox", "seed": 7})
    assert job.run_id is not None
    run = await bench.engine.client.runs.get(job.run_id)
    assert run.workflow_inputs == {"prompt": "a fox", "seed": 7, "_job_id": job.id}


async def test_the_intent_is_written_before_the_post(bench: Bench) -> None:
    """At the moment of the POST the record says `submitting`, since when, and which attempt."""
    seen: list[dict[str, str]] = []

    async def inspect(request: httpx.Request) -> None:
        if request.url.path.endswith("/queue"):
            job_id = json.loads(request.content)["inputs"]["_job_id"]
            seen.append(await bench.database.hash(bench.database.keys.job(job_id)))

    bench.wire.before = inspect
    await bench.submit()
    (record,) = seen
    assert (record["state"], record["attempt"]) == ("submitting", "1")
    assert int(record["submitting_at"]) <= await bench.database.now_ms()
    assert record["deployment_id"] == PORTRAIT
    assert record["workflow_id"]


async def test_no_webhook_is_asked_for_without_a_public_address(bench: Bench, api: Api) -> None:
    """Without CONVEYOR_PUBLIC_URL the run has no webhook; with it, a signed one of this job."""
    sent: list[dict[str, Any]] = []

    async def note(request: httpx.Request) -> None:
        if request.url.path.endswith("/queue"):
            sent.append(json.loads(request.content))

    bench.wire.before = note
    await bench.submit()
    more = {"CONVEYOR_PUBLIC_URL": "https://conveyor.example/", "CONVEYOR_SECRET": "s3cret"}
    public = bench.another(**more)
    public.wire.before = note
    job = await public.submit(user="grace")
    assert "webhook" not in sent[0]
    assert sent[1]["webhook"].startswith(f"https://conveyor.example/hooks/comfydeploy/{job.id}?sig=")
    assert "s3cret" not in json.dumps(sent)


async def test_a_gpu_asked_for_is_sent(bench: Bench) -> None:
    """`gpu` of the request reaches the API."""
    sent: list[dict[str, Any]] = []

    async def note(request: httpx.Request) -> None:
        sent.append(json.loads(request.content))

    bench.wire.before = note
    await bench.submit(gpu="H100")
    assert sent[0]["gpu"] == "H100"


async def test_jobs_of_many_users_become_a_run_each(bench: Bench, api: Api) -> None:
    """Forty submits at once make forty runs, none twice."""
    ids = [await bench.enqueue(user=f"u{n}") for n in range(16)] + [
        await bench.enqueue(user=f"u{n}", deployment_id="d0000000-0000-4000-8000-000000000002") for n in range(8)
    ]
    taken = await bench.dispatch()
    assert sorted(taken) == sorted(ids)
    await asyncio.gather(*(submit_job(bench.engine, job_id) for job_id in taken))
    stats = await api.stats()
    assert (stats["runs_total"], stats["double_submits_count"]) == (24, 0)


# --------------------------------------------------------------------------- repeated messages


async def test_a_second_message_for_a_held_job_does_nothing(bench: Bench, api: Api) -> None:
    """While one task works on a job, another message for it finds nothing to do."""
    job_id = await bench.enqueue()
    await bench.dispatch()
    assert await bench.engine.lanes.hold(job_id, "another") == ("held", "queued")
    await submit_job(bench.engine, job_id)
    assert await api.calls() == 0
    assert (await bench.job(job_id)).state is JobState.QUEUED


async def test_five_messages_at_once_make_one_run(bench: Bench, api: Api) -> None:
    """However often the broker delivers a message, one run is made."""
    job_id = await bench.enqueue()
    await bench.dispatch()
    other = bench.another()
    await asyncio.gather(*(submit_job(worker.engine, job_id) for worker in (bench, other, bench, other, bench)))
    assert (await bench.job(job_id)).state is JobState.SUBMITTED
    await only_run(api, job_id)


async def test_a_late_message_for_a_submitted_job_does_nothing(bench: Bench, api: Api) -> None:
    """A message that arrives after the job was submitted makes no call."""
    job = await bench.submit()
    await submit_job(bench.engine, job.id)
    assert await api.calls() == 1
    assert await bench.told(job.id) == ["queued", "submitted"]


async def test_a_message_for_a_job_in_its_lane_does_nothing(bench: Bench, api: Api) -> None:
    """Only dispatched jobs are started: the windows cannot be walked around."""
    job_id = await bench.enqueue()
    await submit_job(bench.engine, job_id)
    assert await api.calls() == 0
    assert await bench.in_lane() == [job_id]


async def test_a_message_for_nobody_does_nothing(bench: Bench, api: Api) -> None:
    """A job that is not there is no error and leaves nothing behind."""
    await submit_job(bench.engine, "no-such-job")
    assert await api.calls() == 0
    assert not await bench.database.redis.exists(bench.database.keys.job("no-such-job"))


# --------------------------------------------------------------------------- refused for good


def answering(status: int, body: Any) -> Any:
    """The API answers every submit like this."""

    async def answer(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(status, json=body) if request.url.path.endswith("/queue") else None

    return answer


async def test_an_unknown_deployment_fails_at_once(bench: Bench, api: Api) -> None:
    """404: the job fails with `workflow_not_found`; it is not tried again."""
    job = await bench.submit(deployment_id=str(uuid.uuid4()))
    assert job.error is not None
    assert (job.state, job.error.code, job.error.upstream_status) == (JobState.FAILED, "workflow_not_found", 404)
    assert await bench.told(job.id) == ["queued", "failed"]
    assert await api.calls(SUBMIT) == 1
    assert await api.runs() == []


async def test_refused_inputs_fail_at_once(bench: Bench) -> None:
    """422: the job fails with `invalid_input` and the field, and does not repeat what was sent."""
    detail = {"detail": [{"loc": ["body", "inputs", "seed"], "msg": "Input should be a valid integer", "input": "xyz"}]}
    bench.wire.before = answering(422, detail)
    job = await bench.submit()
    assert job.error is not None
    assert (job.state, job.error.code, job.error.upstream_status) == (JobState.FAILED, "invalid_input", 422)
    assert "inputs.seed" in job.error.user_message
    assert "xyz" not in job.error.model_dump_json()


async def test_a_refused_key_fails_at_once(bench: Bench, api: Api) -> None:
    """401: the job fails with `unauthorized`; the user is told nothing about keys."""
    other = bench.another(api_key="sim-key-revoked")
    job = await other.submit()
    assert job.error is not None
    assert (job.state, job.error.code, job.error.upstream_status) == (JobState.FAILED, "unauthorized", 401)
    assert "key" not in job.error.user_message.lower()
    assert "sim-key" not in job.error.model_dump_json()
    assert await api.runs() == []


async def test_no_credit_fails_at_once(bench: Bench, api: Api) -> None:
    """403 for credit: the job fails with `insufficient_credit`."""
    other = bench.another(api_key="sim-key-no-credit")
    job = await other.submit()
    assert job.error is not None
    assert (job.state, job.error.code) == (JobState.FAILED, "insufficient_credit")
    assert "credit" in job.error.user_message
    assert await api.runs() == []


async def test_a_failed_submit_frees_its_place(bench: Bench) -> None:
    """A job that ends in its submit leaves no place in a window, no hold and no entry to rescue."""
    bench.wire.before = answering(404, {"detail": "Deployment not found"})
    job = await bench.submit()
    redis, keys = bench.database.redis, bench.database.keys
    assert job.final
    assert await redis.zcard(keys.window) == 0
    assert await redis.zcard(keys.starting) == 0
    assert await redis.hgetall(keys.window_users) == {}
    assert await redis.zrange(keys.closing, 0, -1) == [job.id]


async def test_a_failed_submit_lets_the_next_job_go(bench: Bench) -> None:
    """When a submit fails, the next job of the lane is published by the same task."""
    narrow = bench.another(CONVEYOR_USER_WINDOW="1")
    first, second = await narrow.enqueue(), await narrow.enqueue()
    assert await narrow.dispatch() == [first]
    narrow.wire.before = answering(404, {"detail": "Deployment not found"})
    await submit_job(narrow.engine, first)
    assert narrow.published.take() == [second]


# --------------------------------------------------------------------------- refused for now


async def test_a_429_sends_the_job_back_and_closes_the_bucket(bench: Bench, api: Api) -> None:
    """429 with Retry-After: back in the lane, nobody calls for that long, then it is submitted, once."""
    await api.fault("rate_limited", SUBMIT, count=1, retry_after=1)
    job = await bench.submit()
    assert job.state is JobState.QUEUED
    assert await bench.in_lane() == [job.id]
    assert 0.5 < await bench.closed_for() <= 1.0
    assert await bench.dispatch() == [job.id]
    began = asyncio.get_running_loop().time()
    await submit_job(bench.engine, job.id)
    assert asyncio.get_running_loop().time() - began > 0.5
    job = await bench.job(job.id)
    assert (job.state, job.attempt) == (JobState.SUBMITTED, 2)
    assert await api.calls(SUBMIT) == 2
    await only_run(api, job.id)
    assert await bench.told(job.id) == ["queued", "submitted"]


async def test_a_429_halves_the_rate(bench: Bench, api: Api) -> None:
    """A 429 slows everybody down, not only for the pause."""
    await api.fault("rate_limited", SUBMIT, count=1, retry_after=1)
    await bench.submit()
    assert float((await bench.engine.bucket.state())["factor"]) <= 0.5


async def test_nobody_listening_sends_the_job_back(bench: Bench) -> None:
    """Connection refused: certainly no run was made, so the job goes back to its lane."""
    away = bench.another(api_url=f"http://127.0.0.1:{free_port()}/api")
    job = await away.submit()
    assert (job.state, job.undecided_until) == (JobState.QUEUED, None)
    assert await away.in_lane() == [job.id]


async def test_an_absent_api_is_not_hammered(bench: Bench) -> None:
    """Ten workers' slots with ten jobs, nobody listening: about one connection a second, not one a job and moment."""
    away = bench.another(api_url=f"http://127.0.0.1:{free_port()}/api")
    for n in range(10):
        await away.enqueue(user=f"u{n}")

    async def slot() -> None:
        while True:
            for job_id in await away.dispatch():
                await submit_job(away.engine, job_id)
            await asyncio.sleep(0.01)

    slots = [asyncio.create_task(slot()) for _ in range(10)]
    await asyncio.sleep(2)
    for task in slots:
        task.cancel()
    await asyncio.gather(*slots, return_exceptions=True)
    assert 1 <= len(away.wire.requests) <= 10 + 2 * 3


# --------------------------------------------------------------------------- the answer is lost


async def test_a_lost_answer_is_adopted(bench: Bench, api: Api) -> None:
    """The run was made and the answer lost: the run is found by our job id, and nothing is posted again."""
    await api.fault("lost_answer", SUBMIT, count=1)
    job = await bench.submit()
    assert job.state is JobState.SUBMITTING
    run = await only_run(api, job.id)
    job = await bench.settled(job.id)
    assert (job.state, job.run_id) == (JobState.SUBMITTED, run["id"])
    assert await bench.told(job.id) == ["queued", "submitted"]
    assert await api.calls(SUBMIT) == 1


async def test_a_lost_answer_is_looked_for_within_seconds(bench: Bench, api: Api) -> None:
    """No slot is held meanwhile: rescue sends the next message a second after the answer was lost."""
    await api.fault("lost_answer", SUBMIT, count=1)
    job = await bench.submit()
    upkeep = Upkeep(bench.engine)

    async def rescued() -> list[str]:
        await upkeep.rescue()
        return bench.published.take()

    assert await until(rescued, seconds=3) == [job.id]
    await submit_job(bench.engine, job.id)
    assert (await bench.job(job.id)).state is JobState.SUBMITTED


async def test_a_slow_answer_beyond_our_patience_is_adopted(bench: Bench, api: Api) -> None:
    """A submit that times out has perhaps made a run: it is looked for, not repeated."""
    await api.fault("slow_answer", SUBMIT, count=1, seconds=5)
    job = await bench.submit()
    assert job.state is JobState.SUBMITTING
    job = await bench.settled(job.id)
    assert job.state is JobState.SUBMITTED
    await only_run(api, job.id)


async def test_a_refused_spawn_ends_as_the_failed_run_it_left(bench: Bench, api: Api) -> None:
    """500 with a failed row behind it: that run is the job's, and the job fails with it; there is no second run."""
    await api.fault("spawn_refused", count=1)
    job = await bench.submit()
    assert job.state is JobState.SUBMITTING
    job = await bench.settled(job.id)
    assert job.state is JobState.SUBMITTED
    await bench.look()
    job = await bench.job(job.id)
    assert job.error is not None
    assert (job.state, job.error.code) == (JobState.FAILED, "upstream_failed")
    await only_run(api, job.id)


@pytest.mark.parametrize("kind", ["bad_gateway", "gateway_timeout", "unavailable", "error_500_text", "reset_before"])
async def test_no_run_after_the_grace_means_posting_again(bench: Bench, api: Api, kind: str) -> None:
    """Trouble on the way and no run appears: within the grace nothing is posted, after it the job goes back and out."""
    await api.fault(kind, SUBMIT, count=1)
    job = await bench.submit()
    assert job.state is JobState.SUBMITTING
    assert job.undecided_until is not None
    assert (await bench.again(job.id)).state is JobState.SUBMITTING
    await bench.past(job.id, 0.001, "undecided_until")
    job = await bench.settled(job.id)
    assert (job.state, job.undecided_until) == (JobState.QUEUED, None)
    assert bench.published.take() == [job.id]
    await bench.open_bucket()
    await submit_job(bench.engine, job.id)
    assert (await bench.job(job.id)).state is JobState.SUBMITTED
    assert await api.calls(SUBMIT) == 2
    await only_run(api, job.id)


async def test_the_grace_of_a_lost_answer_outlasts_the_submit(bench: Bench, api: Api) -> None:
    """A request that got no answer may still arrive: it is waited for longer than our own timeout."""
    await api.fault("reset_before", SUBMIT, count=1)
    job = await bench.submit()
    assert job.undecided_until is not None
    assert job.submitting_at is not None
    assert job.undecided_until - job.submitting_at > bench.engine.client.timeouts.submit_seconds * 1000


async def test_a_crash_after_the_intent_is_looked_up_first(bench: Bench, api: Api) -> None:
    """A worker died between intent and answer, the run exists: it is adopted, nothing is posted."""
    job_id = await bench.enqueue()
    await bench.dispatch()
    await bench.engine.store.move(job_id, JobState.SUBMITTING)
    run_id = await api.make_run(job_id)
    await submit_job(bench.engine, job_id)
    job = await bench.job(job_id)
    assert (job.state, job.run_id) == (JobState.SUBMITTED, run_id)
    assert await api.calls(SUBMIT) == 1  # the one made behind everybody's back


async def test_a_crash_before_the_post_is_posted_after_the_grace(bench: Bench, api: Api) -> None:
    """A worker died between intent and POST: once the request can no longer arrive, the job is submitted, once."""
    job_id = await bench.enqueue()
    await bench.dispatch()
    await bench.engine.store.move(job_id, JobState.SUBMITTING)
    await submit_job(bench.engine, job_id)
    assert (await bench.job(job_id)).state is JobState.SUBMITTING
    await bench.past(job_id, 3600, "submitting_at")
    assert (await bench.again(job_id)).state is JobState.QUEUED
    assert bench.published.take() == [job_id]
    await submit_job(bench.engine, job_id)
    await only_run(api, job_id)


async def test_of_two_runs_the_oldest_is_kept(bench: Bench, api: Api) -> None:
    """Two runs carry our id: the oldest becomes the job's, the other is cancelled."""
    job_id = await bench.enqueue()
    await bench.dispatch()
    await bench.engine.store.move(job_id, JobState.SUBMITTING)
    oldest, other = await api.make_run(job_id), await api.make_run(job_id)
    await submit_job(bench.engine, job_id)
    assert (await bench.job(job_id)).run_id == oldest
    assert [run["status"] for run in await api.runs(job_id)] == ["not-started", "cancelled"]
    assert [run["id"] for run in await api.runs(job_id)] == [oldest, other]


async def test_runs_of_others_are_neither_adopted_nor_cancelled(bench: Bench, api: Api) -> None:
    """Runs without our id, or with another job's, are left alone; runs somebody owns are not even read."""
    owned = await bench.submit(user="grace")
    await api.make_run()
    await api.make_run("another-job")
    await api.fault("lost_answer", SUBMIT, count=1)
    job = await bench.submit()
    reads = await api.calls(READ)
    job = await bench.settled(job.id)
    assert job.state is JobState.SUBMITTED
    assert job.run_id not in {None, owned.run_id}
    assert await api.calls(READ) - reads == 3
    assert await api.calls(CANCEL) == 0


async def test_a_run_beyond_the_first_page_is_found(bench: Bench, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Newer runs of others push ours to a later page: all pages since the intent are read."""
    monkeypatch.setattr(search, "PAGE", 3)
    await api.fault("lost_answer", SUBMIT, count=1)
    job = await bench.submit()
    for _ in range(7):
        await api.make_run()
    job = await bench.settled(job.id)
    assert job.state is JobState.SUBMITTED
    assert await api.calls(LIST) == 3


async def test_a_deployment_that_is_not_listed_is_searched_by_itself(bench: Bench, api: Api) -> None:
    """A lost answer of a deployment the catalog does not know is found through the deployment's own listing."""
    strange = "d0000000-0000-4000-8000-000000000091"
    job_id = await bench.enqueue(deployment_id=strange)
    await bench.dispatch()
    await bench.engine.store.move(job_id, JobState.SUBMITTING)
    await submit_job(bench.engine, job_id)
    assert await api.calls("GET /deployment/{deployment_id}/runs") == 1


async def test_an_adoption_that_fails_is_tried_again(bench: Bench, api: Api) -> None:
    """The API is down when the run is looked for: the job stays as it is, and is found later."""
    await api.configure(faults=[{"kind": "lost_answer", "route": SUBMIT, "count": 1}])
    job = await bench.submit()
    await api.configure(faults=[{"kind": "bad_gateway", "route": "GET *"}])
    assert (await bench.again(job.id)).state is JobState.SUBMITTING
    await api.configure(faults=[])
    await bench.open_bucket()
    assert (await bench.settled(job.id)).state is JobState.SUBMITTED
    await only_run(api, job.id)


async def test_a_lost_answer_of_a_cancelled_job_leaves_no_orphan(bench: Bench, api: Api) -> None:
    """Cancelled while its submit was undecided: the run is adopted and the next look cancels it."""
    await api.fault("lost_answer", SUBMIT, count=1)
    job = await bench.submit()
    assert await bench.engine.store.cancel(job.id) == "requested"
    await bench.settled(job.id)
    await bench.look()
    assert (await bench.job(job.id)).state is JobState.CANCELLED
    assert (await only_run(api, job.id))["status"] == "cancelled"


async def test_an_answer_that_comes_after_the_end_leaves_no_orphan(bench: Bench, api: Api) -> None:
    """The job ended while its POST was under way: the run that comes back is cancelled."""

    async def end_meanwhile(request: httpx.Request) -> None:
        if request.url.path.endswith("/queue"):
            job_id = json.loads(request.content)["inputs"]["_job_id"]
            await bench.engine.store.move(job_id, JobState.FAILED)

    bench.wire.before = end_meanwhile
    job = await bench.submit()
    assert job.state is JobState.FAILED
    assert (await only_run(api, job.id))["status"] == "cancelled"


# --------------------------------------------------------------------------- waiting for a token


async def test_cancelled_while_waiting_for_a_token_makes_no_run(bench: Bench, api: Api) -> None:
    """A job cancelled while its task waits for a token is final at once and never posted."""
    job_id = await bench.enqueue()
    await bench.dispatch()
    await bench.engine.bucket.push_back(60, slow_down=False)
    waiting = asyncio.create_task(submit_job(bench.engine, job_id))
    keys = bench.database.keys
    await until(lambda: bench.database.redis.hget(keys.budget(bench.settings.account), "closed_until"))
    await until(lambda: bench.database.redis.hexists(keys.job(job_id), "holder"), what="held")
    assert await bench.engine.store.cancel(job_id) == "cancelled"
    await bench.open_bucket()
    await asyncio.wait_for(waiting, 5)
    assert (await bench.job(job_id)).state is JobState.CANCELLED
    assert await api.calls(SUBMIT) == 0


async def test_a_stopping_worker_gives_waiting_jobs_back_to_their_places(bench: Bench, api: Api) -> None:
    """Told to stop while waiting for tokens: the jobs stand in their lane again, in their old order, at once."""
    jobs = [await bench.enqueue() for _ in range(4)]
    await bench.engine.bucket.push_back(60, slow_down=False)
    narrow = bench.another(CONVEYOR_USER_WINDOW="2")
    assert await narrow.dispatch() == jobs[:2]
    tasks = [asyncio.create_task(submit_job(narrow.engine, job_id)) for job_id in jobs[:2]]
    for job_id in jobs[:2]:
        await until(lambda job_id=job_id: bench.database.redis.hexists(bench.database.keys.job(job_id), "holder"))
    narrow.engine.stopping.set()
    await asyncio.wait_for(asyncio.gather(*tasks), 1)
    assert await bench.in_lane() == jobs
    assert await bench.database.redis.zcard(bench.database.keys.window) == 0
    assert await bench.told(jobs[0]) == ["queued"]
    assert await api.calls(SUBMIT) == 0


async def test_a_long_wait_keeps_its_hold(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a token takes, the job stays with the task that waits: rescue does not send another."""
    monkeypatch.setattr("tasks.submit.HOLD_SECONDS", 0.3)
    job_id = await bench.enqueue()
    await bench.dispatch()
    await bench.engine.bucket.push_back(60, slow_down=False)
    waiting = asyncio.create_task(submit_job(bench.engine, job_id))
    starting = bench.database.keys.starting
    first = await until(lambda: bench.database.redis.zscore(starting, job_id))

    async def renewed() -> bool:
        return (await bench.database.redis.zscore(starting, job_id) or 0) > first + 200

    await until(renewed, what="the hold was renewed")
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


# --------------------------------------------------------------------------- names


async def test_a_cold_catalog_is_resolved_before_the_submit(bench: Bench, api: Api) -> None:
    """Accepted unresolved while nothing was known: the worker resolves the name, then submits."""
    await bench.database.redis.delete(bench.database.keys.catalog)
    away = bench.another(api_url=f"http://127.0.0.1:{free_port()}/api")
    job_id = await away.enqueue(deployment_id=None, workflow="sdxl portrait")
    assert (await bench.job(job_id)).deployment_id == ""
    await bench.dispatch()
    await bench.open_bucket()
    await submit_job(bench.engine, job_id)
    job = await bench.job(job_id)
    assert (job.state, job.deployment_id) == (JobState.SUBMITTED, PORTRAIT)


async def test_an_unknown_name_fails_with_suggestions(bench: Bench, api: Api) -> None:
    """Accepted unresolved and nobody knows the name: `workflow_not_found`, with what it may have meant."""
    await bench.database.redis.delete(bench.database.keys.catalog)
    away = bench.another(api_url=f"http://127.0.0.1:{free_port()}/api")
    job_id = await away.enqueue(deployment_id=None, workflow="sdxl portrayt")
    await bench.dispatch()
    await submit_job(bench.engine, job_id)
    job = await bench.job(job_id)
    assert job.error is not None
    assert (job.state, job.error.code) == (JobState.FAILED, "workflow_not_found")
    assert "SDXL Portrait" in job.error.user_message
    assert await api.calls(SUBMIT) == 0


async def test_an_unresolved_job_waits_while_the_api_is_away(bench: Bench) -> None:
    """A name that cannot be resolved because the API is down does not fail: it is tried again later."""
    await bench.database.redis.delete(bench.database.keys.catalog)
    away = bench.another(api_url=f"http://127.0.0.1:{free_port()}/api")
    job_id = await away.enqueue(deployment_id=None, workflow="sdxl portrait")
    assert await away.dispatch() == [job_id]
    await submit_job(away.engine, job_id)
    assert not (await bench.job(job_id)).final
    assert await bench.database.redis.zscore(bench.database.keys.starting, job_id) is not None


async def test_a_worker_that_stood_still_does_not_post_an_old_intent(
    bench: Bench, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped between intent and POST for longer than its hold is renewed: others may have acted on the intent."""
    monkeypatch.setattr(submit_module, "STALLED_SECONDS", -1.0)
    job = await bench.submit()
    assert job.state is JobState.SUBMITTING
    assert await api.calls(SUBMIT) == 0


async def test_a_move_back_to_the_lane_that_is_repeated_late_does_not_take_back_the_next_attempt(bench: Bench) -> None:
    """The answer to `submitting -> queued` was lost and the move repeated, when the job was being submitted again."""
    job_id = await bench.enqueue()
    assert job_id in await bench.dispatch()
    store = bench.engine.store
    assert await store.move(job_id, JobState.SUBMITTING)
    assert not await store.move(job_id, JobState.QUEUED, attempt=0)
    assert (await bench.job(job_id)).state is JobState.SUBMITTING
    assert await store.move(job_id, JobState.QUEUED, attempt=1)
