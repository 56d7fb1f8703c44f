"""How do we talk to Redis? One client per event loop, every script loaded from `shared/lua/`, every wait bounded.

A script call is one round trip (EVALSHA); after a restart or SCRIPT FLUSH the client sends the text again by itself.
"""

from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared.connection import cancellable
from shared.errors import Unavailable, UnsafeRedis
from shared.keys import DEFAULT_PREFIX, Keys

SCRIPTS = Path(__file__).parent / "lua"

#: What redis-py raises when the server is away; everything else is our mistake.
REDIS_AWAY = (RedisConnectionError, RedisTimeoutError, OSError)

#: Seconds. Blocking reads ask for less than this.
SOCKET_TIMEOUT_SECONDS = 10.0
CONNECT_TIMEOUT_SECONDS = 3.0

#: Of one process. Redis answers a script in tens of microseconds, so more would only wait there instead of here.
MOST_CONNECTIONS = 200


@cache
def script_text(name: str) -> str:
    """A script as Redis gets it: the prelude, then the file."""
    return (SCRIPTS / "prelude.lua").read_text() + (SCRIPTS / f"{name}.lua").read_text()


@dataclass
class Database:
    """Redis, our scripts and our keys, for one event loop."""

    redis: Redis
    keys: Keys = field(default_factory=Keys)
    _scripts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, url: str, *, prefix: str = DEFAULT_PREFIX) -> Self:
        """Prepare a client; the first command connects. Short outages are ridden out by three quick retries.

        Retries may repeat a script whose answer was lost: every script says what a repeat does. When every connection
        is in use a call waits for one: a busy worker is not an outage.
        """
        pool = BlockingConnectionPool.from_url(
            url,
            decode_responses=True,
            socket_timeout=SOCKET_TIMEOUT_SECONDS,
            socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
            health_check_interval=30,
            max_connections=MOST_CONNECTIONS,
            timeout=SOCKET_TIMEOUT_SECONDS,
            retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=1.0), retries=3),
        )
        pool.connection_class = cancellable(pool.connection_class)
        return cls(Redis.from_pool(pool), Keys(prefix))

    async def run(self, name: str, *args: str | float) -> Any:
        """Run `shared/lua/<name>.lua`. One round trip. Raises `Unavailable` when Redis is away."""
        script = self._scripts.get(name)
        if script is None:
            script = self._scripts[name] = self.redis.register_script(script_text(name))
        with self.asking():
            return await script(keys=[], args=[self.keys.prefix, *args])

    async def hash(self, key: str) -> dict[str, str]:
        """A whole hash, empty when the key does not exist."""
        with self.asking():
            return await cast(Awaitable[dict[str, str]], self.redis.hgetall(key))

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Around plain commands: Redis away is `Unavailable` here, too."""
        try:
            yield
        except REDIS_AWAY as error:
            raise self.away(error) from error

    def away(self, error: BaseException) -> Unavailable:
        """What to raise when Redis cannot be reached: says where it was looked for, never the password."""
        where = self.redis.connection_pool.connection_kwargs
        address = where.get("path") or f"{where.get('host', 'localhost')}:{where.get('port', 6379)}"
        return Unavailable(f"Redis at {address} is away: {type(error).__name__}")

    async def now_ms(self) -> int:
        """Redis's clock in milliseconds: the one every time in a record is on. One round trip."""
        with self.asking():
            seconds, microseconds = await self.redis.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    async def refuse_eviction(self) -> None:
        """Raise `UnsafeRedis` when this server evicts keys under memory pressure. One round trip."""
        with self.asking():
            memory = await self.redis.info("memory")
        policy = memory.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            raise UnsafeRedis(
                f"Redis has maxmemory-policy {policy}: under memory pressure it would drop jobs and results.",
                check="set it to noeviction, and watch its memory instead.",
            )

    async def aclose(self) -> None:
        """Close every connection. Closing twice is fine."""
        await self.redis.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
