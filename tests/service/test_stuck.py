"""A stuck job is taken up again or ended by an operator, and never is a second run paid for, nor one left running."""

import pytest

from producers.levers.pauses import Scope, pause, resume
from producers.levers.stuck import fail, requeue
from shared.errors import JobNotFound
from shared.jobs.by import By
from shared.jobs.states import JobState
from tasks.submit import submit_job
from tests.service.worker_fixtures import SUBMIT, Api, Bench
from workers.upkeep import Upkeep

pytestmark = pytest.mark.redis

BY = By("op@host", "the machine was deleted")


async def statuses(api: Api, job_id: str) -> list[str]:
    """How the runs are that carry the job's id."""
    return [run["status"] for run in await api.runs(job_id)]


async def strays(bench: Bench) -> list[str]:
    """What upkeep still has to check; due now."""
    found = list(await bench.database.redis.zrange(bench.database.keys.strays, 0, -1))
    for member in found:
        await bench.database.redis.zadd(bench.database.keys.strays, {member: 0})
    return found


async def test_a_requeued_submit_finds_its_run_and_makes_no_other(bench: Bench, api: Api) -> None:
    """The worker died with the answer: whoever takes it up adopts the run that was made."""
    await api.fault("lost_answer", SUBMIT, count=1)
    job = await bench.submit()
    assert job.state is JobState.SUBMITTING
    assert await requeue(bench.database, job.id, BY) == ("rescued", "submitting")
    assert job.id in await bench.engine.lanes.overdue("starting")
    await bench.open_bucket()
    await submit_job(bench.engine, job.id)
    job = await bench.settled(job.id)
    assert (job.state, await statuses(api, job.id)) == (JobState.SUBMITTED, ["not-started"])


async def test_a_requeue_while_a_worker_holds_the_job_makes_one_run(bench: Bench, api: Api) -> None:
    """The holder was slow, not dead: both work on the job, and one of them posts."""
    job_id = await bench.enqueue()
    await bench.dispatch()
    await bench.engine.lanes.hold(job_id, "slow")
    assert (await requeue(bench.database, job_id, BY))[0] == "rescued"
    await submit_job(bench.engine, job_id)
    await submit_job(bench.another().engine, job_id)
    assert await statuses(api, job_id) == ["not-started"]


async def test_a_failed_job_ends_at_once_and_its_run_is_cancelled(bench: Bench, api: Api) -> None:
    """One final event with the reason, the window is free, the run is cancelled by upkeep, and nothing comes after it."""
    job = await bench.submit()
    assert await fail(bench.engine.store, job.id, BY) == ""
    assert await bench.told(job.id) == ["queued", "submitted", "failed"]
    error = (await bench.job(job.id)).error
    assert error is not None
    assert (error.code, error.message) == ("internal", "Ended by an operator: the machine was deleted")
    assert await bench.database.redis.zcard(bench.database.keys.window) == 0

    await Upkeep(bench.engine).check_strays()
    assert await statuses(api, job.id) == ["cancelled"]
    await bench.look_at_all()
    assert await fail(bench.engine.store, job.id, BY) == "failed"
    assert await bench.told(job.id) == ["queued", "submitted", "failed"]
    assert await strays(bench) == []


async def test_a_job_failed_before_its_answer_leaves_no_run_behind(bench: Bench, api: Api) -> None:
    """Whether a run exists is not known: it is looked for until it cannot appear any more, and cancelled."""
    await api.fault("lost_answer", SUBMIT, count=1)
    job = await bench.submit()
    assert await fail(bench.engine.store, job.id, BY) == ""
    assert await strays(bench) == [f"{job.id} ?"]
    await bench.open_bucket()
    upkeep = Upkeep(bench.engine)
    await upkeep.check_strays()
    assert await statuses(api, job.id) == ["cancelled"]
    # One more could still be on its way.
    assert await strays(bench) == [f"{job.id} ?"]
    await bench.past(job.id, 1, "undecided_until")
    await upkeep.check_strays()
    assert await strays(bench) == []
    assert await bench.told(job.id) == ["queued", "failed"]


async def test_a_waiting_job_is_failed_and_a_missing_one_is_said(bench: Bench) -> None:
    """It leaves its lane, nothing is left to check; of a job nobody knows both say so."""
    job_id = await bench.enqueue()
    assert await fail(bench.engine.store, job_id, BY) == ""
    assert (await bench.in_lane(), await strays(bench)) == ([], [])
    for lever in (fail(bench.engine.store, "nobody", BY), requeue(bench.database, "nobody", BY)):
        with pytest.raises(JobNotFound):
            await lever


async def test_a_dispatched_job_is_not_posted_in_a_pause(bench: Bench, api: Api) -> None:
    """The pause came between dispatch and the intent: back to the lane, no run; after the resume there is one."""
    job_id = await bench.enqueue()
    await bench.dispatch()
    scope = Scope.frontend("web")
    await pause(bench.database, scope, BY)
    await submit_job(bench.engine, job_id)
    assert await bench.dispatch() == []
    assert (await bench.in_lane(), await statuses(api, job_id)) == ([job_id], [])
    await resume(bench.database, scope, BY)
    assert await bench.dispatch() == [job_id]
    await submit_job(bench.engine, job_id)
    assert await statuses(api, job_id) == ["not-started"]
