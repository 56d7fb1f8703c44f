"""Where do jobs live, and how do they move? The scripts do the work; this is their Python face.

Read `shared/lua/create.lua` and `shared/lua/transition.lua` beside it.
"""

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import BaseModel

from shared.database import Database
from shared.errors import JobNotFound, TooManyJobs
from shared.identifiers import new_job_id
from shared.jobs.by import By
from shared.jobs.errand import Errand, ErrandKind, Outcome
from shared.jobs.event import ErrorCode, EventType, JobError, Progress, Result, Timing
from shared.jobs.record import FOLLOWED_FIELDS, Followed, Job
from shared.jobs.request import JobRequest
from shared.jobs.states import FINAL, JobState, sources
from shared.jobs.tiers import NO_TIER
from shared.metrics import JOB_ERRORS, JOB_SECONDS, JOBS_ASKED, JOBS_ENDED, LANE_WAIT, STATE_SECONDS

log = logging.getLogger(__name__)

#: An idempotency key stands for its job this long.
IDEMPOTENCY_SECONDS = 24 * 3600

#: No job lasts longer, from the ask to its end: a week in its lane, a day of running, and the worst of upstream.
LONGEST_LIFE_SECONDS = 9 * 24 * 3600

#: What a job moves its user's turn on by; as many can be divided by each weight (`shared/lua/prelude.lua`).
WHOLE_TURN = 2520

ERROR_CODES = frozenset(get_args(ErrorCode))

#: Jobs read in one round trip: so many answers at once are a small part of a worker's memory.
PAGE = 1000

_EVENT_OF: dict[JobState, EventType] = {
    JobState.SUBMITTED: "job.submitted",
    JobState.RUNNING: "job.running",
    JobState.SUCCEEDED: "job.succeeded",
    JobState.FAILED: "job.failed",
    JobState.CANCELLED: "job.cancelled",
    JobState.TIMED_OUT: "job.timed_out",
    JobState.EXPIRED: "job.expired",
}


@dataclass(frozen=True, slots=True)
class Target:
    """What a request resolves to upstream. Unknown parts are empty; a worker finds them out before it submits."""

    deployment_id: str = ""
    workflow_id: str = ""
    #: The machine, whose window the job counts in.
    pool: str = ""
    #: Jobs past the lanes at once on that machine; 0 for no limit.
    pool_limit: int = 0


@dataclass(frozen=True, slots=True)
class Moved:
    """The answer to a move."""

    reply: Literal["moved", "refused", "missing", "paused"]
    #: The state that refused, or the scope of the pause; "" otherwise.
    state: str = ""
    #: The number of the job's last event after the move.
    seq: int = 0

    def __bool__(self) -> bool:
        return self.reply == "moved"


