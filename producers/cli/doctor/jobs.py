"""Where are the jobs, and does every one of them move? One check for each set a job can be in."""

from collections.abc import AsyncIterator
from typing import cast

from producers.cli.doctor.check import GRACE_SECONDS, Check, fail, ok, several, warn
from producers.levers.limits import read_windows
from shared.database import Database
from shared.jobs.lanes import STARTING_WINDOW
from shared.jobs.record import Job
from shared.jobs.states import JobState
from shared.jobs.store import JobStore
from shared.settings import Settings

#: Past the lanes for the longest; who is stuck is among them.
OLDEST = 500
#: What deadlines allow a run: an hour of waiting upstream, and what workers may be late with cancelling and searching.
UPSTREAM_SECONDS = 3600.0
LATE_SECONDS = 600.0
#: Lanes, machines and workflows named in a finding; the rest is counted.
MOST_NAMED = 3


async def checks(settings: Settings, database: Database) -> AsyncIterator[Check]:
    """Waiting, in the windows, starting, stuck, in flight, listened to, strays, closing, callbacks."""
    late = await database.now_ms() - GRACE_SECONDS * 1000
    yield await _waiting(database, late)
    yield await _window(settings, database)
    yield await _starting(database, late)
    yield await _stuck(database)
    yield await _in_flight(database, late)
    if settings.sse:
        yield await _streams(database)
    yield await _overdue(
        database, "strays", database.keys.strays, late, "no worker checks runs nobody wants: is one up?"
    )
    yield await _overdue(database, "closing", database.keys.closing, late, "no worker closes Celery rows: is one up?")
    yield await _overdue(database, "callbacks", database.keys.callbacks, late, "no worker delivers them: is one up?")


async def _scan(database: Database, prefix: str) -> dict[str, int]:
    """The sorted sets below a prefix, the largest first, with their sizes. O(keys of the database)."""
    keys = [str(key) async for key in database.redis.scan_iter(match=f"{prefix}*", count=1000)]
    pipe = database.redis.pipeline(transaction=False)
    for key in keys:
        pipe.zcard(key)
    sizes = {key.removeprefix(prefix): int(size) for key, size in zip(keys, await pipe.execute(), strict=True)}
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def _largest(sizes: dict[str, int]) -> str:
    named = [f"{name or 'no machine'} {size:,}" for name, size in list(sizes.items())[:MOST_NAMED]]
    more = f" and {len(sizes) - MOST_NAMED} more" if len(sizes) > MOST_NAMED else ""
    return f"{', '.join(named)}{more}"


async def _ages(database: Database, key: str, late: float) -> tuple[int, int]:
    """How many members a set has, and how many should have been dealt with a minute ago."""
    return int(await database.redis.zcard(key)), int(await database.redis.zcount(key, "-inf", late))


async def _waiting(database: Database, late: float) -> Check:
    lanes = await _scan(database, database.keys.lane("", "").removesuffix(":"))
    waiting, expired = await _ages(database, database.keys.expiring, late)
    finding = f"{several(waiting, 'job')} in {several(len(lanes), 'lane')}"
    if lanes:
        # A lane's name is `<pool>:<user>`; people know the user.
        users: dict[str, int] = {}
        for lane, size in lanes.items():
            user = lane.partition(":")[2]
            users[user] = users.get(user, 0) + size
        finding = f"{finding}: {_largest(users)}"
    if expired:
        fix = "no worker ends jobs past their queue timeout: is one up?"
        return fail("waiting", f"{finding}; {expired} past their queue timeout", fix)
    return ok("waiting", finding)


async def _window(settings: Settings, database: Database) -> Check:
    used = int(await database.redis.zcard(database.keys.window))
    windows = await read_windows(database, settings)
    machines, limits = await database.hash(database.keys.window_pools), await database.hash(database.keys.pools)
    users = await database.hash(database.keys.window_users)
    live = " (set live)" if windows.live else ""
    finding = f"{used} of {windows.window} past the lanes{live}"
    full = [
        name
        for name, taken in machines.items()
        if name and 0 < windows.of_pool(name, int(limits.get(name, 0))) <= int(taken)
    ]
    if full:
        finding = f"{finding}; full: {several(len(full), 'machine')}"
    crowded = [name for name, taken in users.items() if int(taken) >= windows.of_user(name)]
    if crowded:
        finding = f"{finding}; at their limit: {several(len(crowded), 'user')}"
    if used < windows.window:
        return ok("window", finding)
    fix = "everything is in use: more GPUs upstream, or a larger CONVEYOR_WINDOW if the machines have room"
    return warn("window", finding, fix)


