"""Which files does the account keep? The asset library: folders and files that people see on the API's own pages.

Conveyor's inputs do not need it. It serves what was put to a presigned address (`files.presign`, `files.put`) and is to be
found again: `register` lists it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared.comfydeploy.answers import Answer, Ask, encoded, one, refused, required, rows
from shared.comfydeploy.files import PresignedUpload
from shared.comfydeploy.values import flag, time_at, whole, word
from shared.errors import NotFound

LIST = "GET /assets"
SEARCH = "GET /assets/search"
GET = "GET /assets/{asset_id}"
DELETE = "DELETE /assets/{asset_id}"
REGISTER = "POST /assets/register"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One file or folder of the library."""

    id: str
    name: str | None
    path: str | None
    is_folder: bool
    #: None for folders, as are size and type. In a private bucket it cannot be fetched without a signature.
    url: str | None
    size: int | None
    content_type: str | None
    created_at: datetime | None
    updated_at: datetime | None


class Assets:
    """The routes about assets; reached as `client.assets`."""

    __slots__ = ("_ask",)

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def list(self, path: str = "/") -> tuple[Asset, ...]:
        """List what is in a folder. One call. Raises Unauthorized, RateLimited, Unavailable, UnexpectedAnswer."""
        return await self._list(LIST, {"path": path})

    async def search(self, text: str, *, limit: int = 5) -> tuple[Asset, ...]:
        """List files and folders whose name holds a text, in any folder. One call. Raises as `list`, and InvalidInput."""
        return await self._list(SEARCH, {"query": text, "limit": limit})

    async def get(self, asset_id: str) -> Asset:
        """Read one. One call. Raises NotFound, Unauthorized, RateLimited, Unavailable, UnexpectedAnswer."""
        answer = await self._ask(GET, path={"asset_id": asset_id})
        if not answer.ok:
            raise refused(answer, not_found=NotFound)
        return _asset(answer, one(answer, "an asset"))

    async def delete(self, asset_id: str) -> None:
        """Take one out of the library. One call; a second one raises NotFound. Raises as `get`."""
        answer = await self._ask(DELETE, path={"asset_id": asset_id})
        if not answer.ok:
            raise refused(answer, not_found=NotFound)

    async def register(self, put: PresignedUpload, file_name: str, size: int) -> Asset:
        """List a file that was put to a presigned address. One call. Its id is the upload's, so a repeat makes no second.

        Raises InvalidInput, Unauthorized, RateLimited, Unavailable, UnexpectedAnswer.
        """
        answer = await self._ask(
            REGISTER,
            content=encoded(
                {
                    "file_id": put.file_id,
                    "file_name": file_name,
                    "file_size": size,
                    "db_path": put.path,
                    "url": put.url,
                    "mime_type": put.content_type,
                }
            ),
        )
        if not answer.ok:
            raise refused(answer)
        return _asset(answer, one(answer, "an asset"))

    async def _list(self, route: str, params: dict[str, str | int | None]) -> tuple[Asset, ...]:
        answer = await self._ask(route, params=params)
        if not answer.ok:
            raise refused(answer)
        return tuple(_asset(answer, row) for row in rows(answer, answer.body))


def _asset(answer: Answer, row: dict[str, Any]) -> Asset:
    return Asset(
        id=required(answer, row, "id"),
        name=word(row.get("name")),
        path=word(row.get("path")),
        is_folder=flag(row.get("is_folder")) or False,
        url=word(row.get("url")),
        size=whole(row.get("file_size")),
        content_type=word(row.get("mime_type")),
        created_at=time_at(row.get("created_at")),
        updated_at=time_at(row.get("updated_at")),
    )
