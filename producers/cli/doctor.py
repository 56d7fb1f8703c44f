"""What is wrong, and what would make it right? Each check is one line; a bad one says how to fix it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Literal, cast

import typer
from redis.exceptions import RedisError
from rich.console import Console
from rich.text import Text

from producers.cli.outcome import OK, UNAVAILABLE
from shared.database import REDIS_AWAY, Database
from shared.limits.bucket import TokenBucket
from shared.settings import Settings

#: Seconds workers have to answer a ping.
PING_SECONDS = 1.0
#: A catalog older than this means that no worker keeps it warm.
OLD_CATALOG_SECONDS = 600.0
#: A stream this long is a frontend that does not acknowledge.
LONG_STREAM = 100_000

Verdict = Literal["ok", "look", "bad"]


@dataclass(frozen=True)
class Check:
    """One finding. `bad` makes the command fail, `look` does not."""

    name: str
    verdict: Verdict
    finding: str
    fix: str = ""


async def examine(*, as_json: bool) -> int:
    """Run every check and print it as it comes; 3 when one is bad."""
    settings = Settings.from_env()
    console = Console()
    code = OK
    async with Database.open(settings.redis_url) as database:
        async for check in _checks(settings, database):
            code = UNAVAILABLE if check.verdict == "bad" else code
            if as_json:
                typer.echo(json.dumps(asdict(check), ensure_ascii=False))
                continue
            style = {"ok": "green", "look": "yellow", "bad": "red"}[check.verdict]
            line = Text.assemble((f"{check.verdict:<5}", style), f"{check.name:<10} {check.finding}")
            console.print(line, soft_wrap=True)
            if check.fix:
                console.print(f"     {'':<10} fix: {check.fix}", markup=False, highlight=False, soft_wrap=True)
    return code


async def _checks(settings: Settings, database: Database) -> AsyncIterator[Check]:
    yield Check("api key", *(("ok", "set") if settings.api_key else ("look", "not set; workers need it")))
    started = time.monotonic()
    try:
        info = await database.redis.info("server")
    except REDIS_AWAY as error:
        yield Check("redis", "bad", f"away: {type(error).__name__}", "start it, or correct REDIS_URL")
        return
    except RedisError as error:
        yield Check("redis", "bad", f"refuses us: {error}", "the password, database or ACL in REDIS_URL")
        return
    took = (time.monotonic() - started) * 1000
    name, version = ("valkey", info["valkey_version"]) if "valkey_version" in info else ("redis", info["redis_version"])
    yield Check("redis", "ok", f"{name} {version}, {took:.1f} ms")
    for check in await _persistence(database):
        yield check
    yield await _workers(settings)
    yield await _catalog(database)
    yield await _budget(settings, database)
    for check in await _stuck(database):
        yield check
    for check in await _streams(database):
        yield check


async def _persistence(database: Database) -> list[Check]:
    try:
        policy = (await database.redis.config_get("maxmemory-policy")).get("maxmemory-policy", "?")
        append = (await database.redis.config_get("appendonly")).get("appendonly", "?")
    except RedisError:
        return [Check("memory", "look", "CONFIG is not readable here", "see to noeviction and AOF at your provider")]
    return [
        Check("memory", "ok", "maxmemory-policy noeviction")
        if policy == "noeviction"
        else Check("memory", "bad", f"maxmemory-policy {policy}: jobs can vanish", "set maxmemory-policy noeviction"),
        Check("aof", "ok", "appendonly yes")
        if append == "yes"
        else Check("aof", "look", f"appendonly {append}: a restart forgets jobs", "set appendonly yes"),
    ]


async def _workers(settings: Settings) -> Check:
    from shared.broker import make_app  # noqa: PLC0415 - Celery takes long to load

    def ping() -> dict[str, object]:
        with make_app(settings) as app:
            return cast(dict[str, object], app.control.inspect(timeout=PING_SECONDS).ping() or {})

    try:
        answers = await asyncio.to_thread(ping)
    except Exception as error:  # noqa: BLE001 - kombu raises what its transport raises
        return Check("workers", "bad", f"cannot be asked: {type(error).__name__}", "REDIS_URL, and the broker's health")
    if not answers:
        return Check("workers", "bad", f"none answered in {PING_SECONDS:.0f} s", "start one: make up, or the Procfile")
    return Check("workers", "ok", f"{len(answers)} answer: {', '.join(sorted(answers))}")


async def _catalog(database: Database) -> Check:
    text = await database.redis.get(database.keys.catalog)
    if not text:
        fix = "start a worker with COMFY_DEPLOY_API_KEY"
        return Check("catalog", "look", "empty: workflow names are checked by workers only", fix)
    stored = json.loads(text)
    age = time.time() - stored["read_at"]
    finding = f"{len(stored['entries'])} deployments, {age:.0f} s old"
    if age > OLD_CATALOG_SECONDS:
        return Check("catalog", "look", finding, "no worker refreshes it: is one up, and does the API answer?")
    return Check("catalog", "ok", finding)


async def _budget(settings: Settings, database: Database) -> Check:
    state = await TokenBucket(database, settings).state()
    rate = float(state.get("rate", settings.rate_per_second))
    factor = float(state.get("factor", 1))
    closed = float(state.get("closed_until", 0)) - time.time()
    finding = f"{rate * factor:g} of {rate:g} calls/s, {float(state.get('tokens', settings.rate_burst)):.0f} tokens"
    if closed > 0:
        return Check("budget", "look", f"closed for {closed:.0f} s: the API asked for a pause", "wait")
    if factor < 0.9:
        return Check("budget", "look", finding, "the API said 429 lately: lower CONVEYOR_RATE_PER_SECOND")
    return Check("budget", "ok", finding)


async def _stuck(database: Database) -> list[Check]:
    keys, redis = database.keys, database.redis
    seconds, microseconds = await redis.time()
    now = int(seconds) * 1000 + int(microseconds) // 1000
    # A minute of grace: what is overdue by less is being repaired.
    late = now - 60_000
    checks = []
    for name, key, fix in (
        ("starting", keys.starting, "no worker rescues dispatched jobs: is one up?"),
        ("closing", keys.closing, "no worker closes Celery rows: is one up?"),
        ("expiring", keys.expiring, "no worker ends jobs past their queue timeout: is one up?"),
    ):
        all_, overdue = await redis.zcard(key), await redis.zcount(key, "-inf", late)
        finding = f"{all_} jobs, {overdue} overdue"
        checks.append(Check(name, "bad", finding, fix) if overdue else Check(name, "ok", finding))
    return checks


async def _streams(database: Database) -> list[Check]:
    checks = []
    frontends = await database.redis.smembers(database.keys.frontends)
    for frontend in sorted(cast(set[str], frontends)):
        length = await database.redis.xlen(database.keys.results(frontend))
        dead = await database.redis.xlen(database.keys.dead(frontend))
        groups = await database.redis.xinfo_groups(database.keys.results(frontend))
        waiting = ", ".join(f"{group['name']} holds {group['pending']}" for group in groups) or "no group reads it"
        finding = f"{length} events, {dead} dead letters; {waiting}"
        name = f"→ {frontend}"
        if dead:
            checks.append(Check(name, "look", finding, f"conveyor results dead {frontend}"))
        elif length > LONG_STREAM:
            checks.append(Check(name, "look", finding, "is its frontend running, and does it acknowledge?"))
        else:
            checks.append(Check(name, "ok", finding))
    return checks