async def _starting(database: Database, late: float) -> Check:
    starting, overdue = await _ages(database, database.keys.starting, late)
    finding = f"{starting} of {STARTING_WINDOW} on their way to a run"
    if overdue:
        fix = "no worker takes or rescues them: is one up, and does it consume?"
        return fail("starting", f"{finding}, {overdue} silent for too long", fix)
    return ok("starting", finding)


async def _stuck(database: Database) -> Check:
    """Jobs that should have been over by now, of the oldest past the lanes."""
    now = await database.now_ms()
    ids = cast(list[str], await database.redis.zrange(database.keys.window, 0, OLDEST - 1))
    jobs = {job.id: job for job in await JobStore(database).find(ids)}
    stuck = [job_id for job_id in ids if job_id not in jobs or _is_stuck(jobs[job_id], now)]
    if not stuck:
        return ok("stuck", "no job past the lanes is late")
    named = ", ".join(stuck[:MOST_NAMED]) + (f" and {len(stuck) - MOST_NAMED} more" if len(stuck) > MOST_NAMED else "")
    fix = f'conveyor requeue {stuck[0]}; if that does not help: conveyor fail {stuck[0]} --reason "…"'
    return fail("stuck", f"{several(len(stuck), 'job')} should have moved long ago: {named}", fix)


def _is_stuck(job: Job, now_ms: int) -> bool:
    """Whether workers should have ended it, or found out what became of its submit, a while ago."""
    if job.final:
        return True
    if job.started_at is not None:
        return now_ms > job.started_at + (job.run_timeout_seconds + LATE_SECONDS) * 1000
    if job.submitted_at is not None:
        return now_ms > job.submitted_at + (job.run_timeout_seconds + UPSTREAM_SECONDS + LATE_SECONDS) * 1000
    # One that waits for its first token is no sign of trouble of its own: the budget's line tells it.
    return job.state is JobState.SUBMITTING and now_ms > (job.submitting_at or now_ms) + LATE_SECONDS * 1000


async def _streams(database: Database) -> Check:
    """With CONVEYOR_SSE: is there a listener for each workflow with runs in flight?"""
    due = [str(workflow) for workflow in await database.redis.zrange(database.keys.due, 0, -1) if workflow]
    leases = [database.keys.lease(f"listen:{workflow}") for workflow in due]
    heard = sum(holder is not None for holder in await database.redis.mget(leases)) if leases else 0
    finding = f"{heard} of {several(len(due), 'workflow')} with runs listened to"
    if due and not heard:
        fix = "have the workers CONVEYOR_SSE=1, and does their log say `streams are not to be had`? Looks go on without"
        return warn("sse", finding, fix)
    return ok("sse", finding)


async def _in_flight(database: Database, late: float) -> Check:
    flights = await _scan(database, database.keys.inflight(""))
    runs = sum(flights.values())
    finding = f"{several(runs, 'run')} of {several(len(flights), 'workflow')}"
    if flights:
        finding = f"{finding}: {_largest(flights)}"
    _, overdue = await _ages(database, database.keys.due, late)
    if overdue:
        fix = "no worker looks: is one up, and is the budget open?"
        return fail("in flight", f"{finding}; {several(overdue, 'workflow')} not looked at for a minute", fix)
    pipe = database.redis.pipeline(transaction=False)
    for workflow in flights:
        pipe.zscore(database.keys.due, workflow)
    forgotten = sum(score is None for score in await pipe.execute())
    if forgotten:
        fix = "a worker's upkeep mends that within a minute; if it stays, no worker is up"
        return warn("in flight", f"{finding}; {several(forgotten, 'workflow')} not due for a look", fix)
    return ok("in flight", finding)


async def _overdue(database: Database, name: str, key: str, late: float, fix: str) -> Check:
    number, overdue = await _ages(database, key, late)
    finding = {
        "strays": several(number, "run") + " no job may want",
        "closing": several(number, "row") + " to close",
        "callbacks": several(number, "callback") + " to deliver",
    }[name]
    return fail(name, f"{finding}, {overdue} overdue", fix) if overdue else ok(name, finding)
