"""Which files do we have on disk already? By content, so that the same file is kept once, and found by its address.

    <folder>/content/ab/abcd…     a file, under its SHA-256; its time of change is when it was last used
    <folder>/names/12/12ef…       the SHA-256 of what an address held, under that of the address
    <folder>/partial/…            a file on its way

A file gets its name only when it is whole, by one rename. Nothing is synced: after a power cut a file may be short, and
whoever reads one checks its SHA-256 (`Kept.copy`). Several processes may use one folder; who sweeps may take away a file
that another has open, which does that one no harm.

Files are private to the account: outputs belong to users. All of it blocks; call it in a thread.
"""

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from shared.errors import FileUnusable, MissingSetting
from shared.media.kinds import HEAD_BYTES, FileKind, sniff

#: A sweep leaves this share of the cap, so that the next file does not make another one.
SWEEP_TO = 0.95
#: A process sweeps with its first file, and when it has added this share of the cap.
SWEEP_EVERY = 0.02
#: What has not grown for so long was left behind by a process that died.
PARTIAL_SECONDS = 3600.0

_PIECE_BYTES = 1 << 20


class Damaged(Exception):
    """A kept file is not what it was; it is gone now, and has to be fetched again. For `downloads.py` alone."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A file of the cache, open: it can be read to its end whatever happens to the cache."""

    file: IO[bytes]
    path: Path
    digest: str
    size: int
    kind: FileKind | None

    def copy(self, into: IO[bytes]) -> None:
        """Write it into another file. Raises `Damaged` when it is not what it was; then the other holds rubbish."""
        self.file.seek(0)
        digest = hashlib.sha256()
        while piece := self.file.read(_PIECE_BYTES):
            digest.update(piece)
            into.write(piece)
        if digest.hexdigest() != self.digest:
            self.path.unlink(missing_ok=True)
            raise Damaged

    def close(self) -> None:
        """Close the file. Closing twice is fine."""
        self.file.close()


def usual_folder() -> Path:
    """Where caches of this account belong. Raises `MissingSetting` for an account without a home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "conveyor"
    except RuntimeError:
        raise MissingSetting("This account has no home.", check="CONVEYOR_CACHE_FOLDER: say where files go.") from None


class DiskCache:
    """The cache in one folder, of at most about `most_bytes`."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.folder = folder
        self._most_bytes = most_bytes
        self._added: int | None = None

    def find(self, address: str) -> Kept | None:
        """The file an address held, and note that it was used; None when it is not here (any more)."""
        name = self._name(address)
        try:
            kept = self._open(name.read_text())
        except (OSError, ValueError):
            return None
        with contextlib.suppress(OSError):
            os.utime(kept.path)
        return kept

    @contextmanager
    def partial(self) -> Iterator[IO[bytes]]:
        """A new file to write into; gone at the end unless it was kept. Raises `MissingSetting` when none can be made."""
        path = self.folder / "partial" / secrets.token_hex(16)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            file = path.open("xb")
        except OSError as error:
            raise MissingSetting(
                f"Files cannot be written into {self.folder}: {error.strerror}.", check="CONVEYOR_CACHE_FOLDER"
            ) from None
        try:
            with file:
                yield file
        finally:
            path.unlink(missing_ok=True)

    def keep(self, partial: IO[bytes], address: str, digest: str) -> Kept:
        """Take in a file that is whole, as what the address holds. Makes room when it is time to. Raises `FileUnusable`."""
        try:
            return self._keep(partial, address, digest)
        except OSError as error:
            raise FileUnusable(f"it cannot be kept: {error.strerror}") from None

    def _keep(self, partial: IO[bytes], address: str, digest: str) -> Kept:
        partial.flush()
        content = self._content(digest)
        content.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        Path(partial.name).replace(content)
        kept = self._open(digest)
        name = self._name(address)
        name.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = name.with_name(f"{name.name}.{secrets.token_hex(4)}")
        fresh.write_text(digest)
        fresh.replace(name)
        if self._added is None or self._added + kept.size > self._most_bytes * SWEEP_EVERY:
            self._added = 0
            self.sweep()
        else:
            self._added += kept.size
        return kept

    def sweep(self) -> None:
        """Take away what was used longest ago, until the rest fits, and what leads nowhere."""
        files = sorted(self._stats("content"), key=lambda one: one[1].st_mtime)
        size = sum(stat.st_size for _, stat in files)
        if size > self._most_bytes:
            for path, stat in files:
                path.unlink(missing_ok=True)
                size -= stat.st_size
                if size <= self._most_bytes * SWEEP_TO:
                    break
        for path, _ in self._stats("names"):
            with contextlib.suppress(OSError, ValueError):
                if not self._content(path.read_text()).exists():
                    path.unlink(missing_ok=True)
        old = time.time() - PARTIAL_SECONDS
        for path, stat in self._stats("partial"):
            if stat.st_mtime < old:
                path.unlink(missing_ok=True)

    def _stats(self, below: str) -> Iterator[tuple[Path, os.stat_result]]:
        for folder, _, names in os.walk(self.folder / below):
            for name in names:
                path = Path(folder, name)
                with contextlib.suppress(OSError):  # another process was quicker
                    yield path, path.stat()

    def _open(self, digest: str) -> Kept:
        path = self._content(digest)
        file = path.open("rb")
        try:
            return Kept(file, path, digest, os.fstat(file.fileno()).st_size, sniff(file.read(HEAD_BYTES)))
        except BaseException:
            file.close()
            raise

    def _content(self, digest: str) -> Path:
        if len(digest) != 64 or not digest.isalnum():
            raise ValueError("not a SHA-256")
        return self.folder / "content" / digest[:2] / digest

    def _name(self, address: str) -> Path:
        digest = hashlib.sha256(address.encode()).hexdigest()
        return self.folder / "names" / digest[:2] / digest
