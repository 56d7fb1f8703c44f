"""A run that carries the id of a job whose own run is another: somebody pays for it, nobody wants it."""

import pytest

from shared.errors import Unavailable
from shared.jobs.record import Job
from shared.jobs.states import JobState
from tests.service.worker_fixtures import CANCEL, READ, Api, Bench
from workers.upkeep import Upkeep

pytestmark = pytest.mark.redis


@pytest.fixture
def upkeep(bench: Bench) -> Upkeep:
    """The chores of one worker."""
    return Upkeep(bench.engine)


async def stray_of(bench: Bench, api: Api, job: Job) -> str:
    """A second run of a job, which a hint has named."""
    run_id = await api.make_run(job.id)
    await bench.engine.store.nudge(job.id, run_id=run_id)
    await api.reset_counts()
    return run_id


async def strays(bench: Bench) -> list[str]:
    """What still has to be checked."""
    return list(await bench.database.redis.zrange(bench.database.keys.strays, 0, -1))


async def statuses(api: Api, job: Job) -> dict[str, str]:
    """The runs that carry the job's id."""
    return {run["id"]: run["status"] for run in await api.runs(job.id)}


async def ask_again(bench: Bench) -> None:
    """The lease of whoever asked last is over."""
    for member in await strays(bench):
        await bench.database.redis.zadd(bench.database.keys.strays, {member: 0})


async def test_a_stray_is_cancelled_and_the_jobs_own_run_is_not(bench: Bench, upkeep: Upkeep, api: Api) -> None:
    """One read, one cancel: the second run ends, the job's own goes on, and nothing is checked again."""
    job = await bench.submit()
    stray = await stray_of(bench, api, job)
    await upkeep.check_strays()
    assert await statuses(api, job) == {job.run_id: "not-started", stray: "cancelled"}
    assert (await api.calls(READ), await api.calls(CANCEL)) == (1, 1)
    assert await strays(bench) == []
    await upkeep.check_strays()
    assert await api.calls() == 2
    assert (await bench.job(job.id)).state is JobState.SUBMITTED
    assert await bench.told(job.id) == ["queued", "submitted"]


async def test_a_stray_of_an_ended_job_is_cancelled(bench: Bench, upkeep: Upkeep, api: Api) -> None:
    """The job was cancelled in its lane, and a run that carries its id turns up: it is cancelled."""
    job = await bench.job(await bench.enqueue())
    assert await bench.engine.store.cancel(job.id) == "cancelled"
    stray = await stray_of(bench, api, job)
    await upkeep.check_strays()
    assert await statuses(api, job) == {stray: "cancelled"}


@pytest.mark.parametrize("status", ["success", "failed", "timeout", "cancelled"])
async def test_a_stray_that_has_ended_is_left_alone(bench: Bench, upkeep: Upkeep, api: Api, status: str) -> None:
    """There is nothing to save any more: one read and no cancel."""
    job = await bench.submit()
    stray = await stray_of(bench, api, job)
    await api.finish(stray, status=status)
    await upkeep.check_strays()
    assert (await statuses(api, job))[stray] == status
    assert await api.calls(CANCEL) == 0
    assert await strays(bench) == []


async def test_the_jobs_own_run_is_never_a_stray(bench: Bench, upkeep: Upkeep, api: Api) -> None:
    """Noted before the job had a run, then adopted by it: it is left alone."""
    job = await bench.submit()
    await bench.database.redis.zadd(bench.database.keys.strays, {f"{job.id} {job.run_id}": 0})
    await upkeep.check_strays()
    assert await statuses(api, job) == {job.run_id: "not-started"}
    assert await strays(bench) == []


async def test_a_run_that_may_still_be_adopted_waits(bench: Bench, upkeep: Upkeep, api: Api) -> None:
    """The job has no run yet: the noted one may become its own, so nobody cancels it before that is settled."""
    job = await bench.job(await bench.enqueue())
    await bench.dispatch()
    await bench.engine.store.move(job.id, JobState.SUBMITTING)
    run_id = await api.make_run(job.id)
    await bench.database.redis.zadd(bench.database.keys.strays, {f"{job.id} {run_id}": 0})
    await upkeep.check_strays()
    assert await statuses(api, job) == {run_id: "not-started"}
    assert await strays(bench) == [f"{job.id} {run_id}"]
    assert (await bench.again(job.id)).run_id == run_id
    await ask_again(bench)
    await upkeep.check_strays()
    assert await statuses(api, job) == {run_id: "not-started"}
    assert await strays(bench) == []


async def test_a_run_without_the_jobs_id_is_left_alone(bench: Bench, upkeep: Upkeep, api: Api) -> None:
    """A hint that names somebody else's run cannot end it."""
    job, other = await bench.submit(), await bench.submit(user="grace")
    await bench.engine.store.nudge(job.id, run_id=str(other.run_id))
    await upkeep.check_strays()
    assert (await statuses(api, other))[str(other.run_id)] == "not-started"
    assert await strays(bench) == []


async def test_a_stray_is_asked_about_again_after_an_outage(bench: Bench, upkeep: Upkeep, api: Api) -> None:
    """The API is away when the stray is read: it stays noted, and is cancelled when the API is back."""
    job = await bench.submit()
    stray = await stray_of(bench, api, job)
    await api.fault("bad_gateway", READ)
    with pytest.raises(Unavailable):
        await upkeep.check_strays()
    assert await strays(bench) == [f"{job.id} {stray}"]
    await api.configure(faults=[])
    await bench.open_bucket()
    await upkeep.check_strays()  # under the lease of the first try
    assert (await statuses(api, job))[stray] == "not-started"
    await ask_again(bench)
    await upkeep.check_strays()
    assert (await statuses(api, job))[stray] == "cancelled"
    assert await strays(bench) == []


async def test_a_cancel_that_fails_is_asked_for_again(bench: Bench, upkeep: Upkeep, api: Api) -> None:
    """The stray can be read and not cancelled: it stays noted until it is cancelled."""
    job = await bench.submit()
    stray = await stray_of(bench, api, job)
    await api.fault("bad_gateway", CANCEL, count=1)
    await upkeep.check_strays()
    assert await strays(bench) == [f"{job.id} {stray}"]
    await bench.open_bucket()
    await ask_again(bench)
    await upkeep.check_strays()
    assert (await statuses(api, job))[stray] == "cancelled"
    assert await strays(bench) == []


async def test_one_stray_the_api_cannot_answer_for_does_not_hold_up_the_next(
    bench: Bench, upkeep: Upkeep, api: Api
) -> None:
    """Two strays, trouble with the first: both are cancelled in the end, each noted until then."""
    job = await bench.submit()
    first, second = await stray_of(bench, api, job), await stray_of(bench, api, job)
    await api.fault("bad_gateway", READ, count=1)
    with pytest.raises(Unavailable):
        await upkeep.check_strays()
    assert set(await strays(bench)) == {f"{job.id} {first}", f"{job.id} {second}"}
    await bench.open_bucket()
    await ask_again(bench)
    await upkeep.check_strays()
    assert await statuses(api, job) == {job.run_id: "not-started", first: "cancelled", second: "cancelled"}
