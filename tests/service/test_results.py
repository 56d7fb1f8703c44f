"""The result consumer on a real Redis: at least once, in order within a job, and never for ever."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ResponseError

from producers.local.redis_server import RedisServer
from producers.results import Delivery, ResultConsumer
from shared.database import Database

pytestmark = pytest.mark.redis

FRONTEND, GROUP = "telegram", "bot"
DEADLINE_SECONDS = 10.0


def event_json(job_id: str, seq: int, **fields: Any) -> str:
    """An event as workers write it."""
    event = {"schema": "conveyor.event/1", "type": "job.running", "job_id": job_id, "seq": seq, "state": "running"}
    event |= {"at": "2026-11-20T20:53:20.000Z", "final": False, "frontend": FRONTEND, "user": {"id": "1"}}
    return json.dumps(event | fields)


async def post(database: Database, job_id: str, seq: int) -> str:
    """Put an event on the stream; its entry id."""
    fields = {"type": "job.running", "job_id": job_id, "seq": seq, "data": event_json(job_id, seq)}
    return str(await database.redis.xadd(database.keys.results(FRONTEND), fields))  # type: ignore[arg-type]


def consumer(database: Database, name: str = "one", **options: Any) -> ResultConsumer:
    """A consumer in a hurry."""
    options = {"block_seconds": 0.05, "claim_idle_seconds": 0.3, **options}
    return ResultConsumer(FRONTEND, GROUP, name, database=database, **options)


@asynccontextmanager
async def deliveries(results: ResultConsumer) -> AsyncGenerator[Callable[[], Any]]:
    """The consumer's loop, one delivery at a call, each with a deadline."""
    async with aclosing(aiter(results)) as loop:

        async def following() -> Delivery:
            async with asyncio.timeout(DEADLINE_SECONDS):
                return await anext(loop)

        yield following


async def until(fact: Callable[[], Any]) -> Any:
    """Wait for a fact, with a deadline."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not (found := await fact()):  # noqa: ASYNC110 - the fact is in Redis
            await asyncio.sleep(0.01)
    return found


async def pending(database: Database) -> int:
    """How many entries the group has not acknowledged."""
    summary = await database.redis.xpending(database.keys.results(FRONTEND), GROUP)
    return int(summary["pending"])


async def dead(database: Database) -> list[dict[str, str]]:
    """The dead letters."""
    return [fields for _, fields in await database.redis.xrange(database.keys.dead(FRONTEND))]


def name_of(delivery: Delivery) -> tuple[str, int]:
    """What names an event."""
    return delivery.event.job_id, delivery.event.seq


async def test_hands_out_what_was_there_before_and_what_comes(database: Database) -> None:
    """A new group begins with the oldest event; acknowledged events are over."""
    await post(database, "a", 1)
    async with deliveries(consumer(database)) as following:
        first = await following()
        await post(database, "a", 2)
        await first.ack()
        second = await following()
        await second.ack()
    assert [name_of(first), name_of(second)] == [("a", 1), ("a", 2)]
    assert await pending(database) == 0


async def test_later_events_of_a_job_wait_for_the_earlier(database: Database) -> None:
    """While an event is unacknowledged the next of its job is held back, and other jobs go on."""
    for job, seq in [("a", 1), ("a", 2), ("b", 1)]:
        await post(database, job, seq)
    async with deliveries(consumer(database)) as following:
        a1, b1 = await following(), await following()
        assert [name_of(a1), name_of(b1)] == [("a", 1), ("b", 1)]
        await a1.ack()
        assert name_of(await following()) == ("a", 2)


async def test_order_holds_across_consumers(database: Database) -> None:
    """A job's next event waits also when another consumer of the group got it."""
    async with deliveries(consumer(database, "one", batch=1)) as one, deliveries(consumer(database, "two")) as two:
        await post(database, "a", 1)
        a1 = await one()
        # One holds a:1 and has fetched no more than one; two is given the rest.
        stream = database.keys.results(FRONTEND)
        await post(database, "c", 1)
        await until(lambda: _holds(database, "one", 2))
        await post(database, "a", 2)
        await post(database, "b", 1)
        b1 = await two()
        assert name_of(b1) == ("b", 1)
        await b1.ack()
        waiting = asyncio.ensure_future(two())
        await until(lambda: _holds(database, "two", 1))
        assert not waiting.done()
        await a1.ack()
        assert name_of(await waiting) == ("a", 2)
        assert (await database.redis.xpending(stream, GROUP))["pending"] == 2


