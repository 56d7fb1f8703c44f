"""Look at Redis: three pipelines a look, each bounded, whatever waits in the lanes.

What is found by memory needs no search: users with deep lanes stay known from look to look, names of workflows too, streams
are read on from where the last look ended. Only the list of workers takes a SCAN through the keys, every 15 seconds.
"""

import json
import time
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import Any, cast

from producers.cli.top.frame import Failure, Flight, Frame, Lane, Machine, Pause, SlowJob, Worker
from producers.levers.limits import Windows
from shared.broker import QUEUE
from shared.database import Database
from shared.jobs.states import FINAL, JobState
from shared.limits.budget import CLASSES, Budget
from shared.settings import Settings

#: Users of one machine whose lanes are looked at, of those whose turn is next; a busy ring turns, so the rest come up later.
MOST_USERS = 200
#: Lanes that are looked at in all, and that are remembered.
MOST_LANES, MOST_KNOWN = 500, 50
MOST_WORKFLOWS = 50
MOST_SLOW = 20
MOST_FAILURES = 30
#: Events read from one stream: at first, and in each further look.
FIRST_EVENTS, MORE_EVENTS = 500, 200
#: Frontends whose streams are read.
MOST_FRONTENDS = 16
WORKERS_SECONDS = 15.0
RATE_SECONDS = 10.0
MINUTE_MS = 60_000

#: Final states that somebody should look into.
BAD = frozenset({JobState.FAILED, JobState.TIMED_OUT, JobState.EXPIRED})
FINAL_TYPES = {f"job.{state.value}": state for state in FINAL}

SLOW_FIELDS = ("id", "state", "user", "label", "run_id", "progress", "cancel_requested_at")


@dataclass
class _Tail:
    """How far a stream has been read."""

    last: str = "-"


