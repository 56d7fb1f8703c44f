"""How long did the last runs of a deployment take, and did webhooks tell us of their end?

Two short lists for each deployment in Redis, written once per finished run, the newest first: from the submit to the end, and
from the start (ComfyUI answers) to the end. Both are on the API's clock alone, so no clock is compared with another. What is
believed of the next run is in `forecast.py`. Losing a list costs a few looks, never a job, so plain commands do.
"""

import time
from dataclasses import dataclass

from shared.database import Database
from shared.following.forecast import KEPT, Forecast, forecast

#: A process reads a deployment's lists again after this long; a run or two more change little.
FRESH_SECONDS = 3.0
#: A deployment nobody runs any more is forgotten.
KEEP_SECONDS = 30 * 86_400
#: The last runs whose hints are counted.
HINTS_KEPT = 50
#: Fewer known durations than this say nothing.
ENOUGH = 3


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is believed of the next run of a deployment."""

    #: From the submit to the end, in seconds.
    total: Forecast
    #: From the start to the end, in seconds.
    run: Forecast
    #: How many finished runs this rests on.
    known: int

    @property
    def is_known(self) -> bool:
        """Whether it rests on enough to plan by."""
        return self.known >= ENOUGH


class History:
    """The durations of finished runs, for one process."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._outlooks: dict[str, tuple[float, Outlook]] = {}
        self._hint_rate: tuple[float, float] = (0.0, 0.0)

    async def outlook(self, deployment_id: str) -> Outlook:
        """What is believed of the deployment's next run. One round trip every few seconds, else none.

        Computing a changed outlook costs some milliseconds of CPU. Raises `Unavailable`.
        """
        until, known = self._outlooks.get(deployment_id, (0.0, None))
        if known is not None and time.monotonic() < until:
            return known
        pipe = self._db.redis.pipeline(transaction=False)
        pipe.lrange(self._db.keys.durations(deployment_id, "total"), 0, KEPT - 1)
        pipe.lrange(self._db.keys.durations(deployment_id, "run"), 0, KEPT - 1)
        with self._db.asking():
            totals, runs = await pipe.execute()
        outlook = Outlook(forecast(tuple(map(float, totals))), forecast(tuple(map(float, runs))), len(totals))
        self._outlooks[deployment_id] = time.monotonic() + FRESH_SECONDS, outlook
        return outlook

    async def record(
        self, deployment_id: str, *, total: float | None, run: float | None, hinted: bool | None = None
    ) -> None:
        """Remember a finished run: its durations in seconds where the API told them, and whether a hint had come.

        One round trip. A repeat counts twice, which changes little. Raises `Unavailable`.
        """
        pipe = self._db.redis.pipeline(transaction=False)
        for kind, seconds in (("total", total), ("run", run)):
            if seconds is not None and seconds > 0:
                key = self._db.keys.durations(deployment_id, kind)
                pipe.lpush(key, f"{seconds:.3f}")
                pipe.ltrim(key, 0, KEPT - 1)
                pipe.expire(key, KEEP_SECONDS)
        if hinted is not None:
            pipe.lpush(self._db.keys.hints, "1" if hinted else "0")
            pipe.ltrim(self._db.keys.hints, 0, HINTS_KEPT - 1)
        with self._db.asking():
            await pipe.execute()

    async def hint_rate(self) -> float:
        """The share of recent runs whose end a hint had announced before a look found it; 0.0 when none was counted."""
        until, rate = self._hint_rate
        if time.monotonic() < until:
            return rate
        with self._db.asking():
            told = await self._db.redis.lrange(self._db.keys.hints, 0, HINTS_KEPT - 1)
        # Half a miss is presumed, so that a few hits do not make us deaf: fifty of fifty are 99 %.
        rate = sum(word == "1" for word in told) / (len(told) + 0.5)
        self._hint_rate = time.monotonic() + FRESH_SECONDS, rate
        return rate
