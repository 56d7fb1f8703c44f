"""Workers whose every call waits for the test: real coroutines on real scripts, one call at a time, in any order.

An *actor* is one coroutine of the worker side (a submit task, a look, a chore, a hint, a cancel). Each of its calls to Redis
or the API first waits at the *gate* for its turn; the test hands out the turns. Between two turns an actor runs alone, so a
sequence of turns is one interleaving and can be played again. A killed worker's actors get no more turns: nothing they
would still do, in a `finally` or anywhere, reaches anybody.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar, get_args
from uuid import UUID

from shared.comfydeploy import CancelAnswer, ListedRun, Run, RunOutput, Timeouts
from shared.database import Database
from shared.errors import ConveyorError, InvalidInput, Problem, RateLimited, RunNotFound, Unavailable, Undecided
from shared.following.due import DueSet
from shared.following.history import History, Outlook
from shared.jobs.lanes import Lanes
from shared.jobs.record import Job
from shared.jobs.request import REFERENCE_INPUT
from shared.jobs.store import JobStore
from shared.settings import Settings
from tasks.adopt import SETTLED_SECONDS
from tasks.engine import Engine
from tasks.schedule import Backoff
from tests.redis.stage import Clock

T = TypeVar("T")

#: What may become of a POST. In brackets: what the worker hears.
Outcome = Literal[
    "made",  # (the run's id)
    "lost",  # a run was made (nothing)
    "late",  # the request is under way and makes its run within `SETTLED_SECONDS` of the intent (nothing)
    "too late",  # the run appears after everybody has given it up: more than the API was ever seen to do (nothing)
    "vanished",  # no run (nothing)
    "broken",  # no run (500)
    "refused spawn",  # a run that failed at once (500)
    "rate limited",  # no run (429)
    "refused",  # no run (422)
    "away",  # no run (connection refused)
]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


class Killed(BaseException):
    """The worker is dead."""


@dataclass(eq=False)
class Actor:
    """One coroutine of the worker side, and the calls it waits to make."""

    name: str
    #: Which worker it runs in; None for a producer, which is not killed.
    worker: int | None
    began: int
    turns: list[tuple[str, asyncio.Future[bool]]] = field(default_factory=list)
    dead: bool = False
    #: When it wrote its intent to make a run, in ms; None before.
    intent_at: int | None = None
    #: Whether its POST has left.
    posted: bool = False
    task: asyncio.Task[Any] | None = None

    @property
    def over(self) -> bool:
        return self.task is not None and self.task.done()


_ACTOR: ContextVar[Actor] = ContextVar("actor")


class Gate:
    """Where every call waits for its turn."""

    def __init__(self) -> None:
        self.busy = 0

    async def turn(self, what: str) -> bool:
        """Wait to be let go; answers whether the call's answer gets lost once and the call is repeated."""
        actor = _ACTOR.get()
        if actor.dead:
            raise Killed
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        entry = (what, turn)
        actor.turns.append(entry)
        try:
            return await turn
        finally:
            if entry in actor.turns:
                actor.turns.remove(entry)

    async def call(self, what: str, call: Callable[[], Awaitable[T]]) -> T:
        """One call to Redis, when its turn has come."""
        repeat = await self.turn(what)
        answer = await self._carry_out(call)
        if repeat and what != "pipeline":  # those only read
            await self.turn(f"{what} (again)")
            answer = await self._carry_out(call)
        return answer

    async def _carry_out(self, call: Callable[[], Awaitable[T]]) -> T:
        self.busy += 1
        try:
            return await call()
        finally:
            self.busy -= 1

    async def quiet(self) -> None:
        """Wait until every actor waits for its turn, or has ended."""
        loop: Any = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(0)
            if not self.busy and not loop._ready:
                return


