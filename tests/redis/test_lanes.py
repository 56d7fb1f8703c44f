"""Whose job goes next: fair between users, in order within a lane, never more than the windows, none lost or taken twice.

The model is start-time fair queueing in a few lines: everybody has a turn; the lowest turn goes first and then stands
one step further on; whoever joins starts at the turn being served. What the scripts do beyond that (remembering turns of
users who left, parking those with a full window) must make no difference to the order.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from producers.local.redis_server import RedisServer
from shared.database import Database
from shared.jobs.store import WHOLE_TURN
from tests.exploring import examples
from tests.redis.stage import Clock, Theatre, lane_user, look_at, move, put, submit, take

WINDOW, USER_WINDOW, STARTING_WINDOW = 8, 2, 5


@dataclass
class Waiting:
    """A job that was put into a lane, in the order in which lanes are served."""

    id: str
    user: str
    pool: str
    rank: tuple[int, int, str]


@dataclass
class Model:
    """Lanes, turns and windows."""

    jobs: dict[str, Waiting] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)
    past: set[str] = field(default_factory=set)
    starting: set[str] = field(default_factory=set)
    limits: dict[str, int] = field(default_factory=dict)
    clock: Counter[str] = field(default_factory=Counter)
    #: (pool, user) -> turn; for users outside the ring it may lie behind the clock.
    turn: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: How far a job moves its user on: a whole turn, or the part of one that his tier's weight makes.
    step: dict[str, int] = field(default_factory=dict)
    ring: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    parked: set[tuple[str, str]] = field(default_factory=set)
    #: (pool, user, other) -> turns of `user` minus turns of `other` taken since both wait.
    lead: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def lane(self, pool: str, user: str) -> list[str]:
        """The waiting jobs of a user, best first."""
        ids = [i for i in self.waiting if (self.jobs[i].pool, self.jobs[i].user) == (pool, user)]
        return sorted(ids, key=lambda i: self.jobs[i].rank)

    def used(self, pool: str) -> int:
        """Jobs past the lanes in a pool."""
        return sum(self.jobs[i].pool == pool for i in self.past)

    def used_by(self, user: str) -> int:
        """Jobs of a user past the lanes."""
        return sum(self.jobs[i].user == user for i in self.past)

    def join(self, pool: str, user: str) -> None:
        """A user comes into the ring, not before the turn being served."""
        if user not in self.ring[pool] and (pool, user) not in self.parked:
            self.turn[pool, user] = max(self.turn[pool, user], self.clock[pool])
            for other in self.ring[pool]:
                self.lead[pool, user, other] = self.lead[pool, other, user] = 0
            self.ring[pool].add(user)

    def enter(self, job_id: str) -> None:
        """A job comes into its lane."""
        self.waiting.add(job_id)
        self.join(self.jobs[job_id].pool, self.jobs[job_id].user)

    def leave(self, job_id: str) -> None:
        """A waiting job goes away."""
        job = self.jobs[job_id]
        self.waiting.discard(job_id)
        if not self.lane(job.pool, job.user):
            self.ring[job.pool].discard(job.user)
            self.parked.discard((job.pool, job.user))

    def release(self, job_id: str) -> None:
        """A job that was past the lanes is not any more; its user's parked lanes come back."""
        user = self.jobs[job_id].user
        self.past.discard(job_id)
        self.starting.discard(job_id)
        back = {(pool, who) for pool, who in self.parked if who == user}
        self.parked -= back
        for pool, who in back:
            self.join(pool, who)

    def dispatch(self, most: int, window: int, user_window: int, starting_window: int) -> list[str]:
        """Take jobs while there is room: the pool that uses least, its lowest turn, the best job of the lane."""
        taken: list[str] = []
        while len(taken) < most and len(self.past) < window and len(self.starting) < starting_window:
            open_pools = [p for p, n in self.limits.items() if self.ring[p] and (n == 0 or self.used(p) < n)]
            if not open_pools:
                break
            pool = min(open_pools, key=self.used)
            user = min(self.ring[pool], key=lambda who: (self.turn[pool, who], who))
            if self.used_by(user) >= user_window:
                self.ring[pool].discard(user)
                self.parked.add((pool, user))
                continue
            job_id = self.lane(pool, user)[0]
            self.clock[pool] = self.turn[pool, user]
            self.turn[pool, user] += self.step[user]
            for other in self.ring[pool] - {user}:
                self.lead[pool, user, other] += self.step[user]
                self.lead[pool, other, user] -= self.step[user]
            self.past.add(job_id)
            self.starting.add(job_id)
            self.leave(job_id)
            taken.append(job_id)
        return taken

    def order(self, pool: str, also: str = "") -> list[str]:
        """The order in which one pool would be served if it were alone and no window held it up."""
        users = self.ring[pool] | ({also} if also else set())
        turns = [
            (max(self.turn[pool, user], self.clock[pool]) + n * self.step[user], user, job_id)
            for user in users
            for n, job_id in enumerate(self.lane(pool, user))
        ]
        return [job_id for _, _, job_id in sorted(turns)]


