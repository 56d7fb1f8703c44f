"""A job's life through the Python faces, in any order of calls: the record, its events and every set agree.

The model holds for each job its state and whether it waits, is dispatched or has a run; what Redis must contain
follows from that, and is compared with everything Redis does contain after every step.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from redis.exceptions import ResponseError

from producers.local.redis_server import RedisServer
from shared.database import Database
from shared.errors import JobNotFound
from shared.identifiers import new_job_id
from shared.jobs.event import Event, JobError, Output, Progress, Result, Timing
from shared.jobs.lanes import HOLD_SECONDS, Lanes
from shared.jobs.states import FINAL, FOLLOWED, MOVES, JobState, sources
from shared.jobs.store import JobStore, Target
from shared.settings import Settings
from tests.exploring import examples
from tests.redis.stage import Clock, Theatre, lane_user, look_at, move, put, request, submit, take

S = JobState
#: Moves a frontend is not told of.
SILENT = {S.SUBMITTING, S.QUEUED}
RESULT = Result(outputs=[Output(key="9:images:0", kind="image", url="https://x/a.png")])
ERROR = JobError(code="upstream_failed", message="boom", user_message="Sorry.")


@dataclass
class Life:
    """What the model knows of one job."""

    id: str
    user: str
    pool: str
    workflow: str
    state: JobState = S.QUEUED
    past_lanes: bool = False
    run: str = ""
    #: The states told in its events, progress included.
    told: tuple[str, ...] = ("queued",)
    fraction: float = 0.0
    last_progress: Progress | None = None
    attempt: int = 0
    cancel_requested: bool = False
    holder: str = ""
    held_until: int = 0

    @property
    def waits(self) -> bool:
        return self.state == S.QUEUED and not self.past_lanes

    def leave_window(self) -> None:
        self.past_lanes, self.holder = False, ""

    def go(self, to: JobState) -> None:
        self.state = to
        if to not in SILENT:
            self.told += (to.value,)


class JobLives(RuleBasedStateMachine):
    """Several jobs, every call there is, with every state one may be called in."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.on = Theatre(url)
        self.db = self.on.database
        self.store = JobStore(self.db)
        knobs = Settings.model_validate({"redis_url": url, "window": 6, "user_window": 4})
        self.lanes = Lanes(self.db, knobs)
        self.jobs: dict[str, Life] = {}
        self.keys: dict[str, str] = {}

    def teardown(self) -> None:
        self.on.close()

    def job(self, n: int) -> Life:
        return self.jobs[sorted(self.jobs)[n % len(self.jobs)]]

    @precondition(lambda self: len(self.jobs) < 5)
    @rule(
        user=st.sampled_from(["ada", "bob"]),
        pool=st.sampled_from(["", "m1"]),
        workflow=st.sampled_from(["w1", "w2"]),
        key=st.sampled_from(["", "", "k1", "k2"]),
    )
    def create(self, user: str, pool: str, workflow: str, key: str) -> None:
        asked = request(user, **({"idempotency_key": key} if key else {}))
        target = Target(deployment_id="d", workflow_id=workflow, pool=pool, pool_limit=3 if pool else 0)

        job_id, new = self.on(self.store.create(asked, target))

        assert new is (key not in self.keys)
        assert job_id == self.keys.get(key, job_id)
        if new:
            self.jobs[job_id] = Life(job_id, lane_user(user), pool, workflow)
        if key:
            self.keys[key] = job_id

    @rule(most=st.integers(1, 4))
    def dispatch(self, most: int) -> None:
        for job_id in self.on(self.lanes.dispatch(most)):
            assert self.jobs[job_id].waits
            self.jobs[job_id].past_lanes = True

    @precondition(lambda self: self.jobs)
    @rule(n=st.integers(0, 9), who=st.sampled_from(["one", "two"]))
    def hold(self, n: int, who: str) -> None:
        job = self.job(n)
        startable = job.past_lanes and job.state in (S.QUEUED, S.SUBMITTING)
        free = not job.holder or job.holder == who or job.held_until <= self.on.clock.now_ms

        word, state = self.on(self.lanes.hold(job.id, who))

        assert state == job.state
        assert word == ("refused" if not startable else "held" if free else "busy")
        if word == "held":
            job.holder, job.held_until = who, self.on.clock.now_ms + round(HOLD_SECONDS * 1000)

    @precondition(lambda self: self.jobs)
    @rule(n=st.integers(0, 9))
    def give_back(self, n: int) -> None:
        job = self.job(n)
        dispatched = job.state == S.QUEUED and job.past_lanes

        assert self.on(self.lanes.give_back(job.id)) is dispatched
        if dispatched:
            job.leave_window()

    @precondition(lambda self: self.jobs)
    @rule(n=st.integers(0, 9), to=st.sampled_from(JobState), from_=st.none() | st.sets(st.sampled_from(JobState)))
    def move(self, n: int, to: JobState, from_: set[JobState] | None) -> None:
        job = self.job(n)
        fields: dict[str, Any] = {}
        if to == S.SUBMITTED:
            fields["run_id"] = f"run-{job.id[-6:]}"
        if to in FINAL:
            fields |= {"result": RESULT} if to == S.SUCCEEDED else {"error": ERROR}
        possible = to in MOVES[job.state] and (from_ is None or job.state in from_)
        if to == S.SUBMITTING:
            possible = possible and job.past_lanes

        moved = self.on(self.store.move(job.id, to, from_=from_, **fields))

        assert bool(moved) is possible
        if not possible:
            assert (moved.reply, moved.state) == ("refused", job.state)
            return
        job.go(to)
        job.attempt += to == S.SUBMITTING
        if to == S.SUBMITTED:
            job.run, job.holder = fields["run_id"], ""
        if to in FINAL or to == S.QUEUED:
            job.leave_window()
        assert moved.seq == len(job.told)

    @precondition(lambda self: self.jobs)
    @rule(n=st.integers(0, 9))
    def go_on(self, n: int) -> None:
        """The way most jobs go, so that the later states are met often."""
        job = self.job(n)
        if job.past_lanes and job.state == S.QUEUED:
            self.hold(n, "one")
        ahead = {S.QUEUED: S.SUBMITTING, S.SUBMITTING: S.SUBMITTED, S.SUBMITTED: S.RUNNING, S.RUNNING: S.SUCCEEDED}
        if job.state in ahead:
            self.move(n, ahead[job.state], None)

    @precondition(lambda self: any(job.state == S.RUNNING for job in self.jobs.values()))
    @rule(n=st.integers(0, 9), fraction=st.none() | st.sampled_from([0.0, 0.25, 0.5, 1.0]), text=st.sampled_from("ab"))
    def progress_of_a_running_job(self, n: int, fraction: float | None, text: str) -> None:
        running = sorted(job.id for job in self.jobs.values() if job.state == S.RUNNING)
        self.progress(sorted(self.jobs).index(running[n % len(running)]), fraction, text)

    @precondition(lambda self: self.jobs)
    @rule(n=st.integers(0, 9), fraction=st.none() | st.sampled_from([0.0, 0.5, 1.0]), text=st.sampled_from("ab"))
    def progress(self, n: int, fraction: float | None, text: str) -> None:
        job, now = self.job(n), Progress(fraction=fraction, text=text)
        news = job.state == S.RUNNING and now != job.last_progress and (fraction is None or fraction >= job.fraction)

        assert self.on(self.store.progress(job.id, now)) is news
        if news:
            job.told += ("running",)
            job.fraction, job.last_progress = job.fraction if fraction is None else fraction, now

    @precondition(lambda self: self.jobs)
    @rule(n=st.integers(0, 9))
    def cancel(self, n: int) -> None:
        job = self.job(n)
        expected = "cancelled" if job.state == S.QUEUED else "final" if job.state in FINAL else "requested"

        assert self.on(self.store.cancel(job.id)) == expected
        if expected == "cancelled":
            job.go(S.CANCELLED)
            job.leave_window()
        job.cancel_requested |= expected == "requested"

    @precondition(lambda self: self.jobs)
    @rule(n=st.integers(0, 9))
    def nudge(self, n: int) -> None:
        job = self.job(n)
        expected = "final" if job.state in FINAL else "nudged" if job.state in FOLLOWED else "noted"

        assert self.on(self.store.nudge(job.id)) == expected

    @rule(seconds=st.sampled_from([0.001, 1, HOLD_SECONDS]))
    def time_passes(self, seconds: float) -> None:
        self.on(self.on.clock.advance(seconds))

    @invariant()
    def record_events_and_sets_agree(self) -> None:
        sight, jobs = self.on(look_at(self.db)), self.jobs.values()
        assert set(sight.jobs) == set(self.jobs)

        for job in jobs:
            record, events = sight.jobs[job.id], sight.events[job.id]
            # Exactly one event a move that is announced, numbered without gaps, the last one as the record stands.
            assert [event["seq"] for event in events] == list(range(1, len(job.told) + 1))
            assert [event["state"] for event in events] == list(job.told)
            assert sum(event["final"] for event in events) == (job.state in FINAL)
            assert (record["state"], record["seq"]) == (job.state, str(len(job.told)))
            assert record["state"] == events[-1]["state"] or job.state in SILENT
            assert all(Event.model_validate(event).job_id == job.id for event in events)
            assert (record.get("run_id", ""), record.get("attempt", "0")) == (job.run, str(job.attempt))
            assert ("cancel_requested_at" in record) is job.cancel_requested
            assert record.get("holder", "").partition(" ")[2] == job.holder
            assert ("final_at" in record) is (job.state in FINAL)

        def ids(members: Any) -> set[str]:
            return {job.id for job in jobs if members(job)}

        past = [job for job in jobs if job.past_lanes]
        assert set(sight.sets.get("window", {})) == ids(lambda j: j.past_lanes)
        assert sight.hashes.get("window:users", {}) == {u: str(n) for u, n in Counter(j.user for j in past).items()}
        assert sight.hashes.get("window:pools", {}) == {p: str(n) for p, n in Counter(j.pool for j in past).items()}
        assert set(sight.sets.get("starting", {})) == ids(
            lambda j: j.past_lanes and j.state in (S.QUEUED, S.SUBMITTING)
        )
        assert set(sight.sets.get("expiring", {})) == ids(lambda j: j.waits)
        # What is only counted: waiting jobs by tier, of which there is one here, and running ones.
        assert set(sight.sets.get("waiting:none", {})) == ids(lambda j: j.waits)
        assert set(sight.sets.get("running", {})) == ids(lambda j: j.state is S.RUNNING)
        assert set(sight.sets.get("closing", {})) == ids(lambda j: j.state in FINAL)
        assert {i for lane in sight.lanes().values() for i in lane} == ids(lambda j: j.waits)
        for (pool, user), lane in sight.lanes().items():
            assert {(self.jobs[i].pool, self.jobs[i].user) for i in lane} == {(pool, user)}

        due = {}
        for workflow in ("w1", "w2"):
            runs = sight.sets.get(f"inflight:{workflow}", {})
            assert set(runs) == {f"{j.id} {j.run}" for j in jobs if j.workflow == workflow and j.state in FOLLOWED}
            if runs:
                due[workflow] = min(runs.values())
        assert sight.sets.get("due", {}) == due


