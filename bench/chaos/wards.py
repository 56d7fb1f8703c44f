"""How long do the jobs of a killed worker stand still?

A *ward* is something that was in the killed worker's hands in the moment of the kill:

* a job it held for submitting (`holder` in the job's record),
* a dispatched job that nobody held and whose message was no longer in the broker's list: it may have had the message,
* a workflow it was looking at (`conveyor:looking`).

A ward moves again when somebody else takes it up, or when the job's record moves: another holder, state, `seq` or count of
looks; another owner of the lease, or none. The stall is the time from the kill until then, sampled five times a second.
Nothing is subtracted when Redis or the API was away meanwhile. But when the plan throws away the very message that was to
bring the ward to another worker, that is a second fault, and its stall counts from there; the whole time is told beside it.
"""

import asyncio
import contextlib
import json
import logging
import time
from dataclasses import dataclass

from bench.chaos.site import Site
from shared.broker import QUEUE
from shared.database import REDIS_AWAY

log = logging.getLogger(__name__)

SAMPLE_SECONDS = 0.2
_FACTS = ("state", "holder", "seq", "looks", "dispatched_at")


@dataclass(slots=True)
class Ward:
    """Something that waits for another worker."""

    worker: str
    #: A job id, or a workflow id.
    id: str
    how: str
    before: str
    killed_at: float
    #: When its rescue was thrown away, too.
    hit_again_at: float | None = None
    moved_at: float | None = None

    @property
    def stall(self) -> float:
        """Seconds from the last fault that hit it until it moved; infinite when it never did."""
        return (self.moved_at or float("inf")) - (self.hit_again_at or self.killed_at)

    @property
    def whole(self) -> float:
        """Seconds from the kill, whatever came after it."""
        return (self.moved_at or float("inf")) - self.killed_at

    def __str__(self) -> str:
        again = " (its rescue was dropped, too)" if self.hit_again_at else ""
        return f"{self.how} {self.id} of {self.worker}: {self.stall:.1f} s, {self.whole:.1f} s in all{again}"


class Watcher:
    """Samples Redis while the run lasts: wards, and how many jobs wait and are under way."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.wards: list[Ward] = []
        #: State -> jobs past the lanes; `waiting` for the lanes.
        self.states: dict[str, int] = {}
        #: The most jobs past the lanes at once.
        self.most_in_window = 0

    async def watch(self) -> None:
        """Sample until cancelled."""
        while True:
            self._site.note_pids()
            with contextlib.suppress(*REDIS_AWAY):
                await self._sample()
            await asyncio.sleep(SAMPLE_SECONDS)

    async def _sample(self) -> None:
        redis, keys = self._site.client, self._site.database.keys
        in_window = await redis.zrange(keys.window, 0, -1)
        pipe = redis.pipeline(transaction=False)
        for job_id in in_window:
            pipe.hget(keys.job(job_id), "state")
        pipe.zcard(keys.expiring)
        *states, waiting = await pipe.execute()
        counts = {"waiting": int(waiting)}
        for state in states:
            word = "dispatched" if state == "queued" else state
            if word:
                counts[word] = counts.get(word, 0) + 1
        self.states, self.most_in_window = counts, max(self.most_in_window, len(in_window))
        for ward in self.wards:
            if ward.moved_at is None and await self._fingerprint(ward) != ward.before:
                ward.moved_at = time.monotonic()

    async def _fingerprint(self, ward: Ward) -> str:
        redis, keys = self._site.client, self._site.database.keys
        if ward.how == "looking at":
            lease = await redis.hget(keys.looking, ward.id)
            return _owner(lease)
        facts = await redis.hmget(keys.job(ward.id), *_FACTS)
        return _told(facts)

    async def holds(self, worker: str) -> list[Ward]:
        """What is in a worker's hands now."""
        redis, keys = self._site.client, self._site.database.keys
        looking = await redis.hgetall(keys.looking)
        wards = [
            Ward(worker, workflow, "looking at", _owner(lease), 0.0)
            for workflow, lease in looking.items()
            if _owner(lease).startswith(f"{worker}@")
        ]
        in_broker = {json.loads(text)["headers"]["id"] for text in await redis.lrange(QUEUE, 0, -1)}
        for job_id in await redis.zrange(keys.starting, 0, -1):
            facts = await redis.hmget(keys.job(job_id), *_FACTS)
            held_by = _owner(facts[1])
            if held_by.startswith(f"{worker}@"):
                wards.append(Ward(worker, job_id, "submitting", _told(facts), 0.0))
            elif not held_by and facts[0] == "queued" and job_id not in in_broker:
                wards.append(Ward(worker, job_id, "dispatched", _told(facts), 0.0))
        return wards

    def killed(self, wards: list[Ward]) -> None:
        """These are without a worker from now on."""
        now = time.monotonic()
        for ward in wards:
            ward.killed_at = now
        self.wards += wards

    def dropped(self, job_id: str) -> None:
        """A message about this job was thrown away."""
        for ward in self.wards:
            if ward.id == job_id and ward.moved_at is None:
                ward.hit_again_at = time.monotonic()


def _owner(lease: str | None) -> str:
    """Who has a lease written as `<until ms> <owner>`."""
    return (lease or "").partition(" ")[2]


def _told(facts: list[str | None]) -> str:
    """The facts of a job without the time in its hold, which a dead holder cannot renew anyway."""
    state, holder, *rest = facts
    return " ".join(str(fact or "-") for fact in (state, _owner(holder), *rest))
