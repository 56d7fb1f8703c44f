"""Where are the jobs, and does every one of them move? One check for each set a job can be in."""

from collections.abc import AsyncIterator

from producers.cli.doctor.check import GRACE_SECONDS, Check, bad, ok, several, warn
from shared.database import Database
from shared.jobs.lanes import STARTING_WINDOW
from shared.settings import Settings

#: Lanes, machines and workflows named in a finding; the rest is counted.
MOST_NAMED = 3


async def checks(settings: Settings, database: Database) -> AsyncIterator[Check]:
    """Waiting, in the windows, starting, in flight, strays, closing, callbacks."""
    late = await database.now_ms() - GRACE_SECONDS * 1000
    yield await _waiting(database, late)
    yield await _window(settings, database)
    yield await _starting(database, late)
    yield await _in_flight(database, late)
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
        return bad("waiting", f"{finding}; {expired} past their queue timeout", fix)
    return ok("waiting", finding)


async def _window(settings: Settings, database: Database) -> Check:
    used = int(await database.redis.zcard(database.keys.window))
    machines, limits = await database.hash(database.keys.window_pools), await database.hash(database.keys.pools)
    users = await database.hash(database.keys.window_users)
    finding = f"{used} of {settings.window} past the lanes"
    full = sorted(name for name, taken in machines.items() if 0 < int(limits.get(name, 0)) <= int(taken) and name)
    if full:
        finding = f"{finding}; full: {several(len(full), 'machine')}"
    crowded = [name for name, taken in users.items() if int(taken) >= settings.user_window]
    if crowded:
        finding = f"{finding}; at the limit of {settings.user_window}: {several(len(crowded), 'user')}"
    if used < settings.window:
        return ok("window", finding)
    fix = "everything is in use: more GPUs upstream, or a larger CONVEYOR_WINDOW if the machines have room"
    return warn("window", finding, fix)


async def _starting(database: Database, late: float) -> Check:
    starting, overdue = await _ages(database, database.keys.starting, late)
    finding = f"{starting} of {STARTING_WINDOW} on their way to a run"
    if overdue:
        fix = "no worker takes or rescues them: is one up, and does it consume?"
        return bad("starting", f"{finding}, {overdue} silent for too long", fix)
    return ok("starting", finding)


async def _in_flight(database: Database, late: float) -> Check:
    flights = await _scan(database, database.keys.inflight(""))
    runs = sum(flights.values())
    finding = f"{several(runs, 'run')} of {several(len(flights), 'workflow')}"
    if flights:
        finding = f"{finding}: {_largest(flights)}"
    _, overdue = await _ages(database, database.keys.due, late)
    if overdue:
        fix = "no worker looks: is one up, and is the budget open?"
        return bad("in flight", f"{finding}; {several(overdue, 'workflow')} not looked at for a minute", fix)
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
    return bad(name, f"{finding}, {overdue} overdue", fix) if overdue else ok(name, finding)
