"""A webhook is a reason to look now, and never truth: whatever it says, a look decides."""

import asyncio
import json
import uuid
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from producers.local.redis_server import RedisServer
from shared.following.hints import HintReply, take_hint
from shared.hooks import signature
from shared.jobs.record import Job
from shared.jobs.states import JobState
from shared.jobs.store import JobStore
from tasks.submit import submit_job
from tests.redis.stage import Theatre, look_at, put, submit, take
from tests.service.worker_fixtures import LIST, PORTRAIT_WORKFLOW, READ, SUBMIT, Api, Bench
from workers.upkeep import Upkeep

pytestmark = pytest.mark.redis

SECRET = "s3cret"
NOBODYS_RUN = "0f9a6f1c-7a57-4d52-8f0e-2b1c3d4e5f60"


def hook(run_id: str | None, status: str = "success", **more: Any) -> bytes:
    """A body as the API sends it."""
    told = {"event_type": "run.updated", "status": status, "run_id": run_id, "progress": 0.4, "outputs": []}
    return json.dumps(told | more).encode()


async def hint(bench: Bench, job_id: str, body: bytes = b"") -> HintReply:
    """Take in one webhook that carries our signature."""
    return await take_hint(bench.engine.store, SECRET, job_id, signature(SECRET, job_id), body)


async def submitted_and_put_off(bench: Bench) -> Job:
    """A submitted job whose next look is an hour away."""
    job = await bench.submit()
    redis, keys = bench.database.redis, bench.database.keys
    later = await bench.database.now_ms() + 3_600_000
    await redis.zadd(keys.inflight(PORTRAIT_WORKFLOW), {f"{job.id} {job.run_id}": later})
    await redis.zadd(keys.due, {PORTRAIT_WORKFLOW: later})
    return job


async def is_due(bench: Bench) -> bool:
    """Whether a worker that asks now would look at the workflow."""
    workflows, _ = await bench.engine.due.claim(100)
    return workflows == [PORTRAIT_WORKFLOW]


async def everything(bench: Bench) -> Any:
    """All that Redis knows of jobs."""
    return await look_at(bench.database)


async def unanswered(bench: Bench, api: Api, fault: str) -> Job:
    """A job whose submit got no answer."""
    await api.fault(fault, SUBMIT, count=1)
    job = await bench.submit()
    assert job.state is JobState.SUBMITTING
    return job


async def back_in_its_lane(bench: Bench, api: Api) -> Job:
    """A job whose submit got no answer, and whose run did not appear within the grace."""
    job = await unanswered(bench, api, "reset_before")
    await bench.past(job.id, 0.001, "undecided_until")
    job = await bench.again(job.id)
    assert job.state is JobState.QUEUED
    await bench.engine.lanes.give_back(job.id)
    bench.published.take()
    assert await bench.in_lane() == [job.id]
    return job


# --------------------------------------------------------------------------- a look comes sooner


async def test_a_posted_hook_makes_the_look_due_now(bench: Bench, api: Api) -> None:
    """A webhook with its body: the workflow is due at once, and the look finds what the API knows."""
    job = await submitted_and_put_off(bench)
    assert not await is_due(bench)
    await api.finish(str(job.run_id))
    assert await hint(bench, job.id, hook(job.run_id, "success")) == "nudged"
    await bench.look()
    assert (await bench.job(job.id)).state is JobState.SUCCEEDED
    assert await bench.told(job.id) == ["queued", "submitted", "succeeded"]


async def test_a_hook_without_a_body_makes_the_look_due_now(bench: Bench) -> None:
    """The API's second and third try is a GET, which may lose its body on the way: it says enough."""
    job = await submitted_and_put_off(bench)
    assert await hint(bench, job.id) == "nudged"
    assert await is_due(bench)


async def test_a_hook_is_not_believed(bench: Bench) -> None:
    """The hook says success, the API says not started: the job goes on."""
    job = await submitted_and_put_off(bench)
    assert await hint(bench, job.id, hook(job.run_id, "success")) == "nudged"
    await bench.look()
    assert (await bench.job(job.id)).state is JobState.SUBMITTED
    assert await bench.told(job.id) == ["queued", "submitted"]


