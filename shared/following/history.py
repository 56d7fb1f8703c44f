"""How long did the last runs of a deployment take, and did hints tell us of their end?

One small hash for each deployment in Redis, written once per finished run: for each milestone of `milestones.py` the seconds
from there to the end, the newest first. What is believed of the next run is in `forecast.py`. Losing it costs a few looks,
never a job.

Read `shared/lua/remember.lua` beside it.
"""

import json
import time
from collections.abc import Mapping, Sequence

from shared.database import Database
from shared.following.forecast import KEPT, Forecast, forecast

#: A process reads a deployment's history again after this long; a run or two more change little.
FRESH_SECONDS = 3.0
#: A deployment nobody runs any more is forgotten.
KEEP_SECONDS = 30 * 86_400
#: Fewer known durations than this say nothing.
ENOUGH = 3

#: The last runs whose hints are counted: trust grows slowly, over the longer stretch, and goes fast, with the shorter.
HINTS_KEPT = 200
HINTS_LATELY = 10


class Outlook:
    """What is believed of the next run of a deployment."""

    def __init__(self, durations: Mapping[str, tuple[float, ...]]) -> None:
        self._durations = durations

    def known(self, milestone: str) -> int:
        """How many runs have told."""
        return len(self._durations.get(milestone, ()))

    def since(self, milestone: str) -> Forecast | None:
        """The time from a milestone to the end; None when too few runs have told. Computing a new one costs 5 ms."""
        known = self._durations.get(milestone, ())
        return forecast(known) if len(known) >= ENOUGH else None


class History:
    """The durations of finished runs, for one process."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._outlooks: dict[str, tuple[float, Outlook]] = {}
        self._hint_rate: tuple[float, float] = (0.0, 0.0)

    async def outlook(self, deployment_id: str) -> Outlook:
        """What is believed of the deployment's next run. One round trip every few seconds, else none.

        Raises `Unavailable`.
        """
        until, known = self._outlooks.get(deployment_id, (0.0, None))
        if known is not None and time.monotonic() < until:
            return known
        told = await self._db.hash(self._db.keys.history(deployment_id))
        outlook = Outlook({milestone: tuple(map(float, words.split())) for milestone, words in told.items()})
        self._outlooks[deployment_id] = time.monotonic() + FRESH_SECONDS, outlook
        return outlook

    async def record(self, deployment_id: str, durations: Mapping[str, float], *, hinted: bool | None = None) -> None:
        """Remember a finished run: seconds from each milestone to its end, and whether a hint had come.

        One round trip. A repeat counts twice, which changes little. Raises `Unavailable`.
        """
        told = {milestone: f"{seconds:.3f}" for milestone, seconds in durations.items() if seconds > 0}
        word = "" if hinted is None else str(int(hinted))
        await self._db.run("remember", deployment_id, json.dumps(told), KEPT, KEEP_SECONDS, word, HINTS_KEPT)

    async def hint_rate(self) -> float:
        """How far hints are trusted, see `trust`. One round trip every few seconds, else none."""
        until, rate = self._hint_rate
        if time.monotonic() < until:
            return rate
        with self._db.asking():
            told = await self._db.redis.lrange(self._db.keys.hints, 0, HINTS_KEPT - 1)
        rate = trust([word == "1" for word in told])
        self._hint_rate = time.monotonic() + FRESH_SECONDS, rate
        return rate


def trust(hits: Sequence[bool]) -> float:
    """The share of ends that hints will announce, judged by the last runs, the newest first; 0.0 when none was counted.

    The lower of what the longer and the shorter stretch say: a receiver that breaks is noticed within ten runs.
    """
    if not hits:
        return 0.0
    lately = hits[:HINTS_LATELY]
    # Half a miss is presumed, so that a few hits do not make us deaf.
    return min(sum(hits) / (len(hits) + 0.5), sum(lately) / len(lately))