class GatedRedis:
    """Direct commands wait for their turn, too, and TIME is the test's."""

    def __init__(self, real: Any, gate: Gate, clock: Clock) -> None:
        self._real, self._gate, self._clock = real, gate, clock

    def __getattr__(self, name: str) -> Any:
        command = getattr(self._real, name)

        async def gated(*args: Any, **options: Any) -> Any:
            return await self._gate.call(name, lambda: command(*args, **options))

        return gated

    def pipeline(self, **options: Any) -> Any:
        pipe = self._real.pipeline(**options)
        execute = pipe.execute

        async def gated() -> list[Any]:
            answers = await self._gate.call("pipeline", execute)
            time = (self._clock.now_us // 1_000_000, self._clock.now_us % 1_000_000)
            return [time if isinstance(answer, tuple) else answer for answer in answers]

        pipe.execute = gated
        return pipe


class GatedDatabase(Database):
    """The database as a worker of the test sees it."""

    gate: Gate
    clock: Clock

    @classmethod
    def of(cls, database: Database, gate: Gate, clock: Clock) -> "GatedDatabase":
        gated = cls(GatedRedis(database.redis, gate, clock), database.keys, database._scripts)  # type: ignore[arg-type]
        gated.gate, gated.clock = gate, clock
        return gated

    async def run(self, name: str, *args: str | float) -> Any:
        what = f"{name} {args[2]}" if name == "transition" else name
        reply = await self.gate.call(what, lambda: super(GatedDatabase, self).run(name, *args))
        if what == "transition submitting" and reply[0] == "moved":
            _ACTOR.get().intent_at = self.clock.now_ms
        return reply

    async def hash(self, key: str) -> dict[str, str]:
        return await self.gate.call("read", lambda: self.redis._real.hgetall(key))  # type: ignore[union-attr]

    async def now_ms(self) -> int:
        return self.clock.now_ms


# --------------------------------------------------------------------------- the API


@dataclass
class ApiRun:
    """A run, as the API knows it."""

    id: str
    job_id: str
    created_at: int
    status: str = "not-started"
    too_late: bool = False

    @property
    def cancelled(self) -> bool:
        return self.status == "cancelled"

    @property
    def ended(self) -> bool:
        return self.status in ("success", "failed", "cancelled")


class Api:
    """ComfyUI Deploy in ten lines: runs, and POSTs that go wrong as the test says."""

    WORKFLOW = "wf"

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.runs: dict[str, ApiRun] = {}
        #: Requests that will make a run yet: (job, when at the latest in ms, too late).
        self.under_way: list[tuple[str, int, bool]] = []
        self.outcomes: list[Outcome] = []
        #: Reads, listings and cancels get no answer.
        self.away = False
        #: Told of each POST that leaves a worker.
        self.on_post: Callable[[str], None] = lambda _: None

    def make(self, job_id: str, *, status: str = "not-started", too_late: bool = False) -> str:
        run_id = str(UUID(int=len(self.runs) + 1))
        self.runs[run_id] = ApiRun(run_id, job_id, self.clock.now_ms, status, too_late)
        return run_id

    def of(self, job_id: str) -> list[ApiRun]:
        """The runs that carry a job's id."""
        return [run for run in self.runs.values() if run.job_id == job_id]

    def arrive(self, *, by: int | None = None) -> None:
        """The requests under way make their runs: all, or those that must by then."""
        for request in list(self.under_way):
            job_id, latest, too_late = request
            if by is None or (not too_late and latest <= by):
                self.under_way.remove(request)
                self.make(job_id, too_late=too_late)


class ApiRuns:
    """`client.runs` of one worker."""

    def __init__(self, api: Api, gate: Gate) -> None:
        self._api, self._gate = api, gate

    async def submit(self, deployment_id: str, inputs: dict[str, Any], **_: Any) -> str:
        api, job_id, actor = self._api, str(inputs[REFERENCE_INPUT]), _ACTOR.get()
        await self._gate.turn("post")
        actor.posted = True
        api.on_post(job_id)
        outcome = api.outcomes.pop(0) if api.outcomes else "made"
        run_id = ""
        match outcome:
            case "made" | "lost":
                run_id = api.make(job_id)
            case "refused spawn":
                api.make(job_id, status="failed")
            case "late" | "too late":
                latest = (actor.intent_at or 0) + round(SETTLED_SECONDS * 1000)
                api.under_way.append((job_id, latest, outcome == "too late"))
        await self._gate.turn(f"answer ({outcome})")
        match outcome:
            case "made":
                return run_id
            case "broken" | "refused spawn":
                raise Undecided(outcome, upstream_status=500)
            case "rate limited":
                raise RateLimited(outcome, retry_after_seconds=1)
            case "refused":
                raise InvalidInput([Problem("inputs", outcome)], upstream_status=422)
            case "away":
                raise Unavailable(outcome)
            case _:
                raise Undecided(outcome)

    async def _ask(self, what: str) -> None:
        await self._gate.turn(what)
        if self._api.away:
            raise Unavailable(what)

    async def get(self, run_id: str, *, queue_position: bool = False) -> Run:
        await self._ask("get")
        if run_id not in self._api.runs:
            raise RunNotFound(run_id)
        run = self._api.runs[run_id]
        outputs = RunOutput(id="o", output_id=None, node_id="9", node_class=None, data={"text": ["a fox"]})
        return Run(
            **_common(run),
            workflow_version_id=None,
            machine_id=None,
            workflow_inputs={REFERENCE_INPUT: run.job_id},
            progress=None,
            live_status=None,
            queue_position=None,
            outputs=(outputs,) if run.status == "success" else (),
        )

    async def failure_reasons(self, workflow_id: str) -> dict[str, str | None]:
        """No run has a reason. No turn is waited for: asking is bounded by a clock, which a play must not depend on."""
        return {}

    async def list_by_workflow(
        self,
        workflow_id: str,
        *,
        created_after: datetime | float,
        deployment_id: str | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[ListedRun]:
        await self._ask("list")
        since = created_after.timestamp() if isinstance(created_after, datetime) else created_after
        newest_first = [run for run in reversed(self._api.runs.values()) if run.created_at >= since * 1000]
        return [ListedRun(**_common(run), deployment_id="dep") for run in newest_first[offset : offset + limit]]

    async def cancel(self, run_id: str) -> CancelAnswer:
        await self._ask("cancel")
        if run_id not in self._api.runs:
            return CancelAnswer.UNKNOWN_OR_TOO_FRESH
        if not self._api.runs[run_id].ended:
            self._api.runs[run_id].status = "cancelled"
        return CancelAnswer.ACCEPTED


def _common(run: ApiRun) -> dict[str, Any]:
    created = datetime.fromtimestamp(run.created_at / 1000, UTC)
    times = {"created_at": created, "queued_at": None, "started_at": None, "ended_at": None}
    seconds = {"cold_start_seconds": None, "run_seconds": None, "duration_seconds": None}
    return {"id": run.id, "status": run.status, "workflow_id": Api.WORKFLOW, "gpu": None, **times, **seconds}


# --------------------------------------------------------------------------- the workers


class _Client:
    """What of `ComfyDeploy` the tasks use."""

    def __init__(self, api: Api, gate: Gate) -> None:
        self.runs, self.timeouts = ApiRuns(api, gate), Timeouts()


class _Bucket:
    """A budget that grants everything, in its turn."""

    pressure_seconds = 0.0

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def take(self, _: str, *, value: float = 0.0, retry: bool = False) -> int:
        await self._gate.turn("token")
        return 0

    @asynccontextmanager
    async def call(self, _: str, *, value: float = 0.0) -> AsyncIterator[None]:
        yield

    @asynccontextmanager
    async def learning(self, _: int) -> AsyncIterator[None]:
        yield


class _Broker:
    """The list of messages all workers share."""

    def __init__(self, messages: list[str], gate: Gate) -> None:
        self._messages, self._gate = messages, gate

    async def publish(self, job_ids: list[str]) -> None:
        if job_ids:
            await self._gate.turn("publish")
            self._messages += job_ids


class _Rows:
    """Flower's rows: which jobs were closed."""

    def __init__(self, closed: list[str]) -> None:
        self._closed = closed

    def close_row(self, job: Job) -> None:
        self._closed.append(job.id)

    def show_progress(self, job: Job, text: str) -> None:
        """Nobody looks."""


class _Soon(Backoff):
    """A schedule that looks again at once."""

    def first_look(self, job: Job, outlook: Outlook | None = None, call_price: float = 0.0) -> float:
        return 0.0

    def next_look(self, job: Job) -> float:
        return 0.0


class _Untaught(History):
    """Knows no durations and asks nobody: a call that did not wait for its turn would leave the order to the network."""

    async def outlook(self, deployment_id: str) -> Outlook:
        return Outlook({})

    async def hint_rate(self) -> float:
        return 0.0

    async def record(self, deployment_id: str, durations: Mapping[str, float], *, hinted: bool | None = None) -> None:
        """Nobody learns."""


class InTurn(ThreadPoolExecutor):
    """Carries out at once, in the calling thread, what `asyncio.to_thread` is given."""

    def submit(self, function: Callable[..., T], /, *args: Any, **options: Any) -> "Future[T]":
        future: Future[T] = Future()
        try:
            future.set_result(function(*args, **options))
        except Exception as error:  # noqa: BLE001 - handed on to who waits
            future.set_exception(error)
        return future


class Cast:
    """All actors of one play: two workers, and producers beside them."""

    def __init__(self, database: Database, clock: Clock, settings: Settings) -> None:
        self.gate, self.clock = Gate(), clock
        self.api = Api(clock)
        self.messages: list[str] = []
        self.closed: list[str] = []
        self.actors: list[Actor] = []
        self.began = 0
        gated = GatedDatabase.of(database, self.gate, clock)
        #: Producers' and the webhook receiver's.
        self.store = JobStore(gated)
        self.engines = [
            Engine(
                hostname=name,
                name=name,
                settings=settings,
                database=gated,
                client=_Client(self.api, self.gate),  # type: ignore[arg-type]
                bucket=_Bucket(self.gate),  # type: ignore[arg-type]
                catalog=None,  # type: ignore[arg-type]
                store=JobStore(gated),
                lanes=Lanes(gated, settings),
                due=DueSet(gated, owner=name),
                history=_Untaught(gated),
                publisher=_Broker(self.messages, self.gate),  # type: ignore[arg-type]
                rows=_Rows(self.closed),  # type: ignore[arg-type]
                schedule=_Soon(),
            )
            for name in ("w1", "w2")
        ]

    async def start(self, name: str, worker: int | None, work: Coroutine[Any, Any, Any]) -> Actor:
        """Begin something; it comes as far as its first call."""
        asyncio.get_running_loop().set_default_executor(InTurn())
        self.began += 1
        actor = Actor(name, worker, self.began)
        token = _ACTOR.set(actor)
        actor.task = asyncio.create_task(work)
        _ACTOR.reset(token)
        self.actors.append(actor)
        await self.gate.quiet()
        self._sweep()
        return actor

    async def step(self, actor: Actor, n: int = 0, *, repeat: bool = False) -> str:
        """Give an actor one of the turns it waits for; answers which."""
        what, turn = actor.turns.pop(n % len(actor.turns))
        turn.set_result(repeat)
        await self.gate.quiet()
        self._sweep()
        return what

    async def kill(self, worker: int) -> None:
        """`kill -9`: the worker's actors make no further call."""
        mine = [actor for actor in self.actors if actor.worker == worker]
        for actor in mine:
            actor.dead = True
            for _, turn in list(actor.turns):
                turn.set_exception(Killed())
        await asyncio.gather(*(actor.task for actor in mine if actor.task), return_exceptions=True)
        self._sweep()

    def _sweep(self) -> None:
        for actor in [actor for actor in self.actors if actor.over]:
            self.actors.remove(actor)
            if not actor.dead and actor.task is not None:
                # Tickers and Celery tasks take what we raise on purpose; anything else is the test's to hear of.
                with contextlib.suppress(ConveyorError):
                    actor.task.result()
