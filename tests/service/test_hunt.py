"""The search for secrets finds what was planted: else it would prove nothing."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis

from producers.local.processes import ROOT
from producers.local.redis_server import RedisServer
from shared.database import Database
from tests.hunt import PRIVATE, Hunt, Monitor, Records

#: Made in two parts, for the search reads what failing tests quote.
PLANTED = "hunted-" + "api-key-4f1c9b"

Plant = Callable[["Redis[str]", str], object]
PLANTS: dict[str, Plant] = {
    "string": lambda redis, key: redis.set(key, f"x{PLANTED}x"),
    "hash": lambda redis, key: redis.hset(key, "request", PLANTED),
    "hash field": lambda redis, key: redis.hset(key, PLANTED, "1"),
    "list": lambda redis, key: redis.lpush(key, "a", PLANTED),
    "set": lambda redis, key: redis.sadd(key, PLANTED),
    "sorted set": lambda redis, key: redis.zadd(key, {PLANTED: 1}),
    "stream": lambda redis, key: redis.xadd(key, {"data": PLANTED}),
    "name": lambda redis, key: redis.set(f"{key}:{PLANTED}", "1"),
}


@pytest.mark.parametrize("kind", PLANTS)
def test_a_secret_in_redis_is_found(kind: str, redis_server: RedisServer) -> None:
    """In each type of value, at each place of it, and in a key's name; where it was is told."""
    hunt = Hunt()
    with Redis.from_url(redis_server.url.removesuffix("0") + "9", decode_responses=True) as redis:
        PLANTS[kind](redis, "conveyor:job:planted")
        try:
            hunt.redis(redis_server.url)
        finally:
            redis.flushdb()
    with pytest.raises(AssertionError, match="conveyor:job:planted") as error:
        hunt.search()
    assert PLANTED in str(error.value)
    hunt.search()  # said once


@pytest.mark.parametrize(("key", "may"), [("conveyor:job:1", True), ("conveyor:label", False), ("celery", False)])
def test_a_users_own_data_may_be_in_records_and_nowhere_else(key: str, may: bool, redis_server: RedisServer) -> None:
    """The job's record holds what was asked for; a queue, a name or a label does not."""
    hunt = Hunt()
    with Redis.from_url(redis_server.url.removesuffix("0") + "9", decode_responses=True) as redis:
        redis.rpush(key, PRIVATE) if key == "celery" else redis.hset(key, "request", PRIVATE)
        try:
            hunt.redis(redis_server.url)
        finally:
            redis.flushdb()
    if may:
        hunt.search()
    else:
        with pytest.raises(AssertionError, match=key):
            hunt.search()


async def test_a_secret_that_was_only_passing_is_found(database: Database, redis_server: RedisServer) -> None:
    """Written and deleted, or published to whoever listens: the monitor hears every command."""
    hunt = Hunt()
    with Monitor(hunt, redis_server.port, "") as monitor:
        await monitor.hears()
        await database.redis.set("gone", PLANTED)
        await database.redis.delete("gone")
        await database.redis.publish("events", PRIVATE)
        await database.redis.set("job:1", PRIVATE)
        await monitor.hears()
    with pytest.raises(AssertionError) as error:
        hunt.search()
    assert "Redis command SET: " + PLANTED in str(error.value)
    assert "Redis command PUBLISH: " + PRIVATE in str(error.value)
    assert "Redis command SET: " + PRIVATE not in str(error.value)


def test_a_secret_in_a_log_is_found(tmp_path: Path) -> None:
    """In a file as it grows, in a record's message, in its fields, and in a traceback."""
    hunt = Hunt()
    log = tmp_path / "w1.log"
    log.write_text("all is well\n")
    hunt.log_file(log)
    hunt.search()
    log.write_text(f"all is well\nkey {PLANTED}\n")
    with pytest.raises(AssertionError, match=r"log w1\.log"):
        hunt.search()

    logger = logging.Logger("planted")  # noqa: LOG001 - nobody else is to hear of it
    logger.addHandler(Records(hunt))
    logger.warning("all is well")
    hunt.search()
    try:
        int(PLANTED)
    except ValueError:
        logger.exception("failed")
    logger.warning("key %s", PLANTED, extra={"deep": [{"key": PLANTED}]})
    with pytest.raises(AssertionError, match="log record of planted"):
        hunt.search()


@pytest.mark.skipif("PLANT_A_LEAK" not in os.environ, reason="started by the next test")
async def test_leak(database: Database) -> None:
    """Leaks on purpose."""
    await database.redis.set("leak", PLANTED)
    logging.getLogger("leaky").warning("key %s", PLANTED)


def test_a_leak_fails_the_run() -> None:
    """A test that passes and leaves a secret in Redis and in the log ends in an error that says where."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"{__file__}::test_leak"]
    env = {**os.environ, "PLANT_A_LEAK": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "1 passed" in done.stdout
    assert f"log record of leaky: {PLANTED}" in done.stdout, done.stdout
    assert f"leak: {PLANTED}" in done.stdout
