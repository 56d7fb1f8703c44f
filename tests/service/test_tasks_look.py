"""Following runs: as few calls as it takes, and one end for each job, whatever the API says on the way."""

import asyncio
import uuid
from typing import Any

import httpx
import pytest

from producers.local.redis_server import free_port
from shared.jobs.states import JobState
from tasks import listing
from tasks import reason as reason_module
from tasks.outputs import outputs_of
from tasks.schedule import Backoff
from tasks.submit import submit_job
from tests.service.worker_fixtures import (
    CANCEL,
    DEADLINE_SECONDS,
    LIST,
    PACK,
    PORTRAIT,
    PORTRAIT_WORKFLOW,
    READ,
    Api,
    Bench,
    until,
)
from workers.ticker import Ticker

pytestmark = pytest.mark.redis

#: Where alone the reason of a failure shows.
WHOLE = "GET /workflow/{workflow_id}/runs"
PACK_WORKFLOW = "b0000000-0000-4000-8000-000000000005"


def media(name: str, **fields: Any) -> dict[str, Any]:
    """A media object as a GPU worker posts it."""
    return {"url": f"https://cdn.example/{name}", "type": "output", "filename": name, "is_public": True} | fields


# --------------------------------------------------------------------------- how many calls


async def test_one_run_is_read(bench: Bench, api: Api) -> None:
    """One run worth asking about costs one read, no listing."""
    await bench.submit()
    await api.reset_counts()
    await bench.look()
    assert (await api.calls(READ), await api.calls(LIST)) == (1, 0)


async def test_many_runs_cost_one_listing(bench: Bench, api: Api) -> None:
    """Five runs in flight: one listing tells about all of them, nothing is read while nothing ended."""
    jobs = await bench.submit_all(5)
    for job in jobs[:3]:
        await api.update(job.run_id, status="running")
    await api.reset_counts()
    await bench.look()
    assert (await api.calls(READ), await api.calls(LIST)) == (0, 1)
    states = [(await bench.job(job.id)).state for job in jobs]
    assert states == [JobState.RUNNING] * 3 + [JobState.SUBMITTED] * 2


async def test_a_success_is_read_once(bench: Bench, api: Api) -> None:
    """Each run that ended well is read once for its outputs, and never asked about again."""
    jobs = await bench.submit_all(4)
    for job in jobs[:2]:
        await api.finish(job.run_id)
    await api.reset_counts()
    await bench.look()
    assert (await api.calls(READ), await api.calls(LIST)) == (2, 1)
    assert [(await bench.job(job.id)).state for job in jobs[:2]] == [JobState.SUCCEEDED] * 2
    assert await bench.in_flight() == {job.id for job in jobs[2:]}
    await bench.look()
    assert (await api.calls(READ), await api.calls(LIST)) == (2, 2)


async def test_an_unhappy_end_needs_no_read(bench: Bench, api: Api) -> None:
    """A listing alone ends jobs that failed."""
    jobs = await bench.submit_all(3)
    for job in jobs:
        await api.finish(job.run_id, status="failed")
    await api.reset_counts()
    await bench.look()
    assert (await api.calls(READ), await api.calls(LIST)) == (0, 1)
    assert {(await bench.job(job.id)).state for job in jobs} == {JobState.FAILED}


async def test_nothing_due_costs_nothing(bench: Bench, api: Api) -> None:
    """Runs that are not worth a look yet are not asked about."""
    bench.engine.schedule = Backoff()
    await bench.submit()
    await api.reset_counts()
    await bench.look()
    assert await api.calls() == 0


async def test_progress_costs_a_read_only_for_who_asked(bench: Bench, api: Api) -> None:
    """Of three running jobs one asked for progress: one listing, one read."""
    asked = await bench.submit(user="grace", progress=True)
    others = await bench.submit_all(2)
    for job in (asked, *others):
        await api.update(job.run_id, status="running")
        await api.update(job.run_id, progress=0.3, live_status="Executing KSampler")
    await api.reset_counts()
    await bench.look()
    assert (await api.calls(READ), await api.calls(LIST)) == (1, 1)
    assert await bench.told(asked.id) == ["queued", "submitted", "running", "progress"]
    for job in others:
        assert await bench.told(job.id) == ["queued", "submitted", "running"]


async def test_the_next_look_is_set_by_the_schedule(bench: Bench, api: Api) -> None:
    """A look that brought no end is followed by another after what the schedule says, and is counted."""
    job = await bench.submit()
    bench.engine.schedule = Backoff()
    before = await bench.database.now_ms()
    await bench.look()
    (run,) = (await bench.engine.due.in_flight(PORTRAIT_WORKFLOW)).runs
    assert before + 500 <= run.look_at <= await bench.database.now_ms() + 900
    assert (await bench.job(job.id)).looks == 1
    assert await bench.database.redis.zscore(bench.database.keys.due, PORTRAIT_WORKFLOW) == run.look_at


