"""What is left to do for jobs that have ended, as much at once as one process may: attempts under way, and their end."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from shared.jobs.errand import ErrandKind

log = logging.getLogger(__name__)


class Errands:
    """The attempts of one kind that are under way in this process."""

    def __init__(self, kind: ErrandKind, most: int) -> None:
        self._kind, self._most = kind, most
        self._running: dict[asyncio.Task[None], str] = {}

    @property
    def room(self) -> int:
        """How many more may be begun."""
        return self._most - len(self._running)

    def start(self, job_id: str, attempt: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin one. What it raises is logged: its lease ends, and it is tried again."""
        task = asyncio.create_task(attempt)
        self._running[task] = job_id
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        job_id = self._running.pop(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("%s failed", self._kind, extra={"job_id": job_id}, exc_info=error)

    async def end(self) -> None:
        """Wait for those under way."""
        if self._running:
            await asyncio.wait(self._running)

    async def abort(self) -> list[str]:
        """Cancel those under way, and answer whose they were."""
        aborted = dict(self._running)
        for task in aborted:
            task.cancel()
        await asyncio.gather(*aborted, return_exceptions=True)
        return list(aborted.values())
