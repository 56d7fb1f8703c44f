"""Which jobs has a user? Newest first, a page at a time, from the index that `create.lua` keeps.

Pages go by id and not by number, so a job that comes in between shifts nothing. Ids are UUIDv7, which sort by age.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import cast

from shared.database import Database
from shared.jobs.record import Job
from shared.jobs.states import JobState
from shared.jobs.store import JobStore

#: Records read at once.
PAGE = 100
#: Records read for one page of a listing by state, at most; the page then ends early and says where to go on.
MOST_READ = 1000


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs of a user."""

    jobs: list[Job]
    #: Where the next page begins; None at the end. A page may be short, or empty, and still have a next one.
    next_cursor: str | None


async def jobs_of(
    database: Database,
    frontend: str,
    user: str,
    *,
    states: Collection[JobState] = (),
    cursor: str = "",
    limit: int = 20,
) -> Page:
    """The user's jobs older than `cursor`, in one of `states` if any are named. 2 round trips for each hundred read.

    Removes from the index what is kept no longer: a record never comes back. Raises `Unavailable`.
    """
    store, index = JobStore(database), database.keys.jobs(f"{frontend}:{user}")
    found: list[Job] = []
    read = 0
    while read < MOST_READ:
        count = min(PAGE, limit if not states else PAGE)
        with database.asking():
            ids = cast(
                list[str], await database.redis.zrevrangebylex(index, f"({cursor}" if cursor else "+", "-", 0, count)
            )
        jobs = {job.id: job for job in await store.find(ids)}
        await _forget(database, index, [job_id for job_id in ids if job_id not in jobs])
        read += len(ids)
        for job_id in ids:
            cursor = job_id
            job = jobs.get(job_id)
            if job is not None and (not states or job.state in states):
                found.append(job)
                if len(found) == limit:
                    return Page(found, cursor)
        if len(ids) < count:
            return Page(found, None)
    return Page(found, cursor)


async def _forget(database: Database, index: str, candidates: list[str]) -> None:
    """Take those out of the index that have no record; one that merely cannot be read stays."""
    if not candidates:
        return
    pipe = database.redis.pipeline(transaction=False)
    for job_id in candidates:
        pipe.exists(database.keys.job(job_id))
    with database.asking():
        exist = await pipe.execute()
        gone = [job_id for job_id, there in zip(candidates, exist, strict=True) if not there]
        if gone:
            await database.redis.zrem(index, *gone)
