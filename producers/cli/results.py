"""A frontend's stream on the command line: list it, follow it, or take from a group."""

import asyncio
import json
from collections.abc import Iterable
from contextlib import aclosing
from typing import Any, NoReturn, cast

from pydantic import ValidationError
from rich.console import Console

from producers.cli.outcome import OK
from producers.cli.progress import JsonLines, Lines
from producers.follow import OUTAGE_SECONDS
from producers.outage import Outage
from producers.results import ResultConsumer
from shared.database import REDIS_AWAY, Database
from shared.jobs.event import Event
from shared.settings import Settings

#: Without `--follow`, taking from a group ends when nothing new has come for this long.
QUIET_SECONDS = 1.0
BLOCK_MS = 4000

Entries = list[tuple[str, dict[str, str]]]


async def show(frontend: str, *, last: int, follow: bool, as_json: bool) -> int:
    """List the last events, oldest first, without touching any group; with `follow` go on with new ones."""
    async with Database.open(Settings.from_env().redis_url) as database:
        stream = database.keys.results(frontend)
        newest: Any = await database.redis.xrevrange(stream, count=max(1, last))
        _tell(reversed(newest[:last]), as_json=as_json)
        if follow:
            await _follow(database, stream, newest[0][0] if newest else "0-0", as_json=as_json)
    return OK


async def _follow(database: Database, stream: str, cursor: str, *, as_json: bool) -> NoReturn:
    """Go on after an entry, for ever. Raises `Unavailable` when Redis stays away."""
    outage = Outage(OUTAGE_SECONDS)
    while True:
        try:
            reply = await database.redis.xread({stream: cursor}, block=BLOCK_MS)
        except REDIS_AWAY as error:
            await outage.pause(error)
            continue
        outage.over()
        for _, entries in cast(list[tuple[str, Entries]], reply or []):
            _tell(entries, as_json=as_json)
            cursor = entries[-1][0]


async def take(frontend: str, group: str, consumer: str, *, endless: bool, as_json: bool) -> int:
    """Take what the group has not had yet, print it and acknowledge it; until nothing comes any more, or for ever."""
    console = Console()
    lines = JsonLines(console) if as_json else Lines(console)
    consumer_ = ResultConsumer(frontend, group, consumer, settings=Settings.from_env())
    async with consumer_ as results, aclosing(aiter(results)) as deliveries:
        while True:
            try:
                async with asyncio.timeout(None if endless else QUIET_SECONDS):
                    delivery = await anext(deliveries)
            except TimeoutError:
                return OK
            lines.tell(delivery.event)
            await delivery.ack()


def _tell(entries: Iterable[tuple[str, dict[str, str]]], *, as_json: bool) -> None:
    console = Console()
    lines = JsonLines(console) if as_json else Lines(console)
    for entry, fields in entries:
        try:
            lines.tell(Event.model_validate_json(fields.get("data", "")))
        except ValidationError:
            text = json.dumps({"entry": entry} | fields) if as_json else f"{entry} cannot be read: {fields}"
            console.print(text, markup=False, highlight=False, soft_wrap=True)
