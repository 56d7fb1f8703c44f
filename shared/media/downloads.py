"""How does an output get onto this disk, whole, and as what it claims to be?

From the cache if it is there. Otherwise from its address; when that has expired, a fresh one is asked for (a presigned
address lives an hour, CONTRACT section 8). Trouble on the way is tried again a few times; what is not the file (a page, an
error in JSON, another medium) is refused and never kept.

The addresses are the API's and believed as the API is, also when they are private: a storage of one's own is in one's own
network. Addresses of users go through `sources.py`.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from shared.errors import FileUnusable, Unavailable
from shared.jobs.event import Output
from shared.media.addresses import bare, expires_at, last_part
from shared.media.cache import DiskCache, Kept
from shared.media.kinds import FileKind, is_page, kind_of_ending
from shared.media.names import split, type_of_name
from shared.media.reading import Progress, Reader, Received

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


def name_of(output: Output) -> str:
    """What the API calls the file; empty when it does not."""
    return output.filename or last_part(output.url or "")


class Downloads:
    """Downloads of outputs into one cache. Belongs to one event loop."""

    def __init__(self, cache: DiskCache, *, most_bytes: int = MOST_BYTES) -> None:
        self._cache = cache
        self._most_bytes = most_bytes
        self._reader = Reader(allow_private=True)

    async def get(self, output: Output, renew: Renew, tell: Progress | None = None) -> Kept:
        """The file of an output, open; the caller closes it. A repeat finds it in the cache, for as long as that keeps it.

        Raises `FileUnusable` (gone, not what it claims, too large), `Unavailable` (does not come now), `MissingSetting`
        (the cache cannot be written), and what `renew` raises.
        """
        url = output.url or ""
        kept = await asyncio.to_thread(self._cache.find, bare(url))
        if kept is not None:
            return kept
        renewed = False
        if _is_over(output):
            url, renewed = await _renewed(renew, url), True
        wait, tries = FIRST_WAIT_SECONDS, 0
        while True:
            try:
                return await self._download(url, output, tell)
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

    async def _download(self, url: str, output: Output, tell: Progress | None) -> Kept:
        with self._cache.partial() as file:
            got = await self._reader.read(url, file, most_bytes=self._most_bytes, seconds=WHOLE_SECONDS, tell=tell)
            check(name_of(output), got)
            return await asyncio.to_thread(self._cache.keep, file, bare(url), got.digest)

    async def aclose(self) -> None:
        """Close the connections. Closing twice is fine."""
        await self._reader.aclose()


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
    end = expires_at(output.url or "") or output.url_expires_at
    return end is not None and end <= datetime.now(UTC)


async def _renewed(renew: Renew, url: str) -> str:
    fresh = await renew(url)
    if fresh is None:
        raise FileUnusable("the run does not have it any more")
    return fresh
