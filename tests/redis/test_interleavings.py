"""Everything that can happen to one job, in any order: submit, look, hint, cancel, rescue, expiry, kills, repeats.

Each step is one real call of a real coroutine (`actors.py`): two workers' tasks and chores interleave at every call they
make to Redis or the API, on a clock the test moves. One job is the subject; one of the same user and one of another
stand by. After every step the record may only have moved as the table of states allows; when all is over, everything that
went wrong stops going wrong, the workers live on, and then each job has ended once, paid for at most one run, and left
nothing behind.

`INTERLEAVINGS=5000 pytest tests/redis/test_interleavings.py` explores that many other plays.
"""

import os
from collections.abc import Coroutine
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from producers.local.redis_server import RedisServer
from shared.following.hints import take_hint
from shared.hooks import signature
from shared.jobs.event import Event
from shared.jobs.states import FINAL, MOVES, JobState
from shared.settings import Settings
from tasks.look import look
from tasks.submit import submit_job
from tests.redis.actors import OUTCOMES, Actor, Api, Cast, Outcome
from tests.redis.stage import Theatre, look_at, put
from workers.upkeep import Upkeep

S = JobState
SECRET = "s3cret"
NOBODYS_RUN = "0f9a6f1c-7a57-4d52-8f0e-2b1c3d4e5f60"

#: A live worker that has written its intent comes to the end of its submit within this: the client's own timeout (60 s)
#: and what `adopt.LOST_MARGIN_SECONDS` allows for the rest. A worker that is stopped (SIGSTOP, a paused container) for longer
#: between intent and POST can make a second run, which is then cancelled; docs/failure-model.md.
LONGEST_SUBMIT_MS = 62_000

EXPLORE = int(os.environ.get("INTERLEAVINGS", "0"))

workers = st.integers(0, 1)
any_of = st.integers(0, 7)


