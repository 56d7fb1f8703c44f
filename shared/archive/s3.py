"""Copies in a bucket of S3, or of a store that speaks its language (R2, MinIO, Garage, Ceph).

Through `obstore`: it has no dependencies but a compiled core, is async, and sends a file in parts without having it in
memory. It reads credentials, region and endpoint from the environment (`AWS_…`), or asks the machine for its role; they
pass through no code of ours, and nothing it says is repeated here: its messages quote addresses.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import IO

from shared.errors import FileUnusable, MissingSetting, TellOperator, Unavailable

#: Of one request, which carries one part.
REQUEST_SECONDS = 120.0
CONNECT_SECONDS = 5.0
#: Of all tries of one request; who asked tries again later, too.
RETRY_SECONDS = 20.0
MOST_RETRIES = 3

#: The store takes at most 10,000 parts of one file.
_PART_BYTES = 8 << 20
_PARTS_AT_ONCE = 2
#: The store deletes so many names at once.
_PAGE = 1000

_CODE = re.compile(r"<Code>(\w{1,60})</Code>")


class Bucket:
    """A shelf in a bucket."""

    def __init__(self, bucket: str, prefix: str) -> None:
        """Nothing connects yet. Raises `MissingSetting` when the library is not installed."""
        try:
            from obstore.store import S3Store  # noqa: PLC0415 - an optional part
        except ImportError:
            raise MissingSetting(
                "CONVEYOR_ARCHIVE names a bucket, and the library for that is not installed.",
                check="pip install 'conveyor[s3]'",
            ) from None
        self._base = f"s3://{bucket}/{prefix}".rstrip("/")
        # The library reads the endpoint itself; whether it may be without TLS follows from it.
        endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT") or ""
        with self._telling():
            self._store = S3Store(
                bucket,
                prefix=prefix or None,
                client_options={
                    "timeout": timedelta(seconds=REQUEST_SECONDS),
                    "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
                    "allow_http": endpoint.startswith("http://"),
                },
                retry_config={"max_retries": MOST_RETRIES, "retry_timeout": timedelta(seconds=RETRY_SECONDS)},
            )

    def address(self, name: str) -> str:
        """An address as the tools of S3 take it. It gives no access."""
        return f"{self._base}/{name}"

    async def put(self, name: str, file: IO[bytes], content_type: str) -> None:
        """See `Shelf`. Parts of a file that was not finished are for a lifecycle rule of the bucket to delete."""
        await asyncio.to_thread(file.seek, 0)
        with self._telling():
            await self._store.put_async(
                name,
                file,
                attributes={"Content-Type": content_type},
                chunk_size=_PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            )

    async def read(self, name: str, size: int) -> AsyncIterator[bytes]:
        """See `Shelf`. A request for each part, so that each has an end of its own."""
        for start in range(0, size, _PART_BYTES):
            with self._telling():
                piece = await self._store.get_range_async(name, start=start, end=min(size, start + _PART_BYTES))
            yield bytes(piece)

    async def find(self, name: str, most_bytes: int) -> bytes | None:
        """See `Shelf`."""
        try:
            with self._telling():
                found = await self._store.get_async(name)
                return bytes(await found.bytes_async()) if found.meta["size"] <= most_bytes else None
        except FileUnusable:
            return None

    async def tidy(self, below: str) -> None:
        """Nothing can be left here."""

    async def erase(self, below: str) -> int:
        """See `Shelf`."""
        count = 0
        with self._telling():
            # With the slash: a folder is not a prefix of another's name.
            async for page in self._store.list(f"{below}/", chunk_size=_PAGE):
                names = [found["path"] for found in page]
                await self._store.delete_async(names)
                count += len(names)
        return count

    @contextmanager
    def _telling(self) -> Iterator[None]:
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError  # noqa: PLC0415

        try:
            yield
        except (BaseError, OSError, ValueError) as error:
            code = found[1] if (found := _CODE.search(str(error))) else type(error).__name__
            if isinstance(error, FileNotFoundError) and code != "NoSuchBucket":
                raise FileUnusable("it is not in the archive") from None
            if isinstance(error, (FileNotFoundError, PermissionDeniedError, UnauthenticatedError, ValueError)):
                raise TellOperator(
                    f"The archive refuses us: {code}.",
                    check="the bucket CONVEYOR_ARCHIVE names, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION.",
                ) from None
            raise Unavailable(f"The archive does not answer: {code}.") from None