class Lanes(RuleBasedStateMachine):
    """Put, dispatch, submit, finish, give back and cancel in any order; the scripts do what the model does."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.on = Theatre(url)
        self.db = self.on.database
        self.model = Model()

    def teardown(self) -> None:
        self.on.close()

    def pick(self, ids: set[str], n: int) -> str:
        return sorted(ids)[n % len(ids)]

    @initialize(burst=st.integers(0, 6))
    def somebody_asks_for_many(self, burst: int) -> None:
        for _ in range(burst):
            self.put("ada", "", 5, 0, 1)

    @rule(
        user=st.sampled_from(["ada", "bob", "cy"]),
        pool=st.sampled_from(["", "m1", "m2"]),
        priority=st.sampled_from([0, 5, 9]),
        limit=st.sampled_from([1, 2, 4]),
        weight=st.sampled_from([1, 1, 2, 3, 10]),
    )
    def put(self, user: str, pool: str, priority: int, limit: int, weight: int) -> None:
        limit = limit if pool else 0
        job_id = self.on(put(self.db, user, pool=pool, pool_limit=limit, priority=priority, weight=weight))
        self.model.step[lane_user(user)] = WHOLE_TURN // weight
        rank = (9 - priority, self.on.clock.now_ms, job_id)
        self.model.jobs[job_id] = Waiting(job_id, lane_user(user), pool, rank)
        self.model.limits[pool] = limit
        self.model.enter(job_id)

    @rule(ms=st.integers(1, 2))
    def time_passes(self, ms: int) -> None:
        self.on(self.on.clock.advance(ms / 1000))

    @rule(most=st.integers(1, 6))
    def dispatch(self, most: int) -> None:
        windows = {"window": WINDOW, "user_window": USER_WINDOW, "starting": STARTING_WINDOW}

        taken = self.on(take(self.db, most, **windows))

        assert taken == self.model.dispatch(most, WINDOW, USER_WINDOW, STARTING_WINDOW)

    @precondition(lambda self: self.model.starting)
    @rule(n=st.integers(0, 9))
    def submit(self, n: int) -> None:
        job_id = self.pick(self.model.starting, n)
        self.on(submit(self.db, job_id))
        self.model.starting.discard(job_id)

    @precondition(lambda self: self.model.past)
    @rule(n=st.integers(0, 9))
    def finish(self, n: int) -> None:
        job_id = self.pick(self.model.past, n)
        assert self.on(move(self.db, job_id, "queued,submitted", "cancelled"))[0] == "moved"
        self.model.release(job_id)

    @precondition(lambda self: self.model.starting)
    @rule(n=st.integers(0, 9))
    def give_back(self, n: int) -> None:
        job_id = self.pick(self.model.starting, n)
        assert self.on(self.db.run("give_back", job_id)) == "given back"
        self.model.release(job_id)
        self.model.enter(job_id)

    @precondition(lambda self: self.model.waiting)
    @rule(n=st.integers(0, 9))
    def cancel(self, n: int) -> None:
        job_id = self.pick(self.model.waiting, n)
        assert self.on(move(self.db, job_id, "queued", "cancelled"))[0] == "moved"
        self.model.leave(job_id)

    @precondition(lambda self: self.model.waiting)
    @rule()
    def the_places_told_are_the_order_of_an_unrestricted_dispatch(self) -> None:
        told = {i: self.on(self.db.run("place", i, 200, 20))[0] for i in self.model.waiting}
        parked = {user for _, user in self.model.parked}
        for pool in self.model.limits:
            self.on(self.db.redis.hset(self.db.keys.pools, pool, "0"))
            self.model.limits[pool] = 0
            for user in (user for of, user in self.model.parked if of == pool):
                # Nobody knows when a full window has room again; the place is the one he would have now.
                ahead = {job_id: n for n, job_id in enumerate(self.model.order(pool, also=user))}
                assert [told[i] for i in self.model.lane(pool, user)] == [ahead[i] for i in self.model.lane(pool, user)]

        taken = self.on(take(self.db))

        assert taken == self.model.dispatch(1000, 10**6, 10**6, 10**6)
        for pool in self.model.limits:
            of_pool = [i for i in taken if self.model.jobs[i].pool == pool]
            assert [told[i] for i in of_pool] == list(range(len(of_pool)))
        assert {self.model.jobs[i].user for i in self.model.waiting} <= parked

    @invariant()
    def everything_is_where_the_model_says(self) -> None:
        sight, model = self.on(look_at(self.db)), self.model
        lanes = {(j.pool, j.user) for j in (model.jobs[i] for i in model.waiting)}
        users = {j.user for j in model.jobs.values()}

        assert sight.lanes() == {(pool, user): model.lane(pool, user) for pool, user in lanes}
        assert set(sight.sets.get("window", {})) == model.past
        assert set(sight.sets.get("starting", {})) == model.starting
        assert set(sight.sets.get("expiring", {})) == model.waiting
        assert sight.hashes.get("window:users", {}) == {u: str(n) for u in users if (n := model.used_by(u))}
        assert sight.hashes.get("window:pools", {}) == {p: str(n) for p in model.limits if (n := model.used(p))}
        assert {(pool, user) for user, pools in sight.parked.items() for pool in pools} == model.parked
        for pool in model.limits:
            turns = {user: model.turn[pool, user] for user in model.ring[pool]}
            assert sight.sets.get(f"ring:{pool}", {}) == turns
            # Nobody in the ring is more than one turn from anybody else.
            assert all(0 <= turn - model.clock[pool] <= WHOLE_TURN for turn in turns.values())

    @invariant()
    def a_user_who_waits_is_in_the_ring_or_will_be_put_back(self) -> None:
        for job in (self.model.jobs[i] for i in self.model.waiting):
            if job.user not in self.model.ring[job.pool]:
                assert (job.pool, job.user) in self.model.parked
                assert self.model.used_by(job.user) > 0

    @invariant()
    def between_users_who_both_wait_the_turns_taken_hardly_differ(self) -> None:
        # One for the turn somebody may be behind when the other joins, one for the job being served.
        assert all(abs(lead) <= 2 * WHOLE_TURN for lead in self.model.lead.values())


def test_lanes_windows_and_turns(redis_server: RedisServer) -> None:
    """However jobs come, go, come back and end, the order, the places and the windows are those of the model."""
    run_state_machine_as_test(
        lambda: Lanes(redis_server.url),
        settings=settings(deadline=None, max_examples=examples(30), stateful_step_count=40),
    )


async def test_two_who_start_together_stay_within_one_job(database: Database) -> None:
    """Of two users who both keep waiting jobs neither is ever two jobs ahead."""
    owner = {await put(database, user): user for user in ["ada"] * 30 + ["bob"] * 30}
    lead = 0

    for job_id in await take(database, 60):
        lead += 1 if owner[job_id] == "ada" else -1
        assert abs(lead) <= 1


async def test_who_weighs_four_gets_four_turns_where_another_gets_one(database: Database) -> None:
    """Of jobs taken while both wait, the share of each is its weight's, all along and not only in the end."""
    owner = {await put(database, "ada"): "ada" for _ in range(20)}
    owner |= {await put(database, "pro", weight=4): "pro" for _ in range(80)}

    taken = [owner[job_id] for job_id in await take(database, 100)]

    for start in range(0, 100, 5):
        assert Counter(taken[start : start + 5]) == {"ada": 1, "pro": 4}


