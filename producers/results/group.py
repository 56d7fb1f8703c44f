"""What a consumer asks Redis: one consumer group on one frontend's stream.

A group is created from the beginning of the stream, also when it has vanished under our feet (`NOGROUP`: somebody
destroyed it, or a failover lost it). What of the stream was acknowledged is then not known any more, and only "from
the beginning" loses nothing. The price is repeats of what upkeep has not trimmed yet, an hour or so; `(job_id, seq)`
tells them, and a consumer is silent about those it has acknowledged itself.
"""

from collections.abc import Sequence
from typing import Any, cast

from redis.exceptions import ResponseError

from shared.database import Database

#: Fields of one stream entry; None when the entry itself has been trimmed.
Fields = dict[str, str] | None


def vanished(error: ResponseError) -> bool:
    """Whether a command failed because the group, or its stream, does not exist. Scripts wrap the word in their own."""
    return "NOGROUP" in str(error)


class ConsumerGroup:
    """One consumer's view of its group. Every method is one round trip."""

    def __init__(self, database: Database, frontend: str, group: str, consumer: str) -> None:
        self._db = database
        self._stream = database.keys.results(frontend)
        self._who = (frontend, group, consumer)
        self.frontend, self.group, self.consumer = frontend, group, consumer

    async def create(self) -> None:
        """Make stream and group unless they exist."""
        try:
            await self._db.redis.xgroup_create(self._stream, self.group, "0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def read(self, most: int, block_seconds: float) -> list[tuple[str, dict[str, str]]]:
        """Entries no consumer of the group has seen; waits for the first. They are pending at us from then on.

        When the reply is lost they are pending all the same: `keep` tells.
        """
        reply = await self._db.redis.xreadgroup(
            self.group, self.consumer, {self._stream: ">"}, count=most, block=max(1, round(block_seconds * 1000))
        )
        return [entry for _, entries in cast(list[Any], reply or []) for entry in entries]

    async def keep(self, entry_ids: Sequence[str], most: int) -> list[str]:
        """Renew what we work on; answers everything that is pending at us, oldest first."""
        return cast(list[str], await self._db.run("keep", *self._who, most, *entry_ids))

    async def idle(self, seconds: float, most: int) -> list[str]:
        """Entries nobody has worked on for that long, oldest first."""
        pending = await self._db.redis.xpending_range(
            self._stream, self.group, "-", "+", most, idle=max(1, round(seconds * 1000))
        )
        return [str(entry["message_id"]) for entry in pending]

    async def claim(self, entry_ids: Sequence[str], idle_seconds: float) -> list[str]:
        """Take entries over if they are still idle; answers those that are ours now. Counts no delivery.

        Why not XAUTOCLAIM: it counts a delivery for everything it fetches, or, with JUSTID, redis-py drops its cursor.
        """
        claimed = await self._db.redis.xclaim(
            self._stream, self.group, self.consumer, max(1, round(idle_seconds * 1000)), list(entry_ids), justid=True
        )
        return cast(list[str], claimed)

    async def fetch(self, entry_ids: Sequence[str]) -> list[Fields]:
        """The entries themselves."""
        pipe = self._db.redis.pipeline(transaction=False)
        for entry_id in entry_ids:
            pipe.xrange(self._stream, entry_id, entry_id)
        return [found[0][1] if found else None for found in await pipe.execute()]

    async def earlier(self, entry_ids: Sequence[str]) -> list[tuple[str, list[str]]]:
        """For each entry who holds it, and which earlier entries of its job are pending."""
        replies = await self._db.run("earlier", self.frontend, self.group, *entry_ids)
        return [(holder, earlier) for holder, *earlier in replies]

    async def hand_again(self, entry_id: str, most: int) -> tuple[str, int]:
        """Count a delivery: `held`, `spent` or `lost`, and the deliveries."""
        word, deliveries = await self._db.run("hand_again", *self._who, entry_id, most)
        return word, int(deliveries)

    async def ack(self, entry_ids: Sequence[str]) -> None:
        """Acknowledge. Repeating is fine."""
        await self._db.redis.xack(self._stream, self.group, *entry_ids)

    async def bury(self, entry_id: str, reason: str) -> bool:
        """Move an entry to the dead letters; False when it is not ours any more."""
        word, _ = await self._db.run("dead_letter", *self._who, entry_id, reason)
        return bool(word == "dead")

    async def retire(self, idle_seconds: float) -> list[str]:
        """Remove consumers that have been silent that long and hold nothing; answers their names."""
        return cast(
            list[str],
            await self._db.run("retire_consumers", self.frontend, self.group, round(idle_seconds * 1000)),
        )
