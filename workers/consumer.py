"""What if a message is Celery's, but not one of ours? Refused, logged and counted; the worker goes on."""

from typing import Any

from celery.signals import task_failure
from celery.worker.consumer import Consumer as CeleryConsumer

from workers.transport import dropped


class Consumer(CeleryConsumer):
    """Celery's consumer, counting what it refuses."""

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """The body cannot be read (not JSON, or a content type we do not take, such as pickle)."""
        dropped["undecodable"] = dropped.get("undecodable", 0) + 1
        super().on_decode_error(message, exc)

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """There is no task in it."""
        dropped["no_task"] = dropped.get("no_task", 0) + 1
        super().on_unknown_message(body, message)

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """It names a task that does not exist."""
        dropped["unknown_task"] = dropped.get("unknown_task", 0) + 1
        super().on_unknown_task(body, message, exc)

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """It names our task, but is malformed."""
        dropped["invalid_task"] = dropped.get("invalid_task", 0) + 1
        super().on_invalid_task(body, message, exc)


@task_failure.connect
def _count_failure(**_: Any) -> None:
    """Our task cannot be called like this: wrong arguments, or a job id that is no text."""
    dropped["bad_arguments"] = dropped.get("bad_arguments", 0) + 1
