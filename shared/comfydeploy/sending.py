"""Did the stream we send keep its word? A body of a size told in advance, counted while it goes out.

A transport reports whatever a stream raises as a lost connection; the truth is kept here.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator

from shared.errors import InvalidInput, Problem

#: A body in memory goes out in parts, so that other calls get their turn.
_PART_BYTES = 256 * 1024


class Sending:
    """The body of one request."""

    def __init__(self, content: bytes | AsyncIterable[bytes], size: int) -> None:
        self._content = content
        self._size = size
        self._failure: Exception | None = None

    def complain(self) -> None:
        """Raise what went wrong with the stream, InvalidInput for another size; nothing when it was well."""
        if self._failure is not None:
            raise self._failure

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._counted():
                yield part
        except Exception as error:
            self._failure = error
            raise

    async def _counted(self) -> AsyncIterator[bytes]:
        sent = 0
        if isinstance(self._content, bytes):
            for start in range(0, len(self._content), _PART_BYTES):
                yield self._content[start : start + _PART_BYTES]
            return
        async for part in self._content:
            sent += len(part)
            if sent > self._size:
                raise InvalidInput([Problem("size", f"the file is longer than the {self._size} bytes it should have")])
            yield part
        if sent < self._size:
            raise InvalidInput([Problem("size", f"the file has only {sent} of its {self._size} bytes")])