@dataclass
class Reader:
    """Looks again and again, and remembers what makes the next look cheap."""

    database: Database
    settings: Settings
    _tails: dict[str, _Tail] = field(default_factory=dict)
    #: (ms, state) of jobs that ended, the oldest first.
    _ended: deque[tuple[int, str]] = field(default_factory=deque)
    #: Until when (ms) jobs that were not counted are less than a minute ago.
    _uncounted_until: int = 0
    _failures: deque[tuple[int, Failure]] = field(default_factory=lambda: deque(maxlen=MOST_FAILURES))
    _names: dict[str, str] = field(default_factory=dict)
    _deep: set[tuple[str, str]] = field(default_factory=set)
    #: (seconds, calls granted by class) of the last looks.
    _granted: deque[tuple[float, dict[str, int]]] = field(default_factory=deque)
    _workers: list[str] = field(default_factory=list)
    _workers_at: float = float("-inf")
    _commands: int = 0
    _round_trips: int = 0

    async def look(self) -> Frame:
        """One look. Raises `Unavailable` when Redis is away."""
        self._commands = self._round_trips = 0
        began = time.monotonic()
        keys = self.database.keys
        await self._find_workers(began)
        pipe = self._pipe()
        pipe.time().hgetall(keys.budget(self.settings.account))
        pipe.zcard(keys.expiring).zcard(keys.starting).zcard(keys.window).llen(QUEUE)
        pipe.hgetall(keys.window_users).hgetall(keys.window_pools).hgetall(keys.pools).hgetall(keys.limits)
        pipe.hgetall(keys.pauses).hgetall(keys.aside_users).hgetall(keys.drains).smembers(keys.frontends)
        pipe.zcard(keys.due).zrange(keys.due, 0, MOST_WORKFLOWS - 1, withscores=True)
        pipe.zrange(keys.window, 0, MOST_SLOW - 1, withscores=True)
        first = await self._execute(pipe)
        clock, budget, waiting, starting, past, messages, users, pools, limits, live, pauses, aside, drains = first[:13]
        frontends, workflows, due, oldest = first[13:]
        now_ms = int(clock[0]) * 1000 + int(clock[1]) // 1000
        windows = Windows.read(live, self.settings)

        pipe = self._pipe()
        for pool in limits:
            pipe.zrange(keys.ring(pool), 0, MOST_USERS - 1).zrange(keys.turns(pool), 0, MOST_USERS - 1)
        for workflow, _ in due:
            pipe.zcard(keys.inflight(workflow)).zrange(keys.inflight(workflow), 0, 0)
        for job_id, _ in oldest:
            pipe.hmget(keys.job(job_id), SLOW_FIELDS)
        streams = sorted(frontends)[:MOST_FRONTENDS]
        for frontend in streams:
            tail = self._tails.setdefault(frontend, _Tail())
            since = "-" if tail.last == "-" else f"({tail.last}"
            pipe.xrevrange(keys.results(frontend), "+", since, count=self._events_of(tail))
        if self._workers:
            pipe.mget([keys.worker(name) for name in self._workers])
        second = iter(await self._execute(pipe))
        rings = {pool: [*next(second), *next(second)] for pool in limits}
        flights = [(workflow, float(score), next(second), next(second)) for workflow, score in due]
        slow = [(float(score), next(second)) for _, score in oldest]
        for frontend in streams:
            self._take_events(self._tails[frontend], next(second))
        signs = next(second) if self._workers else []

        unnamed = {
            workflow: members[0].partition(" ")[0]
            for workflow, _, _, members in flights
            if members and workflow not in self._names
        }
        lanes = await self._lanes(rings, [*users, *aside], unnamed)
        told = Budget.read(budget, self.settings, now_ms / 1000)
        return Frame(
            at=now_ms / 1000,
            commands=self._commands,
            round_trips=self._round_trips,
            latency_ms=round((time.monotonic() - began) * 1000, 1),
            budget=told,
            calls=self._calls(told, now_ms / 1000),
            waiting=waiting,
            starting=starting,
            past=past,
            window=windows.window,
            messages=messages,
            ended=self._count_ended(now_ms),
            ended_at_least=now_ms < self._uncounted_until or len(frontends) > MOST_FRONTENDS,
            pauses=[_pause(scope, text, now_ms) for scope, text in pauses.items()],
            machines=sorted(
                (
                    Machine(pool, int(pools.get(pool, 0)), windows.of_pool(pool, int(limit)))
                    for pool, limit in limits.items()
                ),
                key=lambda machine: (-machine.past, machine.pool),
            ),
            lanes=sorted(
                (
                    Lane(
                        user=user,
                        waiting=depth,
                        aside=int(aside.get(user, 0)),
                        paused=not pauses.keys().isdisjoint(
                            {"all", f"user:{user}", f"frontend:{user.partition(':')[0]}"}
                        ),
                        past=int(users.get(user, 0)),
                        limit=windows.of_user(user),
                    )
                    for user, depth in lanes.items()
                ),
                key=lambda lane: (-lane.waiting - lane.aside, -lane.past, lane.user),
            )[:MOST_KNOWN],
            flights=sorted(
                (
                    Flight(workflow, self._names.get(workflow, workflow), runs, (score - now_ms) / 1000)
                    for workflow, score, runs, _ in flights
                ),
                key=lambda flight: (-flight.runs, flight.name),
            ),
            workflows=workflows,
            slow=[_slow(fields, since, now_ms) for since, fields in slow if fields[0]],
            failures=[replace(failure, seconds_ago=(now_ms - at) / 1000) for at, failure in reversed(self._failures)],
            workers=[
                _worker(name, json.loads(text), drains) for name, text in zip(self._workers, signs, strict=True) if text
            ],
        )

    def _pipe(self) -> Any:
        return self.database.redis.pipeline(transaction=False)

    async def _execute(self, pipe: Any) -> list[Any]:
        self._commands += len(pipe)
        self._round_trips += 1
        with self.database.asking():
            return cast(list[Any], await pipe.execute())

    async def _find_workers(self, now: float) -> None:
        if now < self._workers_at + WORKERS_SECONDS:
            return
        prefix = self.database.keys.worker("")
        with self.database.asking():
            found = [str(key) async for key in self.database.redis.scan_iter(match=f"{prefix}*", count=5000)]
        self._workers = sorted(key.removeprefix(prefix) for key in found)
        self._workers_at = now

    @staticmethod
    def _events_of(tail: _Tail) -> int:
        return FIRST_EVENTS if tail.last == "-" else MORE_EVENTS

    def _take_events(self, tail: _Tail, entries: list[tuple[str, dict[str, str]]]) -> None:
        """Count the ends among new events of a stream, the newest of which come first."""
        most = self._events_of(tail)
        if not entries:
            return
        if len(entries) == most:  # older ones were passed over
            self._uncounted_until = max(self._uncounted_until, _ms(entries[-1][0]) + MINUTE_MS)
        tail.last = entries[0][0]
        for entry, fields in reversed(entries):
            state = FINAL_TYPES.get(fields.get("type", ""))
            if state is None:
                continue
            self._ended.append((_ms(entry), state.value))
            if state in BAD:
                self._failures.append((_ms(entry), _failure(state, fields)))

    def _count_ended(self, now_ms: int) -> dict[str, int]:
        self._ended = deque(sorted(ended for ended in self._ended if ended[0] > now_ms - MINUTE_MS))
        return dict(Counter(state for _, state in self._ended).most_common())

    async def _lanes(self, rings: dict[str, list[str]], users: list[str], unnamed: dict[str, str]) -> dict[str, int]:
        """How many wait in the lanes of each user we know of; and on the way the names of workflows, from a job of each."""
        known = dict.fromkeys(self._deep)
        known |= dict.fromkeys((pool, user) for pool in rings for user in users)
        known |= dict.fromkeys((pool, user) for pool, names in rings.items() for user in names)
        asked = list(known)[:MOST_LANES]
        if not asked and not unnamed:
            return {}
        pipe = self._pipe()
        for pool, user in asked:
            pipe.zcard(self.database.keys.lane(pool, user))
        for job_id in unnamed.values():
            pipe.hmget(self.database.keys.job(job_id), "label", "user")
        replies = await self._execute(pipe)
        for workflow, (label, user) in zip(unnamed, replies[len(asked) :], strict=True):
            if label:
                self._names[workflow] = _workflow(label, user or "")
        depths = sorted(zip(asked, replies[: len(asked)], strict=True), key=lambda lane: -lane[1])
        self._deep = {lane for lane, depth in depths[:MOST_KNOWN] if depth}
        found: dict[str, int] = dict.fromkeys(users, 0)
        for (_, user), depth in depths:
            if depth:
                found[user] = found.get(user, 0) + depth
        return found

    def _calls(self, budget: Budget, now: float) -> dict[str, float] | None:
        """Calls a second by class since the look of ten seconds ago, or the oldest there is."""
        granted: dict[str, int] = {name: budget.granted[name] for name in CLASSES}
        self._granted.append((now, granted))
        while len(self._granted) > 2 and self._granted[1][0] <= now - RATE_SECONDS:
            self._granted.popleft()
        since, before = self._granted[0]
        if now <= since:
            return None
        return {name: max(0, granted[name] - before[name]) / (now - since) for name in CLASSES}


