"""The same scripts on fakeredis, for users who test without a server: a job's whole life replies what Redis replies."""

from collections.abc import AsyncIterator

import fakeredis
import pytest

from shared.database import Database
from shared.following.due import DueSet, Settlement
from shared.jobs.event import Event, Output, Progress, Result
from shared.jobs.lanes import Lanes
from shared.jobs.states import JobState
from shared.jobs.store import JobStore, Target
from shared.keys import Keys
from shared.limits.bucket import TokenBucket
from shared.settings import Settings
from tests.redis.stage import look_at, put, request


@pytest.fixture(params=["fakeredis", "server"])
async def either(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[Database]:
    """A database on fakeredis, and one on the real server: each test here runs on both and says the same."""
    if request.param == "server":
        yield database
        return
    fake = Database(fakeredis.FakeAsyncRedis(decode_responses=True), Keys("f:"))
    yield fake
    await fake.aclose()


async def test_a_job_goes_from_lane_to_result(either: Database) -> None:
    """Create, dispatch, hold, submit, look, progress, success: words, events and sets."""
    store, lanes, due = JobStore(either), Lanes(either, Settings()), DueSet(either, "me")
    job_id, _ = await store.create(request(idempotency_key="k"), Target(workflow_id="wf", pool="m", pool_limit=1))
    behind = await put(either, pool="m", pool_limit=1)

    assert await store.create(request(idempotency_key="k"), Target()) == (job_id, False)
    assert [place.ahead for one in (job_id, behind) if (place := await lanes.place(one))] == [0, 1]
    assert await lanes.dispatch() == [job_id]
    assert await lanes.hold(job_id, "w") == ("held", "queued")
    assert await lanes.hold(job_id, "v") == ("busy", "queued")
    assert await store.move(job_id, JobState.SUBMITTING)
    assert await store.move(job_id, JobState.SUBMITTED, run_id="r1")
    assert (await due.claim(5))[0] == ["wf"]
    assert await store.move(job_id, JobState.RUNNING)
    assert await store.progress(job_id, Progress(fraction=0.5))
    assert not await store.progress(job_id, Progress(fraction=0.4))
    assert 0.9 < (await due.settle("wf", Settlement({f"{job_id} r1": 1.0})) or 0) <= 1
    assert await store.move(job_id, JobState.SUCCEEDED, result=Result(outputs=[Output(key="9:images:0", kind="image")]))
    assert await store.cancel(job_id) == "final"
    assert await lanes.dispatch() == [behind]

    events = [Event.model_validate(data) for data in (await look_at(either)).events[job_id]]
    assert [event.type.removeprefix("job.") for event in events] == [
        "queued",
        "submitted",
        "running",
        "progress",
        "succeeded",
    ]
    assert (await store.get(job_id)).final


async def test_users_take_turns(either: Database) -> None:
    """Two users, one with a burst: every second job is the other's."""
    burst = [await put(either, "ada") for _ in range(4)]
    others = [await put(either, "bob") for _ in range(2)]

    assert await Lanes(either, Settings()).dispatch() == [burst[0], others[0], burst[1], others[1], *burst[2:]]


async def test_the_budget_is_spent_and_closed(either: Database) -> None:
    """What stands in the others' floors is left, and a push back closes."""
    bucket = TokenBucket(either, Settings(rate_per_second=0.01))
    granted = [await bucket.ask("submit") for _ in range(13)]

    assert granted[:12] == [0.0] * 12
    assert granted[12] > 0
    await bucket.push_back(30, slow_down=True)
    assert 29 < await bucket.ask("look") <= 30
