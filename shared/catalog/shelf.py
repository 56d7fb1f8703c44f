"""Where does one part of the catalog lie? In this process's memory, before Redis; the copy in Redis is everybody's.

Once a second a process glances at Redis: one round trip that brings the head of the copy, when it was forgotten, and who
renews it. Only a copy of another head is read whole. So news of other processes, a forgotten copy included, is known here
a second later at most. A copy in memory survives a Redis that was emptied, or is away.

Ages are by Redis's clock: hosts' clocks differ.
"""

import asyncio
import json
import logging
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from shared.catalog.freshness import STALE_SECONDS, Freshness, judge
from shared.database import Database
from shared.errors import Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

#: A process believes its memory for so long before it glances at Redis.
MEMORY_SECONDS = 1.0
#: Of the stored text; holds the stamp, which no two copies share, and when the copy was begun, as the scripts read it.
_HEAD_CHARACTERS = 80
_BEGUN = re.compile(r'"read_at": ([\d.]+)')
_FIELDS = ("forgotten", "held_until", "not_before", "failures", "trouble")


@dataclass(frozen=True, slots=True)
class Held(Generic[T]):
    """One copy."""

    value: T
    #: Redis's clock, seconds since 1970: when reading it was begun.
    read_at: float
    fresh_seconds: float


@dataclass(frozen=True, slots=True)
class Seen(Generic[T]):
    """What there is of a part at this moment. Times in seconds."""

    held: Held[T] | None
    freshness: Freshness
    age_seconds: float
    #: Redis's clock.
    now: float
    #: When the copy was begun, also one that is too old or cannot be read; 0 when there is none.
    read_at: float
    #: When what it is a copy of was changed, as far as we were told; 0 for never.
    forgotten_at: float
    #: Somebody reads it anew at this moment.
    is_read: bool
    #: Reading it has failed, and nobody tries again before a pause is over.
    is_resting: bool
    #: How often it has failed in a row, and why it did the last time.
    failures: int
    trouble: str
    #: Whether Redis had to be asked.
    from_memory: bool


class Shelf(Generic[T]):
    """One part's copy, in two tiers. Belongs to one event loop."""

    def __init__(
        self,
        database: Database,
        part: str,
        fresh_seconds: float,
        of: Callable[[Mapping[str, Any]], T],
        stored: Callable[[T], dict[str, Any]],
    ) -> None:
        self.part = part
        self.fresh_seconds = fresh_seconds
        self._db, self._of, self._stored = database, of, stored
        self._key, self._state = f"{database.keys.prefix}{part}", database.keys.refresh(part)
        self._held: Held[T] | None = None
        self._head = ""
        self._notes: dict[str, str] = {}
        self._glanced_at = float("-inf")
        #: Redis's clock less ours (monotonic).
        self._ahead = 0.0
        self._one_at_a_time = asyncio.Lock()

    async def look(self, *, at_once: bool = False) -> Seen[T]:
        """What there is. A round trip once a second, or `at_once`; another one when there is a new copy.

        Raises `Unavailable` when Redis is away and there is nothing in memory either.
        """
        if not at_once and self._is_believed():
            return self._seen(from_memory=True)
        async with self._one_at_a_time:
            if at_once or not self._is_believed():
                try:
                    with self._db.asking():
                        await self._glance()
                except Unavailable:
                    if self._held is None:
                        raise
            return self._seen(from_memory=False)

    def text(self, value: T, read_at: float, fresh_seconds: float) -> str:
        """A new copy as it is stored."""
        head = {"stamp": secrets.token_hex(8), "read_at": read_at, "fresh_seconds": round(fresh_seconds, 1)}
        return json.dumps(head | self._stored(value))

    def hold(self, text: str, value: T, read_at: float, fresh_seconds: float) -> None:
        """Take a copy that this process has just stored into memory."""
        self._held, self._head = Held(value, read_at, fresh_seconds), text[:_HEAD_CHARACTERS]
        self._notes = {name: word for name, word in self._notes.items() if name == "forgotten"}

    def doubt(self) -> None:
        """Glance at Redis before memory is believed again."""
        self._glanced_at = float("-inf")

    def _is_believed(self) -> bool:
        # Nothing is never believed: somebody may be about to store the first copy.
        return self._held is not None and time.monotonic() - self._glanced_at < MEMORY_SECONDS

    def _seen(self, *, from_memory: bool) -> Seen[T]:
        held, now = self._held, time.monotonic() + self._ahead
        begun = _BEGUN.search(self._head)
        forgotten_at = float(self._notes.get("forgotten", 0)) / 1000
        freshness, age = Freshness.GONE, 0.0
        if held is not None:
            age = max(0.0, now - held.read_at)
            freshness = judge(age, held.fresh_seconds, forgotten=held.read_at <= forgotten_at)
        return Seen(
            held=None if freshness is Freshness.GONE else held,
            freshness=freshness,
            age_seconds=age,
            now=now,
            read_at=float(begun[1]) if begun else 0.0,
            forgotten_at=forgotten_at,
            is_read=float(self._notes.get("held_until", 0)) / 1000 > now,
            is_resting=float(self._notes.get("not_before", 0)) / 1000 > now,
            failures=int(self._notes.get("failures", 0)),
            trouble=self._notes.get("trouble", ""),
            from_memory=from_memory,
        )

    async def _glance(self) -> None:
        pipe = self._db.redis.pipeline(transaction=False)
        pipe.time()
        pipe.getrange(self._key, 0, _HEAD_CHARACTERS - 1)
        pipe.hmget(self._state, _FIELDS)
        (seconds, microseconds), head, words = await pipe.execute()
        self._ahead = int(seconds) + int(microseconds) / 1e6 - time.monotonic()
        self._notes = {name: word for name, word in zip(_FIELDS, words, strict=True) if word}
        if head and head != self._head:
            await self._take_over()
        self._glanced_at = time.monotonic()

    async def _take_over(self) -> None:
        """Read the copy of another process; one that cannot be read is as good as none."""
        text = str(await self._db.redis.get(self._key) or "")
        try:
            stored = json.loads(text)
            read_at, fresh = float(stored["read_at"]), float(stored.get("fresh_seconds", self.fresh_seconds))
            if self._held is None or read_at + fresh + STALE_SECONDS > time.monotonic() + self._ahead:
                self._held = Held(self._of(stored), read_at, fresh)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("a copy cannot be read", extra={"part": self.part, "error": repr(error)[:200]})
        self._head = text[:_HEAD_CHARACTERS]