def test_the_life_of_jobs(redis_server: RedisServer) -> None:
    """Final stays final, one event a move, and lanes, windows and the due-set are what the states imply."""
    run_state_machine_as_test(
        lambda: JobLives(redis_server.url),
        settings=settings(deadline=None, max_examples=examples(30), stateful_step_count=40),
    )


async def test_a_record_reads_back_as_it_was_written(database: Database, clock: Clock) -> None:
    """`get` answers the job with its request, its times on the store's clock, and its result."""
    store = JobStore(database)
    asked = request("ada", inputs={"seed": 7, "strength": 0.5}, context={"chat_id": "1"}, meta={"a": [None, "ü"]})
    job_id, _ = await store.create(asked, Target(deployment_id="d", workflow_id="w", pool="m", pool_limit=2))
    start = clock.now_ms
    await clock.advance(1)
    await take(database)
    await clock.advance(1)
    run_id = await submit(database, job_id)
    await clock.advance(1)
    await store.move(job_id, S.RUNNING)
    await clock.advance(1)
    await store.move(job_id, S.SUCCEEDED, result=RESULT, timing=Timing(total=4.0))

    job = await store.get(job_id)

    assert job.request == asked
    assert (job.state, job.final, job.run_id, job.result, job.error) == (S.SUCCEEDED, True, run_id, RESULT, None)
    assert (job.pool, job.workflow_id, job.deployment_id, job.attempt) == ("m", "w", "d", 1)
    times = (job.created_at, job.dispatched_at, job.submitting_at, job.submitted_at, job.started_at, job.final_at)
    assert times == (start, start + 1000, start + 2000, start + 2000, start + 3000, start + 4000)


