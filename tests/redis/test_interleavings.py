"""Everything that can happen to one job, in any order: submit, look, hint, cancel, rescue, expiry, kills, repeats.

Each step is one real call of a real coroutine (`actors.py`): two workers' tasks and chores interleave at every call they
make to Redis or the API, on a clock the test moves. One job is the subject; one of the same user and one of another
stand by. After every step the record may only have moved as the table of states allows; when all is over, everything that
went wrong stops going wrong, the workers live on, and then each job has ended once, paid for at most one run, and left
nothing behind.

`EXPLORE=100 pytest tests/redis/test_interleavings.py` explores 5,000 other plays.
"""

from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, currently_in_test_context, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from producers.levers.pauses import Scope, pause, resume
from producers.levers.stuck import fail, requeue
from producers.local.redis_server import RedisServer
from shared.following.hints import take_hint
from shared.hooks import signature
from shared.jobs.by import By
from shared.jobs.event import Event
from shared.jobs.states import FINAL, MOVES, JobState
from shared.settings import Settings
from tasks.look import look
from tasks.submit import submit_job
from tests.exploring import EXPLORE, examples
from tests.redis.actors import OUTCOMES, Actor, Api, Cast, Outcome
from tests.redis.stage import Theatre, look_at, put
from workers.upkeep import Upkeep

S = JobState
T = TypeVar("T")
SECRET = "s3cret"
BY = By("op@host", "a stormy night")
NOBODYS_RUN = "0f9a6f1c-7a57-4d52-8f0e-2b1c3d4e5f60"

#: What a live worker needs at the most from its intent to its POST (a free connection: 10 s, opening one: 5 s), and to the end
#: of its submit (the client's timeout of 60 s, and a moment). One that is stopped for longer between the two (SIGSTOP, a
#: paused container) can make a second run, which is then cancelled.
LONGEST_TO_POST_MS, LONGEST_SUBMIT_MS = 15_000, 62_000


choices = st.integers(0, 7)
MOSTLY_THE_SUBJECT = (0, 0, 0, 0, 0, 0, 1, 2)

PROLOGUES = ("dispatched", "posting", "undecided", "given_up", "posting_again")

#: What may happen next, by how often.
MOVES_TO_MAKE = [
    move
    for move, weight in {
        "step": 8,
        "steps": 8,
        "deliver": 6,
        "dispatch": 3,
        "rescue": 3,
        "a_hold_passes": 3,
        "look": 3,
        "hint": 3,
        "next_post": 2,
        "cancel": 1,
        "kill": 1,
        "stop": 1,
        "repeat": 2,
        "check_strays": 1,
        "run_goes_on": 2,
        "arrive": 1,
        "time_passes": 2,
        "expire": 1,
        "close_rows": 1,
        "lose_message": 1,
        "api_away": 1,
        "pause": 2,
        "requeue": 2,
        "fail": 1,
    }.items()
    for _ in range(weight)
]


