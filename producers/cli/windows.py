"""The windows on the command line: show them, and set them live, for all workers from their next dispatch on."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import typer

from producers.cli.columns import columns
from producers.cli.options import operator
from producers.cli.outcome import OK
from producers.levers.limits import Windows, adjust, read_windows
from shared.database import Database
from shared.errors import InvalidInput, Problem
from shared.jobs.by import By
from shared.settings import Settings

MOST = 100_000


@dataclass(frozen=True)
class Wanted:
    """What an operator asked for; None and empty is: leave it."""

    everybody: int | None = None
    per_user: int | None = None
    #: `FRONTEND:ID=N` and `MACHINE=N`.
    users: Sequence[str] = ()
    machines: Sequence[str] = ()

    def fields(self, pools: Sequence[str]) -> dict[str, str]:
        """What to store. Raises `InvalidInput` with every problem."""
        problems: list[Problem] = []
        numbers: dict[str, int] = {}
        if self.everybody is not None:
            numbers["window"] = self.everybody
        if self.per_user is not None:
            numbers["user_window"] = self.per_user
        for option, prefix, texts in (("--user", "user:", self.users), ("--machine", "pool:", self.machines)):
            for text in texts:
                name, equals, number = text.rpartition("=")
                if not (name and equals and number.isdigit()):
                    problems.append(Problem(option, f"{text!r}: must be NAME=N"))
                elif prefix == "pool:" and name not in pools:
                    known = ", ".join(pool for pool in pools if pool) or "none"
                    problems.append(Problem(option, f"no job was ever for {name!r}; known are: {known}"))
                elif prefix == "user:" and ":" not in name:
                    problems.append(Problem(option, f"{name!r}: must be FRONTEND:ID, as in telegram:42"))
                else:
                    numbers[f"{prefix}{name}"] = int(number)
        problems += [
            Problem(name, f"must be 1 to {MOST:,}") for name, number in numbers.items() if not 1 <= number <= MOST
        ]
        if not problems and not numbers:
            problems.append(Problem("window set", "say --all N, --per-user N, --user FRONTEND:ID=N or --machine ID=N"))
        if problems:
            raise InvalidInput(problems)
        return {name: str(number) for name, number in numbers.items()}


async def show(*, as_json: bool) -> int:
    """Print every window: what holds, where it comes from, and how much of it is in use."""
    settings = Settings.from_env()
    async with Database.open(settings.redis_url) as database:
        await _print(database, settings, as_json=as_json)
    return OK


async def set_(wanted: Wanted, reason: str, *, as_json: bool) -> int:
    """Have these hold instead of the environment's and the catalog's."""
    settings = Settings.from_env()
    async with Database.open(settings.redis_url) as database:
        fields = wanted.fields(sorted(await database.hash(database.keys.pools)))
        by = By(operator(), reason)
        await adjust(database, account="", set_=fields, forget=(), action="window set", by=by)
        await _print(database, settings, as_json=as_json)
    return OK


async def reset(reason: str, *, as_json: bool) -> int:
    """Have the environment's and the catalog's hold again, all of them."""
    settings = Settings.from_env()
    async with Database.open(settings.redis_url) as database:
        names = sorted(await database.hash(database.keys.limits))
        if names:
            by = By(operator(), reason)
            await adjust(database, account="", set_={}, forget=names, action="window reset", by=by)
        await _print(database, settings, as_json=as_json)
    return OK


async def _print(database: Database, settings: Settings, *, as_json: bool) -> None:
    windows = await read_windows(database, settings)
    limits, used = await database.hash(database.keys.pools), await database.hash(database.keys.window_pools)
    users = await database.hash(database.keys.window_users)
    with database.asking():
        past = int(await database.redis.zcard(database.keys.window))
    rows = [
        _row("window", "everybody", windows.window, past, windows),
        _row("user_window", "each user", windows.user_window, max(map(int, users.values()), default=0), windows),
    ]
    named = sorted(name.removeprefix("user:") for name in windows.live if name.startswith("user:"))
    rows += [_row(f"user:{n}", f"user {n}", windows.of_user(n), int(users.get(n, 0)), windows) for n in named]
    for pool in sorted(pool for pool in limits if pool):
        limit = windows.of_pool(pool, int(limits[pool]))
        rows.append(_row(f"pool:{pool}", f"machine {pool}", limit, int(used.get(pool, 0)), windows))
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row))
        return
    for line in columns(
        ("whose", "window", "in use", ""), [(r["whose"], r["window"], r["used"], r["set"]) for r in rows]
    ):
        typer.echo(line)


def _row(name: str, whose: str, window: int, used: int, windows: Windows) -> dict[str, object]:
    set_ = "set live; `conveyor window reset` ends that" if name in windows.live else ""
    return {"name": name, "whose": whose, "window": window, "used": used, "live": name in windows.live, "set": set_}
