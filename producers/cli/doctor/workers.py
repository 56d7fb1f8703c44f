"""Is anybody working? What workers say of themselves (`conveyor:worker:*`), beside who answers Celery's ping."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, cast

from producers.cli.doctor.check import Check, bad, ok, several, warn
from shared.database import Database
from shared.jobs.lanes import STARTING_WINDOW
from shared.settings import Settings

#: Seconds workers have to answer a ping.
PING_SECONDS = 1.0
#: A worker beside whose free slot messages have waited this long ends itself soon (`workers/watch.py`).
STARVED_SECONDS = 20.0

START = "start one: `make up` here, the `worker` line of the Procfile elsewhere"


async def checks(settings: Settings, database: Database) -> AsyncIterator[Check]:
    """Each worker, then the broker between us and them."""
    signs = await _signs(database)
    try:
        answering = await asyncio.to_thread(_ping, settings)
    except Exception as error:  # noqa: BLE001 - kombu raises what its transport raises
        yield bad("workers", f"cannot be asked: {type(error).__name__}", "REDIS_URL, and the broker's health")
        answering = set(signs)
    if not signs and not answering:
        yield bad("workers", f"none is seen, and none answered in {PING_SECONDS:.0f} s", START)
    for name in sorted(signs.keys() | answering):
        yield _worker(name, signs.get(name), answers=name in answering)
    yield await _broker(database)
    yield await _rejected(database)


async def _signs(database: Database) -> dict[str, dict[str, Any]]:
    """What each worker last said of itself, by its node name."""
    prefix = database.keys.worker("")
    keys = [str(key) async for key in database.redis.scan_iter(match=f"{prefix}*", count=1000)]
    if not keys:
        return {}
    texts = await database.redis.mget(keys)
    found = zip(keys, texts, strict=True)
    return {key.removeprefix(prefix): json.loads(text) for key, text in found if text}


def _ping(settings: Settings) -> set[str]:
    from shared.broker import make_app  # noqa: PLC0415 - Celery takes long to load

    with make_app(settings) as app:
        return set(cast(dict[str, object], app.control.inspect(timeout=PING_SECONDS).ping() or {}))


def _worker(name: str, said: dict[str, Any] | None, *, answers: bool) -> Check:
    if said is None:
        fix = "is it an older version, or one of another Redis database? If neither, start it again"
        return warn("worker", f"{name} answers but gives no sign of life", fix)
    busy, slots, starved = said.get("busy", 0), said.get("slots", 0), float(said.get("starved_seconds", 0))
    finding = f"{name}: {busy} of {slots} slots busy"
    if starved > STARVED_SECONDS:
        fix = "it ends by itself at 30 s; if it does not, or does so often, start it again and look at the broker"
        return bad("worker", f"{finding}, messages have waited {starved:.0f} s beside a free slot", fix)
    if not answers:
        fix = "it may be starting, stopping or very busy; if this stays, start it again"
        return warn("worker", f"{finding}, seen within half a minute but does not answer", fix)
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