class Play(RuleBasedStateMachine):
    """One play: three jobs, two workers, and everything in between."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.on = Theatre(url)
        self.url = url
        self.rounds = 0

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        # What `Runner.run` adds for each call (signal handlers) costs more than the call.
        return self.on._runner.get_loop().run_until_complete(work)

    @initialize(
        user_window=st.integers(1, 2),
        queue_timeout=st.sampled_from([30, 3600, 3600]),
        posts=st.lists(st.sampled_from(OUTCOMES), min_size=2, max_size=3),
        prologue=st.sampled_from(PROLOGUES),
    )
    def curtain(self, user_window: int, queue_timeout: int, posts: list[Outcome], prologue: str) -> None:
        knobs = Settings.model_validate({"redis_url": self.url, "window": 10, "user_window": user_window})
        self.cast = Cast(self.on.database, self.on.clock, knobs)
        self.api, self.messages = self.cast.api, self.cast.messages
        self.api.on_post = self.posts
        self.upkeep = [Upkeep(engine) for engine in self.cast.engines]
        self.jobs = [
            self.do(put(self.on.database, user, workflow_id=Api.WORKFLOW, queue_timeout_seconds=queue_timeout))
            for user in ("ada", "ada", "bob")
        ]
        self.subject = self.jobs[0]
        self.state = dict.fromkeys(self.jobs, S.QUEUED)
        #: Jobs somebody has asked to cancel, and those for which he had an answer before the intent was written.
        self.unwanted: set[str] = set()
        self.answered: set[str] = set()
        self.not_to_post: set[str] = set()
        #: Scopes an operator has paused.
        self.paused: set[str] = set()
        #: Runs a hint has named.
        self.heard: set[str] = set()
        self.whole = True
        self.dispatch(0, 0)
        getattr(self, prologue)(posts)

    # -- where a play begins ------------------------------------------------------------------------------------

    def dispatched(self, posts: list[Outcome]) -> None:
        """The subject is past its lane, and a message for it under way."""
        self.api.outcomes += posts

    def posting(self, posts: list[Outcome]) -> Actor:
        """A worker has posted the subject, and hears the answer next."""
        self.api.outcomes += posts
        self.messages[:] = [job_id for job_id in self.messages if job_id != self.subject]
        actor = self.do(self.cast.start("submit 0", 0, submit_job(self.cast.engines[0], self.subject)))
        while actor.turns and not actor.turns[0][0].startswith("answer"):
            self.step_of(actor)
        return actor

    def undecided(self, posts: list[Outcome]) -> None:
        """The answer was lost, and nobody holds the subject for longer than a second."""
        lost: tuple[Outcome, ...] = ("lost", "late", "vanished")
        first = posts[0] if posts[0] in lost else lost[OUTCOMES.index(posts[0]) % 3]
        self.to_its_end(self.posting([first, *posts[1:]]))
        self.pass_time(2.0)

    def given_up(self, posts: list[Outcome]) -> None:
        """No run appeared in time, and the subject went back to its lane; now it appears after all."""
        self.to_its_end(self.posting(["too late", *posts]))
        self.pass_time(70.0)
        self.to_its_end(self.do(self.cast.start("submit 0", 0, submit_job(self.cast.engines[0], self.subject))))
        assert self.state[self.subject] is S.QUEUED
        self.api.arrive()

    def posting_again(self, posts: list[Outcome]) -> None:
        """The same, and the subject has just been posted for the second time."""
        self.given_up([])
        self.pass_time(0.5)
        self.posting(posts)

    # -- what happens next --------------------------------------------------------------------------------------

    @rule(move=st.sampled_from(MOVES_TO_MAKE), a=choices, b=choices, whole=st.booleans())
    def go_on(self, move: str, a: int, b: int, whole: bool) -> None:
        """The next thing that happens; a move that is not possible now is another actor's step.

        One rule with weights, not a rule for each move: Hypothesis would switch some off for each play, and most plays
        would never come to a POST.
        """
        self.whole = whole
        if getattr(self, move)(a, b) is None and self.waiting:
            self.step(a, b)

    # -- actors enter -------------------------------------------------------------------------------------------

    def enter(self, name: str, worker: int | None, work: Coroutine[Any, Any, Any]) -> bool:
        """Somebody begins something, and perhaps comes to its end before anybody else moves."""
        if worker is not None and self.cast.engines[worker].stopping.is_set():
            work.close()
            return True
        actor = self.do(self.cast.start(name, worker, work))
        self.see()
        if self.whole:
            self.to_its_end(actor)
        return True

    def dispatch(self, a: int, _: int) -> bool:
        return self.enter("dispatch", a % 2, self.cast.engines[a % 2].dispatch())

    def deliver(self, a: int, b: int) -> bool:
        """The broker delivers a message; now and then it will do so again, or brings one long after its time."""
        job_id = self.messages[b % len(self.messages)] if self.messages else self.jobs[MOSTLY_THE_SUBJECT[a]]
        if self.messages and a < 7:
            self.messages.remove(job_id)
        self.whole = False
        return self.enter(f"submit {self.jobs.index(job_id)}", b % 2, submit_job(self.cast.engines[b % 2], job_id))

    def lose_message(self, a: int, _: int) -> bool | None:
        return bool(self.messages.pop(a % len(self.messages))) if self.messages else None

    def look(self, a: int, _: int) -> bool:
        return self.enter("look", a % 2, self._look(a % 2))

    async def _look(self, worker: int) -> None:
        engine = self.cast.engines[worker]
        claimed, _ = await engine.due.claim(10)
        for workflow in claimed:
            await look(engine, workflow)

    def rescue(self, a: int, _: int) -> bool:
        return self.enter("rescue", a % 2, self.upkeep[a % 2].rescue())

    def expire(self, a: int, _: int) -> bool:
        return self.enter("expire", a % 2, self.upkeep[a % 2].expire())

    def check_strays(self, a: int, _: int) -> bool:
        return self.enter("check_strays", a % 2, self.upkeep[a % 2].check_strays())

    def close_rows(self, a: int, _: int) -> bool:
        return self.enter("close_rows", a % 2, self.upkeep[a % 2].close_rows())

    def cancel(self, a: int, _: int) -> bool:
        n = MOSTLY_THE_SUBJECT[a]
        return self.enter(f"cancel {n}", None, self._cancel(self.jobs[n]))

    async def _cancel(self, job_id: str) -> None:
        self.unwanted.add(job_id)
        if await self.cast.store.cancel(job_id) != "missing":
            self.answered.add(job_id)

    def pause(self, _: int, b: int) -> bool:
        """An operator pauses something, or resumes it."""
        scope = Scope(name := ("all", "user:web:ada", f"workflow:{Api.WORKFLOW}")[b % 3], name)
        self.do((resume if name in self.paused else pause)(self.on.database, scope, BY))
        self.paused ^= {name}
        return True

    def requeue(self, a: int, _: int) -> bool:
        n = MOSTLY_THE_SUBJECT[a]
        return self.enter(f"requeue {n}", None, requeue(self.on.database, self.jobs[n], BY))

    def fail(self, a: int, _: int) -> bool:
        n = MOSTLY_THE_SUBJECT[a]
        return self.enter(f"fail {n}", None, fail(self.cast.store, self.jobs[n], BY))

    def hint(self, a: int, b: int) -> bool:
        """A webhook comes: true, of a run of the job; or without a body; or false."""
        job_id = self.jobs[MOSTLY_THE_SUBJECT[a]]
        kind = ("own", "own", "own", "own", "own", "any", "none", "nobody's")[b]
        runs = [run.id for run in (self.api.of(job_id) if kind == "own" else self.api.runs.values())]
        named = NOBODYS_RUN if kind == "nobody's" else runs[a % len(runs)] if runs and kind != "none" else ""
        return self.enter(f"hint {job_id}", None, self._hint(job_id, named))

    async def _hint(self, job_id: str, run_id: str) -> None:
        body = f'{{"run_id": "{run_id}"}}'.encode() if run_id else b""
        await take_hint(self.cast.store, SECRET, job_id, signature(SECRET, job_id), body)
        if run_id in self.api.runs and self.api.runs[run_id].job_id == job_id:
            self.heard.add(run_id)

    # -- and act ------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> list[Actor]:
        return [actor for actor in self.cast.actors if actor.turns]

    def step_of(self, actor: Actor, n: int = 0, *, repeat: bool = False) -> None:
        what = self.do(self.cast.step(actor, n, repeat=repeat))
        if currently_in_test_context():
            note(f"{actor.name} {actor.began} in {actor.worker}: {what}{' and again' if repeat else ''}")
        self.see()

    def step(self, a: int, b: int) -> bool | None:
        """One actor makes its next call."""
        if not self.waiting:
            return None
        self.step_of(self.waiting[a % len(self.waiting)], b)
        return True

    def steps(self, a: int, b: int) -> bool | None:
        """One actor makes its next few calls."""
        if not self.waiting:
            return None
        actor = self.waiting[a % len(self.waiting)]
        for _ in range(2 + b):
            if actor.turns:
                self.step_of(actor)
        return True

    def repeat(self, a: int, b: int) -> bool | None:
        """The answer of a call is lost and the call made again, as redis-py does."""
        if not self.waiting:
            return None
        self.step_of(self.waiting[a % len(self.waiting)], b, repeat=True)
        return True

    def to_its_end(self, actor: Actor) -> None:
        for _ in range(200):
            if not actor.turns:
                return
            self.step_of(actor)
        raise AssertionError(f"{actor.name} does not end: {actor.turns}")

    # -- what goes wrong ----------------------------------------------------------------------------------------

    def kill(self, a: int, _: int) -> bool:
        self.do(self.cast.kill(a % 2))
        self.cast.engines[a % 2].stopping.clear()
        return True

    def stop(self, a: int, _: int) -> bool:
        """SIGTERM: who waits for a token gives its job back; nothing new is begun until the worker is started again."""
        engine = self.cast.engines[a % 2]
        if engine.stopping.is_set() and not any(actor.worker == a % 2 for actor in self.cast.actors):
            engine.stopping.clear()
        else:
            engine.stopping.set()
        self.do(self.cast.gate.quiet())
        return True

    def next_post(self, a: int, b: int) -> bool:
        """What becomes of the next POST."""
        self.api.outcomes.append(OUTCOMES[(8 * a + b) % len(OUTCOMES)])
        return True

    def api_away(self, a: int, _: int) -> bool:
        self.api.away = a == 0
        return True

    def arrive(self, _: int, __: int) -> bool | None:
        if not self.api.under_way:
            return None
        self.api.arrive()
        return True

    def run_goes_on(self, a: int, b: int) -> bool | None:
        if not self.api.runs:
            return None
        run = list(self.api.runs.values())[a % len(self.api.runs)]
        # A second run that ends before anybody can cancel it is paid for, whatever we do.
        alone = not run.too_late and all(other.cancelled or other is run for other in self.api.of(run.job_id))
        if not run.ended:
            run.status = ("success", "failed")[b % 2] if alone and b < 4 else "running"
        return True

    def a_hold_passes(self, _: int, __: int) -> bool:
        self.pass_time(16.0)
        return True

    def time_passes(self, a: int, _: int) -> bool:
        self.pass_time((0.5, 2.0, 2.0, 8.0, 8.0, 40.0, 70.0, 70.0)[a])
        return True

    def pass_time(self, seconds: float) -> None:
        now = self.on.clock.now_ms
        for actor in list(self.cast.actors):
            longest = LONGEST_SUBMIT_MS if actor.posted else LONGEST_TO_POST_MS
            if actor.intent_at is not None and now + seconds * 1000 - actor.intent_at > longest:
                self.to_its_end(actor)
        self.api.arrive(by=now + round(seconds * 1000))
        self.do(self.on.clock.advance(seconds))

    # -- what must hold -----------------------------------------------------------------------------------------

    def see(self) -> None:
        """After every call: no state goes back, and a job goes back to its lane only when certainly no run was made."""
        for job_id, state in self.do(self._states()).items():
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
                    self.do(self.cast.kill(worker))  # type: ignore[arg-type]
            self.on.close()

    def last_act(self) -> None:
        """Nothing goes wrong any more, and the workers live on: every job ends, and nothing is left of it."""
        self.api.away = False
        self.api.outcomes.clear()
        for name in self.paused:
            self.do(resume(self.on.database, Scope(name, name), BY))
        self.cast.engines[1].stopping.set()
        for actor in list(self.cast.actors):
            self.to_its_end(actor)
        for engine in self.cast.engines:
            engine.stopping.clear()
        self.api.arrive()
        for job_id in self.jobs:
            # Of runs that appear so late that nobody looks for them, only a webhook can tell; one is enough.
            if any(run.too_late for run in self.api.of(job_id)):
                for run in self.api.of(job_id):
                    if run.id not in self.heard:
                        self.on_stage(self._hint(job_id, run.id))
        for self.rounds in range(20):
            self.one_round()
            if all(state in FINAL for state in self.state.values()) and not self.left():
                break
        self.verdict()

    def on_stage(self, work: Coroutine[Any, Any, Any]) -> None:
        self.to_its_end(self.do(self.cast.start("last act", 0, work)))

    def one_round(self) -> None:
        """A worker's life for a while."""
        self.on_stage(self.cast.engines[0].dispatch())
        for chore in (self.upkeep[0].rescue, self.upkeep[0].expire, self.upkeep[0].check_strays):
            self.on_stage(chore())
        while self.messages:
            self.on_stage(submit_job(self.cast.engines[0], self.messages.pop()))
        for job_id in self.jobs:
            for run in self.api.of(job_id):
                own = self.do(self.on.database.redis.hget(self.on.database.keys.job(job_id), "run_id"))
                if own == run.id and not run.ended:
                    run.status = "success"
        self.on_stage(self._look(0))
        self.on_stage(self.upkeep[0].close_rows())
        self.pass_time(70.0 if self.rounds else 2.0)

    def left(self) -> dict[str, Any]:
        """What lanes, windows and lists still hold."""
        sight = self.do(look_at(self.on.database))
        counted = ("window", "aside", "looking")
        hashes = {name: held for name, held in sight.hashes.items() if name.startswith(counted)}
        # A user's turn and the listing of his jobs outlive the jobs.
        sets = {name: held for name, held in sight.sets.items() if not name.startswith(("turns:", "jobs:"))}
        return sets | hashes | sight.parked

    def verdict(self) -> None:
        sight = self.do(look_at(self.on.database))
        for job_id in self.jobs:
            record = sight.jobs[job_id]
            events = [Event.model_validate(event) for event in sight.events[job_id]]
            assert record["state"] in FINAL, record
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            assert [event.final for event in events] == [False] * (len(events) - 1) + [True]
            assert events[-1].state == record["state"]
            runs = self.api.of(job_id)
            # A job an operator has ended does not wait for its run: that may have ended by itself meanwhile.
            by_hand = BY.reason in record.get("error", "")
            # Nor is paid for what failed at once, without a GPU, and is not the job's own.
            refused = {run.id for run in runs if run.status == "failed" and run.id != record.get("run_id")}
            kept = [run for run in runs if not run.cancelled and not (by_hand and run.ended) and run.id not in refused]
            assert len(kept) <= 1, f"paid twice: {runs}"
            assert [run.id for run in kept] in ([], [record.get("run_id")]), f"an orphan: {runs}, {record}"
            if record["state"] == S.SUCCEEDED:
                assert kept
            if job_id not in self.unwanted:
                assert record["state"] != S.CANCELLED, "nobody asked for that"
            assert job_id in self.cast.closed
        assert not self.left()


