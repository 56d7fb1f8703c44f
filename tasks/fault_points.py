"""Where can a test stop a worker exactly?

Each name below is a place where a crash would hurt if the code around it were wrong. `reach` does nothing unless a test
has armed the point: in its own process with `arm`, in a worker process with the environment variable
`FAULT_POINTS=after_post:kill`. Production code only ever calls `reach`.
"""

import os
import signal
from collections.abc import Awaitable, Callable
from typing import Literal, get_args

FaultPoint = Literal[
    "after_dispatch",  # taken out of the lane, its message not sent
    "after_token",  # a token is spent, nothing is written
    "after_intent",  # `submitting` is written, nothing is posted
    "after_post",  # the run exists and is paid for, nobody knows its id but we
    "after_submitted",  # `submitted` is written, the task has not ended
    "after_read",  # the look knows the end, nothing is written
    "after_final",  # the job is final, its Celery row is open
    "after_callback",  # the receiver has taken the callback, nobody knows but we
    "after_copy",  # the outputs are in the archive, nobody knows but we
    "after_result",  # the Celery result is stored, the row is still listed for closing
]

Action = Callable[[str], Awaitable[None]]

_armed: dict[str, Action] = {}


async def reach(point: FaultPoint, job_id: str) -> None:
    """Say that the code is here, with this job. Does what the test armed the point with; nothing in production."""
    if action := _armed.get(point):
        await action(job_id)


def arm(point: FaultPoint, action: Action | None) -> None:
    """Have `action` carried out at a point; None disarms it."""
    if action is None:
        _armed.pop(point, None)
    else:
        _armed[point] = action


def arm_from(text: str) -> None:
    """Arm points of this process: `after_post:kill,after_final:kill`. The one action is to die as by `kill -9`."""

    async def kill(_: str) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    for part in filter(None, (item.strip() for item in text.split(","))):
        point, _, action = part.partition(":")
        if point not in get_args(FaultPoint) or action != "kill":
            raise ValueError(f"FAULT_POINTS: {part!r} is not <point>:kill with a point of {get_args(FaultPoint)}")
        _armed[point] = kill