async def test_two_workers_looking_at_once_tell_it_once(bench: Bench, api: Api) -> None:
    """A lease ran out and two workers look at the same ended run: one final event."""
    job = await bench.submit()
    await api.finish(job.run_id)
    other = bench.another()
    await asyncio.gather(bench.look(), other.look(), bench.look())
    assert await bench.told(job.id) == ["queued", "submitted", "succeeded"]


async def test_a_job_that_ended_elsewhere_is_let_go(bench: Bench, api: Api) -> None:
    """Final by another's hand: its run leaves the in-flight set and the workflow the due-set."""
    job = await bench.submit()
    await bench.engine.store.move(job.id, JobState.FAILED)
    assert await bench.in_flight() == set()
    assert await bench.database.redis.zcard(bench.database.keys.due) == 0


async def test_an_end_lets_the_next_job_go(bench: Bench, api: Api) -> None:
    """The place of an ended job is filled by the same look."""
    narrow = bench.another(CONVEYOR_USER_WINDOW="1")
    job = await narrow.submit()
    waiting = await narrow.enqueue()
    assert await narrow.dispatch() == []
    await api.finish(job.run_id)
    await narrow.look()
    assert narrow.published.take() == [waiting]


# --------------------------------------------------------------------------- outputs


async def test_every_kind_of_output_arrives(bench: Bench, api: Api) -> None:
    """Every group the API knows, and one it does not, arrives with its kind and a stable key."""
    groups = {
        "images": ("a.png", "image"),
        "gifs": ("b.gif", "animation"),
        "files": ("c.mp4", "video"),
        "mesh": ("d.glb", "model"),
        "audio": ("e.flac", "audio"),
        "model_file": ("f.stl", "model"),
        "text_file": ("g.txt", "text"),
        "animated": ("h.webp", "animation"),
        "result": ("i.zip", "file"),
        "never-heard-of": ("j.unheard", "file"),
    }
    job = await bench.submit()
    for node, (group, (name, _)) in enumerate(groups.items()):
        await api.output(job.run_id, {group: [media(name)]}, node=str(node))
    await api.output(job.run_id, {"text": ["one", "two", True]}, node="20")
    await api.update(job.run_id, status="success")
    await bench.look()
    result = (await bench.events(job.id))[-1].result
    assert result is not None
    found = {output.key: (output.filename, output.kind) for output in result.outputs if output.url}
    assert found == {f"{n}:{group}:0": facts for n, (group, facts) in enumerate(groups.items())}
    texts = {output.key: output.text for output in result.outputs if output.key.startswith("20:")}
    assert texts == {"20:text:0": "one", "20:text:1": "two", "20:text:2": "true"}


async def test_a_simulated_pack_arrives_whole(bench: Bench, api: Api) -> None:
    """A run of the studio's pack: pictures, an animation, a video and a text, private addresses that can be fetched."""
    await api.configure(autopilot=True, cold_start_seconds=0, durations={"video": {"median": 1, "sigma": 0}})
    job = await bench.submit(deployment_id=PACK)
    await until(lambda: _ended(api, job.id))
    await bench.look(PACK_WORKFLOW)
    result = (await bench.job(job.id)).result
    assert result is not None
    assert sorted(output.kind for output in result.outputs) == ["animation", "image", "image", "text", "video"]
    assert all(output.url_expires_at for output in result.outputs if output.url)
    assert result.inputs_final == {"prompt": "a fox"}
    assert result.cost is not None
    assert float(result.cost.usd) > 0
    async with httpx.AsyncClient() as http:
        picture = next(output for output in result.outputs if output.kind == "image")
        assert (await http.get(str(picture.url))).content.startswith(b"\x89PNG")


async def _ended(api: Api, job_id: str) -> bool:
    return (await api.runs(job_id))[0]["ended_at"] is not None


async def test_keys_stay_when_the_run_is_read_again(bench: Bench, api: Api) -> None:
    """The same run read twice has the same keys in the same order, however the API orders its nodes."""
    job = await bench.submit()
    for node in ("30", "4", "12"):
        await api.output(job.run_id, {"images": [media(f"{node}.png")], "text": [node]}, node=node)
    await api.update(job.run_id, status="success")

    async def shuffled(request: httpx.Request) -> httpx.Response:
        answer = await bench.wire.real.handle_async_request(request)
        await answer.aread()
        body = answer.json()
        body["outputs"].reverse()
        return httpx.Response(answer.status_code, json=body)

    run = await bench.engine.client.runs.get(job.run_id)
    bench.wire.before = shuffled
    await bench.look()
    result = (await bench.job(job.id)).result
    assert result is not None
    first = [output.key for output in outputs_of(run, read_at=result.outputs[0].url_expires_at or run.ended_at)]
    assert [output.key for output in result.outputs] == first
    assert len(first) == 6


