"""The due-set: no workflow with runs in flight is missing, none is looked at by two, and a dead looker is followed."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from producers.local.redis_server import RedisServer
from shared.database import Database
from shared.following.due import LEASE_SECONDS, DueSet, Settlement
from tests.exploring import examples
from tests.redis.stage import Clock, Theatre, look_at, move, put, submit, take

LEASE_MS = round(LEASE_SECONDS * 1000)
OWNERS = ["one", "two", "three"]
WORKFLOWS = ["w1", "w2", "w3"]

owners, workflows = st.sampled_from(OWNERS), st.sampled_from(WORKFLOWS)
delays = st.sampled_from([0, 1, 400, 20_000])


@dataclass
class Model:
    """When each run is worth a look, and who is looking."""

    #: Workflow -> job id -> ms.
    runs: dict[str, dict[str, int]] = field(default_factory=lambda: {workflow: {} for workflow in WORKFLOWS})
    members: dict[str, str] = field(default_factory=dict)
    #: Workflow -> (owner, until ms). An old lease stays until somebody claims, settles or the last run ends.
    leases: dict[str, tuple[str, int]] = field(default_factory=dict)
    #: Workflow -> when all its runs were looked at, and when those without a time after that are next.
    together: dict[str, tuple[int, int]] = field(default_factory=dict)
    #: Owner -> the look under way: workflow, when it began, what was in flight, and of that what had a time of its own.
    looks: dict[str, tuple[str, int, set[str], set[str]]] = field(default_factory=dict)
    #: Jobs with news since somebody began to look: that look must not put the next one off.
    hinted: set[str] = field(default_factory=set)

    def due(self, workflow: str) -> int | None:
        """When to look at a workflow next."""
        looked, common = self.together.get(workflow, (0, 0))
        times = {at if at > looked else common for at in self.runs[workflow].values()}
        return min(times, default=None)

    def forget(self, workflow: str) -> None:
        """The last run has ended."""
        self.leases.pop(workflow, None)
        self.together.pop(workflow, None)

    def flying(self) -> list[str]:
        """The workflows with runs."""
        return [workflow for workflow in WORKFLOWS if self.runs[workflow]]

    def held(self, workflow: str, now: int) -> bool:
        """Whether somebody's claim on it still holds."""
        return self.leases.get(workflow, ("", 0))[1] > now


