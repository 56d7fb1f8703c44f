"""Is Redis there, and is it one that keeps what we give it?"""

import time
from collections.abc import AsyncIterator
from typing import Any

from redis.exceptions import AuthenticationError, RedisError

from producers.cli.doctor.check import Check, fail, ok, warn
from shared.database import REDIS_AWAY, Database
from shared.errors import UnsafeRedis

#: The oldest version that has every command we use.
OLDEST = (6, 2)
#: A round trip that takes longer makes every job wait.
SLOW_MS = 50.0
#: Shares of its memory limit. At the limit writes are refused: no job is accepted any more.
MEMORY_WARN, MEMORY_BAD = 0.75, 0.95
#: What people read from two clocks (logs, ages) is off by as much; nothing of ours depends on it.
SKEW_SECONDS = 2.0


async def checks(database: Database) -> AsyncIterator[Check]:
    """Version and latency, role, eviction, append-only file, memory, clock. A failed `redis` ends the examination."""
    try:
        info: dict[str, Any] = await database.redis.info()
        took_ms, skew_seconds = await _clock(database)
    except AuthenticationError as error:  # a ConnectionError to redis-py, but waiting will not help
        yield _refused(error)
        return
    except REDIS_AWAY as error:
        yield fail("redis", str(database.away(error)), "start it, or correct REDIS_URL")
        return
    except RedisError as error:
        yield _refused(error)
        return
    name, version = ("valkey", info["valkey_version"]) if "valkey_version" in info else ("redis", info["redis_version"])
    finding = f"{name} {version}, {took_ms:.1f} ms"
    if info.get("role") != "master":
        yield fail("redis", f"{finding}, a replica: it refuses writes", "point REDIS_URL at the primary")
        return
    if info.get("cluster_enabled"):
        yield fail("redis", f"{finding}, a cluster: our scripts need one keyspace", "use one primary with replicas")
        return
    if _version(info["redis_version"]) < OLDEST:
        yield fail(
            "redis", f"{finding}: older than {'.'.join(map(str, OLDEST))}", "update it: commands we need are missing"
        )
        return
    yield (
        ok("redis", finding) if took_ms < SLOW_MS else warn("redis", f"{finding}: slow", "move it nearer, or find out")
    )
    yield await _eviction(database)
    yield await _append_only(database, info)
    yield _memory(info)
    if abs(skew_seconds) > SKEW_SECONDS:
        fix = "run NTP on both; ages shown here and times in logs are off by as much"
        yield warn("clock", f"this machine is {_skew(skew_seconds)} Redis", fix)
    else:
        yield ok("clock", f"within {max(abs(skew_seconds), took_ms / 1000):.3f} s of Redis")


def _version(text: str) -> tuple[int, ...]:
    """Valkey says here, too, which Redis it is like."""
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def _refused(error: RedisError) -> Check:
    return fail("redis", f"refuses us: {error}", "the password, the database's number or the ACL in REDIS_URL")


async def _clock(database: Database) -> tuple[float, float]:
    """Milliseconds of a round trip, and seconds by which this machine is ahead of Redis: the best of three."""
    best = (float("inf"), 0.0)
    for _ in range(3):
        before, started = time.time(), time.monotonic()
        seconds, microseconds = await database.redis.time()
        took = time.monotonic() - started
        best = min(best, (took * 1000, before + took / 2 - (int(seconds) + int(microseconds) / 1e6)))
    return best


def _skew(seconds: float) -> str:
    return f"{abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'}"


async def _eviction(database: Database) -> Check:
    try:
        await database.refuse_eviction()
    except UnsafeRedis as error:
        return fail("eviction", str(error).partition(" Check:")[0], f"{error.check} Workers refuse to start until then")
    return ok("eviction", "maxmemory-policy noeviction")


async def _append_only(database: Database, info: dict[str, Any]) -> Check:
    if not info.get("aof_enabled"):
        return warn("aof", "no append-only file: a restart of Redis forgets jobs", "set appendonly yes")
    if info.get("aof_last_write_status", "ok") != "ok":
        return fail(
            "aof", "the last write to the append-only file failed", "see to Redis's disk: writes may be refused"
        )
    try:
        fsync = (await database.redis.config_get("appendfsync")).get("appendfsync", "")
    except RedisError:
        fsync = ""  # not readable at many providers
    if fsync == "no":
        return warn(
            "aof", "appendonly yes, appendfsync no: a crash may forget half a minute", "set appendfsync everysec"
        )
    return ok("aof", f"appendonly yes{f', appendfsync {fsync}' if fsync else ''}")


def _memory(info: dict[str, Any]) -> Check:
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    finding = f"{used / 2**20:,.0f} MiB"
    if not most:
        return ok("memory", f"{finding}, no limit set")
    share = used / most
    finding = f"{finding} of {most / 2**20:,.0f} MiB"
    if share < MEMORY_WARN:
        return ok("memory", finding)
    fix = "raise maxmemory, or keep jobs shorter (CONVEYOR_JOB_KEEP_SECONDS): when it is full, no job is accepted"
    return Check("memory", "fail" if share > MEMORY_BAD else "warn", finding, fix)