async def test_events_carry_everything_a_frontend_needs_to_answer(database: Database, clock: Clock) -> None:
    """Each event has the user, the context and the meta of the request, and its own part."""
    store = JobStore(database)
    asked = request("ada", context={"chat_id": "-100", "n": [1, {"x": None}]}, meta={"täg": "</script>"})
    job_id, _ = await store.create(asked, Target(workflow_id="w"))
    await take(database)
    run_id = await submit(database, job_id)
    await store.move(job_id, S.RUNNING)
    await store.progress(job_id, Progress(fraction=0.5, text='KSampler "x"'))
    await clock.advance(61.5)
    await store.move(job_id, S.FAILED, error=ERROR, timing=Timing(run=61.5))

    events = [Event.model_validate(data) for data in (await look_at(database)).events[job_id]]

    assert [e.type for e in events] == ["job.queued", "job.submitted", "job.running", "job.progress", "job.failed"]
    assert all((e.user.id, e.context, e.meta) == ("ada", asked.context, asked.meta) for e in events)
    assert all((e.frontend, e.workflow) == ("web", "Portrait") for e in events)
    assert [e.run_id for e in events] == [None, run_id, run_id, run_id, run_id]
    assert events[0].queue
    assert (events[0].queue.position, events[0].queue.ahead) == (1, 0)
    assert events[3].progress == Progress(fraction=0.5, text='KSampler "x"')
    assert (events[4].error, events[4].final) == (ERROR, True)
    assert events[4].timing == Timing(run=61.5)
    assert (events[4].at - events[0].at).total_seconds() == 61.5
    assert events[0].at.timestamp() * 1000 == clock.now_ms - 61_500