async def test_a_user_who_no_longer_pays_waits_like_others(database: Database) -> None:
    """The tier of the last ask is what counts, for all of a user's waiting jobs."""
    for _ in range(10):
        await put(database, "bob", weight=10)
    await put(database, "bob")
    for _ in range(10):
        await put(database, "ada")

    first = await take(database, 10)

    jobs = [job for job in (await look_at(database)).jobs.values() if job["id"] in first]
    assert Counter(job["user"] for job in jobs) == {lane_user("ada"): 5, lane_user("bob"): 5}


async def test_a_burst_of_588_holds_a_newcomer_up_by_one_job(database: Database) -> None:
    """A newcomer waits for at most one job of the user with the burst, wherever in the burst he comes."""
    for _ in range(588):
        await put(database, "ada")
    for served in (0, 1, 50, 300):
        await take(database, served)
        newcomers = [await put(database, f"new-{served}-{n}") for n in range(10)]

        assert max([(await database.run("place", job_id, 200, 20))[0] for job_id in newcomers]) <= len(newcomers)
        assert len(set(await take(database, 11)) & set(newcomers)) == 10


async def test_leaving_and_coming_back_gains_nothing(database: Database) -> None:
    """Who asks for one job at a time gets no more than who has many waiting."""
    for _ in range(20):
        await put(database, "ada")
    taken: Counter[str] = Counter()
    for _ in range(20):
        one = await put(database, "bob")
        for job_id in await take(database, 1):
            taken["bob" if job_id == one else "ada"] += 1
        await move(database, one, "queued", "cancelled")

    assert abs(taken["ada"] - taken["bob"]) <= 1


