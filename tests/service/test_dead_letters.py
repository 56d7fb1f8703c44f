"""Dead letters get another chance: the group that gave up hears them again, each exactly where it belongs."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from producers.results import Delivery, ResultConsumer
from producers.results.dead_letters import DeadLetter, DeadLetters
from shared.database import Database

pytestmark = pytest.mark.redis

FRONTEND, GROUP = "telegram", "bot"
DEADLINE_SECONDS = 10.0


async def post(database: Database, job_id: str, *seqs: int) -> None:
    """Put events of a job on the stream, as workers write them."""
    for seq in seqs:
        event = {"schema": "conveyor.event/1", "type": "job.running", "job_id": job_id, "seq": seq, "state": "running"}
        event |= {"at": "2026-11-20T20:53:20.000Z", "final": False, "frontend": FRONTEND, "user": {"id": "1"}}
        fields = {"type": "job.running", "job_id": job_id, "seq": seq, "data": json.dumps(event)}
        await database.redis.xadd(database.keys.results(FRONTEND), fields)  # type: ignore[arg-type]


class Loop:
    """A consumer's loop, one delivery at a time."""

    def __init__(self, deliveries: AsyncGenerator[Delivery]) -> None:
        self._deliveries = deliveries

    async def next(self) -> Delivery:
        """The next delivery, with a deadline."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await anext(self._deliveries)

    async def take(self, count: int) -> list[tuple[str, int, int]]:
        """Take and acknowledge; (job, seq, deliveries) of each."""
        taken = []
        for _ in range(count):
            delivery = await self.next()
            taken.append((delivery.event.job_id, delivery.event.seq, delivery.deliveries))
            await delivery.ack()
        return taken

    async def bury(self, count: int) -> None:
        """Give up on the next deliveries."""
        for _ in range(count):
            await (await self.next()).fail("the chat is gone", retry=False)


@asynccontextmanager
async def consumer(database: Database, name: str = "one", group: str = GROUP, **more: Any) -> AsyncGenerator[Loop]:
    """A consumer in a hurry."""
    options = {"block_seconds": 0.05, "claim_idle_seconds": 0.3, **more}
    results = ResultConsumer(FRONTEND, group, name, database=database, **options)
    async with aclosing(aiter(results)) as deliveries:
        yield Loop(deliveries)


async def letters(database: Database) -> list[DeadLetter]:
    """All dead letters."""
    return [letter async for letter in DeadLetters(database, FRONTEND).all()]


async def replay(database: Database, *some: DeadLetter) -> list[str]:
    """Replay these, or all; the words."""
    chosen = list(some) or await letters(database)
    return [word async for _, word in DeadLetters(database, FRONTEND).replay(chosen)]


async def test_a_letter_says_what_it_is(database: Database) -> None:
    """Job, number, type, reason, group and deliveries, as the operator reads them."""
    await post(database, "a", 1)
    async with consumer(database) as loop:
        await loop.bury(1)
    [letter] = await letters(database)
    assert (letter.job_id, letter.seq, letter.type, letter.group) == ("a", "1", "job.running", GROUP)
    assert (letter.reason, letter.deliveries, letter.consumer) == ("the chat is gone", 1, "one")
    assert abs(letter.at.timestamp() - await database.now_ms() / 1000) < 60


async def test_replayed_letters_come_in_order_and_counted_anew(database: Database) -> None:
    """Whatever order they were chosen in, a job's events come in its own; jobs may mix."""
    await post(database, "a", 1, 2)
    await post(database, "b", 1)
    async with consumer(database) as loop:
        await loop.bury(3)
        found = await letters(database)
        assert await replay(database, *reversed(found)) == ["pending"] * 3
        taken = await loop.take(3)
    assert [one for one in taken if one[0] == "a"] == [("a", 1, 1), ("a", 2, 1)]
    assert ("b", 1, 1) in taken
    assert await letters(database) == []


