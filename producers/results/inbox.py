"""Which event may be handed out next? The entries one consumer holds, in the order of each job.

Pure: no Redis, no clock of its own.

An entry may be handed out when it is the oldest of its job here, nobody works on it, and it is `cleared`: every
earlier entry of the job that was pending anywhere in the group when we asked is one of ours. What is pending only
becomes less (`shared/lua/earlier.lua`), so cleared stays true until one of ours is lost to another consumer; then
the job's entries are asked about again.

So in a group no event of a job is handed out while an earlier one of the job is unacknowledged, wherever it is. (Only a
replayed dead letter makes more pending than there was; its job has gone on without it, so its order is lost anyway.)
"""

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass

from shared.jobs.event import Event


@dataclass(slots=True)
class Entry:
    """One stream entry that is pending at this consumer."""

    id: str
    #: The id as numbers, which sort.
    place: tuple[int, int]
    event: Event
    #: It may have been handed out before, here or elsewhere: count the next time.
    again: bool = False
    #: No earlier event of the job is unacknowledged out of our sight.
    cleared: bool = False
    #: Monotonic seconds; None while it waits here.
    handed_out_at: float | None = None
    #: Monotonic seconds before which it is not handed out again.
    ready_at: float = 0.0
    #: Times handed out, all consumers together.
    deliveries: int = 1
    #: Why the last try failed.
    reason: str = ""


class Inbox:
    """The entries of one consumer."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._jobs: dict[str, list[Entry]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, entry_id: str) -> bool:
        return entry_id in self._entries

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def waiting(self, now: float) -> int:
        """Entries the loop could work through now. Those that wait for their time, or for other consumers, and what
        stands behind them, do not count: they must not keep other jobs out."""
        return sum(
            sum(entry.handed_out_at is None for entry in job)
            for job in self._jobs.values()
            if job[0].handed_out_at is not None or (job[0].cleared and job[0].ready_at <= now)
        )

    def get(self, entry_id: str) -> Entry | None:
        """The entry, if it is here."""
        return self._entries.get(entry_id)

    def add(self, entry: Entry) -> None:
        """Take an entry in; one that is here already stays as it is."""
        if entry.id not in self._entries:
            self._entries[entry.id] = entry
            insort(self._jobs.setdefault(entry.event.job_id, []), entry, key=lambda one: one.place)

    def settle(self, entry_id: str) -> bool:
        """Forget an entry that is acknowledged; the next of its job may go. False when it was not here."""
        entry = self._entries.pop(entry_id, None)
        if entry is None:
            return False
        job = self._jobs[entry.event.job_id]
        job.remove(entry)
        if not job:
            del self._jobs[entry.event.job_id]
        return True

    def lose(self, entry_id: str) -> None:
        """Forget an entry that is another consumer's now; the later ones of its job have to ask again."""
        entry = self._entries.get(entry_id)
        if entry is not None and self.settle(entry_id):
            for later in self._jobs.get(entry.event.job_id, []):
                later.cleared = False

    def uncleared(self) -> list[Entry]:
        """The entries that have to ask whether they must wait, in stream order."""
        return sorted((entry for entry in self._entries.values() if not entry.cleared), key=lambda one: one.place)

    def next(self, now: float) -> Entry | None:
        """The oldest entry that may be handed out. O(jobs here)."""
        return min(
            (entry for entry in self._heads() if entry.cleared and entry.ready_at <= now),
            key=lambda one: one.place,
            default=None,
        )

    def next_ready_at(self) -> float | None:
        """When the first of the entries that only wait for their time is ready; None when there is none."""
        return min((entry.ready_at for entry in self._heads() if entry.cleared), default=None)

    def _heads(self) -> Iterator[Entry]:
        return (job[0] for job in self._jobs.values() if job[0].handed_out_at is None)