async def test_a_forged_hook_changes_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without our signature of this very job, Redis is not even asked."""
    job = await submitted_and_put_off(bench)
    before = await everything(bench)
    another = signature(SECRET, NOBODYS_RUN)
    with monkeypatch.context() as patch:
        patch.setattr(bench.database, "run", None)
        for sig in ("", "0" * 32, another, signature("another secret", job.id), signature(SECRET, job.id)[:-1], "é"):
            assert await take_hint(bench.engine.store, SECRET, job.id, sig, hook(job.run_id)) == "forged"
    assert await everything(bench) == before


async def test_a_hook_for_nobody_leaves_nothing_behind(bench: Bench) -> None:
    """A job that is not known (any more): `missing`, and no fragment of a record."""
    assert await hint(bench, "no-such-job", hook(NOBODYS_RUN)) == "missing"
    sight = await everything(bench)
    assert (sight.jobs, sight.sets) == ({}, {})


async def test_a_repeated_hook_changes_nothing_more(bench: Bench) -> None:
    """The same hook three times, at once and later: one look is due, nobody hears of it twice."""
    job = await submitted_and_put_off(bench)
    replies = await asyncio.gather(*(hint(bench, job.id, hook(job.run_id)) for _ in range(3)))
    assert set(replies) == {"nudged"}
    before = await everything(bench)
    assert await hint(bench, job.id, hook(job.run_id)) == "nudged"
    assert await everything(bench) == before
    assert await bench.told(job.id) == ["queued", "submitted"]


@pytest.mark.parametrize("status", ["queued", "started", "running", "uploading"])
async def test_news_that_a_run_goes_on_costs_no_call(bench: Bench, status: str) -> None:
    """The API sends a hook at each status: three of four say nothing anybody waits for, and are only noted."""
    job = await submitted_and_put_off(bench)
    before = await everything(bench)

    assert await hint(bench, job.id, hook(job.run_id, status)) == "noted"

    assert await everything(bench) == before
    assert not await is_due(bench)


async def test_a_start_is_news_for_who_asked_for_progress(bench: Bench, api: Api) -> None:
    """A job with `progress`: the hook of its start has it looked at, so that progress begins; the next one does not."""
    job = await bench.submit(progress=True)
    await api.update(job.run_id, status="running", progress=0.1)

    assert await hint(bench, job.id, hook(job.run_id, "started")) == "nudged"
    await bench.look()

    assert await hint(bench, job.id, hook(job.run_id, "running")) == "noted"
    assert await bench.told(job.id) == ["queued", "submitted", "running", "progress"]


@pytest.mark.parametrize("status", ["success", "failed", "timeout", "cancelled", "processing", None])
async def test_an_end_and_a_word_nobody_knows_are_looked_at(bench: Bench, status: Any) -> None:
    """A hook that says the run has ended, or says something strange, is a reason to look."""
    job = await submitted_and_put_off(bench)

    assert await hint(bench, job.id, hook(job.run_id, status)) == "nudged"

    assert await is_due(bench)


async def test_a_late_hook_does_not_wake_an_ended_job(bench: Bench, api: Api) -> None:
    """A `running` that arrives after the end: `final`, no state goes back, nothing is looked at or checked."""
    job = await bench.submit()
    await api.finish(str(job.run_id))
    await bench.look()
    before = await everything(bench)
    assert await hint(bench, job.id, hook(job.run_id, "running")) == "final"
    assert await hint(bench, job.id) == "final"
    assert await everything(bench) == before
    assert await bench.told(job.id) == ["queued", "submitted", "succeeded"]


async def test_a_hint_costs_one_round_trip(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """However it ends, one call to Redis."""
    job = await bench.submit()
    await hint(bench, job.id)  # the script is loaded
    commands: list[Any] = []
    ask = bench.database.redis.execute_command

    async def counted(*args: Any, **options: Any) -> Any:
        commands.append(args[0])
        return await ask(*args, **options)

    monkeypatch.setattr(bench.database.redis, "execute_command", counted)
    for job_id, body in ((job.id, b""), (job.id, hook(job.run_id)), (job.id, hook(NOBODYS_RUN)), ("nobody", b"")):
        commands.clear()
        await hint(bench, job_id, body)
        assert commands == ["EVALSHA"]


# --------------------------------------------------------------------------- before our own answer


async def test_a_hook_before_our_own_answer_is_adopted_with_one_read(bench: Bench, api: Api) -> None:
    """The answer was lost, the hook names the run: rescue comes at once, and one read replaces the search."""
    job = await unanswered(bench, api, "lost_answer")
    (run,) = await api.runs(job.id)
    assert await hint(bench, job.id, hook(run["id"])) == "noted"
    await Upkeep(bench.engine).rescue()
    assert bench.published.take() == [job.id]
    await submit_job(bench.engine, job.id)
    job = await bench.job(job.id)
    assert (job.state, job.run_id) == (JobState.SUBMITTED, run["id"])
    assert (await api.calls(SUBMIT), await api.calls(READ), await api.calls(LIST)) == (1, 1, 0)
    assert await bench.told(job.id) == ["queued", "submitted"]


async def test_a_hook_during_the_post_and_its_answer_agree(bench: Bench, api: Api) -> None:
    """The hook comes while the POST still waits, and rescue adopts: the answer then changes nothing."""
    adopted: list[Job] = []

    class Meanwhile:
        """The real transport; the answer to a submit is heard only after a rescuer has adopted the run."""

        def __init__(self) -> None:
            self.real = bench.wire.real

        async def handle_async_request(self, request: Any) -> Any:
            answer = await self.real.handle_async_request(request)
            if request.url.path.endswith("/queue"):
                await answer.aread()
                (run,) = await api.runs()
                assert await hint(bench, run["_job_id"], hook(run["id"])) == "noted"
                await submit_job(other.engine, run["_job_id"])
                adopted.append(await bench.job(run["_job_id"]))
            return answer

        async def aclose(self) -> None:
            await self.real.aclose()

    other = bench.another()
    bench.wire.real = Meanwhile()  # type: ignore[assignment]
    job = await bench.submit()
    assert [before.run_id for before in adopted] == [job.run_id]
    assert job.state is JobState.SUBMITTED
    assert await bench.told(job.id) == ["queued", "submitted"]
    assert [run["status"] for run in await api.runs(job.id)] == ["not-started"]


async def test_a_job_back_in_its_lane_adopts_instead_of_paying_twice(bench: Bench, api: Api) -> None:
    """Given up too early: the run turns up after the job went back to its lane, and becomes the job's."""
    job = await back_in_its_lane(bench, api)
    late = await api.make_run(job.id)
    await api.reset_counts()
    assert await hint(bench, job.id, hook(late)) == "noted"
    await bench.open_bucket()
    assert await bench.dispatch() == [job.id]
    await submit_job(bench.engine, job.id)
    job = await bench.job(job.id)
    assert (job.state, job.run_id) == (JobState.SUBMITTED, late)
    assert (await api.calls(SUBMIT), await api.calls()) == (0, 1)
    assert await bench.told(job.id) == ["queued", "submitted"]
    assert len(await api.runs(job.id)) == 1


