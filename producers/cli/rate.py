"""The API budget on the command line: show it, and set it live, for all workers from their next call on."""

import json
import math
from dataclasses import asdict

import typer

from producers.cli.columns import columns
from producers.cli.options import operator
from producers.cli.outcome import OK, say
from producers.levers.limits import adjust
from shared.database import Database
from shared.errors import InvalidInput, Problem
from shared.jobs.by import By
from shared.limits.bucket import TokenBucket
from shared.limits.budget import CLASSES, LEAST_BURST, Budget
from shared.settings import Settings

#: As for the settings of the same meaning.
MOST_RATE, MOST_BURST = 10_000, 100_000

#: The fields an operator has set, and the factor that 429s have left.
RESET = ("rate", "burst", "factor", "recovers_from")


async def read_budget(database: Database, settings: Settings) -> Budget:
    """The budget of our account now. 2 round trips; raises `Unavailable`."""
    stored = await TokenBucket(database, settings).state()
    return Budget.read(stored, settings, await database.now_ms() / 1000)


async def show(*, as_json: bool) -> int:
    """Print the budget of the account that is set here."""
    settings = Settings.from_env()
    if settings.api_key is None:
        say("COMFY_DEPLOY_API_KEY is not set here: this is the budget of nobody, not that of your workers.")
    async with Database.open(settings.redis_url) as database:
        budget = await read_budget(database, settings)
    _print(budget, as_json=as_json)
    return OK


async def set_(per_second: float | None, burst: int | None, reason: str, *, as_json: bool) -> int:
    """Have these hold instead of the environment's. Raises `InvalidInput`, and `MissingSetting` without a key."""
    problems = []
    if per_second is None and burst is None:
        problems.append(Problem("rate set", "say --per-second X, --burst N, or both"))
    if per_second is not None and not (math.isfinite(per_second) and 0 < per_second <= MOST_RATE):
        problems.append(Problem("--per-second", f"must be above 0 and at most {MOST_RATE:,}"))
    if burst is not None and not LEAST_BURST <= burst <= MOST_BURST:
        problems.append(
            Problem("--burst", f"must be {LEAST_BURST} to {MOST_BURST:,}: one call for each class, and one more")
        )
    if problems:
        raise InvalidInput(problems)
    fields = {"rate": None if per_second is None else repr(per_second), "burst": None if burst is None else str(burst)}
    return await _write({name: text for name, text in fields.items() if text is not None}, reason, as_json=as_json)


async def reset(reason: str, *, as_json: bool) -> int:
    """Have the environment's rate and burst hold again, all of it: what 429s have taken off comes back at once.

    A pause the API asked for holds on. Raises `MissingSetting` without a key.
    """
    return await _write({}, reason, as_json=as_json)


async def _write(fields: dict[str, str], reason: str, *, as_json: bool) -> int:
    settings = Settings.from_env()
    # Without it the account is another, and the change would change nothing for any worker.
    settings.require_api_key()
    async with Database.open(settings.redis_url) as database:
        await adjust(
            database,
            account=settings.account,
            set_=fields,
            forget=() if fields else RESET,
            action="rate set" if fields else "rate reset",
            by=By(operator(), reason),
        )
        budget = await read_budget(database, settings)
    _print(budget, as_json=as_json)
    return OK


def _print(budget: Budget, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(budget) | {"now": budget.now}))
        return
    for name, text in _rows(budget).items():
        typer.echo(f"{name:<12} {text}")
    typer.echo("")
    for line in columns(("calls", "granted", "told to wait"), _calls(budget)):
        typer.echo(line)


def _rows(budget: Budget) -> dict[str, str]:
    def whose(live: bool) -> str:
        return "set live; `conveyor rate reset` ends that" if live else "from the environment"

    closed = f"for {budget.closed_seconds:.0f} s more" if budget.closed_seconds else "no"
    pushed = f", {budget.pushed_back} times pushed back (429) so far" if budget.pushed_back else ""
    return {
        "account": budget.account,
        "rate": f"{budget.rate:g} calls/s, {whose(budget.rate_set)}",
        "burst": f"{budget.burst}, {whose(budget.burst_set)}",
        "factor": f"{budget.factor:.2f}: {budget.now:.3g} calls/s at this moment{pushed}",
        "tokens": f"{budget.tokens:.0f}",
        "closed": closed,
        "breaker": breaker(budget),
    }


def breaker(budget: Budget) -> str:
    """The circuit breaker in words."""
    times = f", opened {budget.opened} times so far" if budget.opened else ""
    match budget.breaker:
        case "open":
            return f"open for {budget.closed_seconds:.0f} s: {budget.failures} calls in a row failed{times}"
        case "half-open":
            return f"half-open: the next call is a probe, {budget.failures} in a row failed{times}"
        case _:
            return f"closed{times}"


def _calls(budget: Budget) -> list[tuple[str, int, int]]:
    return [(name, budget.granted[name], budget.refused[name]) for name in CLASSES]
