"""What must a place be able to do in which copies are kept? Little, so that a folder and S3 can do the same."""

import re
from collections.abc import AsyncIterator
from typing import IO, Protocol

#: A bucket's name by Amazon's rules, and folders below it. No user name, no query: credentials stand in no address.
_S3 = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])((?:/[\w=-][\w.=-]*)*)/?", re.ASCII)


class Shelf(Protocol):
    """Files under names such as `2026-11-21/<job id>/fox.png`. All may raise `Unavailable` and `TellOperator`."""

    def address(self, name: str) -> str:
        """Where a file of this name is, for people and programs."""

    async def put(self, name: str, file: IO[bytes], content_type: str) -> None:
        """Keep a file, from its beginning, whole or not at all; what was there under the name is replaced."""

    def read(self, name: str, size: int) -> AsyncIterator[bytes]:
        """A kept file of a known size, piece by piece. Raises `FileUnusable` when it is not there."""

    async def find(self, name: str, most_bytes: int) -> bytes | None:
        """A small kept file; None when it is not there, or larger."""

    async def tidy(self, below: str) -> None:
        """Take away what killed processes left in a folder."""

    async def erase(self, below: str) -> int:
        """Delete all files of a folder, and answer how many there were."""


def bucket_and_prefix(address: str) -> tuple[str, str] | None:
    """The parts of `s3://bucket/prefix`; None for anything else."""
    found = _S3.fullmatch(address)
    return (found[1], found[2].strip("/")) if found else None
