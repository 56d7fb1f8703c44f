"""How does a command reach the API? By the client of the environment, with a token of the budget for each call.

The budget is the workers' own, so that somebody who lists in a loop slows himself down and not them past the limit.
After a write the catalog is told, so that what was deployed a moment ago can be enqueued.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from producers.cli.outcome import OK, carry_out
from shared.errors import Unavailable

if TYPE_CHECKING:
    from shared.catalog import Catalog
    from shared.comfydeploy import ComfyDeploy
    from shared.limits.bucket import CallClass, TokenBucket

#: A person waits so long for a token; then the budget is full or closed, and `conveyor rate show` says why.
TOKEN_SECONDS = 30.0


class Session:
    """One command's way to the API."""

    def __init__(self, api: "ComfyDeploy", bucket: "TokenBucket", catalog: "Catalog") -> None:
        self.api = api
        self._bucket = bucket
        self._catalog = catalog

    @asynccontextmanager
    async def call(self, class_: "CallClass" = "catalog", *, count: int = 1) -> AsyncIterator["ComfyDeploy"]:
        """Pay for the `count` calls of the body. Raises `Unavailable` when no token is free in time, or Redis is away."""
        try:
            async with asyncio.timeout(TOKEN_SECONDS):
                for _ in range(count - 1):
                    await self._bucket.take(class_)
                failures = await self._bucket.take(class_)
        except TimeoutError:
            raise Unavailable(f"No call was free within {TOKEN_SECONDS:.0f} s; see: conveyor rate show") from None
        async with self._bucket.learning(failures):
            yield self.api

    async def changed(self) -> None:
        """Tell every process that its catalog is outdated; a failure is nobody's loss but five minutes."""
        with contextlib.suppress(Unavailable):
            await self._catalog.forget()


def talk(work: Callable[[Session], Awaitable[int | None]]) -> None:
    """Carry out a command's work with a session, and leave with its exit code."""

    async def opened() -> int:
        from shared.catalog import Catalog  # noqa: PLC0415 - `--help` must not wait for the HTTP client
        from shared.comfydeploy import ComfyDeploy  # noqa: PLC0415
        from shared.database import Database  # noqa: PLC0415
        from shared.limits.bucket import TokenBucket  # noqa: PLC0415
        from shared.metrics import observe_call  # noqa: PLC0415
        from shared.settings import Settings  # noqa: PLC0415

        settings = Settings.from_env()
        client = ComfyDeploy(settings.api_url, settings.require_api_key(), observe=observe_call)
        async with client as api, Database.open(settings.redis_url) as database:
            bucket = TokenBucket(database, settings)
            async with Catalog(database, settings, bucket, api) as catalog:
                return await work(Session(api, bucket, catalog)) or OK

    carry_out(opened)