def _ms(entry: str) -> int:
    return int(entry.partition("-")[0])


def _workflow(label: str, user: str) -> str:
    """The workflow in the label of a job, which Flower shows whole."""
    return label.removesuffix(f" for {user}")


def _failure(state: JobState, fields: dict[str, str]) -> Failure:
    try:
        told = json.loads(fields.get("data", ""))
        error = told.get("error") or {}
        user = f"{told.get('frontend', '')}:{(told.get('user') or {}).get('id', '')}"
        workflow, code, message = told.get("workflow") or "", error.get("code") or "", error.get("message") or ""
    except (ValueError, AttributeError):  # of another version; that it failed is known all the same
        user = workflow = code = message = ""
    return Failure(fields.get("job_id", ""), state.value, 0.0, user, str(workflow), str(code), str(message))


def _slow(fields: list[str | None], since_ms: float, now_ms: int) -> SlowJob:
    told = {name: value or "" for name, value in zip(SLOW_FIELDS, fields, strict=True)}
    try:
        progress = json.loads(told["progress"]) if told["progress"] else {}
    except ValueError:
        progress = {}
    return SlowJob(
        job_id=told["id"],
        state=told["state"],
        seconds=(now_ms - since_ms) / 1000,
        user=told["user"],
        workflow=_workflow(told["label"], told["user"]),
        run_id=told["run_id"],
        fraction=progress.get("fraction"),
        progress=progress.get("text") or "",
        cancelling=bool(told["cancel_requested_at"]),
    )


def _pause(scope: str, text: str, now_ms: int) -> Pause:
    told = json.loads(text)
    return Pause(scope, told["name"], (now_ms - int(told["since"])) / 1000, told["who"], told["reason"])


def _worker(name: str, said: dict[str, Any], drains: dict[str, str]) -> Worker:
    return Worker(
        name, said.get("busy", 0), said.get("slots", 0), float(said.get("starved_seconds", 0)), draining=name in drains
    )
