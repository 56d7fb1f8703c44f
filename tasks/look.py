"""What became of the runs of a workflow? One look, as few calls as it takes.

    runs worth asking about ──┬─ two or more ─▶ one listing answers for all ─▶ a read for each that ended well (outputs)
                              └─ one ─────────▶ one read                     └▶ a read for each whose progress is wanted

A look never counts as an attempt, and a look that fails never fails a job: the runs keep their place in the due-set and
are looked at again. The lease of `shared/following/due.py` bounds how long a look may take.
"""

import asyncio
import logging
import time
from datetime import UTC, datetime

from shared.comfydeploy import ListedRun, Run
from shared.errors import ConveyorError, GiveUp, RunNotFound, Stopping, TellOperator, TryLater
from shared.following.due import LEASE_SECONDS, InFlight
from shared.jobs.record import Job
from shared.jobs.states import JobState
from tasks import reading
from tasks.cancel import cancel_run
from tasks.engine import Engine
from tasks.fault_points import reach
from tasks.schedule import TROUBLE, delay

log = logging.getLogger(__name__)

#: A look ends well before its lease does; what it did not get round to is due again at once.
LOOK_SECONDS = LEASE_SECONDS * 0.7

#: Runs due this soon are asked about along with those that are due.
TOGETHER_SECONDS = 0.5

#: Reads of single runs in one look: as many as the budget lets through in half of it. More wait for the next look.
LEAST_READS, MOST_READS = 20, 200

#: What a listing may hold beside our own runs: other people's, and those that ended since the oldest of ours began.
LISTED_AT_LEAST = 100
CLOCK_SLACK_SECONDS = 60.0

#: A listing that was refused (a key without the right, a workflow that was deleted) is not asked for again this long.
UNLISTABLE_SECONDS = 600.0

#: After an answer only an operator can mend (a refused key), looks go on, slowly.
OPERATOR_SECONDS = 30.0


async def look(engine: Engine, workflow_id: str) -> None:
    """Look at what is due of a workflow and settle the claim. Never raises for trouble upstream."""
    glance = _Look(engine, workflow_id)
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            await engine.unless_stopping(glance.carry_out())
    except TimeoutError:
        log.info("look cut short", extra={"workflow_id": workflow_id, "settled": len(glance.next_looks)})
    except Stopping:
        pass  # looks are free to repeat: another worker takes over as soon as the claim is given back
    except ConveyorError as error:
        await glance.put_off(error)
    finally:
        await engine.due.settle(workflow_id, glance.next_looks)
    if glance.ended:
        await engine.dispatch()