# --------------------------------------------------------------------------- plays that once went wrong


@pytest.fixture
def play(redis_server: RedisServer) -> Iterator[Play]:
    """A play told by the test; it ends with the last act and its verdict."""
    play = Play(redis_server.url)
    yield play
    play.teardown()


def begin(play: Play, prologue: str, *posts: Outcome) -> None:
    """The curtain rises; what happens from here on happens whole, unless it is stepped."""
    play.curtain(user_window=2, queue_timeout=3600, posts=list(posts), prologue=prologue)
    play.whole = True


def submit_again(play: Play) -> Actor:
    """The other worker has a message for the subject."""
    return play.do(play.cast.start("submit 0", 1, submit_job(play.cast.engines[1], play.subject)))


def test_the_refusal_of_a_second_post_does_not_fail_a_job_that_has_a_run(play: Play) -> None:
    """While the second POST waits, a hint names the first one's late run and it is adopted: the refusal is too late."""
    begin(play, "posting_again", "refused")
    (late,) = play.api.of(play.subject)
    play.on_stage(play._hint(play.subject, late.id))
    play.to_its_end(submit_again(play))
    assert play.state[play.subject] is S.SUBMITTED
    for actor in list(play.cast.actors):
        play.to_its_end(actor)
    assert play.state[play.subject] is S.SUBMITTED


