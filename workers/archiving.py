"""Which jobs are to be archived, and how many at once? Every worker asks, and takes some with a lease.

The entry in `conveyor:archives` is written by the script that makes a job final, and leaves with the decision, as for
callbacks (docs/decisions/0013).
"""

import logging

from shared.archive.archive import Archive
from tasks.archiving import LEASE_SECONDS, MOST_AT_ONCE, Archivist
from tasks.engine import Engine
from workers.errands import Errands

log = logging.getLogger(__name__)


class Archiving:
    """The copying of one worker process."""

    def __init__(self, engine: Engine, archive: Archive) -> None:
        self._engine = engine
        self._archivist = Archivist(engine, archive)
        self._errands = Errands("archive", MOST_AT_ONCE)

    async def archive_due(self) -> None:
        """Start copying what is due, as much as there is room for. 1 round trip when there is nothing."""
        if (room := self._errands.room) > 0:
            for job_id in await self._engine.lanes.overdue("archives", most=room, again_seconds=LEASE_SECONDS):
                self._errands.start(job_id, self._archivist.attempt(job_id))

    async def aclose(self) -> None:
        """Give back what is under way: a film may take longer than this process has. Then close the connections."""
        if given_back := await self._errands.abort():
            await self._engine.lanes.sooner("archives", given_back, LEASE_SECONDS)
        await self._archivist.aclose()
