"""How does a worker take nothing new, without ending?

An operator says so in `conveyor:drains` (`conveyor drain`), and the worker reads it every second: its consumer is cancelled by
Celery's own control, and its ticker starts no look, no dispatch and no upkeep any more. There is nothing to hand over: what a
worker follows it holds only by leases of seconds, and the looks, posts and deliveries under way are finished. Any other
worker goes on with the rest.

It holds for this process: a worker that starts takes work, whatever was said to the one before it under its name.
"""

import asyncio
import logging

from celery import Celery

from shared.broker import QUEUE
from tasks.engine import Engine

log = logging.getLogger(__name__)

#: Celery does what it is told at its next turn: milliseconds, a second when it is busy.
MOST_QUESTIONS, AGAIN_SECONDS = 20, 0.05


class Drain:
    """What this worker was told."""

    def __init__(self, engine: Engine, app: Celery | None) -> None:
        self._engine = engine
        self._app = app
        self._begun = False
        #: Whether it takes nothing new.
        self.on = False

    async def heed(self) -> bool:
        """Read what an operator said, and do it; whether anything changed. 1 round trip, a control message when it does.

        What Celery has not done yet is asked for again the next time: a control message may be lost. A message that its last
        read still brings goes back to the broker.
        """
        database, hostname = self._engine.database, self._engine.hostname
        with database.asking():
            if not self._begun:
                await database.redis.hdel(database.keys.drains, hostname)
                self._begun = True
            told = bool(await database.redis.hexists(database.keys.drains, hostname))
        changed, self.on = told != self.on, told
        if changed:
            log.info("takes nothing new" if told else "takes work again", extra={"worker": hostname})
        if self._app is not None and told == self.consumes:
            act = self._app.control.cancel_consumer if told else self._app.control.add_consumer
            await asyncio.to_thread(act, QUEUE, destination=[hostname])
            for _ in range(MOST_QUESTIONS):
                if told != self.consumes:
                    break
                await asyncio.sleep(AGAIN_SECONDS)
        return changed

    @property
    def consumes(self) -> bool:
        """Whether Celery takes messages here; without an app it is as we were told."""
        return not self.on if self._app is None else QUEUE in self._app.amqp.queues.consume_from