class JobStore:
    """Create, read and move jobs. Every write is one script and one round trip."""

    def __init__(self, database: Database, *, keep_seconds: int = 24 * 3600, archives: bool = False) -> None:
        """`archives`: what jobs made that succeed is to be copied (decision 13)."""
        self._db = database
        self._keep_ms = keep_seconds * 1000
        self._archives = archives

    async def create(
        self,
        request: JobRequest,
        target: Target,
        *,
        job_id: str | None = None,
        windows: tuple[int, int] = (0, 0),
        run_seconds: float | None = None,
        most_open: int = 0,
        weight: int = 1,
        tier: str = NO_TIER,
        traceparent: str = "",
    ) -> tuple[str, bool]:
        """Accept a job: record, lane and `job.queued` event together.

        Answers the job's id and whether it is new: a known idempotency key answers the job it stands for. `windows` (of
        everybody, of one user; 0 for none) and `run_seconds` (how long such a run takes) make the event's ETA. Raises
        `TooManyJobs` when the user has `most_open` jobs that have not ended; 0 is no limit. `weight`, 1 to 10, is how many turns
        the user gets from now on, for all his waiting jobs, where others get one. By `tier`, one of few, metrics tell jobs apart.
        `traceparent` is where the job's trace begins.
        """
        echo = {
            "workflow": request.label,
            "user": request.user.model_dump(),
            "context": request.context,
            "meta": request.meta,
        }
        fields = {
            "frontend": request.frontend,
            "user": request.lane,
            "pool": target.pool,
            "wants_progress": "1" if request.progress else "",
            "tier": tier,
            "traceparent": traceparent,
            "workflow_id": target.workflow_id,
            "deployment_id": target.deployment_id,
            # What operators read in Flower.
            "label": f"{request.label} for {request.lane}",
            # Without the callback: its secret is kept apart, where nobody reads it who shows a record.
            "request": request.model_dump_json(exclude_defaults=True, exclude={"callback"}),
            "echo": json.dumps(echo, separators=(",", ":"))[1:-1],
        }
        if weight > 1:
            fields["step"] = str(WHOLE_TURN // weight)
        if request.callback:
            fields["callback_url"] = request.callback.url
            fields["callback_secret"] = request.callback.secret.get_secret_value()
        word, known = await self._db.run(
            "create",
            job_id or new_job_id(),
            json.dumps(fields),
            request.priority,
            target.pool_limit,
            request.queue_timeout_seconds,
            request.idempotency_key or "",
            IDEMPOTENCY_SECONDS,
            *windows,
            "" if run_seconds is None else run_seconds,
            most_open,
            LONGEST_LIFE_SECONDS + self._keep_ms // 1000,
        )
        JOBS_ASKED.labels(word).inc()
        if word == "full":
            raise TooManyJobs(f"{request.lane} has {known} open jobs; at most {most_open} are taken.")
        return known, word == "created"

    async def get(self, job_id: str) -> Job:
        """Read a job. Raises `JobNotFound` when there is none, or no longer."""
        fields = await self._db.hash(self._db.keys.job(job_id))
        if "request" not in fields:
            raise JobNotFound(f"No job {job_id}.", user_message="That job is not known (any more).")
        return Job.from_hash(fields)

    async def find(self, job_ids: Iterable[str]) -> list[Job]:
        """Read several jobs in one round trip, in order; those that are gone or cannot be read are left out."""
        ids = list(job_ids)
        if not ids:
            return []
        pipe = self._db.redis.pipeline(transaction=False)
        for job_id in ids:
            pipe.hgetall(self._db.keys.job(job_id))
        with self._db.asking():
            found = await pipe.execute()
        return [job for fields in found if (job := _readable(fields))]

    async def follow(self, job_ids: Iterable[str]) -> dict[str, Followed]:
        """What planning looks needs of many jobs, by id; those that are gone are left out. A round trip per thousand."""
        ids = list(job_ids)
        found: dict[str, Followed] = {}
        for start in range(0, len(ids), PAGE):
            pipe = self._db.redis.pipeline(transaction=False)
            for job_id in ids[start : start + PAGE]:
                pipe.hmget(self._db.keys.job(job_id), FOLLOWED_FIELDS)
            with self._db.asking():
                rows = await pipe.execute()
            found |= {job.id: job for row in rows if (job := Followed.from_fields(row))}
        return found

    async def move(
        self,
        job_id: str,
        to: JobState,
        *,
        from_: Iterable[JobState] | None = None,
        result: Result | None = None,
        error: JobError | None = None,
        timing: Timing | None = None,
        first_look_seconds: float = 0.0,
        attempt: int | None = None,
        eta_seconds: float | None = None,
        unless_paused: bool = False,
        by: By | None = None,
        **fields: str,
    ) -> Moved:
        """Move a job if it is in one of `from_` (default: every state that may move there), and announce it.

        A late or repeated move is refused and changes nothing; so is one that speaks of another `attempt` to submit than
        the job's present one. `fields` are merged into the record. With `unless_paused` a paused job goes back to its lane.
        `by` an operator: it is written into the audit, and a run that would go on without its job is cancelled by upkeep.
        """
        allowed = sources(to) if from_ is None else frozenset(from_) & sources(to)
        texts = dict(fields)
        parts: dict[str, BaseModel | None] = {"result": result, "error": error, "timing": timing}
        texts |= {name: part.model_dump_json() for name, part in parts.items() if part is not None}
        if eta_seconds is not None:
            texts["eta_seconds"] = str(eta_seconds)
        if self._archives and result is not None and result.outputs:
            texts["archive_state"] = "pending"
        delay_ms = self._keep_ms if to in FINAL else round(first_look_seconds * 1000)
        word, detail, *measured = await self._db.run(
            "transition",
            job_id,
            ",".join(sorted(allowed)),
            to,
            _EVENT_OF.get(to, ""),
            json.dumps(texts),
            delay_ms,
            "" if attempt is None else attempt,
            "1" if unless_paused else "",
            by.json() if by else "",
        )
        if word != "moved":
            return Moved(word, state=detail)
        _measure(to, measured, error)
        return Moved(word, seq=int(detail))

    async def progress(
        self, job_id: str, progress: Progress, *, milestone: str = "", eta_seconds: float | None = None
    ) -> bool:
        """Announce how far a running job is; False when that is no news. The `milestone` it shows is noted with its time."""
        fraction = "" if progress.fraction is None else f"{progress.fraction:.4f}"
        eta = "" if eta_seconds is None else eta_seconds
        word, _ = await self._db.run("progress", job_id, fraction, progress.model_dump_json(), eta, milestone)
        return bool(word == "announced")

    async def nudge(
        self, job_id: str, *, cancel: bool = False, run_id: str = "", goes_on: bool = False
    ) -> Literal["nudged", "noted", "final", "missing"]:
        """Have the run looked at now; `run_id` is the one a hint named. Of one that `goes_on`, only when somebody asked for
        progress and it is not known to have started. Answers `nudged`, `noted` (no look), `final` or `missing`."""
        reply: tuple[Literal["nudged", "noted", "final", "missing"], str]
        reply = await self._db.run("nudge", job_id, "1" if cancel else "0", run_id, "1" if goes_on else "")
        return reply[0]

    async def cancel(self, job_id: str) -> str:
        """Ask for a job's end. A waiting job is final at once; otherwise the next look cancels its run.

        Answers `cancelled`, `requested`, `final` (too late) or `missing`. Asking twice is fine. 1-3 round trips.
        """
        error = JobError(code="cancelled", message="Cancelled while waiting.", user_message="Cancelled.")
        moved = await self.move(job_id, JobState.CANCELLED, from_=[JobState.QUEUED], error=error)
        if moved or moved.reply == "missing":
            return "cancelled" if moved else "missing"
        word = await self.nudge(job_id, cancel=True)
        if word == "noted" and await self.move(job_id, JobState.CANCELLED, from_=[JobState.QUEUED], error=error):
            return "cancelled"  # it went back to its lane between the two
        return word if word in ("final", "missing") else "requested"

    async def begin_errand(self, job_id: str, kind: ErrandKind) -> Errand | None:
        """Count one more attempt at what is left to do for a final job; None when it is decided."""
        reply = await self._db.run("begin_errand", job_id, kind)
        if reply[0] != "begun":
            return None
        attempt, since, now, seq, traceparent, *callback = reply[1:]
        return Errand(job_id, int(attempt), int(since), int(now), int(seq), traceparent, *callback)

    async def settle_errand(
        self, job_id: str, kind: ErrandKind, outcome: Outcome, fields: dict[str, str], *, again_seconds: float = 0.0
    ) -> Literal["noted", "decided", "gone"]:
        """Note what became of an attempt: it is decided, or due again. `fields` are merged into the record.

        Answers `decided` when it was before, `gone` when there is no such job (any more): then nothing changes. With the
        last decision a callback's secret is forgotten, and the job's record kept for `keep_seconds` from now.
        """
        delay_ms = round(again_seconds * 1000) if outcome == "again" else self._keep_ms
        reply: Literal["noted", "decided", "gone"]
        reply = await self._db.run("settle_errand", job_id, kind, outcome, delay_ms, json.dumps(fields))
        return reply

    async def stamp(self, job_id: str, **fields: str) -> None:
        """Note facts in the record that no event tells of, such as a newly learned workflow id."""
        await self._db.run("stamp", job_id, json.dumps(fields))


def _measure(to: JobState, measured: list[str], error: JobError | None) -> None:
    """Count a move, with what the script told of it: the tier, then how long the job was where it was."""
    tier, *times = measured
    seconds = {what: int(ms) / 1000 for what, ms in zip(times[::2], times[1::2], strict=True)}
    life = seconds.pop("life", 0.0)
    if to in FINAL:
        JOBS_ENDED.labels(to.value).inc()
        JOB_SECONDS.labels(to.value).observe(life)
    if error is not None:
        JOB_ERRORS.labels(error.code if error.code in ERROR_CODES else "other").inc()
    if "dispatched" in seconds:
        LANE_WAIT.labels(tier).observe(seconds["queued"])
    for state, one in seconds.items():
        STATE_SECONDS.labels(state).observe(one)


def _readable(fields: dict[str, str]) -> Job | None:
    """The job in a hash; None when there is none, or none that we can read: it must not keep others from being read."""
    if "request" not in fields:
        return None
    try:
        return Job.from_hash(fields)
    except (ValueError, KeyError) as error:
        log.error("unreadable record", extra={"job_id": fields.get("id"), "error": str(error)[:300]})  # noqa: TRY400
        return None
