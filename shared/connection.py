"""A cancelled task must end, also while it talks to Redis.

redis-py sends each command under `asyncio.wait_for`. Before Python 3.12 that forgets a cancellation that comes in the
moment the sending is over (python/cpython#86296): about one in seven, for a task that asks Redis all the time, and the
task then runs on for ever. Seen with redis-py 8.1.0 on Python 3.11.7; `tests/service/test_results_cancellation.py`.
"""

import asyncio
from collections.abc import Iterable

from redis.asyncio.connection import AbstractConnection


def cancellable(kind: type[AbstractConnection]) -> type[AbstractConnection]:
    """The same kind of connection (TCP, TLS, Unix socket), which passes every cancellation on."""

    class Cancellable(kind):  # type: ignore[misc, valid-type]
        async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
            task = asyncio.current_task()
            before = task.cancelling() if task else 0
            if before:
                # One that was asked for and not delivered yet (Ctrl-C while we printed) is delivered here, not in there.
                await asyncio.sleep(0)
            await super().send_packed_command(command, check_health)
            if task and task.cancelling() > before:
                # The reply will come, and must not be taken for the next command's.
                await self.disconnect(nowait=True)
                raise asyncio.CancelledError

    return Cancellable
