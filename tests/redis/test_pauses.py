"""A pause holds back what it names and nothing else, loses nothing, and gives everything back in its order.

The model knows only which jobs wait and which scopes are paused; how dispatch takes users out of rings and jobs out of lanes,
and puts them back, must make no difference to who may go.
"""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from producers.levers.audit import newest
from producers.levers.pauses import Scope, pause, pauses, resume
from producers.local.redis_server import RedisServer
from shared.database import Database
from shared.jobs.by import By
from shared.jobs.lanes import Lanes
from shared.settings import Settings
from tests.exploring import examples
from tests.redis.stage import Clock, Theatre, lane_user, look_at, move, put, request, submit, take

BY = By("op@host", "the model is broken")
SCOPES = ("all", "frontend:web", "user:web:ada", "user:web:bob", "workflow:w1", "workflow:w2")


@dataclass(frozen=True)
class Waiting:
    """A job as the model knows it."""

    user: str
    workflow: str
    pool: str
    rank: tuple[int, str]
    expires_at: int
    paused_before: int

    @property
    def scopes(self) -> set[str]:
        """What would pause it."""
        return {"all", "frontend:web", f"user:{lane_user(self.user)}", f"workflow:{self.workflow}"}


class Pauses(RuleBasedStateMachine):
    """Pause, resume, put, dispatch, post, give back, cancel, expire, in any order."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.on = Theatre(url)
        self.db = self.on.database
        self.jobs: dict[str, Waiting] = {}
        self.waiting: set[str] = set()
        self.dispatched: set[str] = set()
        self.since: dict[str, int] = {}
        self.lasted: Counter[str] = Counter()

    def teardown(self) -> None:
        for scope in list(self.since):
            self.resume(scope)
        self.all_that_may_go_goes()
        assert not self.waiting
        self.on.close()

    def pick(self, ids: set[str], n: int) -> str:
        return sorted(ids)[n % len(ids)]

    def paused(self, job_id: str) -> bool:
        return bool(self.jobs[job_id].scopes & self.since.keys())

    def paused_ms(self, scopes: set[str]) -> int:
        now = self.on.clock.now_ms
        return sum(self.lasted[scope] + (now - self.since[scope] if scope in self.since else 0) for scope in scopes)

    def took(self, ids: list[str]) -> None:
        assert len(ids) == len(set(ids))
        assert set(ids) <= self.waiting
        assert not any(self.paused(job_id) for job_id in ids)
        for lane in {(self.jobs[i].pool, self.jobs[i].user) for i in ids}:
            mine = [i for i in ids if (self.jobs[i].pool, self.jobs[i].user) == lane]
            assert mine == sorted(mine, key=lambda i: self.jobs[i].rank)
        self.waiting -= set(ids)
        self.dispatched |= set(ids)

    @rule(
        user=st.sampled_from(["ada", "bob", "cy"]),
        workflow=st.sampled_from(["w1", "w2", "w3"]),
        pool=st.sampled_from(["", "m1"]),
        priority=st.sampled_from([3, 5]),
        patience=st.integers(5, 30),
        ms=st.integers(0, 2),
    )
    def put(self, *, user: str, workflow: str, pool: str, priority: int, patience: int, ms: int) -> None:
        self.on(self.on.clock.advance(ms / 1000))
        parts: dict[str, Any] = {"workflow_id": workflow, "priority": priority, "queue_timeout_seconds": patience}
        job_id = self.on(put(self.db, user, pool=pool, pool_limit=3, **parts))
        now = self.on.clock.now_ms
        rank = ((9 - priority) * 10**13 + now, job_id)
        known = Waiting(user, workflow, pool, rank, now + patience * 1000, 0)
        self.jobs[job_id] = Waiting(user, workflow, pool, rank, known.expires_at, self.paused_ms(known.scopes))
        self.waiting.add(job_id)
        place = self.on(Lanes(self.db, Settings()).place(job_id))
        assert place is not None
        assert bool(place.paused) == self.paused(job_id)

    @rule(scope=st.sampled_from(SCOPES))
    def pause(self, scope: str) -> None:
        _, new = self.on(pause(self.db, Scope(scope, scope), BY))
        assert new == (scope not in self.since)
        self.since.setdefault(scope, self.on.clock.now_ms)

    @rule(scope=st.sampled_from(SCOPES))
    def resume(self, scope: str) -> None:
        ended = self.on(resume(self.db, Scope(scope, scope), BY))
        assert (ended is not None) == (scope in self.since)
        if scope in self.since:
            self.lasted[scope] += self.on.clock.now_ms - self.since.pop(scope)

    @rule(most=st.integers(1, 3), window=st.integers(1, 6), user_window=st.integers(1, 3))
    def dispatch(self, most: int, window: int, user_window: int) -> None:
        self.took(self.on(take(self.db, most, window=window, user_window=user_window)))

    @rule()
    def all_that_may_go_goes(self) -> None:
        """With room for all, nobody stays who is not paused: no lane was forgotten."""
        for job_id in list(self.dispatched):
            self.finish_one(job_id)
        ready = {job_id for job_id in self.waiting if not self.paused(job_id)}
        while ids := self.on(take(self.db)) or self.on(self.db.redis.scard(self.db.keys.returning)):
            self.took(ids if isinstance(ids, list) else [])
            for job_id in list(self.dispatched):
                self.finish_one(job_id)
        assert not ready & self.waiting

    def finish_one(self, job_id: str) -> None:
        assert self.on(move(self.db, job_id, "queued", "cancelled"))[0] == "moved"
        self.dispatched.discard(job_id)

    @precondition(lambda self: self.dispatched)
    @rule(n=st.integers(0, 9))
    def post(self, n: int) -> None:
        """The submit task of a dispatched job asks once more before it posts."""
        job_id = self.pick(self.dispatched, n)
        args = (job_id, "queued", "submitting", "", json.dumps({"deployment_id": "dep"}), 0, "", "1")
        word, *_ = self.on(self.db.run("transition", *args))
        self.dispatched.discard(job_id)
        if self.paused(job_id):
            assert word == "paused"
            self.waiting.add(job_id)
        else:
            assert word == "moved"
            assert self.on(move(self.db, job_id, "submitting", "failed"))[0] == "moved"

    @precondition(lambda self: self.dispatched)
    @rule(n=st.integers(0, 9))
    def give_back(self, n: int) -> None:
        job_id = self.pick(self.dispatched, n)
        assert self.on(self.db.run("give_back", job_id)) == "given back"
        self.dispatched.discard(job_id)
        self.waiting.add(job_id)

    @precondition(lambda self: self.waiting)
    @rule(n=st.integers(0, 9))
    def cancel(self, n: int) -> None:
        job_id = self.pick(self.waiting, n)
        assert self.on(move(self.db, job_id, "queued", "cancelled"))[0] == "moved"
        self.waiting.discard(job_id)

    @precondition(lambda self: self.waiting)
    @rule(seconds=st.integers(1, 20))
    def time_passes(self, seconds: int) -> None:
        """A job expires when it has waited for as long as it may, pauses left out."""
        self.on(self.on.clock.advance(seconds))
        now = self.on.clock.now_ms
        for job_id in sorted(self.waiting):
            job = self.jobs[job_id]
            if now >= job.expires_at:
                credit = self.paused_ms(job.scopes) - job.paused_before
                word = self.on(move(self.db, job_id, "queued", "expired"))[0]
                assert word == ("moved" if now >= job.expires_at + credit else "refused")
                if word == "moved":
                    self.waiting.discard(job_id)

    @invariant()
    def every_waiting_job_is_at_one_place(self) -> None:
        sight = self.on(look_at(self.db))
        laned = [job_id for lane in sight.lanes().values() for job_id in lane]
        aside = [
            job_id for name, members in sight.sets.items() if name.startswith("aside:workflow:") for job_id in members
        ]
        assert sorted(laned + aside) == sorted(self.waiting)
        assert set(sight.sets.get("expiring", {})) == set(sight.sets.get("waiting:none", {})) == self.waiting
        counted = Counter(lane_user(self.jobs[job_id].user) for job_id in aside)
        assert sight.hashes.get("aside:users", {}) == {user: str(number) for user, number in counted.items()}


def test_pauses_against_everything(redis_server: RedisServer) -> None:
    """However pauses, dispatch, cancellation and time meet: what is paused waits, what is not goes, nothing is lost."""
    run_state_machine_as_test(
        lambda: Pauses(redis_server.url),
        settings=settings(deadline=None, max_examples=examples(15), stateful_step_count=30),
    )


@pytest.mark.parametrize("scope", [Scope("frontend:web", "frontend web"), Scope("workflow:wf", "workflow wf")])
async def test_a_dispatch_beside_five_hundred_paused_lanes_costs_what_it_costs_without(
    database: Database, clock: Clock, scope: Scope
) -> None:
    """Paused lanes are met once and then not again: the commands of a dispatch are counted, not timed."""
    for n in range(520):
        await put(database, f"u{n}", pool="m", pool_limit=9)
    free = await put(database, "zoe", pool="m", pool_limit=9, workflow_id="other", frontend="cli")
    await pause(database, scope, BY)

    async def commands() -> int:
        stats = await database.redis.info("commandstats")
        return sum(row["calls"] for name, row in stats.items() if not name.startswith(("cmdstat_info", "cmdstat_eval")))

    taken: list[str] = []
    for _ in range(3):
        taken += await take(database, starting=9)
    before = await commands()
    taken += await take(database, starting=9)
    assert await commands() - before < 40
    assert taken == [free]
    assert await database.redis.zcard(database.keys.aside(scope.key)) == 520

    await resume(database, scope, BY)
    await move(database, free, "queued", "cancelled")
    back = [job_id for _ in range(3) for job_id in await take(database, 1)]
    assert len(back) == 3


async def test_a_paused_job_says_so(database: Database, clock: Clock) -> None:
    """The event of a job that comes in a pause has the reason and no promise, and so has its place."""
    await pause(database, Scope.frontend("web"), BY)
    job_id = await put(database)
    [event] = (await look_at(database)).events[job_id]
    assert event["queue"] == {"position": 1, "ahead": 0, "eta_seconds": None, "paused": BY.reason}
    assert event["eta_seconds"] is None
    await resume(database, Scope.frontend("web"), BY)
    place = await Lanes(database, Settings()).place(job_id)
    assert place is not None
    assert place.paused is None


async def test_jobs_aside_count_as_open(database: Database, clock: Clock) -> None:
    """Who may have so many open jobs has no more of them because a workflow is paused."""
    await pause(database, Scope("workflow:wf", "wf"), BY)
    for _ in range(2):
        await put(database)
    assert await take(database) == []
    fields = {"frontend": "web", "user": "web:ada", "pool": "", "echo": ""}
    reply = await database.run("create", "new", json.dumps(fields), 5, 0, 60, "", 60, 0, 0, "", 2, 60)
    assert reply == ["full", "2"]


async def test_what_was_submitted_is_not_stopped(database: Database, clock: Clock) -> None:
    """A run that exists goes on: a pause is about the lanes."""
    job_id = await put(database)
    await take(database)
    await submit(database, job_id, "run-1")
    await pause(database, Scope.everything(), BY)
    assert (await move(database, job_id, "submitted", "running"))[0] == "moved"
    assert (await move(database, job_id, "running", "succeeded"))[0] == "moved"


async def test_a_pause_and_its_end_are_in_the_audit(database: Database, clock: Clock) -> None:
    """Who, what, why, before and after; what changes nothing is not an act."""
    scope = Scope.user("web", "ada")
    await pause(database, scope, BY)
    await pause(database, scope, By("other"))
    [going_on] = await pauses(database)
    await resume(database, scope, By("op@host"))
    await resume(database, scope, By("op@host"))
    acts = await newest(database, 10)
    assert [(act.who, act.action, act.target, act.reason) for act in acts] == [
        ("op@host", "pause", "user:web:ada", BY.reason),
        ("op@host", "resume", "user:web:ada", ""),
    ]
    assert acts[0].after == acts[1].before
    assert (going_on.name, going_on.who, going_on.reason) == ("user web:ada", "op@host", BY.reason)
    assert request().lane == "web:ada"
