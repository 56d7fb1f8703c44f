"""Any number of consumers, failures and crashes in any order: each event arrives, and each job's in order."""

import asyncio
import random
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.results.inbox import Entry, Inbox
from shared.database import Database
from shared.jobs.event import Event
from tests.service.test_results import consumer, dead, event_json, post

JOBS, EVENTS = 6, 5


@pytest.mark.redis
@pytest.mark.parametrize("seed", range(4))
async def test_nothing_is_lost_and_no_job_overtakes_itself(database: Database, seed: int) -> None:
    """Three consumers that crash, fail and dawdle at random, while events come in."""
    dice = random.Random(seed)
    everything = {(f"job-{job}", seq) for job in range(JOBS) for seq in range(1, EVENTS + 1)}
    settled: set[tuple[str, int]] = set()
    in_hand: dict[tuple[str, int], int] = {}

    async def feed() -> None:
        for seq in range(1, EVENTS + 1):
            for job in dice.sample(range(JOBS), JOBS):
                await post(database, f"job-{job}", seq)
                await asyncio.sleep(dice.uniform(0, 0.004))

    async def consume(name: str) -> None:
        while settled != everything:
            lives = dice.randint(1, 12)
            held: list[tuple[str, int]] = []
            async with aclosing(aiter(consumer(database, name, batch=3, max_deliveries=1000))) as loop:
                async for delivery in loop:
                    event = (delivery.event.job_id, delivery.event.seq)
                    # The promise: everything before it, of this job, is settled.
                    assert {(event[0], seq) for seq in range(1, event[1])} <= settled
                    assert event not in settled or delivery.deliveries > 1
                    assert not in_hand.get(event)
                    in_hand[event] = 1
                    held.append(event)
                    await asyncio.sleep(dice.uniform(0, 0.005))
                    lives -= 1
                    match dice.choice("aaaaaafc"):
                        case "a":
                            settled.add(event)
                            await delivery.ack()
                            in_hand[event] = 0
                        case "f" if event not in settled:
                            in_hand[event] = 0
                            await delivery.fail("no luck")
                        case _:
                            lives = 0
                    if lives <= 0 or settled == everything:
                        break
            for event in held:
                in_hand[event] = 0

    consumers = [asyncio.create_task(consume(name)) for name in ("one", "two", "three")]
    feeding = asyncio.create_task(feed())
    async with asyncio.timeout(30):
        while settled != everything:
            done = [task for task in consumers if task.done() and task.exception()]
            assert not done, done[0].exception()
            await asyncio.sleep(0.02)
    await feeding
    for task in consumers:
        task.cancel()
    await asyncio.gather(*consumers, return_exceptions=True)
    assert await dead(database) == []


EVENT_NAMES = st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=30)


@given(EVENT_NAMES, st.randoms(use_true_random=False))
def test_the_inbox_hands_out_each_job_in_order(shape: list[tuple[int, bool]], dice: random.Random) -> None:
    """Entries in any order of arrival, losses to others and settlements in any order: the oldest of a job comes first."""
    inbox = Inbox()
    entries = [
        Entry(f"{place}-0", (place, 0), Event.model_validate_json(event_json(f"job-{job}", place + 1)), cleared=cleared)
        for place, (job, cleared) in enumerate(shape)
    ]
    for entry in dice.sample(entries, len(entries)):
        inbox.add(entry)
    left = {entry.id: entry for entry in entries}
    out: list[Entry] = []
    while left:
        entry = inbox.next(0.0)
        if entry is not None:
            older = [one for one in left.values() if one.event.job_id == entry.event.job_id and one.place < entry.place]
            assert not older
            assert entry.cleared
            entry.handed_out_at = 0.0
            out.append(entry)
        elif waiting := inbox.uncleared():
            waiting[0].cleared = True
        if out and (entry is None or dice.random() < 0.5):
            gone = out.pop(dice.randrange(len(out)))
            del left[gone.id]
            if dice.random() < 0.2:
                inbox.lose(gone.id)
                same = [one for one in left.values() if one.event.job_id == gone.event.job_id]
                assert not any(one.cleared for one in same)
            else:
                assert inbox.settle(gone.id)
                assert not inbox.settle(gone.id)
    assert len(inbox) == 0
    assert inbox.waiting(0.0) == 0