def test_a_search_that_finds_two_runs_keeps_the_one_the_answer_named(play: Play) -> None:
    """Between the search and the adoption of the oldest, the answer of the second POST is heard: its run stays."""
    begin(play, "posting_again", "made")
    late, second = play.api.of(play.subject)
    (posting,) = play.cast.actors
    play.on_stage(play._hint(play.subject, NOBODYS_RUN))  # frees the hold for a search beside the POST
    searching = submit_again(play)
    while not searching.turns[0][0].startswith("transition submitted"):
        play.step_of(searching)
    play.to_its_end(posting)
    play.to_its_end(searching)
    assert (late.status, second.status) == ("cancelled", "not-started")


def test_a_job_given_up_while_its_worker_dies_is_not_posted_again(play: Play) -> None:
    """Cancelled while submitting, no run was made, and the worker dies as the job is back in its lane: it is not posted."""
    begin(play, "undecided", "vanished")
    play.on_stage(play._cancel(play.subject))
    play.pass_time(70.0)
    returning = submit_again(play)
    while not returning.turns[0][0].startswith("transition queued"):
        play.step_of(returning)
    play.step_of(returning)
    play.kill(1, 0)
    assert play.state[play.subject] is S.QUEUED
    play.one_round()
    assert play.state[play.subject] is S.CANCELLED
    assert play.api.of(play.subject) == []


