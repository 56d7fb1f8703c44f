"""Which events could nobody deliver, and how do they get another chance?

A dead letter is the event as it was on the stream, with the reason, the group that gave up on it, and how often it was
handed out. Upkeep drops it after `CONVEYOR_DEAD_KEEP_SECONDS`, a month. Replaying promises:

* **To the group that failed.** While the entry is still on the stream it is made pending again in that group alone, with
  its deliveries counted from 0. After upkeep has trimmed it (an hour or more later, if all groups were done with it), a
  copy goes to the end of the stream: the *other* groups read it again, too. It has the `(job_id, seq)` it always had, by
  which every consumer tells repeats.
* **In order, as far as there is one left.** The letters of a job that are replayed together come in their order, and
  before what no consumer has fetched of the job yet. What the group has taken of the job since it gave up, it has taken:
  a replayed event may be older than the last one seen, and a consumer that must not go back compares `seq`.
* **Once.** Removed from the dead letters in the step that puts them back. Two operators at once: each letter goes with
  one of them, and the other hears `gone`.
* **Soon.** The consumer that failed finds it within a third of `claim_idle_seconds`, any other within about half of it.

Read `shared/lua/replay.lua` and `shared/lua/dead_letter.lua` beside it.
"""

from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Self, cast

from producers.follow import stream_id
from shared.database import Database

#: Letters read at once.
PAGE = 500
#: Replayed entries count as untouched for this long: longer than any `claim_idle_seconds`.
IDLE_MS = 24 * 3600 * 1000

#: What became of a letter. `pending`: the group has its entry again; `copied`: all groups have it again; `gone`: somebody
#: was faster; kept are `no group` (nobody would read it) and `empty` (only the reason is left of it).
Replayed = Literal["pending", "copied", "gone", "no group", "empty"]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One event that was given up on."""

    #: Its own id, by which it is replayed.
    id: str
    job_id: str
    #: As texts, for an event that cannot be read is a dead letter, too; "" when it does not say.
    seq: str
    type: str
    reason: str
    group: str
    consumer: str
    deliveries: int
    #: The stream entry of the event.
    entry: str
    #: The event as it was sent.
    data: str

    @classmethod
    def read(cls, id_: str, fields: dict[str, str]) -> Self:
        """A letter as it is stored; fields somebody else left out are empty."""
        names = ("job_id", "seq", "type", "reason", "group", "consumer", "entry", "data")
        deliveries = fields.get("deliveries", "")
        known = {name: fields.get(name, "") for name in names}
        return cls(id=id_, deliveries=int(deliveries) if deliveries.isdigit() else 0, **known)

    @property
    def at(self) -> datetime:
        """When it was given up on, by Redis's clock."""
        return datetime.fromtimestamp(stream_id(self.id)[0] / 1000, UTC)


class DeadLetters:
    """The dead letters of one frontend."""

    def __init__(self, database: Database, frontend: str) -> None:
        self._db = database
        self._frontend = frontend
        self._stream = database.keys.dead(frontend)

    async def newest(self, most: int) -> tuple[list[DeadLetter], int]:
        """The last letters, oldest first, and how many there are. Raises `Unavailable`."""
        pipe = self._db.redis.pipeline(transaction=False)
        pipe.xlen(self._stream)
        pipe.xrevrange(self._stream, count=max(1, most))
        with self._db.asking():
            length, found = await pipe.execute()
        letters = [DeadLetter.read(id_, fields) for id_, fields in reversed(found)]
        return (letters if most else []), int(length)

    async def all(self) -> AsyncGenerator[DeadLetter]:
        """Every letter, oldest first. A round trip a page; raises `Unavailable`."""
        start = "-"
        while True:
            with self._db.asking():
                found = cast(list[Any], await self._db.redis.xrange(self._stream, min=start, count=PAGE))
            for id_, fields in found:
                yield DeadLetter.read(id_, fields)
            if len(found) < PAGE:
                return
            start = f"({found[-1][0]}"

    async def replay(self, letters: Iterable[DeadLetter]) -> AsyncGenerator[tuple[DeadLetter, Replayed]]:
        """Put letters back, a job at a time, and tell of each what became of it. Repeating it is harmless.

        A round trip a job. Raises `Unavailable`: what was told of is done, and the rest may be asked for again.
        """
        for job in _by_job(letters):
            replies = await self._db.run("replay", self._frontend, IDLE_MS, *(letter.id for letter in job))
            for letter, (word, _) in zip(job, replies, strict=True):
                yield letter, word


def _by_job(letters: Iterable[DeadLetter]) -> list[list[DeadLetter]]:
    """The letters of each job in the order of their events; jobs by their first letter. What names no job stands alone."""
    jobs: dict[str, list[DeadLetter]] = {}
    for letter in letters:
        jobs.setdefault(letter.job_id or letter.id, []).append(letter)
    for job in jobs.values():
        job.sort(key=lambda letter: _place(letter.entry))
    return list(jobs.values())


def _place(entry: str) -> tuple[int, int]:
    try:
        return stream_id(entry)
    except ValueError:
        return (0, 0)
