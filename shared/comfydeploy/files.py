"""How does a file get to where a run can read it? By an upload; its address is what goes into `inputs`.

Two ways (CONTRACT section 17): `upload` sends it through the API, which judges it by its *name* alone and takes up to 250 MB
of images, videos, audio and `application/*`. `presign` gives an address of the store behind the API and `put` sends the
bytes there, of any kind and size, read as they go. A private bucket gives addresses that expire after an hour.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from shared.comfydeploy.answers import Answer, Ask, Send, one, refused, required
from shared.comfydeploy.values import flag, word
from shared.errors import InvalidInput, Problem, UnexpectedAnswer

UPLOAD = "POST /file/upload"
PRESIGN = "GET /assets/presigned-url"
#: Of the store, not of the API; the address is a secret for an hour.
PUT = "PUT (presigned address)"

#: A body in memory goes out in parts, so that other calls get their turn.
_PART_BYTES = 256 * 1024

#: What `upload` takes (CONTRACT section 17 says 250 MB; the smaller reading of it). `put` takes what the store takes.
MOST_UPLOAD_BYTES = 250_000_000

#: Of one upload; 250 MB through a slow line take minutes.
UPLOAD_SECONDS = 300.0
#: Of one PUT, which may carry gigabytes. It may take longer only as another PUT.
PUT_SECONDS = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadedFile:
    """A file as the API keeps it."""

    #: Goes into `inputs`.
    url: str
    file_id: str | None
    file_name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PresignedUpload:
    """Where bytes may be put, within an hour."""

    #: Whoever knows it may write there.
    put_url: str = field(repr=False)
    #: Goes into `inputs` once the bytes are there.
    url: str
    file_id: str
    #: Where the asset library would keep it (`assets.register`).
    path: str
    content_type: str
    #: What the PUT must say, since it is signed.
    headers: dict[str, str]


class Files:
    """The routes about files; reached as `client.files`."""

    __slots__ = ("_ask", "_send")

    def __init__(self, ask: Ask, send: Send) -> None:
        self._ask = ask
        self._send = send

    async def upload(
        self, file_name: str, content: bytes | AsyncIterable[bytes], content_type: str, *, size: int | None = None
    ) -> UploadedFile:
        """Upload one file. One call. A repeat makes a second copy, which costs nothing.

        `size` is needed for a stream, as for `put`. Raises InvalidInput for a file the API does not take, Unauthorized,
        RateLimited, Unavailable, UnexpectedAnswer; and what the stream itself raises.
        """
        if isinstance(content, bytes):
            size = len(content)
        elif size is None:
            raise InvalidInput([Problem("size", "is needed for a stream")])
        boundary = f"conveyor-{secrets.token_hex(16)}"
        quoted = file_name.replace("\\", "_").replace('"', "%22").replace("\r", "_").replace("\n", "_")
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{quoted}"\r\n'
            f"Content-Type: {content_type}\r\n\r\n"
        ).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        answer = await self._ask(
            UPLOAD,
            content=_between(head, content, tail),
            size=len(head) + size + len(tail),
            content_type=f"multipart/form-data; boundary={boundary}",
            timeout_seconds=UPLOAD_SECONDS,
        )
        if not answer.ok:
            if answer.status in (400, 413):
                raise InvalidInput([Problem("file", answer.reason or "is not taken")], upstream_status=answer.status)
            raise refused(answer)
        return _uploaded(answer, one(answer, "a file"))

    async def presign(self, file_name: str, content_type: str, *, parent_path: str = "/") -> PresignedUpload:
        """Ask for an address to put a file to. One call; nothing is stored yet.

        Raises InvalidInput, Unauthorized, RateLimited, Unavailable, UnexpectedAnswer.
        """
        answer = await self._ask(
            PRESIGN, params={"file_name": file_name, "type": content_type, "parent_path": parent_path}
        )
        if not answer.ok:
            raise refused(answer)
        body = one(answer, "an address")
        headers = {"content-type": content_type}
        if flag(body.get("is_public")):
            headers["x-amz-acl"] = "public-read"
        return PresignedUpload(
            put_url=required(answer, body, "url"),
            url=required(answer, body, "download_url"),
            file_id=required(answer, body, "file_id"),
            path=word(body.get("db_path")) or "",
            content_type=content_type,
            headers=headers,
        )

    async def put(self, to: PresignedUpload, content: bytes | AsyncIterable[bytes], *, size: int | None = None) -> None:
        """Put the bytes to a presigned address. One request, to the store and without our key; may be repeated.

        `size` is needed for a stream: the store wants to know it before. Raises InvalidInput when the stream turns out
        longer or shorter, or the store refuses the file, UnexpectedAnswer when it refuses the address (an hour is over,
        clocks differ), Unavailable; and what the stream itself raises.
        """
        if isinstance(content, bytes):
            size = len(content)
        elif size is None:
            raise InvalidInput([Problem("size", "is needed for a stream")])
        answer = await self._send(PUT, to.put_url, content, size=size, headers=to.headers, timeout_seconds=PUT_SECONDS)
        if answer.ok:
            return
        if answer.status in (400, 411, 413):
            raise InvalidInput([Problem("file", f"the store answered {answer.status}")], upstream_status=answer.status)
        if answer.status == 403:
            raise UnexpectedAnswer(
                f"{PUT} answered 403.",
                check="is the address older than an hour, or a clock wrong?",
                upstream_status=answer.status,
            )
        raise refused(answer)


async def _between(head: bytes, content: bytes | AsyncIterable[bytes], tail: bytes) -> AsyncIterator[bytes]:
    yield head
    if isinstance(content, bytes):
        for start in range(0, len(content), _PART_BYTES):
            yield content[start : start + _PART_BYTES]
    else:
        async for part in content:
            yield part
    yield tail


def _uploaded(answer: Answer, body: dict[str, Any]) -> UploadedFile:
    return UploadedFile(
        url=required(answer, body, "file_url"), file_id=word(body.get("file_id")), file_name=word(body.get("file_name"))
    )