@pytest.mark.parametrize(
    "moment",
    [0, 951_782_400_000, 1_709_164_799_999, 1_709_251_199_001, 1_735_689_599_999, 4_107_542_400_000],
    ids=["1970", "2000-02-29", "2024-02-28", "2024-02-29", "2024-12-31", "2100-03-01"],
)
async def test_the_time_of_an_event_is_right_on_odd_days(database: Database, clock: Clock, moment: int) -> None:
    """Leap days, ends of years and a century without one are written as the calendar has them."""
    await clock.advance((moment - clock.now_ms) / 1000)
    job_id = await put(database)

    [event] = (await look_at(database)).events[job_id]

    assert Event.model_validate(event).at.timestamp() * 1000 == pytest.approx(moment, abs=0.01)


async def test_a_job_is_kept_for_its_time_and_its_key_for_a_day(database: Database) -> None:
    """A final job's record ends after `keep_seconds`; one that is not final has no end."""
    store = JobStore(database, keep_seconds=100)
    job_id, _ = await store.create(request(idempotency_key="k"), Target())
    assert await database.redis.ttl(database.keys.job(job_id)) == -1

    await store.cancel(job_id)

    assert 90 < await database.redis.ttl(database.keys.job(job_id)) <= 100
    assert 86_300 < await database.redis.ttl(database.keys.idempotency("web", "k")) <= 86_400


async def test_the_same_key_of_another_frontend_is_another_job(database: Database) -> None:
    """Idempotency keys belong to the frontend that chose them."""
    store = JobStore(database)
    one, _ = await store.create(request(idempotency_key="k"), Target())
    other, new = await store.create(request(frontend="discord", idempotency_key="k"), Target())

    assert new
    assert one != other