@pytest.mark.parametrize("order", [(9, 5, 0), (0, 5, 9), (5, 9, 0)])
async def test_a_lane_is_served_by_priority_then_age(database: Database, clock: Clock, order: tuple[int, ...]) -> None:
    """Among one user's jobs the higher priority goes first, and of the same priority the older."""
    asked = []
    for priority in order * 3:
        asked.append((-priority, clock.now_ms, await put(database, priority=priority)))
        await clock.advance(0.001)

    assert await take(database) == [job_id for _, _, job_id in sorted(asked)]


async def test_priority_gives_no_turn_before_other_users(database: Database) -> None:
    """Priority is among a user's own jobs: a nine of one does not go before the turn of another."""
    high = [await put(database, "bob", priority=9) for _ in range(3)]
    low = [await put(database, "ada", priority=0) for _ in range(3)]

    assert await take(database) == [job for pair in zip(low, high, strict=True) for job in pair]


async def test_a_job_given_back_stands_where_it_stood(database: Database, clock: Clock) -> None:
    """A worker that stops gives its job back, and the job is not behind those that came later."""
    ids = []
    for _ in range(3):
        ids.append(await put(database))
        await clock.advance(1)
    await take(database, 1)

    await database.run("give_back", ids[0])

    assert await take(database) == ids


async def test_the_least_used_machine_is_served_first(database: Database) -> None:
    """While one machine's queue grows, another does not idle."""
    busy = [await put(database, pool="busy", pool_limit=9) for _ in range(4)]
    await take(database, 2)
    idle = [await put(database, "bob", pool="idle", pool_limit=9) for _ in range(2)]

    assert await take(database, 2) == idle
    assert await take(database) == busy[2:]


async def test_a_full_machine_does_not_hold_up_others(database: Database) -> None:
    """Jobs for a machine without room stay; jobs for another pass them."""
    full = [await put(database, pool="full", pool_limit=1) for _ in range(3)]
    free = [await put(database, pool="free", pool_limit=5) for _ in range(3)]

    assert set(await take(database)) == {full[0], *free}
    assert await take(database) == []


async def test_a_parked_user_comes_back_with_the_first_release(database: Database) -> None:
    """A full window parks a user once; the end of any of his jobs puts him back."""
    hers = [await put(database, "ada") for _ in range(4)]
    assert await take(database, user_window=2) == hers[:2]
    assert await take(database, user_window=2) == []

    await move(database, hers[1], "queued", "cancelled")

    assert await take(database, user_window=2) == [hers[2]]


async def test_a_parked_user_who_gives_up_comes_again_like_anyone(database: Database) -> None:
    """When the last waiting job of a parked user is cancelled nothing of the parking is left."""
    past, waiting = [await put(database, "ada") for _ in range(2)]
    assert await take(database, user_window=1) == [past]

    await move(database, waiting, "queued", "cancelled")

    sight = await look_at(database)
    assert (sight.parked, sight.lanes()) == ({}, {})
    again = await put(database, "ada")
    assert await take(database, user_window=2) == [again]


async def test_the_place_of_a_parked_user_is_not_a_turn_that_has_passed(database: Database) -> None:
    """While a user is parked others are served; his place is where he would come in now, not where he was."""
    # Given zed, parked at turn 1, and ada and bob, who were served on until bob is next, at turn 3
    his = [await put(database, "zed") for _ in range(2)]
    await take(database, user_window=1)
    for _ in range(6):
        await put(database, "ada")
        await put(database, "bob")
    await take(database, 7)

    # Then zed would come in at turn 3, behind bob by name
    assert (await database.run("place", his[1], 200, 20))[0] == 1
