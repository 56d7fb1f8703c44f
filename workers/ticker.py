"""What does a worker do on its own account? A few times a second it asks what is due, and does it on the event loop.

Every worker ticks; leases in Redis see to it that one of them looks, closes or repairs. There is no leader and no beat.
A tick that fails (Redis away) is repeated with backoff; the next one finds everything still due.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from celery import Celery
from celery.worker import state as celery_state

from shared.errors import ConveyorError
from shared.loop_lag import watch_loop
from shared.metrics import CHORES_FAILED
from tasks.engine import Engine
from tasks.look import look
from tasks.schedule import TROUBLE, delay
from workers.archiving import Archiving
from workers.callbacks import Callbacks
from workers.drain import Drain
from workers.listening import Listening
from workers.upkeep import Upkeep
from workers.watch import Watch

log = logging.getLogger(__name__)

#: Hints and cancels come from other processes through Redis; this is how soon a sleeping ticker notices. One round trip.
NOTICE_SECONDS = 0.04
#: The same for rows to close and for windows that have room; whoever makes room lets the next job go itself.
TICK_SECONDS = 0.1
#: Workflows looked at at once by one process.
MOST_LOOKS = 64


class Ticker:
    """One loop a process: due looks, dispatch, closings, upkeep."""

    def __init__(self, engine: Engine, app: Celery | None = None) -> None:
        self._engine = engine
        self._drain = Drain(engine, app)
        self._looks: set[asyncio.Task[None]] = set()
        self._upkeep = Upkeep(engine)
        self._callbacks = Callbacks(engine)
        self._archiving = Archiving(engine, engine.archive) if engine.archive else None
        self._watch = Watch(engine)
        self._listening = Listening(engine) if engine.settings.sse else None
        self._revoked_seen: set[str] = set()

    async def run(self) -> None:
        """Tick until the process stops, then wait for the looks under way."""
        stopping = self._engine.stopping
        chores = [
            asyncio.create_task(self._every(NOTICE_SECONDS, self._tick)),
            asyncio.create_task(self._every(TICK_SECONDS, self._engine.dispatch)),
            asyncio.create_task(self._every(TICK_SECONDS, self._upkeep.close_rows)),
            asyncio.create_task(self._every(0.2, self._callbacks.deliver_due)),
            asyncio.create_task(self._every(0.5, self._hear_revokes)),
            asyncio.create_task(self._every(5.0, self._show)),
            asyncio.create_task(self._every(1.0, self._upkeep.count_rejected)),
            asyncio.create_task(self._every(1.0, self._heed)),
            asyncio.create_task(self._every(1.0, self._upkeep.rescue)),
            asyncio.create_task(self._every(1.0, self._upkeep.expire)),
            asyncio.create_task(self._every(1.0, self._upkeep.check_strays)),
            asyncio.create_task(self._every(30.0, self._upkeep.mend_due_set)),
            asyncio.create_task(self._every(60.0, self._upkeep.prune)),
            asyncio.create_task(self._every(10.0, self._upkeep.warm)),
        ]
        if self._listening:
            chores.append(asyncio.create_task(self._every(1.0, self._listening.tend)))
        if self._archiving:
            chores.append(asyncio.create_task(self._every(0.2, self._archiving.archive_due)))
        else:
            chores.append(asyncio.create_task(self._every(60.0, self._upkeep.give_up_archives)))
        watching = asyncio.create_task(watch_loop())
        await stopping.wait()
        watching.cancel()
        await asyncio.gather(*chores)
        if self._archiving:
            await self._archiving.aclose()
        if self._listening:
            await self._listening.aclose()
        if self._looks:
            await asyncio.wait(self._looks)
        await self._callbacks.aclose()
        await self._watch.leave()

    async def _every(self, seconds: float, chore: Callable[[], Awaitable[None]]) -> None:
        """Do a chore again and again, less often while it fails; ends when the process stops."""
        failures = 0
        always = (self._heed, self._show, self._hear_revokes, self._upkeep.count_rejected)
        while not self._engine.stopping.is_set():
            pause = seconds
            try:
                if not self._drain.on or chore in always:
                    await chore()
                failures = 0
            except ConveyorError as error:
                failures += 1
                CHORES_FAILED.labels(chore.__name__).inc()
                pause = delay(TROUBLE, failures)
                log.warning("chore put off", extra={"chore": chore.__name__, "error": str(error), "seconds": pause})
            except Exception:
                failures += 1
                CHORES_FAILED.labels(chore.__name__).inc()
                pause = delay(TROUBLE, failures)
                log.exception("chore failed", extra={"chore": chore.__name__})
            try:
                async with asyncio.timeout(pause):
                    await self._engine.stopping.wait()
            except TimeoutError:
                pass

    async def _heed(self) -> None:
        """Take nothing new when an operator says so, and show at once how far that is."""
        changed = await self._drain.heed()
        if changed and self._drain.on and self._listening:
            await self._listening.aclose()
        if changed or self._drain.on:
            await self._show()

    async def _show(self) -> None:
        await self._watch.check(draining=self._drain.on and not self._drain.consumes)

    async def _tick(self) -> None:
        """Claim due workflows and start their looks."""
        while (room := MOST_LOOKS - len(self._looks)) > 0:
            workflows, _ = await self._engine.due.claim(room)
            for workflow_id in workflows:
                self._start(look(self._engine, workflow_id))
            if len(workflows) < room:
                break

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._looks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._looks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            # The claim ends with its lease, and the workflow comes up again.
            log.error("look failed", exc_info=error)

    async def _hear_revokes(self) -> None:
        """Flower's Revoke and Terminate reach every worker as a revoked task id, which is a job's id."""
        revoked = {str(task_id) for task_id in celery_state.revoked}
        for job_id in revoked - self._revoked_seen:
            word = await self._engine.store.cancel(job_id)
            self._revoked_seen.add(job_id)
            log.info("revoke heard", extra={"job_id": job_id, "reply": word})
        self._revoked_seen &= revoked
