"""What became of the runs of a workflow? One look, as few calls as it takes.

    runs in flight ──┬─ many, who knows which ended ─▶ one listing answers for all ─▶ a read for each that ended well
                     └─ few, probably ended ─────────▶ a read each                  └▶ a read for each whose progress is wanted

A look never counts as an attempt, and a look that fails never fails a job: the runs keep their place in the due-set and
are looked at again. The lease of `shared/following/due.py` bounds how long a look may take.
"""

import asyncio
import logging
import time

from shared import tracing
from shared.comfydeploy import ListedRun, Run
from shared.errors import ConveyorError, GiveUp, RunNotFound, Stopping, TellOperator, TryLater
from shared.following.due import LEASE_SECONDS, InFlight, Settlement
from shared.jobs.record import Followed, Job
from shared.jobs.states import JobState
from shared.logs import about
from shared.metrics import LOOKS
from shared.tracing import Past, job_attributes
from tasks import reading
from tasks.apply import Applied, apply, end
from tasks.cancel import cancel_run
from tasks.engine import Engine
from tasks.listing import listed_runs
from tasks.roster import Roster
from tasks.schedule import (
    CROWD,
    LEAST_SECONDS,
    MOST_SECONDS,
    PRICE_SECONDS,
    PROGRESS_SECONDS,
    TROUBLE,
    Backoff,
    Pending,
    Watched,
    by_age,
    delay,
    jittered,
    price,
    waiting,
    worth,
    worth_reading,
)

log = logging.getLogger(__name__)

#: A look ends well before its lease does; what it did not get round to is due again at once.
LOOK_SECONDS = LEASE_SECONDS * 0.7

#: Runs due this soon are asked about along with those that are due.
TOGETHER_SECONDS = 0.5

#: Reads of single runs in one look: as many as the budget lets through in half of it. More wait for the next look.
LEAST_READS, MOST_READS = 20, 1000

#: A listing that was refused (a key without the right, a workflow that was deleted) is not asked for again this long.
UNLISTABLE_SECONDS = 600.0

#: After an answer only an operator can mend (a refused key), looks go on, slowly.
OPERATOR_SECONDS = 30.0

#: Past its deadline a run is cancelled again and again for this long; then its job ends without it.
CANCEL_GRACE_SECONDS = 120.0


async def look(engine: Engine, workflow_id: str) -> None:
    """Look at what is due of a workflow and settle the claim. Never raises for trouble upstream."""
    glance = _Look(engine, workflow_id)
    outcome = "failed"
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            await engine.unless_stopping(glance.carry_out())
        outcome = "news" if glance.news else "failed" if glance.failed else "nothing"
    except TimeoutError:
        log.info("look cut short", extra={"workflow_id": workflow_id, "settled": len(glance.settlement.own)})
    except Stopping:
        pass  # looks are free to repeat: another worker takes over as soon as the claim is given back
    except ConveyorError as error:
        glance.put_off(error)
    finally:
        LOOKS.labels(glance.reason, outcome).inc()
        await engine.due.settle(workflow_id, glance.settlement)
    if glance.ended:
        await engine.dispatch()


