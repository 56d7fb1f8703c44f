"""How many are there of everything, right now? The numbers of the whole system, read from Redis for a scrape.

No process can tell them by itself, so each that is scraped asks Redis (`shared/lua/census.lua`), and all export the same.
No leader, who might be gone when the numbers matter most; the price is that a query must take their maximum, not their sum.
An answer serves every process for `KEEP_SECONDS`, so Redis counts once in that time, however many ask.
"""

import asyncio
import json
import logging
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from redis.exceptions import RedisError

from shared.database import Database
from shared.errors import Unavailable
from shared.jobs.tiers import tier_names
from shared.limits.bucket import TokenBucket
from shared.limits.budget import Budget
from shared.settings import Settings
from shared.system_gauges import SYSTEM_GAUGES

log = logging.getLogger(__name__)

KEEP_SECONDS = 4.0
#: A scrape waits no longer than this for Redis; without an answer it goes on without the numbers of the whole.
PATIENCE_SECONDS = 3.0
MOST_MACHINES = 50
MOST_FRONTENDS = 50

#: Samples by metric: the values of its labels, and the number.
Samples = dict[str, list[tuple[list[str], float]]]


class Census:
    """Counts for one process."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._db = database
        self._settings = settings
        self._bucket = TokenBucket(database, settings)
        self._tiers = tier_names(settings.tier_weights)

    async def read(self) -> list[Metric]:
        """The numbers now. 4 round trips, 3 at once; never raises: without Redis it says only that."""
        samples: Samples = {"conveyor_redis_reached": [([], 0.0)]}
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                counted, messages, budget = await asyncio.gather(self._count(), self._messages(), self._budget())
            samples = counted | messages | budget | {"conveyor_redis_reached": [([], 1.0)]}
        except (TimeoutError, Unavailable, RedisError, ValueError) as error:
            log.warning("the whole cannot be counted", extra={"error": repr(error)})
        return list(_families(samples))

    async def _count(self) -> Samples:
        keep_ms, window = round(KEEP_SECONDS * 1000), self._settings.window
        told = await self._db.run("census", keep_ms, MOST_MACHINES, MOST_FRONTENDS, window, *self._tiers)
        samples: Samples = {}
        for metric, number, *labels in json.loads(told):
            samples.setdefault(f"conveyor_{metric}", []).append((labels, number))
        return samples

    async def _messages(self) -> Samples:
        from shared.broker import QUEUE  # noqa: PLC0415 - Celery takes long to load, and a gateway need not wait for it

        with self._db.asking():
            waiting: Any = self._db.redis.llen(QUEUE)
            return {"conveyor_broker_messages": [([], await waiting)]}

    async def _budget(self) -> Samples:
        """Of our account; nothing without its key, since the budget of no key is nobody's."""
        if self._settings.api_key is None:
            return {}
        budget = Budget.read(await self._bucket.state(), self._settings, await self._db.now_ms() / 1000)
        return {
            "conveyor_budget_rate": [([], budget.now)],
            "conveyor_budget_factor": [([], budget.factor)],
            "conveyor_budget_tokens": [([], budget.tokens)],
            "conveyor_budget_closed_seconds": [([], budget.closed_seconds)],
            "conveyor_breaker_open": [([], float(budget.breaker != "closed"))],
        }


class Counted(CollectorRegistry):
    """What was read, to be written as Prometheus wants it."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        super().__init__()
        self._metrics = list(metrics)

    def collect(self) -> Iterator[Metric]:
        """What was read."""
        yield from self._metrics


def _families(samples: Samples) -> Iterator[Metric]:
    """Without what is not known here: a newer version may have counted."""
    for name, rows in samples.items():
        if gauge := SYSTEM_GAUGES.get(name):
            family = gauge.family()
            for labels, number in rows:
                family.add_metric(labels, float(number))
            yield family