# --------------------------------------------------------------------------- ends


@pytest.mark.parametrize(
    ("status", "end"),
    [
        ("failed", ("failed", "upstream_failed")),
        ("timeout", ("timed_out", "timed_out")),
        ("cancelled", ("cancelled", "cancelled")),
    ],
)
@pytest.mark.parametrize("runs", [1, 3])
async def test_an_unhappy_run_ends_its_job(
    bench: Bench, api: Api, status: str, end: tuple[str, str], runs: int
) -> None:
    """Failed, timed out and cancelled runs end their jobs with the matching error, by read and by listing."""
    jobs = await bench.submit_all(runs)
    await api.update(jobs[0].run_id, status="running")
    await api.update(jobs[0].run_id, status=status)
    await bench.look()
    state, code = end
    assert await bench.told(jobs[0].id) == ["queued", "submitted", state]
    event = (await bench.events(jobs[0].id))[-1]
    assert event.final
    assert event.error is not None
    assert event.error.code == code
    assert event.result is None


@pytest.mark.parametrize("runs", [1, 3])
async def test_a_failed_run_says_why(bench: Bench, api: Api, runs: int) -> None:
    """The reason, which `GET /run` hides, is read by one call more and stands in the message for operators only."""
    await api.configure(autopilot=True, cold_start_seconds=0, durations={"image": {"median": 5, "sigma": 0}})
    await api.fault("failed", count=1)
    failed, *_ = await bench.submit_all(runs)
    await api.reset_counts()

    async def ended() -> bool:
        await bench.look_at_all()
        return (await bench.job(failed.id)).state is JobState.FAILED

    await until(ended, what="the run has failed")

    error = (await bench.events(failed.id))[-1].error
    assert error is not None
    assert error.message == (
        f"Run {failed.run_id} failed: KSampler (node 22): torch.OutOfMemoryError: CUDA out of memory"
    )
    assert "memory" not in error.user_message
    assert await api.calls(WHOLE) == 1


async def test_many_failures_are_explained_by_one_call(bench: Bench, api: Api) -> None:
    """A workflow that is broken fails all its runs; their reasons are in one listing, and each message has its own."""
    jobs = await bench.submit_all(3)
    for number, job in enumerate(jobs):
        await api.update(job.run_id, output_data={"exception_type": "E", "exception_message": f"reason {number}"})
        await api.update(job.run_id, status="failed")
    await api.reset_counts()
    await bench.look()
    for number, job in enumerate(jobs):
        error = (await bench.events(job.id))[-1].error
        assert error is not None
        assert error.message == f"Run {job.run_id} failed: E: reason {number}"
    assert (await api.calls(WHOLE), await api.calls(LIST), await api.calls()) == (1, 1, 2)


@pytest.mark.parametrize("trouble", ["error_500_text", "rate_limited", "reset_after", "bad_gateway"])
async def test_a_reason_that_cannot_be_read_holds_up_no_end(bench: Bench, api: Api, trouble: str) -> None:
    """The job ends as before, without it; the next that fails does not ask again."""
    await api.fault(trouble, WHOLE)
    jobs = await bench.submit_all(3)
    for job in jobs[:2]:
        await api.update(job.run_id, status="failed")
    await api.reset_counts()
    await bench.look()
    for job in jobs[:2]:
        error = (await bench.events(job.id))[-1].error
        assert error is not None
        assert (error.code, error.message) == ("upstream_failed", f"Run {job.run_id} failed; the API gives no reason.")
    assert await api.calls(WHOLE) == 1