class _Look:
    """One look at one workflow."""

    def __init__(self, engine: Engine, workflow_id: str) -> None:
        self.engine = engine
        self.workflow_id = workflow_id
        #: Redis's time when the look began, and ours: what lies between costs no round trip.
        self.began_ms, self._began = 0, time.monotonic()
        self.settlement = Settlement()
        self.roster = Roster(engine, workflow_id)
        #: Jobs that became final in this look, and those that moved at all.
        self.ended = self.news = 0
        #: Whether the API did not answer a question.
        self.failed = False
        #: The strongest reason for this look, as metrics tell it.
        self.reason = "schedule"
        self._due: list[InFlight] = []
        #: Members somebody has been asked about.
        self._looked: set[str] = set()
        #: Members that something is awaited of, by when to look again at the latest.
        self._soon: dict[str, float] = {}
        #: Members that became final.
        self._gone: set[str] = set()
        #: When all runs were looked at before this (ms), and whether a listing has answered for all now.
        self._looked_ms, self._listed = 0, False
        #: Member -> what is believed of its run; when tokens are short, looks go by what they are worth.
        self._pending: dict[str, Pending | None] = {}
        #: Members that ended well by a listing: nobody has their outputs yet.
        self._over: set[str] = set()

    def _now_ms(self) -> int:
        return self.began_ms + round((time.monotonic() - self._began) * 1000)

    async def carry_out(self) -> None:
        soon_ms = round(TOGETHER_SECONDS * 1000)
        flight = await self.engine.due.in_flight(self.workflow_id, crowd=CROWD, soon_ms=soon_ms)
        self.began_ms, self._began, self._looked_ms = flight.now_ms, time.monotonic(), flight.looked_ms
        self.settlement.began_ms = flight.now_ms
        in_flight = flight.runs
        self._due = [run for run in in_flight if run.look_at <= self.began_ms + soon_ms]
        await self.roster.read(flight, self._due)
        # A record that is gone or cannot be read has been logged; its workflow must not come up at every tick for it.
        self.settlement.put_off = {
            run.member: OPERATOR_SECONDS for run in in_flight if run.job_id not in self.roster.known
        }
        in_flight = [run for run in in_flight if run.job_id in self.roster.known]
        self.reason = self._reason()
        watched = await self._watch(in_flight)
        self._pending = {run.member: one.pending for run, one in zip(in_flight, watched, strict=True)}
        singly = self._singly(in_flight, watched) if flight.whole else self._due
        if singly is None:
            await self._look_at_all(in_flight)
        else:
            await self._read_each(singly)
        await self._plan([run for run in in_flight if run.member not in self._gone], whole=flight.whole)

    def _reason(self) -> str:
        due = [self.roster.known[run.job_id] for run in self._due if run.own and run.job_id in self.roster.known]
        if any(job.cancel_requested_at is not None for job in due):
            return "cancel"
        if any(self._unsettled(job) for job in due):
            return "deadline"
        if any((job.hinted_at or 0) > (job.looked_at or 0) for job in due):
            return "hint"
        return "progress" if any(map(self._wants_progress, due)) else "schedule"

    async def _watch(self, runs: list[InFlight]) -> list[Watched]:
        """What is believed of each run, as of now."""
        now_ms, hint_rate = self._now_ms(), await self.engine.history.hint_rate()
        watched = []
        for run in runs:
            job = self.roster.known[run.job_id]
            outlook = await self.engine.history.outlook(job.deployment_id)
            looked_ms = job.looked_at if run.own else self._looked_ms
            if run.member in self._looked:
                looked_ms = self.began_ms
            watched.append(Watched(job, reading.pending_of(job, outlook, now_ms, looked_ms, hint_rate)))
        return watched

    def _singly(self, in_flight: list[InFlight], watched: list[Watched]) -> list[InFlight] | None:
        """The runs to read one by one; None when a listing is the better question."""
        listable = self.workflow_id and time.monotonic() >= self.engine.unlistable.get(self.workflow_id, 0.0)
        if not listable or len(self._due) <= 1 == len(in_flight):
            return self._due
        wanting = [
            run
            for run in self._due
            if run.job_id in self.roster.known and self._wants_a_read(self.roster.known[run.job_id])
        ]
        pending = [one.pending for one in watched if one.pending is not None]
        if len(pending) < len(in_flight):
            return self._due if len(self._due) == 1 else None
        places = worth_reading(pending)
        if places is not None:
            likely = [in_flight[place] for place in places]
            return likely + [run for run in wanting if run not in likely]
        return wanting if wanting and waiting(pending) < PRICE_SECONDS / 2 else None

    def _unsettled(self, job: Job | Followed) -> bool:
        """Whether its run is to be ended: the user asked for it, or its time is up."""
        return job.cancel_requested_at is not None or self.began_ms >= reading.deadline_ms(job)

    def _wants_a_read(self, job: Job | Followed) -> bool:
        return self._wants_progress(job) or self._unsettled(job)

    def _wants_progress(self, job: Job | Followed) -> bool:
        return job.wants_progress and job.state is JobState.RUNNING

    async def _look_at_all(self, in_flight: list[InFlight]) -> None:
        """One listing for every run in flight; reads only for what a listing cannot tell."""
        try:
            value = sum(map(worth, self._pending.values()))
            listed = await listed_runs(self.engine, self.workflow_id, in_flight, self.roster.known, value=value)
        except (GiveUp, TellOperator) as error:
            if isinstance(error, TellOperator) and error.upstream_status == 401:
                raise  # reads would hear the same
            log.warning("runs are read singly", extra={"workflow_id": self.workflow_id, "error": str(error)})
            self.engine.unlistable[self.workflow_id] = time.monotonic() + UNLISTABLE_SECONDS
            await self._read_each(self._due)
            return
        #: Ended runs first: their users wait for pictures, the others only for a number.
        ended: list[InFlight] = []
        others: list[InFlight] = []
        news: list[InFlight] = []
        due = {run.member for run in self._due}
        for run in in_flight:
            job, row = self.roster.known[run.job_id], listed.get(run.run_id)
            state = reading.state_of(row.status) if row else None
            wants_progress = job.wants_progress and state is JobState.RUNNING
            if row is not None:
                self._looked.add(run.member)
                if state is not JobState.SUCCEEDED:
                    self._pending[run.member] = None  # as of now, it has not ended
            if state is JobState.SUCCEEDED:
                self._over.add(run.member)
                ended.append(run)
            elif row is None or wants_progress or self._unsettled(job):
                if run.member in due:
                    others.append(run)
            elif state is not None and state is not job.state:
                news.append(run)
        for start in range(0, len(news), CROWD):
            some = news[start : start + CROWD]
            await self.roster.load(some)
            for run in some:
                if run.job_id in self.roster.jobs:
                    await self._apply(run, self.roster.jobs[run.job_id], listed[run.run_id])
        self._listed = True
        await self._read_each(ended + others)

    async def _read_each(self, runs: list[InFlight]) -> None:
        most = min(MOST_READS, max(LEAST_READS, round(self.engine.settings.rate_per_second * LOOK_SECONDS / 2)))
        runs = runs[:most]
        await self.roster.load(runs)
        results = await asyncio.gather(*(self._read(run) for run in runs), return_exceptions=True)
        for result in results:
            if isinstance(result, ConveyorError):
                self.put_off(result)
            elif isinstance(result, BaseException):
                raise result

    async def _read(self, run: InFlight) -> None:
        """Read one run; before that, end it when the user asked for it or its time is up."""
        job = self.roster.jobs.get(run.job_id)
        if job is None:
            return
        now_ms = self._now_ms()
        too_late = now_ms >= reading.deadline_ms(job)
        if job.cancel_requested_at is not None or too_late:
            await cancel_run(self.engine, run.run_id)
        value = worth(self._pending.get(run.member), ended=run.member in self._over)
        try:
            async with self.engine.bucket.call("look", value=value):
                # Its place in the machine's queue comes with the same call, and says more than the submit's time.
                waiting_upstream = job.state is JobState.SUBMITTED
                answer = await self.engine.client.runs.get(run.run_id, queue_position=waiting_upstream)
        except RunNotFound as error:
            log.warning("run not found", extra={"job_id": job.id, "run_id": run.run_id, "error": str(error)})
            if too_late:
                await self._end(run, job, reading.overdue(job, now_ms))
            else:
                self.settlement.own[run.member] = delay(Backoff.WAIT, job.looks + 1)
            return
        self._looked.add(run.member)
        if not self.workflow_id and answer.workflow_id:
            await self.engine.catalog.learn(job.deployment_id, answer.workflow_id)
        # A run that was cancelled because its time was up, not because somebody asked, timed out for its user.
        gone = reading.state_of(answer.status) is JobState.CANCELLED and job.cancel_requested_at is None
        if too_late and not answer.is_final and now_ms < reading.deadline_ms(job) + CANCEL_GRACE_SECONDS * 1000:
            # The cancel did not reach it. A job that ended now would leave a run that is paid for and that nobody follows.
            self.settlement.own[run.member] = delay(Backoff.WAIT, job.looks + 1)
        elif too_late and (not answer.is_final or gone):
            if not gone:
                log.error("overdue run could not be cancelled", extra={"job_id": job.id, "run_id": run.run_id})
            await self._end(run, job, reading.overdue(job, now_ms))
        else:
            await self._apply(run, job, answer)

    async def _apply(self, run: InFlight, job: Job, answer: Run | ListedRun) -> None:
        with about(job.id, run.run_id):
            applied = await apply(self.engine, job, answer, self._now_ms())
        self._note(run, applied)

    async def _end(self, run: InFlight, job: Job, ending: reading.Ending) -> None:
        self._note(run, await end(self.engine, job, ending))

    def _note(self, run: InFlight, applied: Applied) -> None:
        if applied.moved or applied.job.state is not self.roster.jobs[run.job_id].state:
            self.news += 1
            job = applied.job
            facts = job_attributes(
                job.id, job.request.label, job.request.frontend, run_id=run.run_id, reason=self.reason
            )
            tracing.tell(job.id, job.traceparent, [Past("look", self.began_ms, self._now_ms(), attributes=facts)])
        self.roster.note(applied.job)
        if applied.gone:
            self._gone.add(run.member)
            self.ended += applied.moved
        elif applied.again_seconds is not None:
            self._soon[run.member] = applied.again_seconds

    async def _plan(self, left: list[InFlight], *, whole: bool) -> None:
        """Set when to look next, at all runs of the workflow together."""
        pressure, hint_rate = self.engine.bucket.pressure_seconds, await self.engine.history.hint_rate()
        watched = await self._watch(left)
        times = self.engine.schedule.next_looks(watched, price(pressure, hint_rate, len(left)))
        now_ms, common = self._now_ms(), MOST_SECONDS
        for run, one, seconds in zip(left, watched, times, strict=True):
            soon = min(self._soon.get(run.member, MOST_SECONDS), (reading.deadline_ms(one.job) - now_ms) / 1000)
            if one.job.wants_progress:
                soon = min(soon, jittered(max(PROGRESS_SECONDS, by_age(one.job)) + pressure))
            if one.pending is not None:
                common = min(common, seconds)
            due_in = max(LEAST_SECONDS, min(seconds, soon))
            has_time = one.pending is None or soon < min(seconds, MOST_SECONDS)
            if run.member in self._looked:
                if has_time or not self._listed:
                    self.settlement.own.setdefault(run.member, due_in)
                elif run.own and run.member not in self.settlement.own:
                    self.settlement.joined.append(run.member)
            elif self._listed and not run.own:
                # The listing did not hold it, and it could not be read, yet.
                self.settlement.put_off[run.member] = 0.0
            elif (run.own or has_time) and one.pending is not None and not self._unsettled(one.job):
                self.settlement.put_off[run.member] = due_in
        self.settlement.whole = self._listed
        if whole:
            self.settlement.common = common

    def put_off(self, error: ConveyorError) -> None:
        """The API did not answer: everything asked about is asked again later."""
        log.warning("look failed", extra={"workflow_id": self.workflow_id, "error": str(error)})
        self.failed = True
        if isinstance(error, TellOperator):
            pause = OPERATOR_SECONDS
        else:
            pause = (error.retry_after_seconds if isinstance(error, TryLater) else None) or delay(TROUBLE, 1)
        for run in self._due:
            if run.member not in self._looked and run.own:
                self.settlement.own.setdefault(run.member, pause)
            elif run.member not in self._looked:
                self.settlement.common = pause
