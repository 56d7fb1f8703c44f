"""Draining a worker on the command line."""

import asyncio
import json

import typer

from producers.cli.options import operator
from producers.cli.outcome import OK, UNAVAILABLE, say
from producers.levers.drains import drain as tell
from producers.levers.drains import drained, signs
from shared.database import Database
from shared.errors import InvalidInput, Problem
from shared.jobs.by import By
from shared.settings import Settings


async def drain(worker: str, reason: str, *, undo: bool, stop: bool, wait_seconds: float, as_json: bool) -> int:
    """Have a worker take nothing new, wait until nothing is under way, and stop it when asked; or take that back.

    3 when it has not drained in time: it goes on draining.
    """
    if undo and stop:
        raise InvalidInput([Problem("drain", "either --undo or --stop")])
    settings = Settings.from_env()
    async with Database.open(settings.redis_url) as database:
        seen = await signs(database)
        if worker not in seen:
            known = ", ".join(sorted(seen)) or "none is up"
            raise InvalidInput(
                [Problem("worker", f"{worker!r} has not been seen within half a minute; up are: {known}")]
            )
        if not undo and not any(not sign.draining for name, sign in seen.items() if name != worker):
            say("No other worker takes work: jobs wait, and nobody looks at runs, until one does.")
        await tell(database, worker, By(operator(), reason), undo=undo)
        sign = await drained(database, worker, wait_seconds, undo=undo)
    done = sign is None or (not sign.draining if undo else sign.idle)
    if stop and done and sign is not None:
        await asyncio.to_thread(_stop, settings, worker)
    if as_json:
        busy = sign.busy if sign else 0
        typer.echo(
            json.dumps({"worker": worker, "draining": not undo, "done": done, "busy": busy, "stopped": stop and done})
        )
    elif sign is None:
        typer.echo(f"{worker} has ended.")
    elif undo:
        typer.echo(f"{worker} takes work again." if done else f"{worker} has not heard it yet; it will within seconds.")
    elif not done:
        say(f"{worker} has {sign.busy} submits under way after {wait_seconds:.0f} s; it takes nothing new and goes on.")
    else:
        typer.echo(f"{worker} takes nothing new, and nothing is under way." + (" It was told to stop." if stop else ""))
    return OK if done else UNAVAILABLE


def _stop(settings: Settings, worker: str) -> None:
    from shared.broker import make_app  # noqa: PLC0415 - Celery takes long to load

    with make_app(settings) as app:
        app.control.shutdown(destination=[worker])