async def test_a_run_named_while_its_job_waits_does_not_outlive_the_job(bench: Bench, api: Api) -> None:
    """The run turns up after the job went back to its lane, and the user gives the job up: the run is cancelled."""
    job = await back_in_its_lane(bench, api)
    late = await api.make_run(job.id)
    assert await hint(bench, job.id, hook(late)) == "noted"
    assert await bench.engine.store.cancel(job.id) == "cancelled"
    await bench.open_bucket()
    await Upkeep(bench.engine).check_strays()
    assert [run["status"] for run in await api.runs(job.id)] == ["cancelled"]


# --------------------------------------------------------------------------- hooks that lie


@pytest.mark.parametrize("whose", ["another job's", "nobody's"])
async def test_a_lie_about_an_unanswered_submit_is_found_out(bench: Bench, api: Api, whose: str) -> None:
    """The hook names a run that is not the job's: the search goes on and finds the one that is."""
    other = await bench.submit(user="grace")
    job = await unanswered(bench, api, "lost_answer")
    (own,) = await api.runs(job.id)
    assert await hint(bench, job.id, hook(other.run_id if whose == "another job's" else NOBODYS_RUN)) == "noted"
    job = await bench.again(job.id)
    assert (job.state, job.run_id) == (JobState.SUBMITTED, own["id"])
    await Upkeep(bench.engine).check_strays()
    assert [run["status"] for run in await api.runs()] == ["not-started", "not-started"]
    assert (await bench.job(other.id)).run_id == other.run_id


