"""Is anybody working? What workers say of themselves (`conveyor:worker:*`), beside what Celery says they consume."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, cast

from producers.cli.doctor.check import Check, fail, ok, several, warn
from producers.levers.drains import Sign, signs
from shared.database import Database
from shared.jobs.lanes import STARTING_WINDOW
from shared.settings import Settings

#: Seconds workers have to answer; as soon as all that have been seen have, nobody is waited for.
ANSWER_SECONDS = 3.0
#: The same when none has been seen.
NOBODY_SECONDS = 1.0
#: A worker beside whose free slot messages have waited this long ends itself soon (`workers/watch.py`).
STARVED_SECONDS = 20.0

START = "start one: `make up` here, the `worker` line of the Procfile elsewhere"


async def checks(settings: Settings, database: Database) -> AsyncIterator[Check]:
    """Each worker, then the broker between us and them."""
    seen = await signs(database)
    drains = await database.hash(database.keys.drains)
    consuming: dict[str, bool] = {}
    try:
        consuming = await asyncio.to_thread(_ask, settings, len(seen))
    except Exception as error:  # noqa: BLE001 - kombu raises what its transport raises
        yield fail("workers", f"cannot be asked: {type(error).__name__}", "REDIS_URL, and the broker's health")
        consuming = dict.fromkeys(seen, True)
    if not seen and not consuming:
        yield fail("workers", f"none is seen, and none answered in {NOBODY_SECONDS:.0f} s", START)
    for name in sorted(seen.keys() | consuming.keys()):
        yield _worker(name, seen.get(name), consuming.get(name), drains.get(name))
    yield await _broker(database)
    yield await _rejected(database)


def _ask(settings: Settings, expected: int) -> dict[str, bool]:
    """Each worker that answers, and whether it takes messages. Blocks until so many have, or the time is over."""
    from shared.broker import QUEUE, make_app  # noqa: PLC0415 - Celery takes long to load

    with make_app(settings) as app:
        timeout = ANSWER_SECONDS if expected else NOBODY_SECONDS
        queues = app.control.inspect(timeout=timeout, limit=expected or None).active_queues() or {}
        return {name: any(queue["name"] == QUEUE for queue in found or ()) for name, found in queues.items()}


def _worker(name: str, sign: Sign | None, consumes: bool | None, drain: str | None) -> Check:
    """`consumes` is None for one that does not answer; `drain` is what an operator told it."""
    if sign is None:
        fix = "is it an older version, or one of another Redis database? If neither, start it again"
        return warn("worker", f"{name} answers but gives no sign of life", fix)
    finding = f"{name}: {sign.busy} of {sign.slots} slots busy"
    if drain is not None:
        by = json.loads(drain)
        why = f"{by['who']}: {by['reason']}" if by["reason"] else by["who"]
        return warn(
            "worker", f"{finding}, takes nothing new, by {why}", f"when that is over: conveyor drain {name} --undo"
        )
    if sign.starved_seconds > STARVED_SECONDS:
        fix = "it ends by itself at 30 s; if it does not, or does so often, start it again and look at the broker"
        return fail("worker", f"{finding}, messages have waited {sign.starved_seconds:.0f} s beside a free slot", fix)
    if consumes is None:
        fix = "it may be starting, stopping or very busy; if this stays, start it again"
        return warn("worker", f"{finding}, seen within half a minute but does not answer", fix)
    if not consumes:
        fix = "somebody has cancelled its consumer (Flower, celery control); start it again"
        return fail("worker", f"{finding}, is up and takes no messages", fix)
    return ok("worker", finding)


async def _broker(database: Database) -> Check:
    from shared.broker import QUEUE  # noqa: PLC0415 - as above

    waiting = int(await cast(Any, database.redis.llen(QUEUE)))
    finding = f"{several(waiting, 'message')} wait"
    if waiting > 2 * STARTING_WINDOW:
        return warn("broker", finding, f"at most {STARTING_WINDOW} jobs start at once: do workers take them?")
    return ok("broker", finding)


async def _rejected(database: Database) -> Check:
    counts = await database.hash(database.keys.rejected)
    if not counts:
        return ok("rejected", "no broker message was refused")
    finding = ", ".join(f"{number} {reason.replace('_', ' ')}" for reason, number in sorted(counts.items()))
    fix = f"somebody else writes to our queue; give Conveyor a Redis of its own, then DEL {database.keys.rejected}"
    return warn("rejected", finding, fix)