class _Look:
    """One look at one workflow."""

    def __init__(self, engine: Engine, workflow_id: str) -> None:
        self.engine = engine
        self.workflow_id = workflow_id
        #: member -> seconds; what `settle` is told.
        self.next_looks: dict[str, float] = {}
        #: Jobs that became final in this look.
        self.ended = 0
        self._asked: list[InFlight] = []
        #: Redis's time when the look began, and ours: what lies between costs no round trip.
        self._began_ms, self._began = 0, time.monotonic()

    async def carry_out(self) -> None:
        self._began_ms, in_flight = await self.engine.due.in_flight(self.workflow_id)
        now_ms, self._began = self._began_ms, time.monotonic()
        worth = [run for run in in_flight if run.look_at <= now_ms + TOGETHER_SECONDS * 1000]
        self._asked = worth
        listable = self.workflow_id and time.monotonic() >= self.engine.unlistable.get(self.workflow_id, 0.0)
        if len(worth) >= 2 and listable:
            await self._look_at_all(now_ms, in_flight, worth)
        else:
            await self._read_each(worth, await self._jobs(worth))

    def _now_ms(self) -> int:
        return self._began_ms + round((time.monotonic() - self._began) * 1000)

    async def _look_at_all(self, now_ms: int, in_flight: list[InFlight], worth: list[InFlight]) -> None:
        """One listing for every run in flight; reads only for what a listing cannot tell."""
        jobs = await self._jobs(in_flight)
        try:
            listed = await self._list(jobs, len(in_flight))
        except (GiveUp, TellOperator) as error:
            if isinstance(error, TellOperator) and error.upstream_status == 401:
                raise  # reads would hear the same
            log.warning("runs are read singly", extra={"workflow_id": self.workflow_id, "error": str(error)})
            self.engine.unlistable[self.workflow_id] = time.monotonic() + UNLISTABLE_SECONDS
            await self._read_each(worth, jobs)
            return
        urgent = {run.member for run in worth}
        #: Ended runs first: their users wait for pictures, the others only for a number.
        ended: list[InFlight] = []
        others: list[InFlight] = []
        for run in in_flight:
            job, row = jobs.get(run.job_id), listed.get(run.run_id)
            if job is None:
                continue
            state = reading.state_of(row.status) if row else None
            wants_progress = job.request.progress and state is JobState.RUNNING and run.member in urgent
            unsettled = job.cancel_requested_at is not None or now_ms >= reading.deadline_ms(job)
            if state is JobState.SUCCEEDED:
                ended.append(run)
            elif row is None or wants_progress or unsettled:
                if run.member in urgent:
                    others.append(run)
            else:
                await self._apply(run, job, row)
        await self._read_each(ended + others, jobs)

    async def _list(self, jobs: dict[str, Job], in_flight: int) -> dict[str, ListedRun]:
        """The workflow's runs by id, from the oldest of ours on."""
        oldest = min((job.submitting_at or job.created_at for job in jobs.values()), default=0)
        async with self.engine.bucket.call("look"):
            rows = await self.engine.client.runs.list_by_workflow(
                self.workflow_id,
                created_after=datetime.fromtimestamp(oldest / 1000 - CLOCK_SLACK_SECONDS, UTC),
                limit=max(LISTED_AT_LEAST, 2 * in_flight),
            )
        return {row.id: row for row in rows}

    async def _read_each(self, runs: list[InFlight], jobs: dict[str, Job]) -> None:
        async def read(run: InFlight) -> None:
            if job := jobs.get(run.job_id):
                await self._read(run, job)

        most = min(MOST_READS, max(LEAST_READS, round(self.engine.settings.rate_per_second * LOOK_SECONDS / 2)))
        results = await asyncio.gather(*(read(run) for run in runs[:most]), return_exceptions=True)
        for result in results:
            if isinstance(result, ConveyorError):
                await self.put_off(result)
            elif isinstance(result, BaseException):
                raise result

    async def _read(self, run: InFlight, job: Job) -> None:
        """Read one run; before that, end it when the user asked for it or its time is up."""
        now_ms = self._now_ms()
        too_late = now_ms >= reading.deadline_ms(job)
        if job.cancel_requested_at is not None or too_late:
            await cancel_run(self.engine, run.run_id)
        try:
            async with self.engine.bucket.call("look"):
                answer = await self.engine.client.runs.get(run.run_id)
        except RunNotFound as error:
            log.warning("run not found", extra={"job_id": job.id, "run_id": run.run_id, "error": str(error)})
            if too_late:
                await self._end(run, job, reading.overdue(job, now_ms))
            else:
                self.next_looks[run.member] = self.engine.schedule.next_look(job)
            return
        # A run that was cancelled because its time was up, not because somebody asked, timed out for its user.
        gone = reading.state_of(answer.status) is JobState.CANCELLED and job.cancel_requested_at is None
        if too_late and (not answer.is_final or gone):
            await self._end(run, job, reading.overdue(job, now_ms))
        else:
            await self._apply(run, job, answer)

    async def _apply(self, run: InFlight, job: Job, answer: Run | ListedRun) -> None:
        """Move the job to where its run is."""
        now_ms = self._now_ms()
        if ending := reading.ending_of(job, answer, now_ms):
            await self._end(run, job, ending)
            return
        state = reading.state_of(answer.status)
        if state is JobState.RUNNING and job.state is JobState.SUBMITTED:
            await self.engine.store.move(job.id, JobState.RUNNING)
            await self._show(job, "running")
        elif state is JobState.SUCCEEDED and isinstance(answer, Run) and job.no_outputs_at is None:
            await self.engine.store.stamp(job.id, no_outputs_at=str(now_ms))
        if state is JobState.RUNNING and isinstance(answer, Run) and job.request.progress:
            progress = reading.progress_of(answer)
            if progress.fraction is not None and await self.engine.store.progress(job.id, progress):
                await self._show(job, f"{progress.fraction:.0%} {progress.text or ''}".rstrip())
        if run in self._asked:
            # A run that was only covered by another's listing keeps its own time: no news is no reason to wait longer.
            self.next_looks[run.member] = self.engine.schedule.next_look(job)

    async def _end(self, run: InFlight, job: Job, ending: reading.Ending) -> None:
        await reach("after_read", job.id)
        moved = await self.engine.store.move(
            job.id, ending.state, result=ending.result, error=ending.error, timing=ending.timing
        )
        if moved:
            self.ended += 1
            await reach("after_final", job.id)
            log.info("job ended", extra={"job_id": job.id, "run_id": run.run_id, "state": ending.state.value})

    async def _show(self, job: Job, text: str) -> None:
        """Progress in Flower's row: worth having, not worth failing a look for."""
        try:
            await asyncio.to_thread(self.engine.rows.show_progress, job, f"run {(job.run_id or '')[:8]}: {text}")
        except Exception as error:  # noqa: BLE001 - kombu raises what its transport raises
            log.debug("row not updated", extra={"job_id": job.id, "error": repr(error)})

    async def _jobs(self, runs: list[InFlight]) -> dict[str, Job]:
        return {job.id: job for job in await self.engine.store.find(run.job_id for run in runs)}

    async def put_off(self, error: ConveyorError) -> None:
        """The API did not answer: everything asked about is asked again later."""
        log.warning("look failed", extra={"workflow_id": self.workflow_id, "error": str(error)})
        if isinstance(error, TellOperator):
            pause = OPERATOR_SECONDS
        else:
            pause = (error.retry_after_seconds if isinstance(error, TryLater) else None) or delay(TROUBLE, 1)
        for run in self._asked:
            self.next_looks.setdefault(run.member, pause)