class Looks(RuleBasedStateMachine):
    """Runs come and end, hints arrive, three workers claim, settle and die."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.on = Theatre(url)
        self.db = self.on.database
        self.by = {owner: DueSet(self.db, owner) for owner in OWNERS}
        self.model = Model()

    def teardown(self) -> None:
        self.on.close()

    def pick(self, n: int) -> tuple[str, str]:
        known = sorted((job_id, workflow) for workflow, runs in self.model.runs.items() for job_id in runs)
        job_id, workflow = known[n % len(known)]
        return workflow, job_id

    @rule(workflow=workflows, delay=delays)
    def a_run_begins(self, workflow: str, delay: int) -> None:
        job_id = self.on(put(self.db, workflow_id=workflow))
        assert self.on(take(self.db)) == [job_id]
        run_id = self.on(submit(self.db, job_id, delay_ms=delay))
        self.model.runs[workflow][job_id] = self.on.clock.now_ms + delay
        self.model.members[job_id] = f"{job_id} {run_id}"

    @precondition(lambda self: self.model.flying())
    @rule(n=st.integers(0, 20))
    def a_run_ends(self, n: int) -> None:
        workflow, job_id = self.pick(n)
        assert self.on(move(self.db, job_id, "submitted", "succeeded"))[0] == "moved"
        del self.model.runs[workflow][job_id]
        if not self.model.runs[workflow]:
            self.model.forget(workflow)

    @precondition(lambda self: self.model.flying())
    @rule(n=st.integers(0, 20), cancel=st.booleans())
    def a_hint_arrives(self, n: int, cancel: bool) -> None:
        workflow, job_id = self.pick(n)
        assert self.on(self.db.run("nudge", job_id, "1" if cancel else "0"))[0] == "nudged"
        runs, now = self.model.runs[workflow], self.on.clock.now_ms
        looked, _ = self.model.together.get(workflow, (0, 0))
        if runs[job_id] > looked and workflow in self.model.leases:
            self.model.hinted.add(job_id)
        if not looked < runs[job_id] <= now:
            runs[job_id] = now

    @rule(owner=owners, most=st.integers(1, 3))
    def claim(self, owner: str, most: int) -> None:
        model, now = self.model, self.on.clock.now_ms
        due = sorted((at, workflow) for workflow in model.flying() if (at := model.due(workflow)) is not None)
        free = [workflow for at, workflow in due if at <= now and not model.held(workflow, now)]
        later = [at - now for at, _ in due if at > now]

        claimed, seconds = self.on(self.by[owner].claim(most))

        assert claimed == free[:most]
        assert seconds == (later[0] / 1000 if later else None)
        for workflow in claimed:
            model.leases[workflow] = owner, now + LEASE_MS

    @rule(owner=owners, workflow=workflows, chosen=st.sets(st.integers(0, 3)), delay=delays)
    def settle(self, owner: str, workflow: str, chosen: set[int], delay: int) -> None:
        model, now = self.model, self.on.clock.now_ms
        looked = [job_id for n, job_id in enumerate(sorted(model.runs[workflow])) if n in chosen]
        gone = {"00000000-0000-7000-8000-000000000000 run-gone": 1.0}

        seconds = self.on(
            self.by[owner].settle(
                workflow, Settlement({model.members[job_id]: delay / 1000 for job_id in looked} | gone)
            )
        )

        for job_id in looked:
            model.runs[workflow][job_id] = now if job_id in model.hinted else now + delay
            model.hinted.discard(job_id)
        if model.leases.get(workflow, ("", 0))[0] == owner:
            del model.leases[workflow]
        due = model.due(workflow)
        assert seconds == (None if due is None else max(0, due - now) / 1000)

    @rule(owner=owners, workflow=workflows)
    def begin_to_look(self, owner: str, workflow: str) -> None:
        flight = self.on(self.by[owner].in_flight(workflow))

        model, (looked, common) = self.model, self.model.together.get(workflow, (0, 0))
        assert {run.job_id: (run.look_at, run.own) for run in flight.runs} == {
            job_id: (at, True) if at > looked else (common, False) for job_id, at in model.runs[workflow].items()
        }
        own = {run.job_id for run in flight.runs if run.own}
        model.looks[owner] = workflow, self.on.clock.now_ms, set(model.runs[workflow]), own

    @precondition(lambda self: self.model.looks)
    @rule(owner=owners, chosen=st.sets(st.integers(0, 3)), delay=delays, common=delays)
    def settle_all(self, owner: str, chosen: set[int], delay: int, common: int) -> None:
        """The look was at all of them: some get a time of their own, the others share one."""
        model, now = self.model, self.on.clock.now_ms
        if owner not in model.looks:
            return
        workflow, began, flying, own = model.looks.pop(owner)
        picked = {job_id for n, job_id in enumerate(sorted(flying)) if n in chosen}
        joined = sorted(own - picked)

        self.on(
            self.by[owner].settle(
                workflow,
                Settlement(
                    own={model.members[job_id]: delay / 1000 for job_id in picked},
                    joined=[model.members[job_id] for job_id in joined],
                    common=common / 1000,
                    whole=True,
                    began_ms=began,
                ),
            )
        )

        runs = model.runs[workflow]
        looked = max(model.together.get(workflow, (0, 0))[0], began - 1)
        for job_id in picked & runs.keys():
            runs[job_id] = now if job_id in model.hinted else now + delay
        for job_id in set(joined) & runs.keys():
            runs[job_id] = now if job_id in model.hinted else looked
        model.hinted -= flying if not runs else picked | set(joined)
        if model.leases.get(workflow, ("", 0))[0] == owner:
            del model.leases[workflow]
        if runs:
            model.together[workflow] = looked, now + common

    @rule(seconds=st.sampled_from([0.001, 0.4, LEASE_SECONDS - 0.001, LEASE_SECONDS]))
    def time_passes(self, seconds: float) -> None:
        self.on(self.on.clock.advance(seconds))

    @invariant()
    def redis_holds_what_the_model_holds(self) -> None:
        sight, model = self.on(look_at(self.db)), self.model
        # No workflow with runs in flight is ever missing, and none stays that has none.
        assert sight.sets.get("due", {}) == {workflow: model.due(workflow) for workflow in model.flying()}
        for workflow in WORKFLOWS:
            runs = {model.members[job_id]: at for job_id, at in model.runs[workflow].items()}
            assert sight.sets.get(f"inflight:{workflow}", {}) == runs
        assert sight.hashes.get("together", {}) == {
            w: f"{looked} {common}" for w, (looked, common) in model.together.items()
        }
        assert sight.hashes.get("looking", {}) == {w: f"{until} {owner}" for w, (owner, until) in model.leases.items()}


def test_who_looks_at_what_and_when(redis_server: RedisServer) -> None:
    """Runs, hints, claims, leases and settled looks in any order are those of the model."""
    run_state_machine_as_test(
        lambda: Looks(redis_server.url),
        settings=settings(deadline=None, max_examples=examples(25), stateful_step_count=40),
    )


async def run_of(database: Database, workflow: str = "wf", *, delay_ms: int = 0) -> str:
    """One run in flight; answers its member."""
    job_id = await put(database, workflow_id=workflow)
    await take(database)
    return f"{job_id} {await submit(database, job_id, delay_ms=delay_ms)}"


async def test_no_workflow_is_claimed_twice_within_a_lease(database: Database, clock: Clock) -> None:
    """One worker looks; the others pass the workflow over until it is settled or the lease ends."""
    await run_of(database)
    one, other = DueSet(database, "one"), DueSet(database, "two")
    assert await one.claim(10) == (["wf"], None)

    await clock.advance(LEASE_SECONDS - 0.001)
    assert (await other.claim(10))[0] == []
    assert (await one.claim(10))[0] == []

    await clock.advance(0.001)
    assert (await other.claim(10))[0] == ["wf"]


async def test_a_look_that_comes_back_late_does_not_end_another_workers_lease(database: Database, clock: Clock) -> None:
    """The first looker was slow and lost its claim: what it saw counts, the second's lease stays."""
    member = await run_of(database)
    one, other = DueSet(database, "one"), DueSet(database, "two")
    await one.claim(1)
    await clock.advance(LEASE_SECONDS)
    await other.claim(1)

    assert await one.settle("wf", Settlement({member: 0.0})) == 0

    assert (await one.claim(1))[0] == []
    assert await other.settle("wf", Settlement()) == 0
    assert (await one.claim(1))[0] == ["wf"]


