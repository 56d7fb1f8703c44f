"""Run the checks, outermost first: settings, Redis, workers, the API, jobs, streams. Each is printed as it comes."""

import json
from collections.abc import AsyncIterator
from dataclasses import asdict

import typer
from redis.exceptions import RedisError
from rich.console import Console
from rich.text import Text

from producers.cli.doctor import api, jobs, server, setup, streams, workers
from producers.cli.doctor.check import Check, Verdict, bad
from producers.cli.outcome import OK, UNAVAILABLE
from shared.database import REDIS_AWAY, Database
from shared.errors import MissingSetting, Unavailable
from shared.settings import Settings

COLOURS: dict[Verdict, str] = {"ok": "green", "warn": "yellow", "bad": "red"}


async def examine(*, show_settings: bool, offline: bool, as_json: bool) -> int:
    """Run every check and print it; 3 when one is bad, or when what is bad keeps others from being made."""
    console = Console()
    verdicts: list[Verdict] = []
    async for check in _checks(show_settings=show_settings, offline=offline):
        verdicts.append(check.verdict)
        if as_json:
            typer.echo(json.dumps(asdict(check), ensure_ascii=False))
        else:
            _print(console, check)
    if not as_json:
        counted = [f"{verdicts.count('bad')} bad", f"{verdicts.count('warn')} to look at", f"{len(verdicts)} checks"]
        typer.echo(", ".join(counted))
    return UNAVAILABLE if "bad" in verdicts else OK


def _print(console: Console, check: Check) -> None:
    width = 30 if check.name.isupper() else 10  # names of settings are long
    line = Text.assemble((f"{check.verdict:<5}", COLOURS[check.verdict]), f"{check.name:<{width}} {check.finding}")
    console.print(line, soft_wrap=True, highlight=False)
    if check.fix:
        console.print(f"     {'':<10} fix: {check.fix}", markup=False, highlight=False, soft_wrap=True)


async def _checks(*, show_settings: bool, offline: bool) -> AsyncIterator[Check]:
    try:
        settings = Settings.from_env()
    except MissingSetting as error:
        yield bad("settings", str(error), error.check)
        return
    if show_settings:
        for check in setup.shown(settings):
            yield check
    for check in setup.checks(settings):
        yield check
    async with Database.open(settings.redis_url) as database:
        try:
            async for check in server.checks(database):
                yield check
                if check.name == "redis" and check.verdict == "bad":
                    return
            for part in (
                workers.checks(settings, database),
                api.checks(settings, database, offline=offline),
                jobs.checks(settings, database),
                streams.checks(database),
            ):
                async for check in part:
                    yield check
        except (*REDIS_AWAY, Unavailable) as error:
            yield bad("redis", f"went away while it was being asked: {type(error).__name__}", "ask again in a moment")
        except RedisError as error:
            yield bad("redis", f"refused a question: {error}", "does its ACL allow every command on conveyor:* to us?")