class Play(RuleBasedStateMachine):
    """One play: three jobs, two workers, and everything in between."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.on = Theatre(url)
        self.url = url

    @initialize(user_window=st.integers(1, 2), queue_timeout=st.sampled_from([30, 3600]))
    def curtain(self, user_window: int, queue_timeout: int) -> None:
        knobs = Settings.model_validate({"redis_url": self.url, "window": 10, "user_window": user_window})
        self.cast = Cast(self.on.database, self.on.clock, knobs)
        self.api, self.messages = self.cast.api, self.cast.messages
        self.api.on_post = self.posts
        self.upkeep = [Upkeep(engine) for engine in self.cast.engines]
        self.jobs = [
            self.on(put(self.on.database, user, workflow_id=Api.WORKFLOW, queue_timeout_seconds=queue_timeout))
            for user in ("ada", "ada", "bob")
        ]
        self.subject = self.jobs[0]
        self.state = dict.fromkeys(self.jobs, S.QUEUED)
        #: Jobs somebody has asked to cancel, and those for which he had an answer before the intent was written.
        self.unwanted: set[str] = set()
        self.answered: set[str] = set()
        self.not_to_post: set[str] = set()

    # -- actors enter -------------------------------------------------------------------------------------------

    def enter(self, name: str, worker: int | None, work: Coroutine[Any, Any, Any]) -> None:
        if worker is not None and self.cast.engines[worker].stopping.is_set():
            work.close()
            return
        self.on(self.cast.start(name, worker, work))
        self.see()

    @rule(worker=workers)
    def dispatch(self, worker: int) -> None:
        self.enter("dispatch", worker, self.cast.engines[worker].dispatch())

    @precondition(lambda self: self.messages)
    @rule(n=any_of, worker=workers, twice=st.sampled_from([False, False, False, True]))
    def deliver(self, n: int, worker: int, twice: bool) -> None:
        """The broker delivers a message; now and then it will do so again."""
        job_id = self.messages[n % len(self.messages)]
        if not twice:
            self.messages.remove(job_id)
        self.enter(f"submit {self.jobs.index(job_id)}", worker, submit_job(self.cast.engines[worker], job_id))

    @precondition(lambda self: self.messages)
    @rule(n=any_of)
    def lose_message(self, n: int) -> None:
        self.messages.pop(n % len(self.messages))

    @rule(worker=workers)
    def look(self, worker: int) -> None:
        self.enter("look", worker, self._look(worker))

    async def _look(self, worker: int) -> None:
        engine = self.cast.engines[worker]
        claimed, _ = await engine.due.claim(10)
        for workflow in claimed:
            await look(engine, workflow)

    @rule(worker=workers, chore=st.sampled_from(["rescue", "expire", "check_strays", "close_rows"]))
    def chore(self, worker: int, chore: str) -> None:
        self.enter(chore, worker, getattr(self.upkeep[worker], chore)())

    @rule(n=st.sampled_from([0, 0, 0, 1, 2]))
    def cancel(self, n: int) -> None:
        self.enter(f"cancel {n}", None, self._cancel(self.jobs[n]))

    async def _cancel(self, job_id: str) -> None:
        self.unwanted.add(job_id)
        if await self.cast.store.cancel(job_id) != "missing":
            self.answered.add(job_id)

    @rule(
        n=st.sampled_from([0, 0, 0, 1, 2]), run=any_of, kind=st.sampled_from(["own", "own", "any", "none", "nobody's"])
    )
    def hint(self, n: int, run: int, kind: str) -> None:
        """A webhook comes: true, of a run of the job; or without a body; or false."""
        job_id = self.jobs[n]
        runs = [run.id for run in (self.api.of(job_id) if kind == "own" else self.api.runs.values())]
        named = NOBODYS_RUN if kind == "nobody's" else runs[run % len(runs)] if runs and kind != "none" else ""
        self.enter(f"hint {n}", None, self._hint(job_id, named))

    async def _hint(self, job_id: str, run_id: str) -> None:
        body = f'{{"run_id": "{run_id}"}}'.encode() if run_id else b""
        await take_hint(self.cast.store, SECRET, job_id, signature(SECRET, job_id), body)

    # -- and act ------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> list[Actor]:
        return [actor for actor in self.cast.actors if actor.turns]

    def step_of(self, actor: Actor, n: int = 0, *, repeat: bool = False) -> None:
        self.on(self.cast.step(actor, n, repeat=repeat))
        self.see()

    @precondition(lambda self: self.waiting)
    @rule(n=any_of, turn=any_of, repeat=st.sampled_from([False] * 9 + [True]))
    def step(self, n: int, turn: int, repeat: bool) -> None:
        """One actor makes its next call; now and then the answer is lost and the call made again, as redis-py does."""
        self.step_of(self.waiting[n % len(self.waiting)], turn, repeat=repeat)

    @precondition(lambda self: self.waiting)
    @rule(n=any_of, steps=st.integers(2, 6))
    def steps(self, n: int, steps: int) -> None:
        """One actor makes its next few calls."""
        actor = self.waiting[n % len(self.waiting)]
        for _ in range(steps):
            if actor.turns:
                self.step_of(actor)

    @precondition(lambda self: self.waiting)
    @rule(n=any_of)
    def finish(self, n: int) -> None:
        self.to_its_end(self.waiting[n % len(self.waiting)])

    def to_its_end(self, actor: Actor) -> None:
        for _ in range(200):
            if not actor.turns:
                return
            self.step_of(actor)
        raise AssertionError(f"{actor.name} does not end: {actor.turns}")

    # -- what goes wrong ----------------------------------------------------------------------------------------

    @rule(worker=workers)
    def kill(self, worker: int) -> None:
        self.on(self.cast.kill(worker))
        self.cast.engines[worker].stopping.clear()
        self.see()

    @rule(worker=workers)
    def stop(self, worker: int) -> None:
        """SIGTERM: who waits for a token gives its job back; nothing new is begun until the worker is started again."""
        engine = self.cast.engines[worker]
        if engine.stopping.is_set() and not any(actor.worker == worker for actor in self.cast.actors):
            engine.stopping.clear()
        else:
            engine.stopping.set()
        self.on(self.cast.gate.quiet())

    @rule(outcome=st.sampled_from(OUTCOMES))
    def next_post(self, outcome: Outcome) -> None:
        """What becomes of the next POST."""
        self.api.outcomes.append(outcome)

    @rule(away=st.booleans())
    def api_away(self, away: bool) -> None:
        self.api.away = away

    @precondition(lambda self: self.api.under_way)
    @rule()
    def arrive(self) -> None:
        self.api.arrive()

    @precondition(lambda self: self.api.runs)
    @rule(n=any_of, to=st.sampled_from(["running", "success", "success", "failed"]))
    def run_goes_on(self, n: int, to: str) -> None:
        run = list(self.api.runs.values())[n % len(self.api.runs)]
        # A second run that ends before anybody can cancel it is paid for, whatever we do.
        alone = [other.id for other in self.api.of(run.job_id) if not other.cancelled] == [run.id]
        if not run.ended and (alone or to == "running"):
            run.status = to

    @rule(seconds=st.sampled_from([0.5, 2.0, 8.0, 16.0, 40.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        now = self.on.clock.now_ms
        for actor in list(self.cast.actors):
            if actor.intent_at is not None and now + seconds * 1000 - actor.intent_at > LONGEST_SUBMIT_MS:
                self.to_its_end(actor)
        self.api.arrive(by=now + round(seconds * 1000))
        self.on(self.on.clock.advance(seconds))

    # -- what must hold -----------------------------------------------------------------------------------------

    def see(self) -> None:
        """After every call: no state goes back, and a job goes back to its lane only when certainly no run was made."""
        for job_id, state in self.on(self._states()).items():
            before, self.state[job_id] = self.state[job_id], state
            if state is before:
                continue
            assert state in MOVES[before], f"{before} -> {state}"
            if state is S.SUBMITTING and job_id in self.answered:
                self.not_to_post.add(job_id)
            if state is S.QUEUED:
                assert not self.made(job_id), "back in its lane, and there is a run"

    async def _states(self) -> dict[str, JobState]:
        pipe = self.on.database.redis.pipeline(transaction=False)
        for job_id in self.jobs:
            pipe.hget(self.on.database.keys.job(job_id), "state")
        return {job_id: S(state) for job_id, state in zip(self.jobs, await pipe.execute(), strict=True)}

    def made(self, job_id: str) -> bool:
        """Whether a run of the job exists or will, as far as anybody could know."""
        under_way = any(job == job_id and not too_late for job, _, too_late in self.api.under_way)
        return under_way or any(not run.too_late and not run.cancelled for run in self.api.of(job_id))

    def posts(self, job_id: str) -> None:
        """At the moment of each POST."""
        assert job_id not in self.not_to_post, "a job is posted that was cancelled before"
        assert not self.made(job_id), "a job is posted that has a run"

    def teardown(self) -> None:
        try:
            if hasattr(self, "cast"):
                self.last_act()
        finally:
            if hasattr(self, "cast"):
                for worker in (0, 1, None):
                    self.on(self.cast.kill(worker))  # type: ignore[arg-type]
            self.on.close()

    def last_act(self) -> None:
        """Nothing goes wrong any more, and the workers live on: every job ends, and nothing is left of it."""
        self.api.away = False
        self.api.outcomes.clear()
        self.cast.engines[1].stopping.set()
        for actor in list(self.cast.actors):
            self.to_its_end(actor)
        for engine in self.cast.engines:
            engine.stopping.clear()
        self.api.arrive()
        for job_id in self.jobs:
            # Of runs that appear so late that nobody looks for them, only a webhook can tell.
            if any(run.too_late for run in self.api.of(job_id)):
                for run in self.api.of(job_id):
                    self.on_stage(self._hint(job_id, run.id))
        for _ in range(30):
            self.one_round()
            if all(state in FINAL for state in self.state.values()) and not self.on(look_at(self.on.database)).sets:
                break
        self.verdict()

    def on_stage(self, work: Coroutine[Any, Any, Any]) -> None:
        self.to_its_end(self.on(self.cast.start("last act", 0, work)))

    def one_round(self) -> None:
        """A worker's life for a while."""
        self.on_stage(self.cast.engines[0].dispatch())
        for chore in (self.upkeep[0].rescue, self.upkeep[0].expire, self.upkeep[0].check_strays):
            self.on_stage(chore())
        while self.messages:
            self.on_stage(submit_job(self.cast.engines[0], self.messages.pop()))
        for job_id in self.jobs:
            for run in self.api.of(job_id):
                own = self.on(self.on.database.redis.hget(self.on.database.keys.job(job_id), "run_id"))
                if own == run.id and not run.ended:
                    run.status = "success"
        self.on_stage(self._look(0))
        self.on_stage(self.upkeep[0].close_rows())
        self.time_passes(16.0)

    def verdict(self) -> None:
        sight = self.on(look_at(self.on.database))
        for job_id in self.jobs:
            record = sight.jobs[job_id]
            events = [Event.model_validate(event) for event in sight.events[job_id]]
            assert record["state"] in FINAL, record
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            assert [event.final for event in events] == [False] * (len(events) - 1) + [True]
            assert events[-1].state == record["state"]
            runs = self.api.of(job_id)
            kept = [run for run in runs if not run.cancelled]
            assert len(kept) <= 1, f"paid twice: {runs}"
            assert [run.id for run in kept] in ([], [record.get("run_id")]), f"an orphan: {runs}, {record}"
            if record["state"] == S.SUCCEEDED:
                assert kept
            if job_id not in self.unwanted:
                assert record["state"] != S.CANCELLED, "nobody asked for that"
            assert job_id in self.cast.closed
        left = {name for name in sight.sets if not name.startswith("turns:")}
        assert not left, {name: sight.sets[name] for name in left}
        assert not [name for name in sight.hashes if name.startswith("window") or name == "looking"], sight.hashes
        assert not sight.parked


def test_in_any_order_a_job_ends_once_and_is_paid_for_once(redis_server: RedisServer) -> None:
    """However the calls of two workers, hints, cancels, kills and lost answers interleave."""
    run_state_machine_as_test(
        lambda: Play(redis_server.url),
        settings=settings(
            deadline=None,
            derandomize=not EXPLORE,
            max_examples=EXPLORE or 100,
            stateful_step_count=50,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