async def test_a_reason_is_not_worth_a_long_wait(bench: Bench, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing that hangs is given up, and while calls wait for tokens it is not asked for."""
    monkeypatch.setattr(reason_module, "REASON_SECONDS", 0.1)
    await api.fault("hang", WHOLE)
    job = await bench.submit()
    await api.update(job.run_id, status="failed")
    await bench.look()
    assert (await bench.job(job.id)).state is JobState.FAILED

    await api.reset_counts()
    bench.engine.unexplained.clear()
    bench.engine.bucket.pressure_seconds = 60.0
    other = await bench.submit()
    await api.update(other.run_id, status="failed")
    await bench.look()
    assert (await bench.job(other.id)).state is JobState.FAILED
    assert await api.calls(WHOLE) == 0


async def test_success_tells_where_the_time_went(bench: Bench, api: Api) -> None:
    """The final event carries the timing, and the job's record the same result."""
    job = await bench.submit()
    await api.update(job.run_id, status="queued")
    await api.update(job.run_id, status="started")
    await api.finish(job.run_id)
    await bench.look()
    event = (await bench.events(job.id))[-1]
    assert event.timing is not None
    assert all(value is not None and value >= 0 for value in event.timing.model_dump().values())
    assert (await bench.job(job.id)).result == event.result


async def test_outputs_that_come_late_are_waited_for(bench: Bench, api: Api) -> None:
    """Success without outputs is no end: nothing is told until they are there, then the job succeeds with them."""
    job = await bench.submit()
    await api.update(job.run_id, status="success")
    await bench.look()
    await bench.look()
    assert await bench.told(job.id) == ["queued", "submitted"]
    assert await bench.in_flight() == {job.id}
    await api.output(job.run_id, {"images": [media("a.png")]})
    await bench.look()
    assert await bench.told(job.id) == ["queued", "submitted", "succeeded"]


async def test_outputs_that_never_come_fail_the_job(bench: Bench, api: Api) -> None:
    """After the grace a success without outputs is `failed/no_outputs`."""
    job = await bench.submit()
    await api.update(job.run_id, status="success")
    await bench.look()
    await bench.past(job.id, 60, "no_outputs_at")
    await bench.look()
    job = await bench.job(job.id)
    assert job.error is not None
    assert (job.state, job.error.code) == (JobState.FAILED, "no_outputs")


async def test_outputs_of_several_empty_successes_are_waited_for(bench: Bench, api: Api) -> None:
    """The same through a listing: each is read again and each ends by itself."""
    jobs = await bench.submit_all(3)
    for job in jobs:
        await api.update(job.run_id, status="success")
    await bench.look()
    await api.output(jobs[0].run_id, {"text": ["late"]})
    await bench.past(jobs[1].id, 60, "no_outputs_at")
    await bench.look()
    states = [(await bench.job(job.id)).state for job in jobs]
    assert states == [JobState.SUCCEEDED, JobState.FAILED, JobState.SUBMITTED]


# --------------------------------------------------------------------------- odd answers


@pytest.mark.parametrize("word", ["processing", "Success", "cancelling"])
async def test_an_unknown_status_is_looked_at_again(bench: Bench, api: Api, word: str) -> None:
    """A word nobody told us moves nothing and ends nothing; when a known one comes, the job goes on."""
    job = await bench.submit()
    odd = True

    async def rewritten(request: httpx.Request) -> httpx.Response | None:
        if not odd:
            return None
        answer = await bench.wire.real.handle_async_request(request)
        await answer.aread()
        return httpx.Response(answer.status_code, json=answer.json() | {"status": word})

    bench.wire.before = rewritten
    await bench.look()
    await bench.look()
    assert await bench.told(job.id) == ["queued", "submitted"]
    assert await bench.in_flight() == {job.id}
    odd = False
    await api.finish(job.run_id)
    await bench.look()
    assert (await bench.job(job.id)).state is JobState.SUCCEEDED


async def test_a_simulated_unknown_status_ends_well(bench: Bench, api: Api) -> None:
    """A run that says an unknown word on its way ends as any other."""
    await api.configure(
        autopilot=True, cold_start_seconds=0, durations={"image": {"median": 20, "sigma": 0}},
        faults=[{"kind": "unknown_status"}],
    )  # fmt: skip
    job = await bench.submit()

    async def over() -> bool:
        await bench.look()
        return (await bench.job(job.id)).final

    await until(over)
    assert (await bench.told(job.id))[-1] == "succeeded"


@pytest.mark.parametrize("runs", [1, 2])
async def test_a_state_never_goes_back(bench: Bench, api: Api, runs: int) -> None:
    """The API says queued after running: the job stays running, nobody is told, and it ends as it should."""
    job = (await bench.submit_all(runs))[0]
    await api.update(job.run_id, status="running")
    await bench.look()
    for word in ("queued", "started", "queued"):
        await api.update(job.run_id, status=word)
        await bench.look()
        assert (await bench.job(job.id)).state is JobState.RUNNING
    await api.finish(job.run_id)
    await bench.look()
    assert await bench.told(job.id) == ["queued", "submitted", "running", "succeeded"]


async def test_what_comes_after_the_end_is_not_heard(bench: Bench, api: Api) -> None:
    """Late progress, a late `started` and a late `failed` change nothing of a job that has ended."""
    job = await bench.submit()
    await api.finish(job.run_id)
    await bench.look()
    before = await bench.database.hash(bench.database.keys.job(job.id))
    await api.update(job.run_id, live_status="Executing VAEDecode", progress=0.5)
    await api.update(job.run_id, status="started")
    await api.update(job.run_id, status="failed")
    await bench.engine.store.nudge(job.id)
    await bench.look()
    assert await bench.database.hash(bench.database.keys.job(job.id)) == before
    assert await bench.told(job.id) == ["queued", "submitted", "succeeded"]


async def test_a_late_start_seen_first_gives_no_negative_time(bench: Bench, api: Api) -> None:
    """The first look comes after a late `started` overwrote the time: no frontend sees a negative duration or cost."""
    job = await bench.submit()
    await api.finish(job.run_id)
    await api.update(job.run_id, status="started")
    await bench.look()
    event = (await bench.events(job.id))[-1]
    assert event.result is not None
    assert event.timing is not None
    assert (event.type, event.timing.run, event.result.cost) == ("job.succeeded", None, None)


@pytest.mark.parametrize("limit", [30, 31])
async def test_a_run_missing_from_the_listing_is_read(
    bench: Bench, api: Api, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """Newer runs of others fill the listing: ours are read singly, and none is forgotten."""
    monkeypatch.setattr(listing, "LISTED_AT_LEAST", 0)
    monkeypatch.setattr(listing, "MOST_PAGES", 1)
    jobs = await bench.submit_all(3)
    await api.finish(jobs[0].run_id)
    await api.update(jobs[1].run_id, status="running")
    for _ in range(limit):
        await api.make_run()
    await api.reset_counts()
    await bench.look()
    assert (await api.calls(LIST), await api.calls(READ)) == (1, 3)
    states = [(await bench.job(job.id)).state for job in jobs]
    assert states == [JobState.SUCCEEDED, JobState.RUNNING, JobState.SUBMITTED]


async def test_a_key_that_may_not_list_reads_singly(bench: Bench, api: Api) -> None:
    """403 for the listing: runs are read one by one, and the listing is not asked for again soon."""
    await api.configure(forbid_listing=True)
    jobs = await bench.submit_all(3)
    for job in jobs:
        await api.update(job.run_id, status="running")
    await api.reset_counts()
    await bench.look()
    assert {(await bench.job(job.id)).state for job in jobs} == {JobState.RUNNING}
    for job in jobs:
        await api.finish(job.run_id)
    await bench.look()
    assert {(await bench.job(job.id)).state for job in jobs} == {JobState.SUCCEEDED}
    assert (await api.calls(LIST), await api.calls(READ)) == (1, 6)


async def test_a_workflow_that_was_deleted_reads_singly(bench: Bench, api: Api) -> None:
    """404 for the listing (the workflow was deleted under its runs): the runs are read and end."""
    jobs = await bench.submit_all(2)
    for job in jobs:
        await api.finish(job.run_id)

    async def gone(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(404, json={"detail": "Workflow not found"}) if "/v2/" in request.url.path else None

    bench.wire.before = gone
    await bench.look()
    assert {(await bench.job(job.id)).state for job in jobs} == {JobState.SUCCEEDED}


async def test_a_refused_key_fails_no_job(bench: Bench, api: Api) -> None:
    """401 for looks: an operator has to act; the jobs wait for it and are asked about rarely."""
    jobs = await bench.submit_all(2)
    revoked = bench.another(api_key="sim-key-revoked")
    await api.reset_counts()
    await revoked.look()
    assert await api.calls() == 1
    assert {(await bench.job(job.id)).state for job in jobs} == {JobState.SUBMITTED}
    flight = await bench.engine.due.in_flight(PORTRAIT_WORKFLOW)
    now, runs = flight.now_ms, flight.runs
    assert all(run.look_at > now + 10_000 for run in runs)


async def test_a_run_nobody_knows_fails_no_job_at_once(bench: Bench, api: Api) -> None:
    """404 for a run that was made: it is looked at again; a deadline will end it."""
    job = await bench.submit()
    await api.reset()
    await bench.look()
    assert (await bench.job(job.id)).state is JobState.SUBMITTED
    assert await bench.in_flight() == {job.id}


@pytest.mark.parametrize("kind", ["bad_gateway", "error_500", "error_500_text", "reset_before", "reset_after"])
async def test_a_look_that_fails_never_fails_a_job(bench: Bench, api: Api, kind: str) -> None:
    """Whatever trouble a look meets, its jobs stay as they are and are looked at again."""
    jobs = await bench.submit_all(2)
    for job in jobs:
        await api.finish(job.run_id)
    await api.fault(kind)
    await bench.look()
    assert {(await bench.job(job.id)).state for job in jobs} == {JobState.SUBMITTED}
    assert await bench.in_flight() == {job.id for job in jobs}
    await api.configure(faults=[])

    async def over() -> bool:
        await bench.open_bucket()
        await bench.look_at_all()
        return {(await bench.job(job.id)).state for job in jobs} == {JobState.SUCCEEDED}

    # A look may meet a connection that the API cut after its last answer.
    await until(over)


async def test_an_answer_without_sense_fails_no_job(bench: Bench, api: Api) -> None:
    """A run without id and status, a listing that is none: nothing ends."""
    job = await bench.submit()
    for body in ([], {}, {"id": str(uuid.uuid4())}, "hello", None):
        bench.wire.before = _always(httpx.Response(200, json=body))
        await bench.look_at_all()
    assert await bench.told(job.id) == ["queued", "submitted"]


def _always(answer: httpx.Response) -> Any:
    async def give(_: httpx.Request) -> httpx.Response:
        return answer

    return give


async def test_one_bad_read_does_not_spoil_the_others(bench: Bench, api: Api) -> None:
    """Three ended runs, one of which cannot be read: the two others end in the same look."""
    jobs = await bench.submit_all(3)
    for job in jobs:
        await api.finish(job.run_id)

    async def broken(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(502) if request.url.path.endswith(str(jobs[1].run_id)) else None

    bench.wire.before = broken
    await bench.look()
    states = [(await bench.job(job.id)).state for job in jobs]
    assert states == [JobState.SUCCEEDED, JobState.SUBMITTED, JobState.SUCCEEDED]
    assert await bench.in_flight() == {jobs[1].id}


# --------------------------------------------------------------------------- deadlines


@pytest.mark.parametrize("runs", [1, 3])
async def test_a_stuck_run_is_cancelled_and_its_job_timed_out(bench: Bench, api: Api, runs: int) -> None:
    """Past its deadline: the run is cancelled upstream, the job is `timed_out`, and nobody else's run is touched."""
    jobs = await bench.submit_all(runs)
    for job in jobs:
        await api.update(job.run_id, status="running")
    await bench.look()
    await bench.past(jobs[0].id, 3600, "started_at")
    await bench.look()
    assert await api.calls(CANCEL) == 1
    assert [run["status"] for run in await api.runs(jobs[0].id)] == ["cancelled"]
    job = await bench.job(jobs[0].id)
    assert job.error is not None
    assert (job.state, job.error.code) == (JobState.TIMED_OUT, "timed_out")
    assert {(await bench.job(job.id)).state for job in jobs[1:]} <= {JobState.RUNNING}


async def test_a_job_past_its_deadline_waits_until_its_run_is_cancelled(bench: Bench, api: Api) -> None:
    """The first cancel fails: the job does not end and leave a run that is paid for; the next look cancels it."""
    job = await bench.submit()
    await api.update(job.run_id, status="running")
    await bench.look()
    await bench.past(job.id, 670, "started_at")
    await api.fault("error_500", CANCEL, count=1)
    await bench.look()
    assert (await bench.job(job.id)).state is JobState.RUNNING
    await bench.look_at_all()
    assert (await bench.job(job.id)).state is JobState.TIMED_OUT
    assert {run["status"] for run in await api.runs()} == {"cancelled"}


async def test_a_stuck_run_that_cannot_be_cancelled_times_out(bench: Bench, api: Api) -> None:
    """The cancel is refused again and again: the job is `timed_out` all the same."""
    job = await bench.submit()
    await api.update(job.run_id, status="running")
    await bench.look()
    await bench.past(job.id, 3600, "started_at")
    await api.fault("error_500", CANCEL)
    await bench.look()
    assert (await bench.job(job.id)).state is JobState.TIMED_OUT


async def test_a_run_nobody_knows_times_out(bench: Bench, api: Api) -> None:
    """404 for a run past its deadline: nothing will ever be heard of it, so its job ends."""
    job = await bench.submit()
    await api.reset()
    await bench.past(job.id, 86_400, "submitted_at")
    await bench.look_at_all()
    job = await bench.job(job.id)
    assert (job.state, await bench.in_flight()) == (JobState.TIMED_OUT, set())


async def test_a_cancelled_run_past_its_deadline_is_cancelled_as_asked(bench: Bench, api: Api) -> None:
    """The user's own cancel says `cancelled`, also when the time was up by then."""
    job = await bench.submit()
    await api.update(job.run_id, status="running")
    await bench.look()
    await bench.engine.store.cancel(job.id)
    await bench.past(job.id, 3600, "started_at")
    await bench.look()
    assert (await bench.job(job.id)).state is JobState.CANCELLED


async def test_a_run_that_ended_well_past_its_deadline_counts(bench: Bench, api: Api) -> None:
    """Nobody looked in time, but the run has its outputs: they are paid for and delivered."""
    job = await bench.submit()
    await api.update(job.run_id, status="running")
    await bench.look()
    await api.finish(job.run_id)
    await bench.past(job.id, 3600, "started_at")
    await bench.look()
    assert (await bench.job(job.id)).state is JobState.SUCCEEDED


async def test_a_run_that_waits_for_a_gpu_is_not_overdue(bench: Bench, api: Api) -> None:
    """The run's own timeout counts from its start, not while it stands in the API's queue."""
    job = await bench.submit(run_timeout_seconds=60)
    await bench.past(job.id, 1000, "submitted_at", "created_at")
    await bench.look()
    assert (await bench.job(job.id)).state is JobState.SUBMITTED
    assert await api.calls(CANCEL) == 0


# --------------------------------------------------------------------------- progress


async def test_progress_never_goes_back(bench: Bench, api: Api) -> None:
    """A fraction lower than the last is not told; the same again is not told twice; the run's end shows no progress."""
    job = await bench.submit(progress=True)
    await api.update(job.run_id, status="running")
    for fraction in (0.2, 0.6, 0.4, 0.6, 0.1, 0.8):
        await api.update(job.run_id, progress=fraction, live_status="Executing KSampler")
        await bench.look()
    await api.finish(job.run_id)
    await bench.look()
    events = await bench.events(job.id)
    told = [event.progress.fraction for event in events if event.progress]
    assert told == [0.2, 0.6, 0.8]
    assert await bench.told(job.id) == ["queued", "submitted", "running", *["progress"] * 3, "succeeded"]


async def test_progress_is_not_told_unasked(bench: Bench, api: Api) -> None:
    """Who did not ask for progress gets none, though the run is read."""
    job = await bench.submit()
    await api.update(job.run_id, status="running")
    await api.update(job.run_id, progress=0.5, live_status="Executing KSampler")
    await bench.look()
    assert await bench.told(job.id) == ["queued", "submitted", "running"]


async def test_the_row_shows_how_far_the_run_is(bench: Bench, api: Api) -> None:
    """Operators see the running run and its progress in the job's row; a row that cannot be shown disturbs nothing."""
    job = await bench.submit(progress=True)
    await api.update(job.run_id, status="running")
    await api.update(job.run_id, progress=0.3, live_status="Executing KSampler")
    await bench.look()
    assert bench.rows.shown == [f"run {str(job.run_id)[:8]}: running", f"run {str(job.run_id)[:8]}: 30% KSampler"]


# --------------------------------------------------------------------------- cancelling


async def test_a_running_run_is_cancelled(bench: Bench, api: Api) -> None:
    """Asked for while running: one cancel upstream, one read that proves it, the job is cancelled."""
    job = await bench.submit()
    await api.update(job.run_id, status="running")
    await bench.look()
    assert await bench.engine.store.cancel(job.id) == "requested"
    await api.reset_counts()
    await bench.look()
    assert (await bench.job(job.id)).state is JobState.CANCELLED
    assert (await api.calls(CANCEL), await api.calls(READ)) == (1, 1)
    assert [run["status"] for run in await api.runs(job.id)] == ["cancelled"]
    event = (await bench.events(job.id))[-1]
    assert event.error is not None
    assert event.error.message.endswith("as asked.")


async def test_a_cancel_makes_the_look_due_at_once(bench: Bench, api: Api) -> None:
    """Whatever the schedule said, a cancel is looked at now."""
    bench.engine.schedule = Backoff()
    job = await bench.submit()
    assert (await bench.engine.due.claim(10))[0] == []
    await bench.engine.store.cancel(job.id)
    assert (await bench.engine.due.claim(10))[0] == [PORTRAIT_WORKFLOW]


@pytest.mark.parametrize("runs", [1, 3])
async def test_a_run_too_fresh_to_cancel_is_asked_again(
    bench: Bench, api: Api, monkeypatch: pytest.MonkeyPatch, runs: int
) -> None:
    """The 500-wrapped 404 of a fresh run: the cancel is repeated, and then it works."""
    monkeypatch.setattr("tasks.cancel.BETWEEN_TRIES_SECONDS", 0.01)
    job = (await bench.submit_all(runs))[0]
    fresh = [True]

    async def too_fresh(request: httpx.Request) -> httpx.Response | None:
        if request.url.path.endswith("/cancel") and fresh:
            fresh.pop()
            detail = "Error cancel function 404: Run not found or has no modal function call ID"
            return httpx.Response(500, json={"detail": detail})
        return None

    bench.wire.before = too_fresh
    await bench.engine.store.cancel(job.id)
    await bench.look()
    assert not fresh
    assert (await bench.job(job.id)).state is JobState.CANCELLED
    assert [run["status"] for run in await api.runs(job.id)] == ["cancelled"]


async def test_a_cancel_that_was_not_heard_is_repeated(bench: Bench, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """200 proves nothing: the run goes on, so the next look asks again."""
    job = await bench.submit()
    deaf = [True]

    async def not_heard(request: httpx.Request) -> httpx.Response | None:
        if request.url.path.endswith("/cancel") and deaf:
            deaf.pop()
            return httpx.Response(200, json={"status": "success", "message": "Function cancelled"})
        return None

    bench.wire.before = not_heard
    await bench.engine.store.cancel(job.id)
    await bench.look()
    assert (await bench.job(job.id)).state is JobState.SUBMITTED
    await bench.look()
    assert (await bench.job(job.id)).state is JobState.CANCELLED


async def test_success_wins_over_a_late_cancel(bench: Bench, api: Api) -> None:
    """The run had ended when the cancel came: its outputs are delivered."""
    job = await bench.submit()
    await api.finish(job.run_id)
    assert await bench.engine.store.cancel(job.id) == "requested"
    await bench.look()
    assert await bench.told(job.id) == ["queued", "submitted", "succeeded"]
    assert await bench.engine.store.cancel(job.id) == "final"


async def test_a_cancel_is_not_lost_with_the_api(bench: Bench, api: Api) -> None:
    """The API is down when the cancel is to be sent: it is sent when it is back."""
    job = await bench.submit()
    await bench.engine.store.cancel(job.id)
    await api.fault("bad_gateway")
    await bench.look()
    await api.configure(faults=[])
    await bench.open_bucket()
    await bench.look_at_all()
    assert (await bench.job(job.id)).state is JobState.CANCELLED


async def test_a_429_for_a_cancel_closes_the_bucket(bench: Bench, api: Api) -> None:
    """The API pushes back on a cancel: nobody calls for that long."""
    job = await bench.submit()
    await bench.engine.store.cancel(job.id)
    await api.fault("rate_limited", CANCEL, count=1, retry_after=1)
    await asyncio.wait_for(bench.look(), DEADLINE_SECONDS)
    assert float((await bench.engine.bucket.state())["pushed_back"]) == 1


# --------------------------------------------------------------------------- an outage


async def test_an_outage_fails_nothing_and_hammers_nobody(bench: Bench, api: Api) -> None:
    """The API answers 502 for two seconds: no job fails, calls stay few, and all goes on by itself afterwards."""
    jobs = [*await bench.submit_all(6), *[await bench.submit(user=f"p{n}", deployment_id=PACK) for n in range(4)]]
    waiting = [await bench.enqueue(user=f"w{n}") for n in range(5)]
    for job in jobs:
        await api.finish(job.run_id)
    await api.fault("bad_gateway")
    await api.reset_counts()
    ticker = asyncio.create_task(Ticker(bench.engine).run())
    submits = asyncio.create_task(_carry_out(bench))
    try:
        await asyncio.sleep(2)
        while_down = await api.calls()
        known = await bench.engine.store.find([*(job.id for job in jobs), *waiting])
        assert not any(job.final for job in known)
        await api.configure(faults=[], autopilot=True)

        async def all_followed() -> bool:
            ended = [(await bench.job(job.id)).state is JobState.SUCCEEDED for job in jobs]
            gone = [(await bench.job(job_id)).state is not JobState.QUEUED for job_id in waiting]
            return all(ended) and all(gone)

        await until(all_followed, what="everything goes on")
    finally:
        bench.engine.stopping.set()
        await ticker
        submits.cancel()
        await asyncio.gather(submits, return_exceptions=True)
    # At the first moment everything under way may ask once; then about one call a second.
    assert while_down <= 15 + 2 * 3
    assert (await api.stats())["double_submits_count"] == 0


async def _carry_out(bench: Bench) -> None:
    """What the pool of a worker does: a task for each message."""
    tasks: set[asyncio.Task[None]] = set()
    while True:
        tasks |= {asyncio.create_task(submit_job(bench.engine, job_id)) for job_id in bench.published.take()}
        await asyncio.sleep(0.01)


async def test_a_cancel_is_not_put_off_by_a_likelier_run(bench: Bench, api: Api) -> None:
    """A hint makes one run worth a read of its own; the one whose cancel was asked for is cancelled in the same look."""
    for _ in range(5):
        await bench.engine.history.record(PORTRAIT, {"total": 12.0, "run": 11.0})
    hinted, unwanted, other = await bench.submit_all(3)
    await api.finish(hinted.run_id)
    await bench.engine.store.nudge(hinted.id)
    assert await bench.engine.store.cancel(unwanted.id) == "requested"

    await bench.look()

    states = [(await bench.job(job.id)).state for job in (hinted, unwanted, other)]
    assert states == [JobState.SUCCEEDED, JobState.CANCELLED, JobState.SUBMITTED]


async def test_an_unlisted_deployment_learns_its_workflow_from_its_first_run(bench: Bench, api: Api) -> None:
    """A deployment the catalog does not list: its first run is read singly, and the next are known to be listable."""
    await bench.database.redis.delete(bench.database.keys.catalog)
    away = bench.another(api_url=f"http://127.0.0.1:{free_port()}/api")
    job_id = await away.enqueue(deployment_id=PORTRAIT)
    assert (await bench.job(job_id)).workflow_id == ""
    request = (await bench.job(job_id)).request

    await bench.engine.catalog.learn(PORTRAIT, PORTRAIT_WORKFLOW)

    assert (await away.engine.catalog.resolve(request)).workflow_id == PORTRAIT_WORKFLOW
