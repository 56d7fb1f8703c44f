"""How do the outputs of a job get into the archive? Copied after its end, until all are there or a day is over.

An attempt is counted before it is made, and its lease is renewed while it goes on; of a worker that dies in the middle
another takes the job over when the lease ends. What has been copied is noted when an attempt ends, so the next one copies
only the rest. A copy that was made twice is the same file under the same name.

An output that is gone, or is no file (an error page), will not come by asking again; the others are kept all the same.
"""

import asyncio
import contextlib
import logging
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from shared.archive.archive import Archive, Kept, KeptJob
from shared.errors import ConveyorError, GiveUp, JobNotFound, TryLater, Unavailable, UnexpectedAnswer
from shared.jobs.archive import COPIES, Copy
from shared.jobs.errand import Outcome
from shared.jobs.event import Output
from shared.jobs.record import Job
from shared.media.downloads import fetch
from shared.media.names import name_of, names_for, type_of_name
from shared.media.reading import CannotWrite, Reader
from shared.media.renewal import Renewal
from shared.metrics import ARCHIVED, ARCHIVED_BYTES
from tasks.engine import Engine
from tasks.fault_points import reach
from tasks.patience import wait_of

log = logging.getLogger(__name__)

#: Nobody else copies meanwhile; renewed by who copies.
LEASE_SECONDS = 30.0
RENEW_SECONDS = 10.0
#: Of one attempt at all outputs of a job; the next one goes on where it ended.
ATTEMPT_SECONDS = 3600.0
#: Jobs at once of one process; of each job one file.
MOST_AT_ONCE = 4
#: What the storage says it does not have is asked for so many times.
LOST_AFTER = 3
MOST_ERROR_CHARACTERS = 1000


class Archivist:
    """Copies for one worker process. Belongs to one event loop."""

    def __init__(self, engine: Engine, archive: Archive) -> None:
        self._engine, self._archive = engine, archive
        # The addresses are the API's, and believed as the API is (see `downloads.py`).
        self._reader = Reader(allow_private=True, most=MOST_AT_ONCE)

    async def attempt(self, job_id: str) -> None:
        """Copy what is missing of a job, and note what became of it. Raises only what Redis raises."""
        errand = await self._engine.store.begin_errand(job_id, "archive")
        if errand is None:
            return
        try:
            job = await self._engine.store.get(job_id)
        except JobNotFound:
            return
        async with self._lease(job_id):
            found = await self._copied(job)
            await reach("after_copy", job_id)
        # What is gone is asked for a few times all the same: a storage may be late.
        wait = wait_of(errand) if found.later or (found.lost and errand.attempt < LOST_AFTER) else None
        outcome: Outcome = "again" if wait else "failed" if found.later or found.lost else "kept"
        reply = await self._engine.store.settle_errand(
            job_id, "archive", outcome, found.fields(self._archive.address(job_id)), again_seconds=wait or 0.0
        )
        ARCHIVED.labels(outcome).inc()
        told = {"job_id": job_id, "attempt": errand.attempt, "files": len(found.copies), "error": found.error}
        log.log(logging.INFO if outcome == "kept" else logging.WARNING, "archiving %s", outcome, extra=told)
        if reply == "gone":
            # The job was erased meanwhile, and these copies came after it.
            await self._archive.erase(job_id)

    async def _copied(self, job: Job) -> "_Found":
        """Try each output that has no copy yet, then write down what there is."""
        found = _Found(dict(job.archive.copies) if job.archive else {})
        outputs = job.result.outputs if job.result else []
        renew = Renewal(self._engine.bucket, lambda: self._engine.client, job.run_id)
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                for output, name in zip(outputs, names_for(outputs), strict=True):
                    if output.url is not None and output.key not in found.copies:
                        await self._try(job.id, output, name, renew, found)
                if found.copies or not found.error:
                    kept = [_kept(output, found.copies.get(output.key)) for output in outputs]
                    ended_at = datetime.fromtimestamp((job.final_at or job.created_at) / 1000, UTC)
                    await self._archive.conclude(
                        KeptJob(
                            job_id=job.id,
                            run_id=job.run_id,
                            frontend=job.request.frontend,
                            ended_at=ended_at,
                            outputs=kept,
                        )
                    )
        except TimeoutError:
            found.later.append(f"not ready after {ATTEMPT_SECONDS:.0f} s")
        except ConveyorError as error:
            found.later.append(str(error))
        except Exception as error:
            # A mistake of ours must not make this be tried without an end.
            log.exception("archiving failed", extra={"job_id": job.id})
            found.later.append(type(error).__name__)
        return found

    async def _try(self, job_id: str, output: Output, name: str, renew: Renewal, found: "_Found") -> None:
        try:
            found.copies[output.key] = await self._copy(job_id, output, name, renew)
        except CannotWrite as error:
            found.later.append(f"{name}: {error}")
        except GiveUp as error:
            found.lost.append(f"{name}: {error}")
        except (TryLater, UnexpectedAnswer) as error:
            found.later.append(f"{name}: {error}")

    async def _copy(self, job_id: str, output: Output, name: str, renew: Renewal) -> Copy:
        """Copy one file. Raises `FileUnusable`, `Unavailable`, `TellOperator`."""
        with tempfile.TemporaryFile(prefix="conveyor-") as file:
            got = await fetch(self._reader, output, renew, file)
            content_type = got.kind.content_type if got.kind else output.content_type or type_of_name(name)
            await self._archive.keep(job_id, name, file, content_type)
        ARCHIVED_BYTES.inc(got.size)
        return Copy(name=name, size=got.size, digest=got.digest, content_type=content_type)

    @asynccontextmanager
    async def _lease(self, job_id: str) -> AsyncIterator[None]:
        async def renew() -> None:
            while True:
                await asyncio.sleep(RENEW_SECONDS)
                with contextlib.suppress(Unavailable):
                    await self._engine.lanes.later("archives", job_id, LEASE_SECONDS)

        renewing = asyncio.create_task(renew())
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)

    async def aclose(self) -> None:
        """Close the connections. Closing twice is fine."""
        await self._reader.aclose()


@dataclass(slots=True)
class _Found:
    """What an attempt has come to."""

    #: Output key -> its copy, earlier attempts' among them.
    copies: dict[str, Copy]
    #: Why something is not there and may come.
    later: list[str] = field(default_factory=list)
    #: Why something is not there and will not come.
    lost: list[str] = field(default_factory=list)

    @property
    def error(self) -> str:
        return "; ".join([*self.later, *self.lost])[:MOST_ERROR_CHARACTERS]

    def fields(self, at: str) -> dict[str, str]:
        """What the job's record says of it."""
        return {
            "archive_at": at,
            "archive_copies": COPIES.dump_json(self.copies).decode(),
            "archive_error": self.error,
        }


def _kept(output: Output, copy: Copy | None) -> Kept:
    # The address may name the file, and is not kept.
    told = {"url": None, "url_expires_at": None, "filename": name_of(output) or None}
    return Kept(output=output.model_copy(update=told), copy=copy)
