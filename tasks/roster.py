"""What is known of the runs one look is about?

Of a few, their whole records. Of a crowd, as little as planning needs, kept from look to look: reading ten thousand records
each time would be most of a look's work. What matters (a cancel, a hint) makes a run due, and due runs are read anew.
"""

import time
from collections.abc import Iterable

from shared.following.due import Flight, InFlight
from shared.jobs.record import Followed, Job
from tasks.engine import Engine
from tasks.schedule import CROWD

#: What is kept of a run whose time has not come is not read again this long.
KEPT_SECONDS = 30.0


class Roster:
    """The records behind the runs of one look."""

    def __init__(self, engine: Engine, workflow_id: str) -> None:
        self._engine, self._workflow_id = engine, workflow_id
        #: Job id -> the whole record; in a crowd only of those that are asked about or have news.
        self.jobs: dict[str, Job] = {}
        #: Job id -> what planning needs, of all of them. Records that are gone or cannot be read are missing.
        self.known: dict[str, Job | Followed] = {}

    async def read(self, flight: Flight, due: Iterable[InFlight]) -> None:
        """Fill it. One round trip; in a crowd one for each thousand that are not kept."""
        if len(flight.runs) <= CROWD:
            if flight.whole:
                self._engine.followed.pop(self._workflow_id, None)
            await self.load(flight.runs)
            return
        kept = self._engine.followed.get(self._workflow_id, {})
        stale, again = time.monotonic() - KEPT_SECONDS, {run.job_id for run in due if run.own}
        old = [run.job_id for run in flight.runs if run.job_id in again or kept.get(run.job_id, (0.0, None))[0] < stale]
        read_at = time.monotonic()
        fresh = {job_id: (read_at, job) for job_id, job in (await self._engine.store.follow(old)).items()}
        known = {run.job_id: fresh.get(run.job_id) or kept.get(run.job_id) for run in flight.runs}
        self._engine.followed[self._workflow_id] = {job_id: one for job_id, one in known.items() if one}
        self.known |= {job_id: one[1] for job_id, one in known.items() if one}

    async def load(self, runs: Iterable[InFlight]) -> None:
        """Read the whole records that are not here yet. One round trip, none when all are."""
        missing = [run.job_id for run in runs if run.job_id not in self.jobs]
        for job in await self._engine.store.find(missing):
            self.jobs[job.id] = self.known[job.id] = job

    def note(self, job: Job) -> None:
        """What an answer has made of a job. Of a crowd, its whole record is let go again."""
        kept = self._engine.followed.get(self._workflow_id)
        if kept is None:
            self.jobs[job.id] = self.known[job.id] = job
            return
        self.jobs.pop(job.id, None)
        self.known[job.id] = followed = Followed.of(job)
        kept[job.id] = time.monotonic(), followed