async def test_several_jobs_are_read_in_the_order_asked(database: Database) -> None:
    """`find` answers in the order of the ids and leaves out what is gone."""
    ids = [await put(database) for _ in range(3)]

    found = await JobStore(database).find([ids[2], new_job_id(), ids[0]])

    assert [job.id for job in found] == [ids[2], ids[0]]
    assert await JobStore(database).find([]) == []


async def test_a_job_nobody_knows_is_not_found(database: Database) -> None:
    """Asking for it raises; moving, nudging, cancelling or stamping it says `missing` and leaves nothing behind."""
    store, job_id = JobStore(database), new_job_id()

    with pytest.raises(JobNotFound):
        await store.get(job_id)

    assert (await store.move(job_id, S.FAILED)).reply == "missing"
    assert await store.nudge(job_id) == await store.cancel(job_id) == "missing"
    await store.stamp(job_id, workflow_id="w")
    assert not (await look_at(database)).jobs


async def test_cancelling_before_the_run_is_known_looks_at_once(database: Database, clock: Clock) -> None:
    """A cancellation asked for while submitting is noted, and the first look at the run comes without delay."""
    store, job_id = JobStore(database), await put(database)
    await take(database)
    await store.move(job_id, S.SUBMITTING)
    assert await store.cancel(job_id) == "requested"

    await store.move(job_id, S.SUBMITTED, run_id="r", first_look_seconds=60)

    assert (await look_at(database)).sets["due"] == {"wf": clock.now_ms}


async def test_a_move_may_not_ask_for_more_than_the_table_has(database: Database) -> None:
    """`from_` narrows the table of moves and never widens it."""
    store, job_id = JobStore(database), await put(database)

    assert not await store.move(job_id, S.SUCCEEDED, from_=list(JobState), result=RESULT)
    assert sources(S.SUCCEEDED) == FOLLOWED


async def test_a_move_that_is_a_mistake_changes_nothing(database: Database) -> None:
    """`submitted` without a run, or with broken fields, is an error of the caller and leaves the job as it was."""
    store, job_id = JobStore(database), await put(database)
    await take(database)
    await store.move(job_id, S.SUBMITTING)
    before = await look_at(database)

    with pytest.raises(ResponseError, match="needs a run_id"):
        await store.move(job_id, S.SUBMITTED)
    with pytest.raises(ResponseError):
        await database.run("transition", job_id, "submitting", "failed", "job.failed", "{broken", 1000)

    assert await look_at(database) == before


async def test_what_expires_is_what_still_waits(database: Database, clock: Clock) -> None:
    """A dispatched job does not expire; given back it does, by its old time."""
    lanes = Lanes(database, Settings())
    waits, dispatched = [await put(database, user, queue_timeout_seconds=10) for user in ("bob", "ada")]
    assert await take(database, 1) == [dispatched]
    await clock.advance(10)
    assert await lanes.overdue("expiring") == [waits]

    await lanes.give_back(dispatched)

    assert await lanes.overdue("expiring") == [dispatched]


async def test_a_dispatched_job_that_nobody_picks_up_is_rescued_after_its_hold(
    database: Database, clock: Clock
) -> None:
    """Dispatched and silent for the hold: handed to rescue, once for each further hold; a holder that renews is not."""
    lanes = Lanes(database, Settings())
    lost, kept = [await put(database, user) for user in ("ada", "bob")]
    assert await lanes.dispatch() == [lost, kept]
    for _ in range(3):
        await clock.advance(HOLD_SECONDS / 2)
        await lanes.hold(kept, "worker")

    assert await lanes.overdue("starting") == [lost]
    assert await lanes.overdue("starting") == []
    await clock.advance(HOLD_SECONDS)
    assert set(await lanes.overdue("starting")) == {lost, kept}


async def test_rows_to_close_are_handed_out_once_a_while(database: Database, clock: Clock) -> None:
    """A final job waits in `closing` until its Celery row is closed; a closer that dies is followed by another."""
    lanes, job_id = Lanes(database, Settings()), await put(database)
    await move(database, job_id, "queued", "cancelled")

    assert await lanes.overdue("closing") == [job_id]
    assert await lanes.overdue("closing") == []
    await clock.advance(HOLD_SECONDS)
    assert await lanes.overdue("closing") == [job_id]
