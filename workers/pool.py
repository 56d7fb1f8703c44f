"""When does a worker read the next message? As soon as a slot is free, not when its event loop next wakes by itself.

Nothing is prefetched, so with all slots busy Celery reads no messages; and its event loop, which would, sleeps until a
socket or a timer wakes it (up to a second). A thread that finishes a task therefore knocks at the loop through a pipe.
"""

import contextlib
import os
from collections.abc import Callable
from typing import Any

from celery.concurrency.thread import TaskPool


class ThreadPool(TaskPool):
    """Celery's thread pool, whose finished tasks wake the loop that reads messages."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._ear, self._knocker = os.pipe()
        os.set_blocking(self._ear, False)
        os.set_blocking(self._knocker, False)

    def register_with_event_loop(self, hub: Any) -> None:
        """Listen for knocks; Celery calls this again after each reconnect."""
        hub.add_reader(self._ear, self._heard)

    def _heard(self) -> None:
        # Several knocks may be read as one, and then none is left.
        with contextlib.suppress(BlockingIOError):
            os.read(self._ear, 4096)

    def on_apply(
        self,
        target: Any,
        args: Any = None,
        kwargs: Any = None,
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        **_: Any,
    ) -> Any:
        """Run a task in a thread. The callback is what frees its slot, so the knock comes after it."""

        def freed(*results: Any, **named: Any) -> None:
            if callback is not None:
                callback(*results, **named)
            # A full pipe is full of knocks nobody has heard yet.
            with contextlib.suppress(BlockingIOError):
                os.write(self._knocker, b".")

        return super().on_apply(target, args, kwargs, freed, accept_callback)
