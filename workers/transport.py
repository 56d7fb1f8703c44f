"""What if something that is no Celery message lies in the broker's list? It is dropped, logged and counted.

kombu's Redis transport reads an entry's JSON and envelope deep inside its poll loop, where an exception ends the worker;
anybody who can reach the list could then keep every worker down with one stray LPUSH.
"""

import logging
from queue import Empty
from typing import Any

from kombu.transport import redis, virtual

log = logging.getLogger(__name__)

#: Reason -> entries dropped by this process since it started; the ticker adds them to Redis.
dropped: dict[str, int] = {}


class ForeignMessageError(ValueError):
    """The entry is JSON, but no message envelope."""


class Message(virtual.Message):
    """A message whose envelope is checked before anything relies on it."""

    def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:
        try:
            super().__init__(payload, channel=channel, **kwargs)
        except (KeyError, TypeError, AttributeError) as error:
            raise ForeignMessageError(f"no envelope: {error!r}") from error


class Channel(redis.Channel):
    """A channel that survives entries it cannot read."""

    Message = Message

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # not in the stubs
        except ValueError as error:  # not JSON, not UTF-8, or ForeignMessageError
            reason = "not_an_envelope" if isinstance(error, ForeignMessageError) else "not_json"
            dropped[reason] = dropped.get(reason, 0) + 1
            log.warning("broker entry dropped", extra={"reason": reason, "error": str(error)[:200]})
            raise Empty from error


class Transport(redis.Transport):
    """The Redis transport with that channel."""

    Channel = Channel
