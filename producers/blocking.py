"""The producer for programs without an event loop: the same code, on a loop of its own in a thread.

    with SyncProducer.from_env() as producer:
        job_id, created = producer.enqueue({"workflow": "portrait", "frontend": "discord", "user": {"id": "42"}})
        final = producer.wait(job_id, timeout_seconds=300)

May be used from many threads at once. In asyncio code use `Producer`: these calls block.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from producers.handle import Cancelled, Status
from producers.producer import Producer, Request
from shared.jobs.event import Event
from shared.settings import Settings

if TYPE_CHECKING:
    from producers.recipes import Ordered
    from producers.saving import Saved
    from shared.media.sources import Source
    from shared.media.uploads import Upload

T = TypeVar("T")
P = ParamSpec("P")


class SyncProducer:
    """`Producer`, one call at a time for each thread. Methods answer and raise what theirs do."""

    def __init__(self, settings: Settings) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="producer", daemon=True)
        self._thread.start()
        self._producer = Producer(settings)

    @classmethod
    def from_env(cls) -> Self:
        """A producer with the settings of the environment."""
        return cls(Settings.from_env())

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            # Ctrl-C in the caller's thread must not leave the work running.
            future.cancel()
            raise

    def enqueue(self, request: Request, *, validate: bool = True) -> tuple[str, bool]:
        """Accept one job: its id, and whether it is new."""
        job = self._call(self._producer.enqueue(request, validate=validate))
        return job.id, job.created

    def order(
        self,
        recipe: Callable[Concatenate[Producer, P], Coroutine[Any, Any, "Ordered"]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> "Ordered":
        """Carry out a recipe: `producer.order(make_image, "a fox", workflow="portrait", ...)`. Wait with `ordered.job.id`."""
        return self._call(recipe(self._producer, *args, **kwargs))

    def status(self, job_id: str) -> Status:
        """The job as it is now."""
        return self._call(self._producer.status(job_id))

    def cancel(self, job_id: str) -> Cancelled:
        """Ask for a job's end."""
        return self._call(self._producer.cancel(job_id))

    def wait(self, job_id: str, timeout_seconds: float | None = None) -> Event:
        """The job's final event; raises `TimeoutError`."""
        return self._call(self._producer.wait(job_id, timeout_seconds))

    def upload(self, source: "Source", name: str | None = None) -> "Upload":
        """Upload a file for an input."""
        return self._call(self._producer.upload(source, name))

    def fetch(self, job_id: str, folder: str | Path, *, force: bool = False) -> "list[Saved]":
        """Save the outputs of a job into a folder."""
        return self._call(self._producer.fetch(job_id, folder, force=force))

    def close(self) -> None:
        """Close the producer and stop the thread. Closing twice is fine."""
        if self._loop.is_closed():
            return
        self._call(self._producer.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
