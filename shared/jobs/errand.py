"""What is left to do for a job that has ended: its callback, and copying what it made.

Both are written down by the script that makes the job final, in a set of their own (`conveyor:callbacks`,
`conveyor:archives`), and leave it with their decision; between the two any worker may attempt them (decisions 11 and 13).
"""

from dataclasses import dataclass, field
from typing import Literal

ErrandKind = Literal["callback", "archive"]

#: `again`, or the word it is decided with; `failed` is given up.
Outcome = Literal["again", "delivered", "kept", "failed"]


@dataclass(frozen=True, slots=True)
class Errand:
    """One attempt. Times are milliseconds on Redis's clock."""

    job_id: str
    #: 1 for the first.
    attempt: int
    #: When the first attempt was begun.
    since: int
    now: int
    #: The number of the job's last event.
    seq: int
    #: Of the job's trace; empty when nobody began one.
    traceparent: str = ""
    #: Of a callback only; "" otherwise. The body is the final event, byte for byte as on the stream.
    url: str = ""
    secret: str = field(default="", repr=False)
    body: str = ""
