"""How is a file read from an address? To its end or not at all, into a file, with an end to every wait.

The address may hold a secret (Telegram's file addresses hold the bot's token): it is in no message, log line or exception
of ours, and the client that would log it is not used. Redirects are followed a few times; every connection is checked by
`shared/outside`, so none leads into our own network unless private addresses are allowed.
"""

import asyncio
import hashlib
import re
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

_PART, _NO_SUCH_PART = 206, 416
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


class Arriving:
    """A file on its way: what has come of it stays when a connection breaks, and another try goes on with it.

    Only when the server has named the content (a strong ETag) and still does; else the next try begins anew.
    """

    def __init__(self, file: IO[bytes]) -> None:
        """`file` is empty, or is written from where it stands when there is only one try."""
        self._file = file
        self._start = file.tell() if file.seekable() else 0
        self._touched = False
        self.size = 0
        self.head = b""
        self.mark = ""
        self._digest = hashlib.sha256()

    @property
    def digest(self) -> str:
        """SHA-256 of what has come, in hex."""
        return self._digest.hexdigest()

    def begin(self, mark: str) -> None:
        """Forget what has come. Raises `CannotWrite`."""
        if self._touched:
            try:
                self._file.seek(self._start)
                self._file.truncate()
            except OSError as error:
                raise CannotWrite(f"it cannot be written: {error.strerror}") from None
        self.size, self.head, self.mark, self._digest = 0, b"", mark, hashlib.sha256()

    def write(self, piece: bytes) -> None:
        """Take in what came next. Raises `CannotWrite`."""
        self._touched = True
        try:
            self._file.write(piece)
        except OSError as error:  # said here, or it would be taken for the network's
            self.mark = ""
            raise CannotWrite(f"it cannot be written: {error.strerror}") from None
        self._digest.update(piece)
        self.size += len(piece)
        if len(self.head) < HEAD_BYTES:
            self.head += piece[: HEAD_BYTES - len(self.head)]


class CannotWrite(FileUnusable):
    """It came, and could not be written here."""


class Reader:
    """Reads addresses. Belongs to one event loop; close it with `aclose`."""

    def __init__(self, *, allow_private: bool, most: int = 8) -> None:
        self._transport = open_transport(allow_private=allow_private, most=most)

    async def read(
        self,
        url: str,
        into: IO[bytes] | Arriving,
        *,
        most_bytes: int,
        seconds: float = WHOLE_SECONDS,
        tell: Progress | None = None,
    ) -> Received:
        """Write what the address holds into a file, from where that stands. One request and its redirects; no retry.

        What is `Arriving` goes on where an earlier try broke off.

        Raises `FileUnusable` (another status than 200, too large, not an address, not a public one) and `Unavailable` (no
        answer, 5xx, one that broke off or came short); then the file holds rubbish, or the beginning of what is arriving.
        """
        arriving = into if isinstance(into, Arriving) else Arriving(into)
        try:
            async with asyncio.timeout(seconds):
                return await self._read(url, arriving, most_bytes, tell)
        except FAILURES as error:
            reason = why(error)
            # `from None`: what hangs below holds the address.
            if reason == NOT_PUBLIC:
                raise FileUnusable(reason) from None
            raise Unavailable(f"The file could not be read: {reason}.") from None

    async def _read(self, url: str, into: Arriving, most_bytes: int, tell: Progress | None) -> Received:
        rest = {"range": f"bytes={into.size}-", "if-range": into.mark} if into.size and into.mark else {}
        for _ in range(MOST_REDIRECTS + 1):
            answer = await self._ask(url, rest)
            try:
                if answer.status_code not in _MOVED:
                    return await _take(answer, into, most_bytes, tell)
                url = _next(url, answer.headers.get("location", ""))
            finally:
                await answer.aclose()
        raise FileUnusable("it is redirected too often")

    async def _ask(self, url: str, rest: dict[str, str]) -> httpx.Response:
        try:
            asked = httpx.Request(
                "GET",
                url,
                headers={"user-agent": "Conveyor", "accept": "*/*", "accept-encoding": "identity", **rest},
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


async def _take(answer: httpx.Response, into: Arriving, most_bytes: int, tell: Progress | None) -> Received:
    status = answer.status_code
    if status >= 500 or status in _PASSING:
        raise Unavailable(f"The file could not be read: HTTP {status}.")
    if status == _PART and into.mark and _starts_at(answer) == into.size:
        pass  # it goes on
    elif status in (_PART, _NO_SUCH_PART):
        into.begin("")
        raise Unavailable("The file could not be read: another part came than was asked for.")
    elif status == 200:
        into.begin(_mark(answer))
    else:
        raise FileUnusable(f"HTTP {status}", upstream_status=status)
    told = answer.headers.get("content-length", "")
    length = into.size + int(told) if told.isdecimal() and "content-encoding" not in answer.headers else None
    if length is not None and length > most_bytes:
        raise FileUnusable(_too_large(most_bytes))
    waiting = bytearray()
    try:
        async for part in answer.aiter_bytes():
            waiting += part
            if into.size + len(waiting) > most_bytes:
                raise FileUnusable(_too_large(most_bytes))
            if len(waiting) >= _PIECE_BYTES:
                piece = bytes(waiting)
                waiting.clear()
                await asyncio.to_thread(into.write, piece)
                if tell:
                    tell(into.size, length)
    except FAILURES:
        # What came before it broke off counts.
        await asyncio.to_thread(into.write, bytes(waiting))
        raise
    await asyncio.to_thread(into.write, bytes(waiting))
    if length is not None and into.size != length:
        raise Unavailable("The file could not be read: it came short.")
    content_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    return Received(into.size, into.digest, into.head, content_type)


def _mark(answer: httpx.Response) -> str:
    """What the server calls this very content; empty when it does not, or only says what is as good (a weak ETag)."""
    mark: str = answer.headers.get("etag", "")
    return mark if mark.startswith('"') and "content-encoding" not in answer.headers else ""


def _starts_at(answer: httpx.Response) -> int | None:
    found = re.match(r"bytes (\d+)-", answer.headers.get("content-range", ""))
    return int(found[1]) if found else None


def _too_large(most_bytes: int) -> str:
    return f"it is larger than {most_bytes:,} bytes"