async def test_a_hint_moves_a_look_forward_and_never_back(database: Database, clock: Clock) -> None:
    """A webhook makes a look due now; a look that is due already stays where it is."""
    later, sooner = await run_of(database, "later", delay_ms=60_000), await run_of(database, "sooner")
    await clock.advance(5)
    for member in (later, sooner):
        await database.run("nudge", member.split(" ", maxsplit=1)[0], "0")

    due = (await look_at(database)).sets["due"]

    assert due == {"later": clock.now_ms, "sooner": clock.now_ms - 5_000}


async def test_a_run_that_ended_during_the_look_stays_out(database: Database, clock: Clock) -> None:
    """A webhook's own look ended the run; the slower look settles what is no longer in flight."""
    member = await run_of(database)
    due = DueSet(database, "me")
    await due.claim(1)
    await move(database, member.split(" ", maxsplit=1)[0], "submitted", "succeeded")

    assert await due.settle("wf", Settlement({member: 1.0})) is None

    sight = await look_at(database)
    assert "due" not in sight.sets
    assert "inflight:wf" not in sight.sets


async def test_looks_are_counted_at_the_job(database: Database, clock: Clock) -> None:
    """The schedule reads how often a run was looked at; a look at another run does not count."""
    looked, other = await run_of(database), await run_of(database)
    due = DueSet(database, "me")
    for _ in range(3):
        await clock.advance(1)
        await due.claim(1)
        await due.settle("wf", Settlement({looked: 1.0}))

    jobs = (await look_at(database)).jobs

    assert jobs[looked.split(" ", maxsplit=1)[0]]["looks"] == "3"
    assert "looks" not in jobs[other.split(" ", maxsplit=1)[0]]


async def test_in_flight_lists_the_run_most_worth_a_look_first(database: Database, clock: Clock) -> None:
    """A look sees every run of the workflow with its time, in order."""
    late, early = await run_of(database, delay_ms=5_000), await run_of(database, delay_ms=10)

    runs = (await DueSet(database, "me").in_flight("wf")).runs

    assert [(run.member, run.look_at) for run in runs] == [(early, clock.now_ms + 10), (late, clock.now_ms + 5_000)]


async def test_a_workflow_lost_from_the_due_set_is_found(database: Database, clock: Clock) -> None:
    """Upkeep finds runs nobody would look at; settling the workflow once puts it back."""
    await run_of(database, "lost")
    await run_of(database, "known")
    due = DueSet(database, "upkeep")
    await database.redis.zrem(database.keys.due, "lost")

    assert [workflow async for workflow in due.forgotten()] == ["lost"]
    await due.settle("lost", Settlement())

    assert [workflow async for workflow in due.forgotten()] == []
    assert (await due.claim(2))[0] == ["known", "lost"]


