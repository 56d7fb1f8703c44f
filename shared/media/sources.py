"""What may be uploaded? Bytes, a path, an open file, or an address that we read ourselves.

A text is always an address, never a path: what a user typed must not become a file of this machine. An address is used to
read the file and for nothing else; neither it nor a part of it goes to the API, since any part may be a secret.
"""

import asyncio
import hashlib
import io
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from shared.errors import FileUnusable, InvalidInput, Problem
from shared.media.kinds import HEAD_BYTES, is_page, sniff
from shared.media.names import agreed, split
from shared.media.reading import Reader

#: A path as `Path`, an address as `str`. A file is read from its beginning; one that cannot seek from where it stands.
Source = bytes | os.PathLike[str] | IO[bytes] | str

_PIECE_BYTES = 1 << 20
#: Files up to this stay in memory while they are looked at.
_IN_MEMORY_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Content:
    """A file that may be uploaded: looked at, and ready to be read."""

    file: IO[bytes]
    name: str
    content_type: str
    size: int
    #: SHA-256 in hex of the content and the ending it goes under: what the API makes of a file depends on both.
    digest: str

    async def pieces(self) -> AsyncIterator[bytes]:
        """All of it, from the disk as it is asked for; may be asked for again.

        Raises `InvalidInput` before the last piece when the file has changed: others would get it under the wrong digest,
        and a body that ends too soon is stored by nobody.
        """
        digest = hashlib.sha256()

        def read() -> bytes:
            piece = self.file.read(_PIECE_BYTES)
            digest.update(piece)
            return piece

        await asyncio.to_thread(self.file.seek, 0)
        last = await asyncio.to_thread(read)
        while piece := await asyncio.to_thread(read):
            yield last
            last = piece
        if _digest_of(digest, self.name, self.content_type) != self.digest:
            raise InvalidInput([Problem("file", "changed while it was read")])
        yield last


@asynccontextmanager
async def opened(source: Source, name: str | None, reader: Reader, *, most_bytes: int) -> AsyncIterator[Content]:
    """Open a source, look at it from end to end, and close it again, except a file that was given open.

    Raises `InvalidInput` (empty, too large, not what its name says, no such file, an address that does not give the file) and
    `Unavailable` (an address that does not answer now).
    """
    given = name
    if isinstance(source, str):
        with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as file:
            try:
                await reader.read(source, file, most_bytes=most_bytes)
            except FileUnusable as error:
                raise InvalidInput([Problem("file", f"could not be read from its address: {error}")]) from None
            yield await asyncio.to_thread(_looked_at, file, given or "file", most_bytes)
    elif isinstance(source, bytes):
        yield await asyncio.to_thread(_looked_at, io.BytesIO(source), given or "file", most_bytes)
    elif isinstance(source, os.PathLike):
        path = Path(source)
        try:
            file_of_path = await asyncio.to_thread(path.open, "rb")
        except OSError as error:
            raise InvalidInput([Problem("file", f"cannot be opened: {error.strerror}")]) from None
        with file_of_path:
            yield await asyncio.to_thread(_looked_at, file_of_path, given or path.name, most_bytes)
    elif source.seekable():
        yield await asyncio.to_thread(_looked_at, source, given or "file", most_bytes)
    else:
        with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as file:
            await asyncio.to_thread(_copy, source, file, most_bytes)
            yield await asyncio.to_thread(_looked_at, file, given or "file", most_bytes)


def _looked_at(file: IO[bytes], name: str, most_bytes: int) -> Content:
    try:
        file.seek(0)
        head = file.read(HEAD_BYTES)
        size, digest, piece = 0, hashlib.sha256(), head
        while piece:
            size += len(piece)
            if size > most_bytes:
                raise _too_large(most_bytes)
            digest.update(piece)
            piece = file.read(_PIECE_BYTES)
    except OSError as error:  # a folder, a disk that is gone
        raise InvalidInput([Problem("file", f"cannot be read: {error.strerror}")]) from None
    if not size:
        raise InvalidInput([Problem("file", "is empty")])
    kind = sniff(head)
    if kind is None and is_page(head):
        raise InvalidInput([Problem("file", "is a web page, or an error message of a server")])
    name, content_type = agreed(name, kind)
    return Content(file, name, content_type, size, _digest_of(digest, name, content_type))


def _digest_of(content: "hashlib._Hash", name: str, content_type: str) -> str:
    content.update(f"\0{content_type}\0{split(name)[1].lower()}".encode())
    return content.hexdigest()


def _copy(source: IO[bytes], into: IO[bytes], most_bytes: int) -> None:
    size = 0
    while piece := source.read(_PIECE_BYTES):
        size += len(piece)
        if size > most_bytes:
            raise _too_large(most_bytes)
        into.write(piece)


def _too_large(most_bytes: int) -> InvalidInput:
    return InvalidInput([Problem("file", f"is larger than {most_bytes:,} bytes")])
