"""What have operators set that somebody may have forgotten? Pauses, one line each."""

import time
from collections.abc import AsyncIterator

from producers.cli.doctor.check import Check, ok, warn
from producers.levers.pauses import Pause, pauses
from shared.database import Database


async def checks(database: Database) -> AsyncIterator[Check]:
    """One check for each pause."""
    found = await pauses(database)
    if not found:
        yield ok("pauses", "nothing is paused")
    for pause in found:
        minutes = max(0.0, time.time() - pause.since / 1000) / 60
        finding = f"{pause.name} is paused for {minutes:,.0f} min by {pause.who}: {pause.reason}"
        yield warn("pauses", finding, f"when that is over: {_resume(pause)}")


def _resume(pause: Pause) -> str:
    kind, _, rest = pause.scope.partition(":")
    return "conveyor resume" if kind == "all" else f"conveyor resume --{kind} {rest}"