async def test_a_thousand_due_workflows_are_claimed_once_each(database: Database, clock: Clock) -> None:
    """Many workers that claim at the same time share the work without overlap and without a rest."""
    now = str(clock.now_ms)
    await database.redis.zadd(database.keys.due, {f"w{n}": now for n in range(1000)})
    claimed: list[str] = []
    for n in range(25):
        claimed += (await DueSet(database, OWNERS[n % 3]).claim(40))[0]

    assert sorted(claimed) == sorted(f"w{n}" for n in range(1000))
    assert (await DueSet(database, "late").claim(40))[0] == []


async def test_a_hint_that_names_another_run_is_kept_as_a_stray(database: Database, clock: Clock) -> None:
    """A run beside the job's own may be paid for and belongs to nobody: it is noted once, to be checked now."""
    member = await run_of(database, delay_ms=60_000)
    job_id, own = member.split(" ")
    for run_id in ("other", own, ""):
        assert (await database.run("nudge", job_id, "0", run_id))[0] == "nudged"
    await clock.advance(5)
    await database.run("nudge", job_id, "0", "other")

    sight = await look_at(database)

    assert sight.sets["strays"] == {f"{job_id} other": clock.now_ms - 5_000}
    assert sight.sets["inflight:wf"] == {member: clock.now_ms - 5_000}


async def test_a_hint_for_an_unanswered_submit_wakes_rescue(database: Database, clock: Clock) -> None:
    """The answer of a submit was lost and a webhook names its run: rescue comes at once and finds the name."""
    job_id = await put(database)
    await take(database)
    await database.run("hold", job_id, "worker", 15_000)
    await move(database, job_id, "queued", "submitting")

    assert await database.run("nudge", job_id, "0", "run-9") == ["noted", "submitting"]

    sight = await look_at(database)
    assert sight.jobs[job_id]["hinted_run"] == "run-9"
    assert sight.sets["starting"] == {job_id: clock.now_ms}
    assert await database.run("hold", job_id, "rescue", 15_000) == ["held", "submitting"]


async def test_a_hint_for_a_job_that_ended_without_a_run_is_a_stray(database: Database, clock: Clock) -> None:
    """The job was given up while submitting, and its run turns up later: somebody has to cancel it."""
    job_id = await put(database)
    await move(database, job_id, "queued", "cancelled")

    assert await database.run("nudge", job_id, "0", "late") == ["final", "cancelled"]

    assert list((await look_at(database)).sets["strays"]) == [f"{job_id} late"]


async def test_a_hint_during_a_look_at_all_is_not_lost(database: Database, clock: Clock) -> None:
    """News that comes while all runs are looked at makes its run due again at once, whatever time it had before."""
    alone, shared, late = [await run_of(database) for _ in range(3)]
    due = DueSet(database, "me")
    await due.settle("wf", Settlement(joined=[shared], common=60.0, whole=True, began_ms=clock.now_ms))
    await database.redis.zadd(database.keys.inflight("wf"), {alone: clock.now_ms, late: clock.now_ms + 60_000})
    await clock.advance(1)
    await due.claim(1)
    began = clock.now_ms
    await clock.advance(0.1)
    for member in (alone, shared, late):
        await database.run("nudge", member.split(" ", maxsplit=1)[0], "0")
    await clock.advance(0.1)

    await due.settle("wf", Settlement({late: 30.0}, joined=[alone], common=60.0, whole=True, began_ms=began))

    flight = await due.in_flight("wf")
    assert {run.member: (run.look_at <= clock.now_ms, run.own) for run in flight.runs} == dict.fromkeys(
        (alone, shared, late), (True, True)
    )


async def test_of_a_crowd_only_those_whose_time_has_come_are_read(database: Database) -> None:
    """Twenty runs share a time that has not come; one has news: it alone is answered. When the time comes, all are."""
    members = [await run_of(database) for _ in range(20)]
    due = DueSet(database, "me")
    now = await database.now_ms()
    await due.settle("wf", Settlement(joined=members, common=60.0, whole=True, began_ms=now))
    await database.run("nudge", members[7].split(" ", maxsplit=1)[0], "0")

    before = await due.in_flight("wf", crowd=10, soon_ms=500)
    after = await due.in_flight("wf", crowd=10, soon_ms=60_000)

    assert ([run.member for run in before.runs], before.whole) == ([members[7]], False)
    assert ({run.member for run in after.runs}, after.whole) == (set(members), True)
