"""Where is an output now that its address has expired? The run is read once for the addresses of all its outputs."""

import asyncio
import math
import time
from collections.abc import Callable

from shared.comfydeploy import ComfyDeploy, MediaItem
from shared.errors import Unavailable
from shared.limits.bucket import TokenBucket
from shared.media.addresses import bare

#: Waiting for a token and reading a run again.
RENEW_SECONDS = 60.0

#: So long the addresses of one reading are good enough; they live an hour.
RENEWED_SECONDS = 600.0


class Renewal:
    """Gives fresh addresses for outputs of one run; one call of the API for all of them, and again after a while."""

    def __init__(self, bucket: TokenBucket, client: Callable[[], ComfyDeploy], run_id: str | None) -> None:
        """`client` is asked for when it is needed: it may need a key that is not set."""
        self._bucket, self._client, self._run_id = bucket, client, run_id
        self._reading = asyncio.Lock()
        self._addresses: dict[str, str] = {}
        self._read_at = -math.inf

    async def __call__(self, url: str) -> str | None:
        """The fresh address for an old one; None when the run has no such output (any more).

        Raises `Unavailable`, `MissingSetting` without an API key, and what the API refuses with.
        """
        if self._run_id is None:
            return None
        async with self._reading:
            if time.monotonic() - self._read_at > RENEWED_SECONDS:
                self._addresses = await self._read(self._run_id)
                self._read_at = time.monotonic()
            return self._addresses.get(bare(url))

    async def _read(self, run_id: str) -> dict[str, str]:
        """The files of a run: address without signature -> a fresh one."""
        client = self._client()
        try:
            async with asyncio.timeout(RENEW_SECONDS), self._bucket.call("look"):
                run = await client.runs.get(run_id)
        except TimeoutError:
            raise Unavailable("No call of the API was free in time to ask for a fresh address.") from None
        items = [item for output in run.outputs for group in output.data.values() for item in group]
        return {bare(item.url): item.url for item in items if isinstance(item, MediaItem)}