async def _holds(database: Database, name: str, count: int) -> bool:
    consumers = await database.redis.xinfo_consumers(database.keys.results(FRONTEND), GROUP)
    return any(one["name"] == name and one["pending"] == count for one in consumers)


async def test_two_consumers_share_without_repeats(database: Database) -> None:
    """Every event is handed out once when nobody crashes."""
    for job in range(40):
        await post(database, f"job-{job}", 1)
    seen: list[tuple[str, int]] = []

    async def work(name: str) -> None:
        async with aclosing(aiter(consumer(database, name, batch=4))) as loop:
            async for delivery in loop:
                seen.append(name_of(delivery))
                await delivery.ack()

    workers = [asyncio.create_task(work(name)) for name in ("one", "two")]
    await until(lambda: _count(seen, 40))
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    assert sorted(seen) == sorted({(f"job-{job}", 1) for job in range(40)})
    assert await pending(database) == 0


async def _count(seen: list[Any], count: int) -> bool:
    return len(seen) >= count


async def test_a_crash_before_the_ack_hands_the_event_out_again(database: Database) -> None:
    """A consumer that comes back under its name gets first what it had not acknowledged."""
    await post(database, "a", 1)
    await post(database, "b", 1)
    async with deliveries(consumer(database)) as following:
        assert (await following()).deliveries == 1
    async with deliveries(consumer(database, claim_idle_seconds=60.0)) as following:
        again = await following()
        assert (name_of(again), again.deliveries) == (("a", 1), 2)


async def test_a_dead_consumer_is_inherited(database: Database) -> None:
    """Another consumer takes over after the idle time, in order."""
    for seq in (1, 2):
        await post(database, "a", seq)
    async with deliveries(consumer(database, "gone")) as following:
        await following()
    async with deliveries(consumer(database, "heir")) as following:
        for seq in (1, 2):
            delivery = await following()
            assert name_of(delivery) == ("a", seq)
            await delivery.ack()


async def test_a_slow_consumer_is_not_robbed(database: Database) -> None:
    """What a living process works on is not claimed by others, however long it takes."""
    await post(database, "a", 1)
    slow = consumer(database, "slow", claim_idle_seconds=0.2)
    async with deliveries(slow) as following, deliveries(consumer(database, "keen", claim_idle_seconds=0.2)) as keen:
        held = await following()
        theft = asyncio.ensure_future(keen())
        # Five times the idle time: long enough to be claimed if nobody renewed it.
        assert not (await asyncio.wait({theft}, timeout=1.0))[0]
        await held.ack()
        await post(database, "b", 1)
        # Whoever fetches the next event, nobody is given the first again.
        other = asyncio.ensure_future(following())
        (first, *_), rest = await asyncio.wait({theft, other}, timeout=5, return_when=asyncio.FIRST_COMPLETED)
        assert name_of(first.result()) == ("b", 1)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)


async def test_an_event_nobody_settles_comes_again(database: Database) -> None:
    """Neither acknowledged nor failed for the handling time: handed out again, in the end a dead letter."""
    await post(database, "a", 1)
    results = consumer(database, handling_seconds=0.1, max_deliveries=2)
    async with deliveries(results) as following:
        assert [(await following()).deliveries for _ in range(2)] == [1, 2]
        third = asyncio.ensure_future(following())
        (letter,) = await until(lambda: dead(database))
        await post(database, "b", 1)
        assert name_of(await third) == ("b", 1)
    assert "neither acknowledged nor failed" in letter["reason"]


