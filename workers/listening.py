"""Who listens to the API's progress streams, and what does it do with what it hears? Only with `CONVEYOR_SSE`.

One stream for each workflow with runs in flight. A lease sees to it that one worker opens it, of all there are. What is heard
is a hint and never truth: the end of a run of ours has it looked at now, anything else changes no state. So a stream may be
lost, refused, silent or wrong, and a job is followed as if there were none, by looks.

    a workflow comes into the due-set ─▶ lease ─▶ one call ─▶ events ─▶ no runs in flight for a while ─▶ closed
                                                     ▲          │ cut, silent
                                                     └─ a pause ◀┘

Read beside it: `shared/comfydeploy/progress_stream.py` for what the streams do not do.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial

from tenacity import wait_random_exponential

from shared.comfydeploy import ProgressEvent
from shared.errors import ConveyorError, TryLater
from shared.following import milestones
from shared.jobs.event import Progress
from shared.metrics import HINTS
from tasks.engine import Engine
from tasks.schedule import PROGRESS_SECONDS, delay, jittered

log = logging.getLogger(__name__)

#: Streams of one process: they are kept connections, of which the client has 200 for everything.
MOST_STREAMS = 32
#: A worker that was killed listens no more; another does, this much later.
LEASE_SECONDS = 15.0
#: A stream outlives its last run by this, so that the next job need not pay for a new one.
LINGER_SECONDS = 60.0
#: A stream that was cut is opened again after up to 1, 2, 4 … seconds; one that lasted this long starts over at 1.
CUT = wait_random_exponential(multiplier=1, min=0.2, max=60)
STEADY_SECONDS = 30.0
#: While streams cannot be opened, one is tried after up to 4, 8, 16 … seconds, by each process. Never in a hurry: five calls
#: that fail in a row, and be they these, would pause everybody's calls.
TROUBLE = wait_random_exponential(multiplier=4, min=2, max=120)
#: A workflow whose stream is refused (403, 404, not a stream) is left alone this long by all workers.
REFUSED_SECONDS = 300.0
#: The throttle remembers so many runs.
MOST_REMEMBERED = 10_000


class Listening:
    """The streams of one worker process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._listeners: dict[str, asyncio.Task[None]] = {}
        #: Workflow -> when (monotonic seconds) it last had runs in flight.
        self._needed_at: dict[str, float] = {}
        # One stream is opened at a time, so that trouble is met once and not thirty times.
        self._opening = asyncio.Lock()
        self._failures = 0
        self._closed_until = 0.0
        #: Workflows whose refusal has been logged.
        self._refused: set[str] = set()
        #: Run -> until when (monotonic seconds) its progress is not announced again.
        self._quiet_until: dict[str, float] = {}

    async def tend(self) -> None:
        """Keep the leases, close what is no longer needed, listen where nobody does. 1-3 round trips, one more for a new one."""
        await self._keep()
        room = MOST_STREAMS - len(self._listeners)
        database = self._engine.database
        with database.asking():
            due = map(str, await database.redis.zrange(database.keys.due, 0, -1))
            unheard = [workflow_id for workflow_id in due if workflow_id and workflow_id not in self._listeners]
            if not unheard or room <= 0:
                return
            holders = await database.redis.mget([self._lease(workflow_id) for workflow_id in unheard])
            free = [workflow_id for workflow_id, holder in zip(unheard, holders, strict=True) if holder is None]
            for workflow_id in free[:room]:
                lease, milliseconds = self._lease(workflow_id), round(LEASE_SECONDS * 1000)
                if await database.redis.set(lease, self._engine.name, nx=True, px=milliseconds):
                    self._needed_at[workflow_id] = time.monotonic()
                    task = self._listeners[workflow_id] = asyncio.create_task(self._listen(workflow_id))
                    task.add_done_callback(partial(self._finished, workflow_id))

    async def aclose(self) -> None:
        """Close every stream and give the leases back. Never raises for trouble with Redis: leases end by themselves."""
        listeners = dict(self._listeners)
        await self._close(*listeners)
        try:
            with self._engine.database.asking():
                for workflow_id in listeners:
                    await self._give_back(workflow_id)
        except ConveyorError as error:
            log.debug("leases are left to end", extra={"error": str(error)})

    # -- leases ---------------------------------------------------------------------------------------------------

    def _lease(self, workflow_id: str) -> str:
        return self._engine.database.keys.lease(f"listen:{workflow_id}")

    async def _keep(self) -> None:
        """Renew the leases of what we listen to. Not one step with the reading: at worst two listen for a second."""
        mine = list(self._listeners)
        if not mine:
            return
        database, now = self._engine.database, time.monotonic()
        pipe = database.redis.pipeline(transaction=False)
        for workflow_id in mine:
            pipe.get(self._lease(workflow_id))
            pipe.zcard(database.keys.inflight(workflow_id))
        with database.asking():
            told = await pipe.execute()
            for workflow_id, holder, in_flight in zip(mine, told[::2], told[1::2], strict=True):
                if in_flight:
                    self._needed_at[workflow_id] = now
                if holder not in (None, self._engine.name):
                    await self._close(workflow_id)
                elif now - self._needed_at[workflow_id] > LINGER_SECONDS:
                    await self._close(workflow_id)
                    await self._give_back(workflow_id)
                else:
                    pipe.set(self._lease(workflow_id), self._engine.name, px=round(LEASE_SECONDS * 1000))
            await pipe.execute()

    async def _give_back(self, workflow_id: str) -> None:
        redis = self._engine.database.redis
        if await redis.get(self._lease(workflow_id)) == self._engine.name:
            await redis.delete(self._lease(workflow_id))

    async def _close(self, *workflow_ids: str) -> None:
        tasks = [task for workflow_id in workflow_ids if (task := self._listeners.pop(workflow_id, None))]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _finished(self, workflow_id: str, task: asyncio.Task[None]) -> None:
        if self._listeners.get(workflow_id) is task:
            del self._listeners[workflow_id]
        if not task.cancelled() and (error := task.exception()):
            # Its lease is not renewed, so somebody tries again when that has ended.
            log.error("listening failed", extra={"workflow_id": workflow_id}, exc_info=error)

    # -- one workflow -----------------------------------------------------------------------------------------------

    async def _listen(self, workflow_id: str) -> None:
        """Hear a workflow until cancelled, stream after stream; ends by itself when its stream is refused."""
        cuts = 0
        while True:
            async with AsyncExitStack() as stack:
                try:
                    events = await self._opened(stack, workflow_id)
                except TryLater:
                    continue  # `_opened` keeps the pause
                except ConveyorError as error:
                    await self._leave_alone(workflow_id, error)
                    return
                began = time.monotonic()
                try:
                    async for event in events:
                        await self._take(event)
                except TryLater as error:
                    log.debug("stream cut", extra={"workflow_id": workflow_id, "error": str(error)})
            cuts = 1 if time.monotonic() - began >= STEADY_SECONDS else cuts + 1
            await asyncio.sleep(delay(CUT, cuts))

    async def _opened(self, stack: AsyncExitStack, workflow_id: str) -> AsyncIterator[ProgressEvent]:
        """Open a stream when it may be: one call. The wait for that ends with the listener, which is closed from outside."""
        async with self._opening:
            await asyncio.sleep(max(0.0, self._closed_until - time.monotonic()))
            try:
                async with self._engine.bucket.call("look"):
                    stream = self._engine.client.progress.of_workflow(workflow_id)
                    events = await stack.enter_async_context(stream)
            except TryLater as error:
                self._failures += 1
                pause = max(error.retry_after_seconds or 0.0, delay(TROUBLE, self._failures))
                self._closed_until = time.monotonic() + pause
                level = logging.WARNING if self._failures == 1 else logging.DEBUG
                log.log(level, "streams are not to be had", extra={"error": str(error), "seconds": round(pause, 1)})
                raise
            if self._failures:
                log.info("streams are to be had again", extra={"failures": self._failures})
            self._failures = 0
            self._refused.discard(workflow_id)
            return events

    async def _leave_alone(self, workflow_id: str, error: ConveyorError) -> None:
        """Nobody listens to this workflow for a while: the lease is nobody's until then."""
        level = logging.DEBUG if workflow_id in self._refused else logging.WARNING
        self._refused.add(workflow_id)
        log.log(level, "stream refused", extra={"workflow_id": workflow_id, "error": str(error)})
        redis, pause = self._engine.database.redis, jittered(REFUSED_SECONDS)
        with self._engine.database.asking():
            await redis.set(self._lease(workflow_id), "refused", px=round(pause * 1000))

    # -- one event --------------------------------------------------------------------------------------------------

    async def _take(self, event: ProgressEvent) -> None:
        """Make of an event what it is worth. A hint that cannot be noted is dropped: a look comes anyway."""
        try:
            if event.may_be_the_end:
                self._quiet_until.pop(event.run_id, None)
                if job_id := await self._job_of(event.run_id):
                    HINTS.labels(await self._engine.store.nudge(job_id)).inc()
            elif event.progress is not None:
                await self._announce(event, event.progress)
        except ConveyorError as error:
            log.debug("hint dropped", extra={"run_id": event.run_id, "error": str(error)})

    async def _job_of(self, run_id: str) -> str | None:
        """The job a run belongs to; None for the many that are not ours."""
        database = self._engine.database
        with database.asking():
            job_id = await database.redis.get(database.keys.run(run_id))
        return None if job_id is None else str(job_id)

    async def _announce(self, event: ProgressEvent, fraction: float) -> None:
        """Tell progress to a user who asked for it, as often as looks would; never backwards (progress.lua)."""
        now = time.monotonic()
        if now < self._quiet_until.get(event.run_id, 0.0):
            return
        if len(self._quiet_until) >= MOST_REMEMBERED:
            self._quiet_until.clear()
        self._quiet_until[event.run_id] = now + PROGRESS_SECONDS
        job_id = await self._job_of(event.run_id)
        if job_id is not None and (await self._engine.store.get(job_id)).request.progress:
            text = (event.live_status or "").removeprefix("Executing ").strip() or None
            progress = Progress(fraction=fraction, text=text)
            await self._engine.store.progress(job_id, progress, milestone=milestones.tenth(fraction))
