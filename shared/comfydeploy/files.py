"""How does a file get to where a run can read it? By an upload; its address is what goes into `inputs`.

CONTRACT section 17: the API judges a file by its *name* alone, and takes up to 250 MB of images, videos, audio and
`application/*`. A private bucket gives addresses that expire after an hour.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from shared.comfydeploy.answers import Answer, Ask, refused, required, unexpected
from shared.comfydeploy.values import word
from shared.errors import InvalidInput, Problem

UPLOAD = "POST /file/upload"

#: Of one upload; 250 MB through a slow line take minutes.
UPLOAD_SECONDS = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadedFile:
    """A file as the API keeps it."""

    #: Goes into `inputs`.
    url: str
    file_id: str | None
    file_name: str | None


class Files:
    """The routes about files; reached as `client.files`."""

    __slots__ = ("_ask",)

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def upload(self, file_name: str, content: bytes, content_type: str) -> UploadedFile:
        """Upload one file. One call. A repeat makes a second copy, which costs nothing.

        Raises InvalidInput for a file the API does not take, Unauthorized, RateLimited, Unavailable, UnexpectedAnswer.
        """
        boundary = f"conveyor-{secrets.token_hex(16)}"
        quoted = file_name.replace("\\", "_").replace('"', "%22").replace("\r", "_").replace("\n", "_")
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{quoted}"\r\n'
            f"Content-Type: {content_type}\r\n\r\n"
        )
        answer = await self._ask(
            UPLOAD,
            content=b"".join((head.encode(), content, f"\r\n--{boundary}--\r\n".encode())),
            content_type=f"multipart/form-data; boundary={boundary}",
            timeout_seconds=UPLOAD_SECONDS,
        )
        if not answer.ok:
            if answer.status in (400, 413):
                raise InvalidInput([Problem("file", answer.reason or "is not taken")], upstream_status=answer.status)
            raise refused(answer)
        return _uploaded(answer, answer.body)


def _uploaded(answer: Answer, body: Any) -> UploadedFile:
    if not isinstance(body, dict):
        raise unexpected(answer, "a file")
    return UploadedFile(
        url=required(answer, body, "file_url"), file_id=word(body.get("file_id")), file_name=word(body.get("file_name"))
    )
