"""Files for whoever asks: inputs on their way up, outputs on their way down. What `Producer.upload` and `fetch` do.

Opens what it needs with the first question: a producer that only enqueues loads none of it.
"""

import asyncio
import math
import time
from collections.abc import Callable
from pathlib import Path

from producers.saving import Saved, names_for, save_file, save_text
from shared.comfydeploy import ComfyDeploy, MediaItem
from shared.database import Database
from shared.errors import ConveyorError, FileUnusable, GiveUp, JobFailed, MissingSetting, TryLater, Unavailable
from shared.jobs.event import Output
from shared.jobs.record import Job
from shared.jobs.states import JobState
from shared.limits.bucket import TokenBucket
from shared.media.addresses import bare
from shared.media.cache import Damaged, DiskCache, usual_folder
from shared.media.downloads import Downloads, Renew
from shared.media.sources import Source
from shared.media.uploads import Upload, Uploads
from shared.metrics import observe_call
from shared.settings import Settings

#: Downloads at once.
MOST_AT_ONCE = 4
#: Waiting for a token and reading a run again.
RENEW_SECONDS = 60.0

#: So long the addresses of one reading are good enough; they live an hour.
RENEWED_SECONDS = 600.0

#: Told while an output comes: its place in the list, bytes so far, how many it will be if that is known.
Tell = Callable[[int, int, int | None], None]


class Files:
    """Belongs to one event loop; close it with `aclose`. The database stays open."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings, self._db = settings, database
        self._bucket = TokenBucket(database, settings)
        self._api: ComfyDeploy | None = None
        self._uploads: Uploads | None = None
        self._downloads: Downloads | None = None

    async def upload(self, source: Source, name: str | None) -> Upload:
        """See `Uploads.upload`. Raises `MissingSetting` without an API key, too."""
        if self._uploads is None:
            self._uploads = Uploads(self._db, self._bucket, self._client(), self._settings.account)
        return await self._uploads.upload(source, name)

    async def save(self, job: Job, folder: Path, *, force: bool, tell: Tell | None) -> list[Saved]:
        """See `Producer.fetch`."""
        if not job.final:
            raise Unavailable(f"The job has not ended yet, it is {job.state}.")
        if job.state is not JobState.SUCCEEDED or job.result is None:
            raise JobFailed(f"{job.error.code}: {job.error.message}" if job.error else f"the job has {job.state}")
        outputs = job.result.outputs
        places = asyncio.Semaphore(MOST_AT_ONCE)
        renew = self._renewer(job.run_id)

        async def one(place: int, output: Output, name: str) -> Saved:
            async with places:
                if output.url is None:
                    return await asyncio.to_thread(save_text, output, folder, name, force=force)
                told = (lambda done, total: tell(place, done, total)) if tell else None
                return await self._save(output, renew, folder, name, force=force, tell=told)

        names = names_for(outputs)
        work = [one(*each) for each in zip(range(len(outputs)), outputs, names, strict=True)]
        results = await asyncio.gather(*work, return_exceptions=True)
        _raise_worst(results, names)
        return [result for result in results if isinstance(result, Saved)]

    async def _save(
        self,
        output: Output,
        renew: Renew,
        folder: Path,
        name: str,
        *,
        force: bool,
        tell: Callable[[int, int | None], None] | None,
    ) -> Saved:
        downloads = self._open_downloads()
        for last in (False, True):
            kept = await downloads.get(output, renew, tell)
            try:
                return await asyncio.to_thread(save_file, output, kept, folder, name, force=force)
            except Damaged:
                if last:
                    raise FileUnusable("the disk of the cache changes what is written to it") from None
            finally:
                kept.close()
        raise AssertionError("the second time ends it")

    def _renewer(self, run_id: str | None) -> Renew:
        """Gives fresh addresses for outputs of a run; the run is read once for all of them, and again after a while."""
        reading = asyncio.Lock()
        addresses: dict[str, str] = {}
        read_at = -math.inf

        async def renew(url: str) -> str | None:
            nonlocal addresses, read_at
            if run_id is None:
                return None
            async with reading:
                if time.monotonic() - read_at > RENEWED_SECONDS:
                    addresses = await self._addresses(run_id)
                    read_at = time.monotonic()
                return addresses.get(bare(url))

        return renew

    async def _addresses(self, run_id: str) -> dict[str, str]:
        """The files of a run: address without signature -> a fresh one."""
        client = self._client()
        try:
            async with asyncio.timeout(RENEW_SECONDS), self._bucket.call("look"):
                run = await client.runs.get(run_id)
        except TimeoutError:
            raise Unavailable("No call of the API was free in time to ask for a fresh address.") from None
        items = [item for output in run.outputs for group in output.data.values() for item in group]
        return {bare(item.url): item.url for item in items if isinstance(item, MediaItem)}

    def _client(self) -> ComfyDeploy:
        if self._api is None:
            settings = self._settings
            self._api = ComfyDeploy(settings.api_url, settings.require_api_key(), observe=observe_call)
        return self._api

    def _open_downloads(self) -> Downloads:
        if self._downloads is None:
            folder = Path(self._settings.cache_folder).expanduser() if self._settings.cache_folder else usual_folder()
            self._downloads = Downloads(DiskCache(folder, self._settings.cache_bytes))
        return self._downloads

    async def aclose(self) -> None:
        """Close what was opened. Closing twice is fine."""
        for one in (self._uploads, self._downloads, self._api):
            if one is not None:
                await one.aclose()


def _raise_worst(results: list[Saved | BaseException], names: list[str]) -> None:
    """Raise one error that tells all: what can only be mended by a person first, then what a repeat may mend."""
    failed = [(name, result) for name, result in zip(names, results, strict=True) if isinstance(result, BaseException)]
    for _, error in failed:
        if not isinstance(error, ConveyorError):
            raise error
        if not isinstance(error, GiveUp | TryLater) or isinstance(error, MissingSetting):
            raise error
    if failed:
        told = "; ".join(f"{name}: {error}" for name, error in failed)
        if any(isinstance(error, TryLater) for _, error in failed):
            raise Unavailable(told)
        raise FileUnusable(told)
