"""A job does not move: have it taken up again, or end it.

Neither ever makes a second paid run. `requeue` lets workers find out what became of a submit before anything is posted;
`fail` ends the job at once, with one final event, and leaves its run to upkeep, which cancels it upstream and asks again
until that is settled; one that may exist and is not known yet is searched for until it cannot appear any more.

Read `shared/lua/requeue.lua` and `cancel_if_stray` in `tasks/adopt.py` beside it.
"""

from typing import Literal

from shared.database import Database
from shared.errors import JobNotFound
from shared.jobs.by import By
from shared.jobs.event import JobError
from shared.jobs.states import JobState
from shared.jobs.store import JobStore

#: What a requeue did: nothing, for the job waits in its lane; put it back there; had a worker take it up (in `submitting`: look
#: for its run first); had its run looked at; nothing, for the job has ended.
Requeued = Literal["waiting", "laned", "rescued", "looked", "final"]


async def requeue(database: Database, job_id: str, by: By) -> tuple[Requeued, str]:
    """Have a stuck job taken up again; the word and the state or run it is about. One round trip; a repeat is harmless.

    Raises `JobNotFound`, `Unavailable`.
    """
    word, detail = await database.run("requeue", job_id, by.json())
    if word == "missing":
        raise JobNotFound(f"No job {job_id}.", user_message="That job is not known (any more).")
    return word, detail


async def fail(store: JobStore, job_id: str, by: By) -> str:
    """End a job as `failed`. "" when it did, else the state it had ended in before. One round trip.

    Raises `JobNotFound`, `Unavailable`.
    """
    error = JobError(
        code="internal",
        message=f"Ended by an operator: {by.reason}",
        user_message="The operators have ended this.",
        retryable=True,
    )
    moved = await store.move(job_id, JobState.FAILED, error=error, by=by)
    if moved.reply == "missing":
        raise JobNotFound(f"No job {job_id}.", user_message="That job is not known (any more).")
    return moved.state
