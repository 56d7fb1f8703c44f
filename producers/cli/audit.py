"""The audit on the command line."""

import json
from dataclasses import asdict

import typer

from producers.cli.columns import columns
from producers.cli.outcome import OK, say
from producers.levers.audit import newest
from shared.database import Database
from shared.settings import Settings


async def show(last: int, *, as_json: bool) -> int:
    """List the last acts, oldest first."""
    async with Database.open(Settings.from_env().redis_url) as database:
        acts = await newest(database, last)
    if as_json:
        for act in acts:
            typer.echo(json.dumps(asdict(act) | {"at": act.at.isoformat()}, ensure_ascii=False))
    elif acts:
        rows = [(f"{act.at.astimezone():%Y-%m-%d %H:%M:%S}", act.who, act.action, act.what, act.reason) for act in acts]
        for line in columns(("when", "who", "what", "of", "why"), rows):
            typer.echo(line)
    else:
        say("Nobody has changed anything yet.")
    return OK
