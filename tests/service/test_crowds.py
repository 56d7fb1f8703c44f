"""Very many runs in flight: a look costs what there is news of, and nothing is noticed later for it."""

import pytest

from shared.following.history import History
from shared.jobs.states import JobState
from tasks import look, roster, schedule
from tasks.schedule import Learned
from tests.service.worker_fixtures import CANCEL, LIST, PORTRAIT, PORTRAIT_WORKFLOW, READ, Api, Bench

pytestmark = pytest.mark.redis

CROWD = 4


@pytest.fixture(autouse=True)
def small_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than four runs are a crowd."""
    for module in (look, roster, schedule):
        monkeypatch.setattr(module, "CROWD", CROWD)
    # A tenth of such a crowd would be none.
    monkeypatch.setattr("shared.following.due.FEW", 0.5)


@pytest.fixture
async def crowded(bench: Bench, api: Api) -> Bench:
    """Six runs of a known deployment that have been looked at together, and whose common time lies ahead."""
    for _ in range(5):
        await bench.engine.history.record(PORTRAIT, {"total": 3_000.0, "run": 2_990.0})
    bench.engine.history = History(bench.database)
    bench.engine.schedule = Learned()
    await bench.submit_all(6)
    await bench.look_at_all()
    await api.reset_counts()
    return bench


async def test_a_crowd_shares_one_time(crowded: Bench, api: Api) -> None:
    """After a look at all, no run has a time of its own, and the workflow is due at the common one."""
    flight = await crowded.engine.due.in_flight(PORTRAIT_WORKFLOW)

    assert {run.own for run in flight.runs} == {False}
    assert len({run.look_at for run in flight.runs}) == 1
    assert flight.runs[0].look_at > flight.now_ms


async def test_a_hint_about_one_of_a_crowd_costs_one_read(crowded: Bench, api: Api) -> None:
    """Its run is read, alone; the others keep their common time."""
    flight = await crowded.engine.due.in_flight(PORTRAIT_WORKFLOW)
    told = await crowded.job(flight.runs[2].job_id)
    await api.finish(told.run_id)
    await crowded.engine.store.nudge(told.id)

    await crowded.look()

    assert (await api.calls(READ), await api.calls(LIST)) == (1, 0)
    assert (await crowded.job(told.id)).state is JobState.SUCCEEDED
    after = await crowded.engine.due.in_flight(PORTRAIT_WORKFLOW)
    assert [run.look_at for run in after.runs] == [flight.runs[0].look_at] * 5


async def test_what_has_ended_in_a_crowd_is_found_by_one_listing(crowded: Bench, api: Api) -> None:
    """Two ended, one failed, one started: a listing tells, two reads bring outputs, and every record is right."""
    ids = [run.job_id for run in (await crowded.engine.due.in_flight(PORTRAIT_WORKFLOW)).runs]
    jobs = [await crowded.job(job_id) for job_id in ids]
    await api.finish(jobs[0].run_id)
    await api.finish(jobs[1].run_id)
    await api.finish(jobs[2].run_id, status="failed")
    await api.update(jobs[3].run_id, status="running")

    await crowded.look_at_all()

    assert (await api.calls(READ), await api.calls(LIST)) == (2, 1)
    assert [(await crowded.job(job_id)).state for job_id in ids] == [
        JobState.SUCCEEDED,
        JobState.SUCCEEDED,
        JobState.FAILED,
        JobState.RUNNING,
        JobState.SUBMITTED,
        JobState.SUBMITTED,
    ]


async def test_a_cancel_in_a_crowd_is_heard_at_once(crowded: Bench, api: Api) -> None:
    """What was kept of the job is read anew, since a cancel makes it due; its run alone is cancelled and read."""
    unwanted = (await crowded.engine.due.in_flight(PORTRAIT_WORKFLOW)).runs[4]
    assert await crowded.engine.store.cancel(unwanted.job_id) == "requested"

    await crowded.look()

    assert (await crowded.job(unwanted.job_id)).state is JobState.CANCELLED
    assert (await api.calls(CANCEL), await api.calls(READ), await api.calls(LIST)) == (1, 1, 0)


async def test_a_newcomer_joins_the_crowd(crowded: Bench, api: Api) -> None:
    """A run that was submitted since has its own first time; the next look at all covers it, and it has the common one."""
    newcomer = await crowded.submit()

    await crowded.look_at_all()

    flight = await crowded.engine.due.in_flight(PORTRAIT_WORKFLOW)
    assert {run.job_id: run.own for run in flight.runs}[newcomer.id] is False
    assert len({run.look_at for run in flight.runs}) == 1
