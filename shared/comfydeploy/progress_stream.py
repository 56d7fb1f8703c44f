"""What is going on in a workflow's runs? The API's own stream of it, good for hints only.

    async with api.progress.of_workflow(workflow_id) as events:
        async for event in events: ...

CONTRACT section 13 and the recordings say what to expect: nothing is replayed, there are no ids and no keep-alives; a cancel
arrives without a status; progress is -1, "not known". Asked for one run, the stream carries every run of the account and ends
when any of them ends, so it is not asked for that way here: a workflow's stream ends only when a connection does.

Reading is lenient: a line that is no event is skipped, one that is too long is dropped up to its end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from pydantic_core import from_json

from shared.comfydeploy.run import FINAL
from shared.comfydeploy.values import fraction, mapping, word

STREAM = "GET /v2/stream-progress"

#: Without a word for this long a stream is given up: a connection that died silently looks just the same.
SILENCE_SECONDS = 300.0
#: An event is a few hundred bytes; whole rows, with the inputs, can be some kilobytes.
MOST_LINE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """Something happened to a run. What exactly, a look must say."""

    run_id: str
    #: A status word of a run, or `input` (submitted) or `output` (one was stored); None for a cancel.
    status: str | None
    #: 0..1, or None when the event does not say, which so far is always.
    progress: float | None
    #: What it is executing, as the API words it.
    live_status: str | None

    @property
    def may_be_the_end(self) -> bool:
        """Whether the run has probably ended: only a cancel comes without a status."""
        return self.status is None or self.status in FINAL


class Listen(Protocol):
    """How a stream is opened; see `ComfyDeploy._stream`, its only implementation."""

    def __call__(
        self, route: str, *, params: Mapping[str, str], silence_seconds: float
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]: ...


class ProgressStreams:
    """The route of the progress stream; reached as `client.progress`."""

    __slots__ = ("_listen",)

    def __init__(self, listen: Listen) -> None:
        self._listen = listen

    @asynccontextmanager
    async def of_workflow(
        self, workflow_id: str, *, silence_seconds: float = SILENCE_SECONDS
    ) -> AsyncIterator[AsyncIterator[ProgressEvent]]:
        """Hear of every run of a workflow from now on. Entering is one call; leaving closes the connection.

        Entering raises what a read raises: Unauthorized, WorkflowNotFound, RateLimited, Unavailable, UnexpectedAnswer. The
        events end when the server ends them, and raise Unavailable when the connection is lost or silent for too long.
        """
        async with self._listen(STREAM, params={"workflow_id": workflow_id}, silence_seconds=silence_seconds) as chunks:
            yield _events(chunks)


async def _events(chunks: AsyncIterator[bytes]) -> AsyncIterator[ProgressEvent]:
    async for line in lines(chunks):
        if event := read_event(line):
            yield event


def read_event(line: bytes) -> ProgressEvent | None:
    """Read one line, in either shape of the stream: short events, or a run's row (`return_run`). None when it is neither."""
    field, _, value = line.partition(b":")
    if field != b"data":
        return None
    try:
        said = mapping(from_json(value))
    except ValueError:
        return None
    run_id = word(said.get("run_id")) or word(said.get("id"))
    if run_id is None:
        return None  # a greeting, or something new
    return ProgressEvent(
        run_id=run_id,
        status=word(said.get("status")),
        progress=fraction(said.get("progress")),
        live_status=word(said.get("live_status")) or word(said.get("node_class")),
    )


async def lines(chunks: AsyncIterator[bytes], most_bytes: int = MOST_LINE_BYTES) -> AsyncIterator[bytes]:
    """Cut bytes into lines, never holding more than one of `most_bytes` and a chunk; longer ones are left out."""
    rest, too_long = b"", False
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if not too_long and len(line) <= most_bytes:
                yield line.removesuffix(b"\r")
            too_long = False
        if len(rest) > most_bytes:
            rest, too_long = b"", True