def test_a_cancel_that_meets_a_job_on_its_way_back_ends_it(play: Play) -> None:
    """Refused while submitting, noted when the job is back in its lane: final at once."""
    begin(play, "posting", "rate limited")
    (posting,) = play.cast.actors
    cancel = play.do(play.cast.start("cancel 0", None, play._cancel(play.subject)))
    play.step_of(cancel)
    play.to_its_end(posting)
    assert play.state[play.subject] is S.QUEUED
    play.to_its_end(cancel)
    assert play.state[play.subject] is S.CANCELLED


def test_a_run_named_before_the_job_is_given_up_does_not_go_on(play: Play) -> None:
    """A late run is named by the one webhook that comes, and then the waiting job is cancelled: the run is, too."""
    begin(play, "given_up")
    (late,) = play.api.of(play.subject)
    play.on_stage(play._hint(play.subject, late.id))
    play.on_stage(play._cancel(play.subject))
    assert play.state[play.subject] is S.CANCELLED
    play.one_round()
    assert late.cancelled


def test_in_any_order_a_job_ends_once_and_is_paid_for_once(redis_server: RedisServer) -> None:
    """However the calls of two workers, hints, cancels, kills and lost answers interleave."""
    run_state_machine_as_test(
        lambda: Play(redis_server.url),
        settings=settings(
            deadline=None,
            derandomize=EXPLORE == 1,
            max_examples=examples(50),
            # A failing play is told call by call (`note`); shrinking it takes minutes and makes it no clearer.
            phases=[Phase.generate],
            stateful_step_count=30,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
