"""Is this worker still consuming?

Seen with Celery on Redis: after a reconnect a worker can be connected, answer pings and read no more messages. So it
watches itself: messages wait, a slot is free, and nothing has arrived for half a minute. Then it says so and ends, and
its supervisor starts it again. What it knows is in `conveyor:worker:<name>`, for `python -m workers.health`.
"""

import json
import logging
import os
import signal
import threading
import time
from typing import Any

from celery.signals import task_postrun, task_prerun

from shared.broker import QUEUE
from shared.database import REDIS_AWAY
from shared.metrics import SLOTS, SLOTS_BUSY, STARVED
from tasks.engine import Engine

log = logging.getLogger(__name__)

#: This long may messages wait beside a free slot. Other workers may be at them, so not shorter than a busy moment.
STARVED_SECONDS = 30.0
#: A worker that was not seen for this long is not there.
SEEN_SECONDS = 30
#: From the decision to end until it ends at the latest, whatever hangs.
LAST_SECONDS = 12.0
EXIT_STARVED = 70


class Watch:
    """Counts what arrives, and decides when that is too little."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._busy = 0
        self._arrived_at = time.monotonic()
        self._waiting_since: float | None = None
        task_prerun.connect(self._begins)
        task_postrun.connect(self._ends)

    def _begins(self, **_: Any) -> None:
        with self._lock:
            self._busy += 1
            self._arrived_at = time.monotonic()

    def _ends(self, **_: Any) -> None:
        with self._lock:
            self._busy -= 1

    def starved_seconds(self, waiting: int, now: float) -> float:
        """How long messages have been waiting beside a free slot without one arriving; 0.0 when all is well."""
        with self._lock:
            busy, arrived_at = self._busy, self._arrived_at
        if waiting == 0 or busy >= self._engine.settings.slots:
            self._waiting_since = None
            return 0.0
        self._waiting_since = max(self._waiting_since or now, arrived_at)
        return now - self._waiting_since

    def _tell(self, starved: float) -> None:
        SLOTS.set(self._engine.settings.slots)
        SLOTS_BUSY.set(self._busy)
        STARVED.set(starved)

    async def leave(self) -> None:
        """Take the sign of life back: who stops in order is not taken for a worker that takes work."""
        try:
            await self._engine.database.redis.delete(self._engine.database.keys.worker(self._engine.hostname))
        except REDIS_AWAY:
            log.debug("the sign of life ends by itself")

    async def check(self, *, draining: bool = False) -> None:
        """Ask how long the queue is, and leave a sign of life. 2 round trips. One that drains need not take messages."""
        redis, key = self._engine.database.redis, self._engine.database.keys.worker(self._engine.hostname)
        try:
            waiting = 0 if draining else await redis.llen(QUEUE)
            starved = self.starved_seconds(waiting, time.monotonic())
            self._tell(starved)
            seen = {"busy": self._busy, "slots": self._engine.settings.slots, "starved_seconds": round(starved, 1)}
            if draining:
                seen["draining"] = 1
            await redis.set(key, json.dumps(seen), ex=SEEN_SECONDS)
        except REDIS_AWAY as error:
            self._waiting_since = None
            raise self._engine.database.away(error) from error
        if starved > STARVED_SECONDS:
            log.critical("messages wait and none arrives; this worker ends", extra={"starved_seconds": round(starved)})
            self._engine.stopping.set()
            threading.Timer(LAST_SECONDS, os._exit, [EXIT_STARVED]).start()
            os.kill(os.getpid(), signal.SIGTERM)
