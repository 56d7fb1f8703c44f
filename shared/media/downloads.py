"""How does an output get onto this disk, whole, and as what it claims to be?

From the cache if it is there. Otherwise from its address; when that has expired, a fresh one is asked for (a presigned
address lives an hour, CONTRACT section 8). Trouble on the way is tried again a few times; what is not the file (a page, an
error in JSON, another medium) is refused and never kept.

The addresses are the API's and believed as the API is, also when they are private: a storage of one's own is in one's own
network. Addresses of users go through `sources.py`.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import IO

from shared.errors import ConveyorError, FileUnusable, Unavailable
from shared.jobs.event import Output
from shared.media.addresses import bare, expires_at
from shared.media.cache import DiskCache, Kept
from shared.media.kinds import FileKind, is_page, kind_of_ending
from shared.media.names import name_of, split, type_of_name
from shared.media.reading import Arriving, Progress, Reader, Received

log = logging.getLogger(__name__)

#: Models and long films. More than this is no output but a mistake.
MOST_BYTES = 10_000_000_000
#: Of one try.
WHOLE_SECONDS = 1800.0

TRIES = 4
#: Before the second try, doubled before each other one, give or take a half.
FIRST_WAIT_SECONDS = 0.5

#: What storages say of a signature that is over, or was never there.
_EXPIRED = frozenset({400, 401, 403, 410})
#: What servers say of their error messages, and no storage of weights or meshes.
_MESSAGES = frozenset({"text/html", "application/json", "application/problem+json", "application/xml", "text/xml"})
_MEDIA = ("image/", "video/", "audio/")

#: Gives a fresh address for an old one; None when the run has no such output (any more).
Renew = Callable[[str], Awaitable[str | None]]
#: Writes a copy from elsewhere into an empty file, and answers its SHA-256.
Spare = Callable[[IO[bytes]], Awaitable[str]]


class Downloads:
    """Downloads of outputs into one cache. Belongs to one event loop."""

    def __init__(self, cache: DiskCache, *, most_bytes: int = MOST_BYTES) -> None:
        self._cache = cache
        self._most_bytes = most_bytes
        self._reader = Reader(allow_private=True)

    async def get(
        self, output: Output, renew: Renew, tell: Progress | None = None, *, spare: Spare | None = None
    ) -> Kept:
        """The file of an output, open; the caller closes it. A repeat finds it in the cache, for as long as that keeps it.

        With a `spare` that is taken before the API is asked for a fresh address.

        Raises `FileUnusable` (gone, not what it claims, too large), `Unavailable` (does not come now), `MissingSetting`
        (the cache cannot be written), and what `renew` raises.
        """
        address = bare(output.url or output.key)
        kept = await asyncio.to_thread(self._cache.find, address)
        if kept is not None:
            return kept
        with self._cache.partial() as file:
            digest = await self._got(output, renew, file, tell, spare)
            return await asyncio.to_thread(self._cache.keep, file, address, digest)

    async def _got(
        self, output: Output, renew: Renew, file: IO[bytes], tell: Progress | None, spare: Spare | None
    ) -> str:
        """Fill an empty file, and answer its digest: from the address, the spare, or a fresh address."""

        async def fetched(renew: Renew | None) -> str:
            got = await fetch(self._reader, output, renew, file, most_bytes=self._most_bytes, tell=tell)
            return got.digest

        if spare is None:
            return await fetched(renew)
        try:
            return await fetched(None)
        except (FileUnusable, Unavailable) as error:
            log.info("not at its address", extra={"output": output.key, "error": str(error)})
        file.seek(0)
        file.truncate()
        try:
            return await spare(file)
        except ConveyorError as error:
            if output.url is None:
                raise
            log.warning("not in the archive", extra={"output": output.key, "error": str(error)})
        return await fetched(renew)

    async def aclose(self) -> None:
        """Close the connections. Closing twice is fine."""
        await self._reader.aclose()


async def fetch(
    reader: Reader,
    output: Output,
    renew: Renew | None,
    into: IO[bytes],
    *,
    most_bytes: int = MOST_BYTES,
    tell: Progress | None = None,
) -> Received:
    """Write the file of an output into an empty file: from its address, or from a fresh one when that has expired.

    Without `renew` an address that has expired is the end. Raises what `Downloads.get` raises; then `into` holds rubbish.
    """
    url, renewed = output.url or "", renew is None
    wait, tries = FIRST_WAIT_SECONDS, 0
    arriving = Arriving(into)
    if not url:
        raise FileUnusable("it has no address")
    if _is_over(output):
        url, renewed = await _renewed(renew, url), True
    while True:
        try:
            got = await reader.read(url, arriving, most_bytes=most_bytes, seconds=WHOLE_SECONDS, tell=tell)
            check(name_of(output), got)
            return got
        except FileUnusable as error:
            if error.upstream_status not in _EXPIRED or renewed:
                raise
            url, renewed = await _renewed(renew, url), True
        except Unavailable:
            tries += 1
            if tries == TRIES:
                raise
            await asyncio.sleep(wait * random.uniform(0.5, 1.5))
            wait *= 2


def check(name: str, got: Received) -> None:
    """Raise `FileUnusable` when what came is not what the name claims: an error page is no picture.

    A picture of another format is a picture. Of what has no magic number only pages are refused, unless it is one by name.
    """
    kind, claimed = got.kind, kind_of_ending(split(name)[1])
    if kind is None and claimed is None:
        is_text = type_of_name(name).startswith("text/") or type_of_name(name).endswith(("xml", "html", "json"))
        if (is_page(got.head) or got.content_type in _MESSAGES) and not is_text:
            raise FileUnusable("a page came in place of the file")
    elif kind is None or (claimed is not None and _is_medium(claimed) and not _is_medium(kind)):
        what = kind.content_type if kind else "a page" if is_page(got.head) else "something else"
        raise FileUnusable(f"{what} came in place of the file")


def _is_medium(kind: FileKind) -> bool:
    return kind.content_type.startswith(_MEDIA)


def _is_over(output: Output) -> bool:
    """Whether its address is known to have expired."""
    end = expires_at(output.url or "") or output.url_expires_at
    return end is not None and end <= datetime.now(UTC)


async def _renewed(renew: Renew | None, url: str) -> str:
    if renew is None:
        raise FileUnusable("its address has expired")
    fresh = await renew(url)
    if fresh is None:
        raise FileUnusable("the run does not have it any more")
    return fresh
