"""Files for whoever asks: inputs on their way up, outputs on their way down. What `Producer.upload` and `fetch` do.

Opens what it needs with the first question: a producer that only enqueues loads none of it.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from producers.saving import Saved, save_file, save_text
from shared.archive.archive import Archive
from shared.comfydeploy import ComfyDeploy
from shared.database import Database
from shared.errors import ConveyorError, FileUnusable, GiveUp, JobFailed, MissingSetting, TryLater, Unavailable
from shared.jobs.archive import Copy
from shared.jobs.event import Output
from shared.jobs.record import Job
from shared.jobs.states import JobState
from shared.limits.bucket import TokenBucket
from shared.media.cache import Damaged, DiskCache, usual_folder
from shared.media.downloads import Downloads, Renew, Spare
from shared.media.names import names_for
from shared.media.reading import Progress
from shared.media.renewal import Renewal
from shared.media.sources import Source
from shared.media.uploads import Upload, Uploads
from shared.metrics import observe_call
from shared.settings import Settings

#: Downloads at once.
MOST_AT_ONCE = 4
#: Told while an output comes: its place in the list, bytes so far, how many it will be if that is known.
Tell = Callable[[int, int, int | None], None]


@dataclass(frozen=True, slots=True)
class Order:
    """Where outputs shall go."""

    folder: Path
    #: Replace files of the same names.
    force: bool
    tell: Tell | None

    def teller(self, place: int) -> Progress | None:
        """Who hears of the output at this place."""
        tell = self.tell
        return (lambda done, total: tell(place, done, total)) if tell else None


class Files:
    """Belongs to one event loop; close it with `aclose`. The database stays open."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings, self._db = settings, database
        self._bucket = TokenBucket(database, settings)
        self._api: ComfyDeploy | None = None
        self._uploads: Uploads | None = None
        self._downloads: Downloads | None = None
        self._archive: Archive | None = None

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
        copies = job.archive.copies if job.archive else {}
        return await self._save_all(
            job.id, job.run_id, job.result.outputs, copies, Order(folder, force=force, tell=tell)
        )

    async def save_archived(self, job_id: str, folder: Path, *, force: bool, tell: Tell | None) -> list[Saved] | None:
        """The same of a job that is not kept any more, from the archive; None when that has nothing of it."""
        archive = self._open_archive()
        found = await archive.find(job_id) if archive else None
        if found is None:
            return None
        copies = {one.output.key: one.copy_ for one in found.outputs if one.copy_}
        outputs = [one.output for one in found.outputs]
        return await self._save_all(job_id, found.run_id, outputs, copies, Order(folder, force=force, tell=tell))

    async def _save_all(
        self, job_id: str, run_id: str | None, outputs: list[Output], copies: Mapping[str, Copy], order: "Order"
    ) -> list[Saved]:
        places = asyncio.Semaphore(MOST_AT_ONCE)
        renew = Renewal(self._bucket, self._client, run_id)

        async def one(place: int, output: Output, name: str) -> Saved:
            async with places:
                copy = copies.get(output.key)
                if output.url is None and copy is None:
                    if output.text is None:
                        raise FileUnusable("there is neither an address nor a copy of it")
                    return await asyncio.to_thread(save_text, output, order.folder, name, force=order.force)
                spare = self._spare(job_id, copy) if copy else None
                return await self._save(output, renew, name, order, spare=spare, tell=order.teller(place))

        names = names_for(outputs)
        work = [one(*each) for each in zip(range(len(outputs)), outputs, names, strict=True)]
        results = await asyncio.gather(*work, return_exceptions=True)
        _raise_worst(results, names)
        return [result for result in results if isinstance(result, Saved)]

    def _spare(self, job_id: str, copy: Copy) -> Spare | None:
        archive = self._open_archive()
        if archive is None:
            return None

        async def read(into: IO[bytes]) -> str:
            await archive.read(job_id, copy, into)
            return copy.digest

        return read

    async def _save(
        self, output: Output, renew: Renew, name: str, order: "Order", *, spare: Spare | None, tell: Progress | None
    ) -> Saved:
        downloads = self._open_downloads()
        for last in (False, True):
            kept = await downloads.get(output, renew, tell, spare=spare)
            try:
                return await asyncio.to_thread(save_file, output, kept, order.folder, name, force=order.force)
            except Damaged:
                if last:
                    raise FileUnusable("the disk of the cache changes what is written to it") from None
            finally:
                kept.close()
        raise AssertionError("the second time ends it")

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

    def _open_archive(self) -> Archive | None:
        """The archive; None when there is none."""
        if self._archive is None and self._settings.archive:
            self._archive = Archive.open(self._settings.archive)
        return self._archive

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
