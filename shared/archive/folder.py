"""Copies in a folder of this machine, or of a disk that several machines share.

A file gets its name by one rename, after it has been synced: what is there is whole, also after a power cut. Who may read
is for the umask and the folder's owner to say.
"""

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from shared.errors import FileUnusable, TellOperator

_PIECE_BYTES = 1 << 20
#: No output has a name that begins so (`safe_name`).
_PARTIAL = ".partial-"


class Folder:
    """A shelf in the file system."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def address(self, name: str) -> str:
        """A path."""
        return str(self._root / name)

    async def put(self, name: str, file: IO[bytes], content_type: str) -> None:  # noqa: ARG002 - a name's ending says it
        """See `Shelf`."""
        await asyncio.to_thread(self._put, self._root / name, file)

    def _put(self, path: Path, file: IO[bytes]) -> None:
        partial = path.with_name(f"{_PARTIAL}{secrets.token_hex(8)}")
        file.seek(0)
        with _telling("written"):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with partial.open("xb") as copy:
                    shutil.copyfileobj(file, copy, _PIECE_BYTES)
                    copy.flush()
                    os.fsync(copy.fileno())
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)  # the name, too
            finally:
                os.close(folder)

    async def read(self, name: str, size: int) -> AsyncIterator[bytes]:
        """See `Shelf`."""
        try:
            file = await asyncio.to_thread((self._root / name).open, "rb")
        except FileNotFoundError:
            raise FileUnusable("it is not in the archive") from None
        except OSError as error:
            raise _broken("read", error) from None
        with file:
            while size > 0:
                with _telling("read"):
                    piece = await asyncio.to_thread(file.read, min(size, _PIECE_BYTES))
                if not piece:
                    return
                size -= len(piece)
                yield piece

    async def find(self, name: str, most_bytes: int) -> bytes | None:
        """See `Shelf`."""
        return await asyncio.to_thread(self._find, self._root / name, most_bytes)

    def _find(self, path: Path, most_bytes: int) -> bytes | None:
        try:
            with path.open("rb") as file:
                content = file.read(most_bytes + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _broken("read", error) from None
        return content if len(content) <= most_bytes else None

    async def tidy(self, below: str) -> None:
        """See `Shelf`. One who is just writing such a file hears that it could not be written."""

        def remove() -> None:
            with _telling("written"):
                for path in (self._root / below).glob(f"{_PARTIAL}*"):
                    path.unlink(missing_ok=True)

        await asyncio.to_thread(remove)

    async def erase(self, below: str) -> int:
        """See `Shelf`."""
        return await asyncio.to_thread(self._erase, self._root / below)

    def _erase(self, folder: Path) -> int:
        count = 0
        with _telling("deleted"):
            for path in folder.iterdir() if folder.is_dir() else ():
                path.unlink(missing_ok=True)
                count += not path.name.startswith(_PARTIAL)
            try:
                folder.rmdir()
                folder.parent.rmdir()  # a day without copies
            except OSError:  # not empty, or somebody was quicker
                pass
        return count


@contextmanager
def _telling(done: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _broken(done, error) from None


def _broken(done: str, error: OSError) -> TellOperator:
    return TellOperator(
        f"The archive cannot be {done}: {error.strerror}.", check="the folder CONVEYOR_ARCHIVE names, and its disk."
    )
