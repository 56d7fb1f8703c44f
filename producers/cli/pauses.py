"""Pauses on the command line: make one, end it, list them."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import typer

from producers.cli.columns import columns
from producers.cli.options import operator
from producers.cli.outcome import OK, say
from producers.levers import pauses
from producers.levers.pauses import Pause, Scope
from shared.database import Database
from shared.errors import InvalidInput, Problem
from shared.jobs.by import By
from shared.settings import Settings


@dataclass(frozen=True)
class Chosen:
    """Whose jobs; of everybody when nothing was chosen."""

    workflow: str | None = None
    user: str | None = None
    frontend: str | None = None

    async def scope(self, database: Database, settings: Settings) -> Scope:
        """The scope that is meant. Raises `InvalidInput`."""
        if sum(option is not None for option in (self.workflow, self.user, self.frontend)) > 1:
            raise InvalidInput([Problem("pause", "one of --workflow, --user and --frontend at a time")])
        if self.workflow is not None:
            from producers.levers.workflow import find_workflow  # noqa: PLC0415 - brings the catalog
            from shared.catalog import Catalog  # noqa: PLC0415
            from shared.limits.bucket import TokenBucket  # noqa: PLC0415

            catalog = Catalog(database, settings, TokenBucket(database, settings))
            return Scope.workflow(await find_workflow(catalog, self.workflow))
        if self.user is not None:
            frontend, colon, user_id = self.user.partition(":")
            if not (frontend and colon and user_id):
                raise InvalidInput([Problem("--user", "must be FRONTEND:ID, as in telegram:42")])
            return Scope.user(frontend, user_id)
        if self.frontend is not None:
            return Scope.frontend(self.frontend)
        return Scope.everything()


async def pause(chosen: Chosen, reason: str, *, as_json: bool) -> int:
    """Pause what was chosen. A pause that goes on stays as it is; that is no error."""
    if not reason.strip():
        raise InvalidInput([Problem("--reason", "say why: those whose jobs wait read it")])
    settings = Settings.from_env()
    async with Database.open(settings.redis_url) as database:
        scope = await chosen.scope(database, settings)
        made, new = await pauses.pause(database, scope, By(operator(), reason.strip()))
        frontend = chosen.frontend or (chosen.user or "").partition(":")[0]
        with database.asking():
            known = not frontend or await database.redis.sismember(database.keys.frontends, frontend)
    if not known:
        say(f"No job of a frontend {frontend!r} was ever taken: is that its name?")
    if as_json:
        typer.echo(json.dumps({"paused": asdict(made), "new": new}, ensure_ascii=False))
    elif new:
        typer.echo(f"Paused: {made.name}. Runs that exist go on; new jobs wait.")
    else:
        typer.echo(f"Was paused already: {made.name}, {_since(made)} by {made.who}: {made.reason}")
    return OK


async def resume(chosen: Chosen, reason: str, *, as_json: bool) -> int:
    """End a pause. That there was none is no error."""
    settings = Settings.from_env()
    async with Database.open(settings.redis_url) as database:
        scope = await chosen.scope(database, settings)
        ended = await pauses.resume(database, scope, By(operator(), reason))
        others = await pauses.pauses(database)
    if as_json:
        typer.echo(json.dumps({"resumed": asdict(ended) if ended else None}, ensure_ascii=False))
    else:
        typer.echo(f"Resumed: {ended.name}, paused {_since(ended)}." if ended else f"Was not paused: {scope.name}.")
        if others:
            say(f"Still paused: {', '.join(other.name for other in others)}.")
    return OK


async def show(*, as_json: bool) -> int:
    """List the pauses."""
    async with Database.open(Settings.from_env().redis_url) as database:
        found = await pauses.pauses(database)
    if as_json:
        for one in found:
            typer.echo(json.dumps(asdict(one), ensure_ascii=False))
    elif found:
        rows = [(one.name, _since(one).removeprefix("since "), one.who, one.reason) for one in found]
        for line in columns(("paused", "since", "by", "reason"), rows):
            typer.echo(line)
    else:
        say("Nothing is paused.")
    return OK


def _since(one: Pause) -> str:
    return f"since {datetime.fromtimestamp(one.since / 1000, UTC).astimezone():%Y-%m-%d %H:%M:%S}"