async def test_another_consumer_takes_over_at_once(database: Database) -> None:
    """The one that failed is gone for good: the next claim of any other finds the letter, however patient it is."""
    await post(database, "a", 1)
    async with consumer(database, "gone") as loop:
        await loop.bury(1)
    assert await replay(database) == ["pending"]
    async with consumer(database, "new", claim_idle_seconds=3600.0) as loop:
        assert await loop.take(1) == [("a", 1, 1)]


async def test_replayed_before_what_has_not_been_handed_out(database: Database) -> None:
    """Later events of the job that nobody has taken yet wait for the replayed one."""
    await post(database, "a", 1)
    async with consumer(database) as loop:
        await loop.bury(1)
    await post(database, "a", 2, 3)
    await replay(database)
    async with consumer(database) as loop:
        assert [seq for _, seq, _ in await loop.take(3)] == [1, 2, 3]


async def test_other_groups_do_not_hear_of_it(database: Database) -> None:
    """The entry is still on the stream: it becomes pending in the group that failed, and nothing is added."""
    await post(database, "a", 1)
    async with consumer(database) as loop, consumer(database, group="archive") as archive:
        await loop.bury(1)
        assert await archive.take(1) == [("a", 1, 1)]
        await replay(database)
        await post(database, "b", 1)
        assert await archive.take(1) == [("b", 1, 1)]
        assert len(await loop.take(2)) == 2


async def test_a_trimmed_event_is_copied_for_everybody(database: Database) -> None:
    """The stream does not hold it any more: every group reads the copy, under the same job and number."""
    await post(database, "a", 1, 2)
    async with consumer(database) as loop, consumer(database, group="archive") as archive:
        await loop.bury(2)
        await archive.take(2)
        await database.redis.xtrim(database.keys.results(FRONTEND), maxlen=0, approximate=False)
        assert await replay(database) == ["copied", "copied"]
        assert await loop.take(2) == [("a", 1, 1), ("a", 2, 1)]
        assert await archive.take(2) == [("a", 1, 1), ("a", 2, 1)]


async def test_two_operators_replay_each_letter_once(database: Database) -> None:
    """Each letter goes with one of them; the other hears that it is gone, and nobody is told twice."""
    for number in range(20):
        await post(database, f"job-{number}", 1)
    async with consumer(database) as loop:
        await loop.bury(20)
        found = await letters(database)
        one, two = await asyncio.gather(replay(database, *found), replay(database, *reversed(found)))
        assert sorted(one + two) == ["gone"] * 20 + ["pending"] * 20
        assert len(set(await loop.take(20))) == 20
        summary = await database.redis.xpending(database.keys.results(FRONTEND), GROUP)
        assert summary["pending"] == 0


async def test_a_replayed_event_can_fail_again(database: Database) -> None:
    """It becomes a dead letter once more, with the new reason."""
    await post(database, "a", 1)
    async with consumer(database) as loop:
        await loop.bury(1)
        await replay(database)
        await (await loop.next()).fail("still gone", retry=False)
    assert [letter.reason for letter in await letters(database)] == ["still gone"]


async def test_without_its_group_a_letter_stays(database: Database) -> None:
    """Nobody would read it: it is kept until the group is there again."""
    await post(database, "a", 1)
    async with consumer(database) as loop:
        await loop.bury(1)
    await database.redis.xgroup_destroy(database.keys.results(FRONTEND), GROUP)
    assert await replay(database) == ["no group"]
    await database.redis.xgroup_create(database.keys.results(FRONTEND), GROUP, id="$")
    assert await replay(database) == ["pending"]
    async with consumer(database) as loop:
        assert await loop.take(1) == [("a", 1, 1)]


async def test_pages(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, each is read once; `newest` also says how many."""
    monkeypatch.setattr("producers.results.dead_letters.PAGE", 3)
    for number in range(7):
        await database.redis.xadd(database.keys.dead(FRONTEND), {"job_id": f"job-{number}"})
    assert [letter.job_id for letter in await letters(database)] == [f"job-{number}" for number in range(7)]
    newest, count = await DeadLetters(database, FRONTEND).newest(2)
    assert ([letter.job_id for letter in newest], count) == (["job-5", "job-6"], 7)
