"""How do Flower's rows stay equal to our records? A job that may have news is read again; the record is the truth.

    at the start     the newest records, and whatever waits or is under way
    an event came    on a result stream, or Celery's own
    each second      what is between lane and run, where jobs move without an event; and a slice of all rows, round and round

So it does not matter when Flower was started, what it missed, or whether a worker died over it. It only reads.
"""

import asyncio
import heapq
import logging
import time
from collections.abc import Iterable
from itertools import islice
from typing import Any, cast

from shared.database import Database
from shared.errors import Unavailable
from shared.jobs.lanes import Lanes
from shared.settings import Settings
from tasks.schedule import TROUBLE, delay
from workers.monitor.row import FIELDS, row_of
from workers.monitor.table import Table

log = logging.getLogger(__name__)

#: Records read in one round trip.
PAGE = 250
#: Entries of all streams read at once.
MOST_ENTRIES = 500
#: How long a read of the streams waits for news; hints of Celery wait as long, too.
BLOCK_MS = 250
#: Between two rounds of what moves without an event.
ROUND_SECONDS = 1.0


class Reader:
    """Reads what may have changed, and writes it into the table."""

    def __init__(self, database: Database, table: Table, settings: Settings) -> None:
        self._db = database
        self._lanes = Lanes(database, settings)
        self._table = table
        self._most = settings.flower_history
        #: Stream -> the entry read last.
        self._read_up_to: dict[str, str] = {}
        self._between: set[str] = set()
        self._round_at = 0.0
        #: When the rows were last known to be right, monotonic; the start counts as such.
        self._right_at = time.monotonic()
        #: The rows of this round that were not read again yet.
        self._left: list[str] = []

    async def run(self) -> None:
        """Fill the table and follow, until cancelled. Redis away: the rows stay as they are, and it is tried again."""
        failures = 0
        while True:
            try:
                await self._fill()
                while True:
                    await self._follow()
                    self._right_at = time.monotonic()
                    failures = 0
            except Unavailable as error:
                log.warning("rows are not up to date", extra={"error": str(error)})
            except Exception:
                log.exception("rows are not up to date")
            failures += 1
            await asyncio.sleep(delay(TROUBLE, failures))

    def behind_seconds(self) -> float:
        """How long the rows may have been wrong by now."""
        return time.monotonic() - self._right_at

    async def look_at(self, job_ids: Iterable[str]) -> None:
        """Read these jobs and write their rows; a row whose record is gone goes, too. A round trip per 250."""
        ids = iter(job_ids)
        while page := list(islice(ids, PAGE)):
            pipe = self._db.redis.pipeline(transaction=False)
            pipe.hgetall(self._db.keys.pauses)
            pipe.zmscore(self._db.keys.window, page)
            for job_id in page:
                pipe.hmget(self._db.keys.job(job_id), FIELDS)
            with self._db.asking():
                pauses, dispatched, *records = await pipe.execute()
            for job_id, since, values in zip(page, dispatched, records, strict=True):
                self._write(job_id, values, dispatched=since is not None, pauses=pauses)

    async def look_closely_at(self, job_id: str) -> None:
        """Read one job, and what costs too much for all of them: how many go before it."""
        place = await self._lanes.place(job_id)
        # Last, and nothing awaited after it: the row may be older than those that are kept.
        await self.look_at([job_id])
        row = self._table.tasks.data.get(job_id)
        if row is not None and place is not None:
            row.jobs_ahead = place.ahead

    def _write(self, job_id: str, values: list[str | None], *, dispatched: bool, pauses: dict[str, str]) -> None:
        record = {name: value for name, value in zip(FIELDS, values, strict=True) if value}
        if "label" not in record:
            self._table.drop(job_id)
            return
        try:
            self._table.put(job_id, row_of(record, dispatched=dispatched, pauses=pauses))
        except (ValueError, KeyError, TypeError) as error:
            # One record that we cannot read must not keep the others from being shown.
            log.warning("no row for a record", extra={"job_id": job_id, "error": repr(error)[:300]})

    async def _fill(self) -> None:
        """Note where the streams end, then read the newest records: what comes in between is read twice."""
        await self._find_streams("$")
        await self.look_at(await self._newest())
        self._table.trim()
        log.info("rows read", extra={"jobs": len(self._table.tasks)})

    async def _newest(self) -> set[str]:
        """Whatever has not ended, and the newest of the others: ids sort by age. Walks over all keys, a thousand at a time."""
        keys, redis = self._db.keys, self._db.redis
        with self._db.asking():
            open_ = [*await redis.zrange(keys.expiring, 0, -1), *await redis.zrange(keys.window, 0, -1)]
            newest: list[str] = []
            async for key in redis.scan_iter(match=keys.job("*"), count=1000):
                newest.append(key.removeprefix(keys.job("")))
                if len(newest) > 2 * self._most:
                    newest = heapq.nlargest(self._most, newest)
        return {str(job_id) for job_id in heapq.nlargest(self._most, open_)} | set(heapq.nlargest(self._most, newest))

    async def _find_streams(self, since: str) -> None:
        """Read the streams of new frontends, too: from their end (`$`) or from their beginning (`0`)."""
        keys, redis = self._db.keys, self._db.redis
        with self._db.asking():
            for frontend in await redis.smembers(keys.frontends):
                stream = keys.results(str(frontend))
                if since == "$":
                    last: Any = await redis.xrevrange(stream, count=1)
                    self._read_up_to[stream] = str(last[0][0]) if last else "0"
                else:
                    self._read_up_to.setdefault(stream, since)

    async def _follow(self) -> None:
        """Wait a moment for news, and read again whatever may have some."""
        loop = asyncio.get_running_loop()
        dirty = await self._events() if self._read_up_to else await asyncio.sleep(BLOCK_MS / 1000, set[str]())
        hinted, self._table.hinted = self._table.hinted, set()
        dirty |= hinted
        if loop.time() >= self._round_at:
            self._round_at = loop.time() + ROUND_SECONDS
            dirty |= await self._round()
        await self.look_at(dirty)
        # Not in there: a row that was asked for by its id must last until it is shown.
        self._table.trim()

    async def _events(self) -> set[str]:
        with self._db.asking():
            cursors = cast(dict[Any, Any], self._read_up_to)
            streams: Any = await self._db.redis.xread(cursors, count=MOST_ENTRIES, block=BLOCK_MS)
        jobs: set[str] = set()
        for stream, entries in streams or ():
            self._read_up_to[stream] = entries[-1][0]
            jobs |= {fields["job_id"] for _, fields in entries if "job_id" in fields}
        return jobs

    async def _round(self) -> set[str]:
        """What moves without an event, and the next rows whose turn it is to be checked."""
        await self._find_streams("0")
        with self._db.asking():
            between = {str(job_id) for job_id in await self._db.redis.zrange(self._db.keys.starting, 0, -1)}
        moved, self._between = between | self._between, between
        if not self._left:
            self._left = list(self._table.tasks.data)
        turn, self._left = self._left[:PAGE], self._left[PAGE:]
        return moved | set(turn)