async def test_a_failing_event_becomes_a_dead_letter(database: Database) -> None:
    """After the last delivery the event is kept with the reason, and the job's next event goes."""
    entry = await post(database, "a", 1)
    await post(database, "a", 2)
    async with deliveries(consumer(database, max_deliveries=2)) as following:
        for expected in (1, 2):
            delivery = await following()
            assert (name_of(delivery), delivery.deliveries) == (("a", 1), expected)
            await delivery.fail("flood control")
        assert name_of(await following()) == ("a", 2)
    (letter,) = await dead(database)
    assert {name: letter[name] for name in ("reason", "entry", "group", "consumer", "deliveries", "job_id", "seq")} == {
        "reason": "flood control",
        "entry": entry,
        "group": GROUP,
        "consumer": "one",
        "deliveries": "2",
        "job_id": "a",
        "seq": "1",
    }
    assert json.loads(letter["data"])["job_id"] == "a"


async def test_a_hopeless_event_is_given_up_at_once(database: Database) -> None:
    """`retry=False` is for a chat that is gone."""
    await post(database, "a", 1)
    async with deliveries(consumer(database)) as following:
        await (await following()).fail("the bot was blocked", retry=False)
    assert [letter["reason"] for letter in await dead(database)] == ["the bot was blocked"]
    assert await pending(database) == 0


async def test_only_the_poison_dies(database: Database) -> None:
    """An event that kills the process each time becomes a dead letter; what was fetched beside it does not."""
    for job in ("poison", "b", "c"):
        await post(database, job, 1)
    for expected in (1, 2, 3):
        async with deliveries(consumer(database, max_deliveries=3)) as following:
            delivery = await following()
            assert (name_of(delivery), delivery.deliveries) == (("poison", 1), expected)
    async with deliveries(consumer(database, max_deliveries=3)) as following:
        assert [name_of(await following()) for _ in "bc"] == [("b", 1), ("c", 1)]
    (letter,) = await dead(database)
    assert (letter["job_id"], letter["reason"]) == ("poison", "not acknowledged after 3 deliveries")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("{", "Invalid JSON"),
        (event_json("a", 1, state="exploded"), "state: "),
        ('{"schema": "conveyor.event/1"}', "job_id: Field required"),
    ],
)
async def test_an_unreadable_entry_is_a_dead_letter_at_once(database: Database, data: str, reason: str) -> None:
    """It says what could not be read, and does not stand in the way."""
    await database.redis.xadd(database.keys.results(FRONTEND), {"type": "job.running", "job_id": "a", "data": data})
    await post(database, "a", 2)
    async with deliveries(consumer(database)) as following:
        delivery = await following()
        assert name_of(delivery) == ("a", 2)
        await delivery.ack()
    (letter,) = await dead(database)
    assert reason in letter["reason"]
    assert letter["data"] == data


async def test_a_vanished_group_loses_nothing(database: Database) -> None:
    """Somebody destroys the group: it begins again, and what this consumer has acknowledged does not come again."""
    for job in ("a", "b"):
        await post(database, job, 1)
    async with deliveries(consumer(database)) as following:
        await (await following()).ack()
        held = await following()
        await database.redis.xgroup_destroy(database.keys.results(FRONTEND), GROUP)
        await post(database, "c", 1)
        delivery = await following()
        if name_of(delivery) == ("b", 1):  # a repeat is allowed, a loss is not
            held, delivery = delivery, await following()
        assert name_of(delivery) == ("c", 1)
        await held.ack()
        await delivery.ack()
    async with deliveries(consumer(database)) as following:
        await post(database, "d", 1)
        assert name_of(await following()) == ("d", 1)


