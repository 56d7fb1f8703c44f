"""What is kept of a job, and under which names?

    2026-11-21/<job id>/fox.png             a copy of an output, under the name `conveyor get` gives it
    2026-11-21/<job id>/.conveyor.json      what it all is, texts among it; written last

The day is that of the job's id, so a job's folder follows from its id alone: its copies are found, and can be erased, when
nothing else of it is left. Neither inputs nor the user's name are kept.
"""

import asyncio
import hashlib
import io
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.archive.folder import Folder
from shared.archive.s3 import Bucket
from shared.archive.shelf import Shelf, bucket_and_prefix
from shared.errors import FileUnusable
from shared.jobs.archive import Copy
from shared.jobs.event import Output

#: No output is called so: `safe_name` takes a dot at the beginning away.
LIST_NAME = ".conveyor.json"
#: Texts are in the list, and a list of more than this is none of ours.
MOST_LIST_BYTES = 50_000_000


class Kept(BaseModel):
    """One output in the archive."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    #: As in events, without its address.
    output: Output
    #: None for a text, which is in `output`, and for a file that could not be copied.
    copy_: Copy | None = Field(None, alias="copy")


class KeptJob(BaseModel):
    """What the archive has of one job."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    job_id: str
    run_id: str | None = None
    frontend: str = ""
    #: When the job ended.
    ended_at: datetime | None = None
    outputs: list[Kept]


class Archive:
    """The archive of one installation."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    @classmethod
    def open(cls, address: str) -> Self:
        """The archive at an address as in `CONVEYOR_ARCHIVE`. Nothing connects yet. Raises `MissingSetting`."""
        if found := bucket_and_prefix(address):
            return cls(Bucket(*found))
        return cls(Folder(Path(address).expanduser()))

    def address(self, job_id: str) -> str:
        """Where a job's copies are: a path, or `s3://…`."""
        return self._shelf.address(folder_of(job_id))

    async def keep(self, job_id: str, name: str, file: IO[bytes], content_type: str) -> None:
        """Keep a file. A repeat replaces it. Raises `Unavailable`, `TellOperator`."""
        await self._shelf.put(f"{folder_of(job_id)}/{name}", file, content_type)

    async def conclude(self, job: KeptJob) -> None:
        """Write down what is kept of a job; with that it can be found. Raises as `keep`."""
        folder = folder_of(job.job_id)
        content = job.model_dump_json(exclude_defaults=True, by_alias=True).encode()
        await self._shelf.put(f"{folder}/{LIST_NAME}", io.BytesIO(content), "application/json")
        await self._shelf.tidy(folder)

    async def find(self, job_id: str) -> KeptJob | None:
        """What is kept of a job; None when nothing is. Raises `Unavailable`, `TellOperator`."""
        try:
            content = await self._shelf.find(f"{folder_of(job_id)}/{LIST_NAME}", MOST_LIST_BYTES)
            return KeptJob.model_validate_json(content) if content else None
        except (ValueError, ValidationError):  # no job's id, or not our list
            return None

    async def pieces(self, job_id: str, copy: Copy) -> AsyncIterator[bytes]:
        """A copy, piece by piece; the last one only when the whole is what was kept.

        Raises `FileUnusable` when it is gone or damaged, `Unavailable`, `TellOperator`.
        """
        digest, last = hashlib.sha256(), b""
        async for piece in self._shelf.read(f"{folder_of(job_id)}/{copy.name}", copy.size):
            if last:
                yield last
            await asyncio.to_thread(digest.update, piece)
            last = piece
        if digest.hexdigest() != copy.digest:
            raise FileUnusable("the copy in the archive is damaged")
        yield last

    async def read(self, job_id: str, copy: Copy, into: IO[bytes]) -> None:
        """Write a copy into a file. Raises what `pieces` raises; then `into` holds rubbish."""
        async for piece in self.pieces(job_id, copy):
            await asyncio.to_thread(into.write, piece)

    async def erase(self, job_id: str) -> int:
        """Delete all that is kept of a job, and answer how many files there were. A repeat finds none.

        Forget the job's record first, or have its archiving decided: who is just copying then erases what it has copied.
        Raises `Unavailable`, `TellOperator`, `ValueError` for what is no job's id.
        """
        return await self._shelf.erase(folder_of(job_id))


def folder_of(job_id: str) -> str:
    """Where a job's copies are. Raises `ValueError` for what is no job's id: it must not lead elsewhere."""
    made = uuid.UUID(job_id)
    if str(made) != job_id:
        raise ValueError("not a job's id")
    try:
        day = datetime.fromtimestamp((made.int >> 80) / 1000, UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        day = "undated"
    return f"{day}/{job_id}"
