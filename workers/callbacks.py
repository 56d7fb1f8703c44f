"""Which callbacks are due, and how many at once? Every worker asks, and takes some with a lease.

The entry in `conveyor:callbacks` is written by the script that makes a job final, and leaves with the decision: there is no
moment in which a killed process could lose one (docs/decisions/0011).
"""

import asyncio
from collections import Counter
from urllib.parse import urlsplit

from shared.outside import open_client
from tasks.callback import ATTEMPT_SECONDS, LEASE_SECONDS, deliver
from tasks.engine import Engine
from workers.errands import Errands

#: Deliveries at once by one process, and to one host: a slow receiver must not hold up the others.
MOST_DELIVERIES = 64
MOST_PER_HOST = 8
#: Those beyond come up again so soon.
PUT_OFF_SECONDS = 1.0


class Callbacks:
    """The deliveries of one worker process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._client = open_client(
            allow_private=engine.settings.callback_allow_private, seconds=ATTEMPT_SECONDS, most=MOST_DELIVERIES
        )
        self._errands = Errands("callback", MOST_DELIVERIES)
        self._hosts: Counter[str] = Counter()

    async def deliver_due(self) -> None:
        """Start the deliveries that are due, as many as there is room for. 1 round trip when there are none."""
        while (room := self._errands.room) > 0:
            job_ids = await self._engine.lanes.overdue("callbacks", most=room, again_seconds=LEASE_SECONDS)
            crowded = []
            for job_id, host in zip(job_ids, await self._hosts_of(job_ids), strict=True):
                if self._hosts[host] < MOST_PER_HOST:
                    self._start(job_id, host)
                else:
                    crowded.append(job_id)
            if crowded:
                await self._engine.lanes.sooner("callbacks", crowded, LEASE_SECONDS - PUT_OFF_SECONDS)
            if len(job_ids) < room:
                break

    async def _hosts_of(self, job_ids: list[str]) -> list[str]:
        if not job_ids:
            return []
        database = self._engine.database
        pipe = database.redis.pipeline(transaction=False)
        for job_id in job_ids:
            pipe.hget(database.keys.job(job_id), "callback_url")
        with database.asking():
            return [urlsplit(url or "").netloc for url in await pipe.execute()]

    def _start(self, job_id: str, host: str) -> None:
        self._hosts[host] += 1

        def finished(_: asyncio.Task[None]) -> None:
            self._hosts[host] -= 1
            if not self._hosts[host]:
                del self._hosts[host]

        self._errands.start(job_id, deliver(self._engine.store, self._client, job_id)).add_done_callback(finished)

    async def aclose(self) -> None:
        """Let the deliveries under way end, then close the connections."""
        await self._errands.end()
        await self._client.aclose()