@pytest.mark.parametrize("whose", ["another job's", "nobody's"])
async def test_a_lie_about_a_followed_job_changes_nothing(bench: Bench, api: Api, whose: str) -> None:
    """The hook names a run that is not the job's: it is checked, left alone, and forgotten."""
    other, job = await bench.submit(user="grace"), await bench.submit()
    assert await hint(bench, job.id, hook(other.run_id if whose == "another job's" else NOBODYS_RUN)) == "nudged"
    await Upkeep(bench.engine).check_strays()
    sight = await everything(bench)
    assert "strays" not in sight.sets
    assert [run["status"] for run in await api.runs()] == ["not-started", "not-started"]
    for before in (other, job):
        after = await bench.job(before.id)
        assert (after.state, after.run_id) == (JobState.SUBMITTED, before.run_id)


async def test_a_lie_about_a_waiting_job_does_not_keep_it_from_its_run(bench: Bench, api: Api) -> None:
    """A hook names a run before anything was posted: it is read, disbelieved, and the job is submitted."""
    other, job_id = await bench.submit(user="grace"), await bench.enqueue()
    assert await hint(bench, job_id, hook(other.run_id)) == "noted"
    await bench.dispatch()
    await submit_job(bench.engine, job_id)
    job = await bench.job(job_id)
    assert job.state is JobState.SUBMITTED
    assert [run["id"] for run in await api.runs(job_id)] == [job.run_id]


# --------------------------------------------------------------------------- any body, any order

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3)
)
bodies = (
    st.binary(max_size=200)
    | st.builds(lambda value: json.dumps({"run_id": value}).encode(), json_values)
    | st.builds(lambda value: json.dumps(value).encode("utf-16"), json_values)
    | st.builds(lambda: hook(str(uuid.uuid4())))
)


def test_no_body_is_too_strange(redis_server: RedisServer) -> None:
    """Whatever bytes come: an answer, never an exception, and the job's state and events stay as they are."""
    on = Theatre(redis_server.url)
    store = JobStore(on.database)

    async def followed() -> str:
        job_id = await put(on.database)
        await take(on.database)
        await submit(on.database, job_id)
        return job_id

    job_id = on(followed())
    # Given that a hint has come: from then on no other changes anything, not even when the last one came.
    on(take_hint(store, SECRET, job_id, signature(SECRET, job_id)))
    before = on(look_at(on.database))

    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(bodies)
    @example(b"[" * 2_000)
    @example(b'{"run_id":' * 2_000)
    @example(b'{"run_id": %s}' % (b"9" * 10_000))
    @example(b'{"run_id": "\\ud800"}')
    @example(b"\xff\xfe\x00")
    def never_raises(body: bytes) -> None:
        assert on(take_hint(store, SECRET, job_id, signature(SECRET, job_id), body)) == "nudged"

    try:
        never_raises()
        after = on(look_at(on.database))
        assert after.events == before.events
        assert after.jobs == before.jobs
        assert after.lanes() == before.lanes()
    finally:
        on.close()


def test_a_hint_only_ever_moves_a_look_forward(redis_server: RedisServer) -> None:
    """Hints at any times between looks put off by any time: the run and its workflow are never due later than before."""
    on = Theatre(redis_server.url)
    store = JobStore(on.database)

    async def play(first: float, times: list[float], named: list[str]) -> None:
        job_id = await put(on.database)
        await take(on.database)
        run_id = await submit(on.database, job_id, str(uuid.uuid4()), delay_ms=round(first * 1000))
        member = f"{job_id} {run_id}"
        for seconds, name in zip(times, named, strict=True):
            sets = (await look_at(on.database)).sets
            before = sets["inflight:wf"][member], sets["due"]["wf"]
            await on.clock.advance(seconds)
            body = {"own": hook(run_id), "other": hook(NOBODYS_RUN), "none": b""}[name]
            assert await take_hint(store, SECRET, job_id, signature(SECRET, job_id), body) == "nudged"
            sets = (await look_at(on.database)).sets
            after = sets["inflight:wf"][member], sets["due"]["wf"]
            assert after == (min(before[0], on.clock.now_ms), min(before[1], on.clock.now_ms))

    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(
        st.floats(0, 100),
        st.lists(st.tuples(st.floats(0, 60), st.sampled_from(["own", "other", "none"])), min_size=1, max_size=4),
    )
    def never_later(first: float, hints: list[tuple[float, str]]) -> None:
        on(play(first, [seconds for seconds, _ in hints], [name for _, name in hints]))

    try:
        never_later()
    finally:
        on.close()
