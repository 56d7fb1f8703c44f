"""Forget a user: everything of ours that tells what somebody asked for and got.

    his open jobs are cancelled ─▶ all have ended ─▶ records ─▶ archive ─▶ events ─▶ uploads ─▶ his listing, lanes, limits

Jobs that have not ended keep their record, or a run that is paid for would be nobody's; who erases asks again later. A repeat
finds what is left and is harmless; every step can be stopped and begun again. What is not ours, or not within reach, is in
`NOT_ERASED` and told to whoever erases.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from shared.archive.archive import Archive
from shared.database import Database
from shared.jobs.by import By
from shared.jobs.record import Job
from shared.jobs.request import texts_in
from shared.jobs.store import JobStore
from shared.media.addresses import bare

#: Keys or entries read at once.
PAGE = 500
#: Between two questions whether the cancelled jobs have ended.
AGAIN_SECONDS = 0.5

#: What stays, and what can be done about it.
NOT_ERASED = (
    "runs at ComfyUI Deploy, with their inputs and outputs: its API deletes no runs; ask its operators, by the run ids",
    "uploaded files at ComfyUI Deploy: those in its asset library can be deleted in its dashboard",
    "copies in the archive of jobs whose record was gone already: no name is kept with them",
    "files that frontends or `conveyor get` have saved, and CONVEYOR_CACHE_FOLDER on each machine: delete them there",
    "logs, traces, and what gateways have in memory: job ids, some with the user's id, until they are rotated or restarted",
    "Redis's append-only file and backups: the old values go with the next rewrite (BGREWRITEAOF), and with the backups",
    "the audit: that this user was erased",
)


@dataclass(slots=True)
class Erased:
    """What was erased, and what was not."""

    jobs: int = 0
    events: int = 0
    dead_letters: int = 0
    archived_files: int = 0
    uploads: int = 0
    #: Runs upstream that belonged to his jobs.
    runs: list[str] = field(default_factory=list)
    #: Jobs that have not ended, or whose run is still being cancelled.
    open: list[str] = field(default_factory=list)


class Erasure:
    """Of one user of one frontend."""

    def __init__(self, database: Database, frontend: str, user_id: str, *, archive: Archive | None = None) -> None:
        self._db = database
        self._store = JobStore(database)
        self._frontend, self._user_id = frontend, user_id
        self._user = f"{frontend}:{user_id}"
        self._archive = archive

    async def jobs(self) -> dict[str, Job | None]:
        """His jobs; None for one of which only the id is left, or whose record cannot be read. Reads the owner of every record."""
        with self._db.asking():
            listed = cast(list[str], await self._db.redis.zrange(self._db.keys.jobs(self._user), 0, -1))
            owned = [job_id async for job_id in self._owned()]
        ids = dict.fromkeys([*listed, *owned])
        known = {job.id: job for job in await self._store.find(ids)}
        return {job_id: known.get(job_id) for job_id in ids}

    async def _owned(self) -> AsyncIterator[str]:
        prefix = self._db.keys.job("")
        keys = [str(key) async for key in self._db.redis.scan_iter(match=f"{prefix}*", count=1000)]
        for start in range(0, len(keys), PAGE):
            page = keys[start : start + PAGE]
            pipe = self._db.redis.pipeline(transaction=False)
            for key in page:
                pipe.hget(key, "user")
            for key, user in zip(page, await pipe.execute(), strict=True):
                if user == self._user:
                    yield key.removeprefix(prefix)

    async def end(self, jobs: Sequence[str], wait_seconds: float) -> None:
        """Cancel jobs, and wait until all have ended, or the time is over. Their runs are cancelled by workers."""
        for job_id in jobs:
            await self._store.cancel(job_id)
        deadline = time.monotonic() + wait_seconds
        while any(not job.final for job in await self._store.find(jobs)):
            if time.monotonic() >= deadline:
                return
            await asyncio.sleep(AGAIN_SECONDS)

    async def erase(self, by: By) -> Erased:
        """Erase all that has ended. Raises `Unavailable`, and what the archive raises; then the rest may be asked for again."""
        jobs, done = await self.jobs(), Erased()
        addresses: set[str] = set()
        gone: list[str] = []
        for job_id, job in jobs.items():
            word = await self._db.run("erase_job", job_id, self._user)
            if word == "open":
                done.open.append(job_id)
                continue
            gone.append(job_id)
            done.jobs += word == "erased"
            if job is not None:
                addresses |= {bare(text) for text in texts_in(job.request.inputs)}
                done.runs += [job.run_id] if job.run_id else []
            if self._archive is not None:
                with contextlib.suppress(ValueError):  # no id of ours
                    done.archived_files += await self._archive.erase(job_id)
        await self._forget_results(gone)
        still = set(done.open)
        done.events = await self._forget_entries(self._db.keys.results(self._frontend), still)
        done.dead_letters = await self._forget_entries(self._db.keys.dead(self._frontend), still)
        done.uploads = await self._forget_uploads(addresses)
        told = {name: len(value) if isinstance(value, list) else value for name, value in asdict(done).items()}
        await self._db.run("erase_user", self._user, json.dumps(told), by.json())
        return done

    async def _forget_results(self, job_ids: list[str]) -> None:
        """The Celery results, by which `AsyncResult` answers."""
        if job_ids:
            with self._db.asking():
                await self._db.redis.delete(*(f"celery-task-meta-{job_id}" for job_id in job_ids))

    async def _forget_entries(self, stream: str, still: set[str]) -> int:
        """Delete his entries of a stream, read or not, but those of jobs that are not over."""
        start, number = "-", 0
        while True:
            with self._db.asking():
                page = cast(list[Any], await self._db.redis.xrange(stream, min=start, count=PAGE))
                his = [str(entry) for entry, fields in page if self._is_his(fields, still)]
                if his:
                    number += int(await self._db.redis.xdel(stream, *his))
            if len(page) < PAGE:
                return number
            start = f"({page[-1][0]}"

    def _is_his(self, fields: dict[str, str], still: set[str]) -> bool:
        try:
            user = json.loads(fields.get("data", "{}")).get("user", {}).get("id")
        except (ValueError, AttributeError):
            return False
        return user == self._user_id and fields.get("job_id") not in still

    async def _forget_uploads(self, addresses: set[str]) -> int:
        """Forget that files he used were uploaded; the files are upstream."""
        if not addresses:
            return 0
        number = 0
        with self._db.asking():
            keys = self._db.redis.scan_iter(match=f"{self._db.keys.upload('', '').rstrip(':')}:*", count=1000)
            async for key in keys:
                stored = json.loads(await self._db.redis.hget(key, "stored") or "{}")
                if bare(stored.get("url") or "") in addresses:
                    number += int(await self._db.redis.delete(key))
        return number
