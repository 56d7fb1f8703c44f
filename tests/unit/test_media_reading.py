"""A file that breaks off goes on where it was, when the storage says that it is the same file; else it begins anew."""

import hashlib
import io
from collections.abc import AsyncIterator

import httpx
import pytest

from shared.errors import FileUnusable, Unavailable
from shared.media.reading import Arriving, Reader

FILE = bytes(range(256)) * 40
OTHER = FILE[::-1]


class Body(httpx.AsyncByteStream):
    """A body in pieces, whose connection breaks after so many bytes."""

    def __init__(self, content: bytes, breaks_after: int | None) -> None:
        self._content, self._breaks_after = content, breaks_after

    async def __aiter__(self) -> AsyncIterator[bytes]:
        end = len(self._content) if self._breaks_after is None else self._breaks_after
        for start in range(0, end, 1000):
            yield self._content[start : min(end, start + 1000)]
        if self._breaks_after is not None:
            raise httpx.ReadError("the connection was lost")


class Storage(httpx.AsyncBaseTransport):
    """Sends files as S3 does: a range of them when it is asked for, and it is still the same file."""

    def __init__(self, *answers: tuple[bytes, str, int | None], ranges: bool = True) -> None:
        #: For each request: the file, its ETag, and after how many bytes the connection breaks.
        self._answers, self._ranges = list(answers), ranges
        self.asked: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        content, mark, breaks_after = self._answers.pop(0)
        wanted = request.headers.get("range", "")
        self.asked.append(wanted)
        headers = {"etag": mark} if mark else {}
        if wanted and self._ranges and request.headers["if-range"] == mark:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            headers["content-range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            rest, status = content[start:], 206
        else:
            rest, status = content, 200
        headers["content-length"] = str(len(rest))
        return httpx.Response(status, headers=headers, stream=Body(rest, breaks_after))


async def tried(storage: httpx.AsyncBaseTransport, times: int) -> tuple[bytes, str]:
    """Try so many times, of which the last one succeeds: what is in the file, and its digest as it was told."""
    reader = Reader(allow_private=True)
    await reader.aclose()
    reader._transport = storage
    file = io.BytesIO()
    arriving = Arriving(file)
    for _ in range(times - 1):
        with pytest.raises(Unavailable):
            await reader.read("http://storage.test/a", arriving, most_bytes=20_000)
    got = await reader.read("http://storage.test/a", arriving, most_bytes=20_000)
    assert (got.size, got.head) == (len(file.getvalue()), file.getvalue()[:4096])
    return file.getvalue(), got.digest


async def test_only_the_rest_is_asked_for() -> None:
    """Again and again, as far as it comes."""
    storage = Storage((FILE, '"a"', 3500), (FILE, '"a"', 10), (FILE, '"a"', None))
    content, digest = await tried(storage, 3)
    assert storage.asked == ["", "bytes=3500-", "bytes=3510-"]
    assert (content, digest) == (FILE, hashlib.sha256(FILE).hexdigest())


@pytest.mark.parametrize(
    ("first", "then", "ranges"),
    [
        ('"a"', '"b"', True),  # another file under the same address
        ('"a"', '"a"', False),  # a server that sends no parts
        ("", "", True),  # a server that does not say what it sends
        ('W/"a"', 'W/"a"', True),  # one that says that it is as good as the same
    ],
)
async def test_what_may_be_another_file_begins_anew(first: str, then: str, ranges: bool) -> None:
    """A file is never put together of two."""
    storage = Storage((FILE, first, 3500), (OTHER, then, None), ranges=ranges)
    assert await tried(storage, 2) == (OTHER, hashlib.sha256(OTHER).hexdigest())


class Wrong(Storage):
    """Sends a part nobody has asked for, once."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await super().handle_async_request(request)
        if answer.status_code == 206:
            answer.headers["content-range"] = "bytes 0-9/10"
        return answer


async def test_another_part_than_was_asked_for_is_not_taken() -> None:
    """The next try begins anew."""
    storage = Wrong((FILE, '"a"', 3500), (FILE, '"a"', None), (FILE, '"a"', None))
    content, _ = await tried(storage, 3)
    assert (content, storage.asked) == (FILE, ["", "bytes=3500-", ""])


async def test_the_limit_holds_for_all_parts_together() -> None:
    """What is too large is refused as soon as it is told, also when it comes in parts."""
    reader = Reader(allow_private=True)
    await reader.aclose()
    reader._transport = Storage((FILE, '"a"', 3500), (FILE + FILE, '"a"', None))
    arriving = Arriving(io.BytesIO())
    with pytest.raises(Unavailable):
        await reader.read("http://storage.test/a", arriving, most_bytes=12_000)
    with pytest.raises(FileUnusable, match="larger than 12,000"):
        await reader.read("http://storage.test/a", arriving, most_bytes=12_000)
