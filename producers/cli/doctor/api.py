"""May we call the API, does it answer, does it take our key, and how old is what we know of it?"""

import asyncio
import json
import time
from collections.abc import AsyncIterator

from producers.cli.doctor.check import Check, fail, ok, warn
from producers.cli.rate import breaker, read_budget
from shared.database import Database
from shared.errors import ConveyorError, RateLimited, TellOperator
from shared.limits.bucket import TokenBucket
from shared.limits.budget import Budget
from shared.settings import Settings

#: A catalog older than this means that no worker keeps it warm.
OLD_CATALOG_SECONDS = 600.0
#: Seconds for a token and an answer.
ANSWER_SECONDS = 10.0
#: A rate cut to less than this by 429s is worth a line.
CUT_FACTOR = 0.9


async def checks(settings: Settings, database: Database, *, offline: bool) -> AsyncIterator[Check]:
    """Budget, breaker, one call, catalog."""
    budget = await read_budget(database, settings)
    yield _budget(budget)
    yield _breaker(budget)
    yield await _call(settings, database, budget, offline=offline)
    yield await _catalog(database)


def _budget(budget: Budget) -> Check:
    live = " (set live)" if budget.rate_set or budget.burst_set else ""
    finding = f"{budget.now:.3g} of {budget.rate:g} calls/s{live}, {budget.tokens:.0f} of {budget.burst} tokens"
    if budget.closed_seconds and budget.breaker == "closed":
        return warn("budget", f"closed for {budget.closed_seconds:.0f} s: the API asked for a pause", "wait")
    if budget.factor < CUT_FACTOR:
        fix = "the API said 429 lately; if it keeps doing so: conveyor rate set --per-second X, below what it allows"
        return warn("budget", f"{finding}, cut to {budget.factor:.0%} by 429s", fix)
    return ok("budget", finding)


def _breaker(budget: Budget) -> Check:
    if budget.breaker == "closed":
        return ok("breaker", breaker(budget))
    return warn(
        "breaker", breaker(budget), "it closes with the first answer; is the API up, and COMFY_DEPLOY_API_URL right?"
    )


async def _call(settings: Settings, database: Database, budget: Budget, *, offline: bool) -> Check:
    """One call that costs little: a page of one machine."""
    if offline:
        return ok("api", "not asked: --offline")
    if settings.api_key is None:
        return ok("api", "not asked: no key is set here")
    if budget.closed_seconds:
        return warn("api", f"not asked: nobody may call for {budget.closed_seconds:.0f} s", "ask again then")
    from shared.comfydeploy import ComfyDeploy  # noqa: PLC0415 - the HTTP client is for this check only

    bucket, started = TokenBucket(database, settings), time.monotonic()
    try:
        async with (
            asyncio.timeout(ANSWER_SECONDS),
            ComfyDeploy(settings.api_url, settings.require_api_key()) as client,
            bucket.call("catalog"),
        ):
            started = time.monotonic()
            await client.machines.list(limit=1)
    except TellOperator as error:
        return fail("api", str(error).partition(" Check:")[0], f"check {error.check}")
    except RateLimited as error:
        return warn("api", str(error), "it answers, but wants less: conveyor rate set --per-second X")
    except TimeoutError:
        fix = "is the budget spent (conveyor rate show), or the API slow? COMFY_DEPLOY_API_URL may be wrong"
        return fail("api", f"no answer in {ANSWER_SECONDS:.0f} s, waiting for a token included", fix)
    except ConveyorError as error:
        return fail("api", str(error), "is the API up, and COMFY_DEPLOY_API_URL right? Jobs wait meanwhile")
    return ok("api", f"answers in {(time.monotonic() - started) * 1000:.0f} ms and takes our key")


async def _catalog(database: Database) -> Check:
    text = await database.redis.get(database.keys.catalog)
    if not text:
        fix = "start a worker with COMFY_DEPLOY_API_KEY"
        return warn("catalog", "empty: workflow names are checked by workers only", fix)
    stored = json.loads(text)
    age = max(0.0, time.time() - stored["read_at"])
    finding = f"{len(stored['entries'])} deployments, {age:.0f} s old"
    if age > OLD_CATALOG_SECONDS:
        return warn("catalog", finding, "no worker refreshes it: is one up, and does the API answer?")
    return ok("catalog", finding)
