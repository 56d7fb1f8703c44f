"""How is a file read from an address? To its end or not at all, into a file, with an end to every wait.

The address may hold a secret (Telegram's file addresses hold the bot's token): it is in no message, log line or exception
of ours, and the client that would log it is not used. Redirects are followed a few times; every connection is checked by
`shared/outside`, so none leads into our own network unless private addresses are allowed.
"""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO
from urllib.parse import urljoin, urlsplit

import httpx

from shared.errors import FileUnusable, Unavailable
from shared.media.kinds import HEAD_BYTES, FileKind, sniff
from shared.outside import FAILURES, NOT_PUBLIC, open_transport, why

#: Of each step: the connection, the silence between two pieces.
STEP_SECONDS = 20.0
#: Of the whole; 250 MB through a slow line.
WHOLE_SECONDS = 300.0
MOST_REDIRECTS = 4

_MOVED = frozenset({301, 302, 303, 307, 308})
#: Statuses after which the same address may well answer.
_PASSING = frozenset({408, 425, 429})
#: Pieces are gathered to so many bytes before a thread writes them.
_PIECE_BYTES = 1 << 20


#: Told on the way: bytes that have come, and how many it will be, if the server says so.
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Received:
    """What came."""

    size: int
    #: SHA-256 of the content, in hex.
    digest: str
    head: bytes
    #: As the server says, without parameters, in lower case; empty when it does not.
    content_type: str

    @property
    def kind(self) -> FileKind | None:
        """What it is, by its content."""
        return sniff(self.head)


class CannotWrite(FileUnusable):
    """It came, and could not be written here."""


class Reader:
    """Reads addresses. Belongs to one event loop; close it with `aclose`."""

    def __init__(self, *, allow_private: bool, most: int = 8) -> None:
        self._transport = open_transport(allow_private=allow_private, most=most)

    async def read(
        self,
        url: str,
        into: IO[bytes],
        *,
        most_bytes: int,
        seconds: float = WHOLE_SECONDS,
        tell: Progress | None = None,
    ) -> Received:
        """Write what the address holds into a file, from where that stands. One request and its redirects; no retry.

        Raises `FileUnusable` (another status than 200, too large, not an address, not a public one) and `Unavailable` (no
        answer, 5xx, one that broke off or came short); then the file holds rubbish.
        """
        try:
            async with asyncio.timeout(seconds):
                return await self._read(url, into, most_bytes, tell)
        except FAILURES as error:
            reason = why(error)
            # `from None`: what hangs below holds the address.
            if reason == NOT_PUBLIC:
                raise FileUnusable(reason) from None
            raise Unavailable(f"The file could not be read: {reason}.") from None

    async def _read(self, url: str, into: IO[bytes], most_bytes: int, tell: Progress | None) -> Received:
        for _ in range(MOST_REDIRECTS + 1):
            answer = await self._ask(url)
            try:
                if answer.status_code not in _MOVED:
                    return await _take(answer, into, most_bytes, tell)
                url = _next(url, answer.headers.get("location", ""))
            finally:
                await answer.aclose()
        raise FileUnusable("it is redirected too often")

    async def _ask(self, url: str) -> httpx.Response:
        try:
            asked = httpx.Request(
                "GET",
                url,
                headers={"user-agent": "Conveyor", "accept": "*/*", "accept-encoding": "identity"},
                extensions={"timeout": httpx.Timeout(STEP_SECONDS).as_dict()},
            )
        except (httpx.InvalidURL, ValueError, TypeError):
            raise FileUnusable("it is not an address") from None
        if asked.url.scheme not in ("http", "https") or not asked.url.host:
            raise FileUnusable("it is not an http(s) address")
        if asked.url.userinfo:
            raise FileUnusable("an address with a user name is not called")
        answer = await self._transport.handle_async_request(asked)
        answer.request = asked
        return answer

    async def aclose(self) -> None:
        """Close every connection. Closing twice is fine."""
        await self._transport.aclose()


def _next(url: str, location: str) -> str:
    try:
        found = urljoin(url, location)
        if location and (urlsplit(found).scheme == "https" or urlsplit(url).scheme != "https"):
            return found
    except ValueError:
        pass
    raise FileUnusable("it is redirected to nowhere, or to where it is not encrypted")


async def _take(answer: httpx.Response, into: IO[bytes], most_bytes: int, tell: Progress | None) -> Received:
    status = answer.status_code
    if status >= 500 or status in _PASSING:
        raise Unavailable(f"The file could not be read: HTTP {status}.")
    if status != 200:
        raise FileUnusable(f"HTTP {status}", upstream_status=status)
    told = answer.headers.get("content-length", "")
    length = int(told) if told.isdecimal() and "content-encoding" not in answer.headers else None
    if length is not None and length > most_bytes:
        raise FileUnusable(_too_large(most_bytes))
    head, size, digest = b"", 0, hashlib.sha256()
    waiting = bytearray()

    def write(piece: bytes) -> None:
        digest.update(piece)
        try:
            into.write(piece)
        except OSError as error:  # said here, or it would be taken for the network's
            raise CannotWrite(f"it cannot be written: {error.strerror}") from None

    async for part in answer.aiter_bytes():
        size += len(part)
        if size > most_bytes:
            raise FileUnusable(_too_large(most_bytes))
        if len(head) < HEAD_BYTES:
            head += part[: HEAD_BYTES - len(head)]
        waiting += part
        if len(waiting) >= _PIECE_BYTES:
            await asyncio.to_thread(write, bytes(waiting))
            waiting.clear()
            if tell:
                tell(size, length)
    await asyncio.to_thread(write, bytes(waiting))
    if length is not None and size != length:
        raise Unavailable("The file could not be read: it came short.")
    content_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    return Received(size, digest.hexdigest(), head, content_type)


def _too_large(most_bytes: int) -> str:
    return f"it is larger than {most_bytes:,} bytes"
