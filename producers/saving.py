"""How does an output become a file in somebody's folder? Under a safe name, whole or not at all, and over nothing else."""

import hashlib
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from shared.errors import FileUnusable
from shared.jobs.event import Output
from shared.media.cache import Kept
from shared.media.names import type_of_name


@dataclass(frozen=True, slots=True)
class Saved:
    """One output in a folder."""

    #: The output's key, as in events.
    key: str
    kind: str
    path: Path
    size: int
    #: SHA-256 of the content, in hex.
    digest: str
    content_type: str
    #: False when the same file was there before.
    written: bool

    def snapshot(self) -> dict[str, Any]:
        """The same as JSON."""
        facts = {"key": self.key, "kind": self.kind, "path": str(self.path), "size": self.size}
        return facts | {"sha256": self.digest, "content_type": self.content_type, "written": self.written}


def save_file(output: Output, kept: Kept, folder: Path, name: str, *, force: bool) -> Saved:
    """Copy a kept file into a folder. Raises `FileUnusable` (another file is there, or it cannot be written), `Damaged`."""
    content_type = kept.kind.content_type if kept.kind else output.content_type or type_of_name(name)
    path = folder / name
    written = _place(path, kept.size, kept.digest, kept.copy, force=force)
    return Saved(output.key, output.kind, path, kept.size, kept.digest, content_type, written)


def save_text(output: Output, folder: Path, name: str, *, force: bool) -> Saved:
    """Write a text into a folder. Raises `FileUnusable`."""
    content = (output.text or "").encode(errors="replace")
    digest = hashlib.sha256(content).hexdigest()
    path = folder / name
    written = _place(path, len(content), digest, lambda file: file.write(content), force=force)
    return Saved(output.key, output.kind, path, len(content), digest, "text/plain", written)


def _place(path: Path, size: int, digest: str, write: Callable[[IO[bytes]], object], *, force: bool) -> bool:
    """Have a file with this content under this name; False when there was one."""
    if _is_there(path, size, digest):
        return False
    if os.path.lexists(path) and not force:
        raise _taken(path)
    partial = path.with_name(f".conveyor-{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("xb") as file:
                write(file)
            _rename(partial, path, force=force)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise FileUnusable(f"{path} cannot be written: {error.strerror}") from None
    return True


def _rename(partial: Path, path: Path, *, force: bool) -> None:
    if not force:
        try:
            # Not a rename, which would replace what somebody else has put there meanwhile.
            path.hardlink_to(partial)
            return
        except FileExistsError:
            raise _taken(path) from None
        except OSError:  # a disk without hard links
            if os.path.lexists(path):
                raise _taken(path) from None
    partial.replace(path)


def _is_there(path: Path, size: int, digest: str) -> bool:
    try:
        if not path.is_file():  # to open a pipe would wait for whoever writes into it
            return False
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_size == size and _digest(file) == digest
    except OSError:
        return False


def _digest(file: IO[bytes]) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # typeshed wants a BytesIO


def _taken(path: Path) -> FileUnusable:
    return FileUnusable(f"{path} exists and is another file")
