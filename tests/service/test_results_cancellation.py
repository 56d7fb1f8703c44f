"""A cancelled task ends, whatever it was asking Redis."""

import asyncio
import random

import pytest

from shared.database import Database

pytestmark = pytest.mark.redis


async def test_every_cancellation_arrives(database: Database) -> None:
    """Also one that comes while a command is being sent, which Python 3.11 would forget."""

    async def ask() -> None:
        while True:
            await database.redis.ping()

    await database.redis.ping()
    for _ in range(100):
        task = asyncio.create_task(ask())
        await asyncio.sleep(random.uniform(0, 0.006))
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=2)
        assert done


async def test_a_reply_is_never_taken_for_another(database: Database) -> None:
    """After a cancellation the connection is not used again, so nobody reads an answer to somebody else's question."""
    await database.redis.set(database.keys.job("a"), "a")
    for turn in range(100):
        task = asyncio.create_task(database.redis.get(database.keys.job("a")))
        await asyncio.sleep(random.uniform(0, 0.001))
        task.cancel()
        await asyncio.wait({task})
        assert await database.redis.echo(f"{turn}") == f"{turn}"


async def test_a_cancellation_from_before_the_command_arrives(database: Database) -> None:
    """Ctrl-C while an event is printed: the next command is not carried out as if nothing had been asked for."""

    async def interrupted() -> None:
        task = asyncio.current_task()
        assert task
        task.cancel()
        await database.redis.ping()
        raise AssertionError("it went on")

    await database.redis.ping()
    for _ in range(50):
        task = asyncio.create_task(interrupted())
        await asyncio.wait({task})
        assert task.cancelled()
