"""Run the checks, outermost first: settings, webhooks, Redis, workers, the API, jobs, streams. Each is printed as it comes.

None can hang: what has not answered in time is a finding, too.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import asdict

import typer
from redis.exceptions import RedisError
from rich.console import Console
from rich.text import Text

from producers.cli.doctor import api, jobs, levers, public, server, setup, streams, workers
from producers.cli.doctor.check import Check, Verdict, fail, warn
from producers.cli.outcome import JOB_FAILED, OK, UNAVAILABLE
from shared.database import REDIS_AWAY, Database
from shared.errors import MissingSetting, Unavailable
from shared.settings import Settings

COLOURS: dict[Verdict, str] = {"ok": "green", "warn": "yellow", "fail": "red"}


#: Seconds for one check; none that is well takes as long, the call of the API included.
CHECK_SECONDS = 15.0


async def examine(*, show_settings: bool, offline: bool, strict: bool, as_json: bool) -> int:
    """Run every check and print it. 3 when one fails; with `strict` 1 when none does and one warns."""
    console = Console()
    verdicts: list[Verdict] = []
    async for check in _checks(show_settings=show_settings, offline=offline):
        verdicts.append(check.verdict)
        if as_json:
            typer.echo(json.dumps(asdict(check), ensure_ascii=False))
        else:
            _print(console, check)
    if not as_json:
        failed = f"{verdicts.count('fail')} failed"
        typer.echo(f"{failed}, {verdicts.count('warn')} to look at, {len(verdicts)} checks")
    if "fail" in verdicts:
        return UNAVAILABLE
    return JOB_FAILED if strict and "warn" in verdicts else OK


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
        yield fail("settings", str(error), error.check)
        return
    if show_settings:
        for check in setup.shown(settings):
            yield check
    for check in setup.checks(settings):
        yield check
    async for check in _in_time("webhooks", public.checks(settings, offline=offline)):
        yield check
    async with Database.open(settings.redis_url) as database:
        try:
            async for check in _in_time("redis", server.checks(database)):
                yield check
                if check.name == "redis" and check.verdict == "fail":
                    yield warn("rest", "not asked: all of it is in Redis", "ask again when Redis answers")
                    return
            for name, part in (
                ("workers", workers.checks(settings, database)),
                ("api", api.checks(settings, database, offline=offline)),
                ("pauses", levers.checks(database)),
                ("jobs", jobs.checks(settings, database)),
                ("streams", streams.checks(database)),
            ):
                async for check in _in_time(name, part):
                    yield check
        except (*REDIS_AWAY, Unavailable) as error:
            yield fail("redis", f"went away while it was being asked: {type(error).__name__}", "ask again in a moment")
        except RedisError as error:
            yield fail("redis", f"refused a question: {error}", "does its ACL allow every command on conveyor:* to us?")


async def _in_time(name: str, part: AsyncIterator[Check]) -> AsyncIterator[Check]:
    """The checks of a part; one that takes too long is a finding under the part's name, and ends it."""
    while True:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                check = await anext(part)
        except StopAsyncIteration:
            return
        except TimeoutError:
            fix = "is it overloaded, or stopped? A host that drops packets looks like this, too"
            yield fail(name, f"no answer in {CHECK_SECONDS:.0f} s", fix)
            return
        yield check
