"""Does each frontend read its events? Length, groups with what they have not read or not acknowledged, dead letters."""

from collections.abc import AsyncIterator
from typing import Any, cast

from redis.exceptions import ResponseError

from producers.cli.doctor.check import Check, ok, several, warn
from producers.follow import stream_id
from shared.database import Database

#: A stream this long is a frontend that does not acknowledge.
LONG_STREAM = 100_000
#: An event nobody has read or acknowledged for this long is a user who waits.
WAITING_SECONDS = 300.0


async def checks(database: Database) -> AsyncIterator[Check]:
    """One check for each frontend, and one for its dead letters."""
    frontends = cast(set[str], await cast(Any, database.redis.smembers(database.keys.frontends)))
    now = await database.now_ms()
    for frontend in sorted(frontends):
        yield await _stream(database, frontend, now)
        dead = int(await database.redis.xlen(database.keys.dead(frontend)))
        if dead:
            fix = f"conveyor results dead {frontend}, then: conveyor results replay {frontend} --all"
            yield warn(f"→ {frontend}", several(dead, "dead letter"), fix)


async def _stream(database: Database, frontend: str, now: int) -> Check:
    stream, name = database.keys.results(frontend), f"→ {frontend}"
    length = int(await database.redis.xlen(stream))
    try:
        groups: list[dict[str, Any]] = await database.redis.xinfo_groups(stream)
    except ResponseError:
        groups = []  # no stream any more
    finding = several(length, "event")
    if not groups:
        return ok(name, f"{finding}, no group reads it")
    waits = [(await _waiting_seconds(database, stream, group, now), group) for group in groups]
    told = "; ".join(_group(group) for group in groups)
    longest, slowest = max(waits, key=lambda wait: wait[0])
    if longest > WAITING_SECONDS:
        gone = f"XGROUP DESTROY {stream} {slowest['name']}"
        fix = f"is the frontend of {slowest['name']} running, and does it acknowledge? If it is gone for good: {gone}"
        return warn(name, f"{finding}; {told}; the oldest has waited {longest:.0f} s", fix)
    if length > LONG_STREAM:
        return warn(name, f"{finding}; {told}", "is a worker up to trim it, and do all groups acknowledge?")
    return ok(name, f"{finding}; {told}")


def _group(group: dict[str, Any]) -> str:
    lag = "?" if group.get("lag") is None else group["lag"]
    consumers = several(int(group["consumers"]), "consumer")
    return f"{group['name']} ({consumers}) has {lag} to read, {group['pending']} to acknowledge"


async def _waiting_seconds(database: Database, stream: str, group: dict[str, Any], now: int) -> float:
    """How long the oldest event the group has not read, or not acknowledged, has been there."""
    pending = await database.redis.xpending(stream, group["name"])
    unread = cast(list[Any], await database.redis.xrange(stream, min=f"({group['last-delivered-id']}", count=1))
    ids = [str(pending["min"])] if pending["pending"] else []
    ids += [str(entry) for entry, _ in unread]
    return max([(now - stream_id(one)[0]) / 1000 for one in ids], default=0.0)
