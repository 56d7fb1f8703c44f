"""How does a file get to where a run can read it, once and not fifty times?

    kept = await uploads.upload(Path("fox.png"))
    inputs = {"image": kept.url}

One upload per content and account, among all processes: the address is kept in Redis for less than its life, and while one
uploads the others wait for the address (`begin_upload.lua`). Who dies in the middle holds the others up for the rest of its
lease; the next one uploads then.

A file goes up as it is read from the disk, never whole through memory. What is larger than the API's upload takes goes to
the store behind the API, by an address that the API signs for it.

Read next: `sources.py` (what is refused), `names.py` (why a photo may change its ending).
"""

import asyncio
import contextlib
import json
import logging
import random
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from shared.comfydeploy import ComfyDeploy
from shared.comfydeploy.files import MOST_UPLOAD_BYTES, PUT_SECONDS, UploadedFile
from shared.database import Database
from shared.errors import Unavailable
from shared.limits.bucket import TokenBucket
from shared.media.addresses import expires_at
from shared.media.reading import Reader
from shared.media.sources import Content, Source, opened

log = logging.getLogger(__name__)

#: What S3 takes in one request.
MOST_BYTES = 5_000_000_000

#: A holder says this often that it still uploads; one that is silent for the lease is taken for dead.
LEASE_SECONDS = 30.0
RENEW_SECONDS = 10.0

#: How long an address without an end is given to others: a file may be deleted upstream, and we would not hear of it.
KEEP_SECONDS = 6 * 3600.0
#: Of a signed address, so that a job still has time in its lane: this share of its life is for others to find it.
SHARE_OF_LIFE = 0.5

#: Waiting for a place among the uploads of this process, and again for a token.
TURN_SECONDS = 20.0
#: Who waits for another's upload asks again after so long, the shorter at first.
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.05, 1.0
#: Longer than an upload and the lease of one that died.
PATIENCE_SECONDS = PUT_SECONDS + 2 * LEASE_SECONDS


@dataclass(frozen=True, slots=True)
class Upload:
    """A file where a run can read it."""

    #: Goes into `inputs`; use it soon, a private bucket's address expires.
    url: str
    file_id: str | None
    #: As the API was told, or would have been.
    filename: str
    content_type: str
    size: int
    #: True when the same content had been uploaded before.
    known: bool


class Uploads:
    """Uploads for one API account. Belongs to one event loop."""

    def __init__(
        self,
        database: Database,
        bucket: TokenBucket,
        client: ComfyDeploy,
        account: str,
        *,
        allow_private: bool = False,
        most_at_once: int = 4,
        turn_seconds: float = TURN_SECONDS,
    ) -> None:
        self._db, self._bucket, self._client, self._account = database, bucket, client, account
        self._reader = Reader(allow_private=allow_private)
        self._places = asyncio.Semaphore(most_at_once)
        self._turn_seconds = turn_seconds

    async def upload(self, source: Source, name: str | None = None, *, most_bytes: int = MOST_BYTES) -> Upload:
        """Upload a file, or find that it has been. At most one call of the API, none when it is known; of a file larger than
        that call takes also one of the store.

        A path is a `Path`; a `str` is an address. `name` is for sources without a name of their own, and only its ending
        matters. A repeat answers the same address for hours, or half the life of one that expires.

        Raises `InvalidInput` (see `sources.opened`, and what the API refuses), `Unauthorized`, `RateLimited`,
        `Unavailable` (also: no turn in time) and `UnexpectedAnswer`; nothing is retried, the caller may.
        """
        async with opened(source, name, self._reader, most_bytes=most_bytes) as content:
            owner = secrets.token_hex(8)
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    stored = await self._begin(content.digest, owner)
            except TimeoutError:
                raise Unavailable("Others began to upload the same file, again and again, and none ended.") from None
            if stored is not None:
                return _described(content, stored["url"], stored["file_id"], known=True)
            kept = await self._carry_out(content, owner)
            return _described(content, kept.url, kept.file_id, known=False)

    async def _begin(self, digest: str, owner: str) -> dict[str, str | None] | None:
        """What is kept of the file; None when it is ours to upload. Waits while another does."""
        wait = FIRST_WAIT_SECONDS
        while True:
            word, value = await self._db.run("begin_upload", self._account, digest, owner, round(LEASE_SECONDS * 1000))
            if word == "kept":
                found: dict[str, str | None] = json.loads(value)
                return found
            if word == "yours":
                return None
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)

    async def _carry_out(self, content: Content, owner: str) -> UploadedFile:
        stored, keep_seconds = "", 0.0
        renewing = asyncio.create_task(self._renew(content.digest, owner))
        try:
            async with self._turn():
                failures = await self._token()
                kept = await self._send(content, failures)
            stored = json.dumps({"url": kept.url, "file_id": kept.file_id})
            keep_seconds = keep_for(kept.url, datetime.now(UTC))
            return kept
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            # The file is up, or it is not: Redis away now costs at most a second upload.
            with contextlib.suppress(Unavailable):
                await self._db.run(
                    "end_upload", self._account, content.digest, owner, stored, round(keep_seconds * 1000)
                )

    async def _send(self, content: Content, failures: int) -> UploadedFile:
        name, pieces, size = content.name, content.pieces(), content.size
        if size <= MOST_UPLOAD_BYTES:
            async with self._bucket.learning(failures):
                return await self._client.files.upload(name, pieces, content.content_type, size=size)
        async with self._bucket.learning(failures):
            there = await self._client.files.presign(name, content.content_type)
        # Not the API, but the store: it needs no token.
        await self._client.files.put(there, pieces, size=size)
        return UploadedFile(url=there.url, file_id=there.file_id, file_name=name)

    async def _renew(self, digest: str, owner: str) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            with contextlib.suppress(Unavailable):
                await self._db.run("begin_upload", self._account, digest, owner, round(LEASE_SECONDS * 1000))

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._turn_seconds):
                await self._places.acquire()
        except TimeoutError:
            raise Unavailable("Too many uploads at once.") from None
        try:
            yield
        finally:
            self._places.release()

    async def _token(self) -> int:
        try:
            async with asyncio.timeout(self._turn_seconds):
                # A file is the beginning of a submit.
                return await self._bucket.take("submit")
        except TimeoutError:
            raise Unavailable("No call of the API was free in time.") from None

    async def aclose(self) -> None:
        """Close the connections to users' addresses. What was given stays open. Closing twice is fine."""
        await self._reader.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def keep_for(url: str, now: datetime) -> float:
    """How many seconds an address may be given to others."""
    end = expires_at(url)
    if end is None:
        return KEEP_SECONDS
    return min(KEEP_SECONDS, max(0.0, (end - now).total_seconds() * SHARE_OF_LIFE))


def _described(content: Content, url: str | None, file_id: str | None, *, known: bool) -> Upload:
    return Upload(url or "", file_id, content.name, content.content_type, content.size, known)