async def test_a_vanished_group_is_heard_from_the_beginning(database: Database) -> None:
    """A process that did not see the group before hears everything that is still on the stream."""
    for seq in (1, 2):
        await post(database, "a", seq)
    async with deliveries(consumer(database)) as following:
        for _ in range(2):
            await (await following()).ack()
    await database.redis.xgroup_destroy(database.keys.results(FRONTEND), GROUP)
    async with deliveries(consumer(database, "two")) as following:
        assert name_of(await following()) == ("a", 1)


async def test_a_vanished_stream_is_waited_for(database: Database) -> None:
    """The stream is deleted under the consumer: it makes both anew and hears what comes."""
    await post(database, "a", 1)
    async with deliveries(consumer(database)) as following:
        await (await following()).ack()
        await database.redis.delete(database.keys.results(FRONTEND))
        await post(database, "b", 1)
        assert name_of(await following()) == ("b", 1)


async def test_a_trimmed_entry_is_let_go(database: Database) -> None:
    """Pending, but no longer on the stream: nothing can be delivered, and nothing waits for it."""
    entry = await post(database, "a", 1)
    async with deliveries(consumer(database)) as following:
        await following()
    await database.redis.xdel(database.keys.results(FRONTEND), entry)
    await post(database, "a", 2)
    async with deliveries(consumer(database)) as following:
        second = await following()
        assert name_of(second) == ("a", 2)
        await second.ack()
    assert await pending(database) == 0


async def test_a_lost_reply_is_found(database: Database) -> None:
    """Redis gave us entries but the connection broke before we read them: they come, before their job's later ones."""
    stream = database.keys.results(FRONTEND)
    async with deliveries(consumer(database)) as following:
        await post(database, "x", 1)
        await (await following()).ack()
        # As a broken connection leaves it: delivered to this consumer, unknown to its process.
        pipe = database.redis.pipeline()
        pipe.xadd(stream, {"type": "job.running", "job_id": "a", "seq": "1", "data": event_json("a", 1)})
        pipe.xreadgroup(GROUP, "one", {stream: ">"})
        await pipe.execute()
        await post(database, "a", 2)
        for seq in (1, 2):
            delivery = await following()
            assert name_of(delivery) == ("a", seq)
            await delivery.ack()


async def test_idle_consumers_are_removed_only_empty(database: Database) -> None:
    """One that still holds an event stays until the event is claimed."""
    await post(database, "a", 1)
    async with deliveries(consumer(database, "gone")) as following:
        await following()
    results = consumer(database, "here")
    assert await results.remove_idle_consumers(0.0) == []
    async with deliveries(results) as following:
        await (await following()).ack()
        await until(lambda: _retired(results, "gone"))


async def _retired(results: ResultConsumer, name: str) -> bool:
    return name in await results.remove_idle_consumers(0.3)


async def test_removing_consumers_of_no_group_is_fine(database: Database) -> None:
    """Nothing there, nothing removed."""
    assert await consumer(database).remove_idle_consumers() == []


async def test_a_key_of_the_wrong_type_is_told(database: Database) -> None:
    """What no waiting repairs is raised, not retried for ever."""
    await database.redis.set(database.keys.results(FRONTEND), "no stream")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        async with deliveries(consumer(database)) as following:
            await following()


async def test_redis_may_restart(tmp_path: Path) -> None:
    """The loop rides out a kill and a restart; an acknowledgement made meanwhile is made up for."""
    async with RedisServer(tmp_path) as server, Database.open(server.url) as database:
        for job in ("a", "b"):
            await post(database, job, 1)
        async with deliveries(consumer(database)) as following:
            a1 = await following()
            await until(lambda: _saved(database))
            await asyncio.to_thread(server.stop)
            await a1.ack()
            await asyncio.to_thread(server.start)
            b1 = await following()
            assert name_of(b1) == ("b", 1)
            await b1.ack()
            await post(database, "a", 2)
            assert name_of(await following()) == ("a", 2)
        assert await pending(database) == 1


async def _saved(database: Database) -> bool:
    return bool((await database.redis.info("persistence"))["aof_last_write_status"] == "ok")
