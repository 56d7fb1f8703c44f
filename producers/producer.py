"""The front door in Python: put jobs in, ask about them, cancel them, wait for them.

    async with Producer.from_env() as producer:
        job = await producer.enqueue(JobRequest(workflow="portrait", frontend="telegram", user={"id": "42"}))
        final = await job.wait(timeout_seconds=300)

A request is checked whole, then resolved through the catalog, then written with one script: a refused one leaves
nothing behind. Once it is written the job is accepted and will end, whatever happens to this process, the broker or
the message: the tick of any worker dispatches and publishes what we did not get round to.

Read next: `shared/jobs/request.py` (what is refused), `shared/lua/create.lua`, `shared/lua/dispatch.lua`, `follow.py`.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from producers.admission import Resolves, admitted
from producers.equipment import Equipment, Publishes
from producers.follow import Follower
from producers.handle import Cancelled, JobHandle, Status
from shared import tracing
from shared.database import Database
from shared.errors import InvalidInput, JobNotFound, Problem, Unavailable
from shared.following import milestones
from shared.following.history import History
from shared.identifiers import new_job_id
from shared.jobs.event import Event
from shared.jobs.lanes import Lanes
from shared.jobs.request import JobRequest
from shared.jobs.states import JobState
from shared.jobs.store import JobStore, Target
from shared.jobs.tiers import tier_name
from shared.settings import Settings

if TYPE_CHECKING:
    from producers.files import Tell
    from producers.saving import Saved
    from shared.catalog import Copy
    from shared.comfydeploy.versions import Version
    from shared.media.sources import Source
    from shared.media.uploads import Upload

log = logging.getLogger(__name__)

#: What may be given as a request: the model, its fields, or its JSON.
Request = JobRequest | dict[str, Any] | str | bytes


class Producer:
    """Accepts jobs and answers questions about them. Belongs to one event loop.

    Closes what it opened itself: the database unless one was given, the broker's connections, the API client. Usable
    with or without `async with`; a program that ends without closing loses nothing but a tidy log.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database | None = None,
        *,
        publisher: Publishes | None = None,
        catalog: Resolves | None = None,
        most_open: int = 0,
    ) -> None:
        self._settings = settings
        self._own_database = database is None
        self._db = database or Database.open(settings.redis_url)
        self._store = JobStore(self._db, keep_seconds=settings.job_keep_seconds)
        self._lanes = Lanes(self._db, settings)
        self._history = History(self._db)
        self._equipment = Equipment(settings, self._db, publisher, catalog)
        #: Jobs of one user that have not ended, at once; 0 is no limit.
        self._most_open = most_open

    @classmethod
    def from_env(cls) -> Self:
        """A producer with the settings of the environment. Raises `MissingSetting`; connects with the first question."""
        return cls(Settings.from_env())

    async def enqueue(self, request: Request, *, validate: bool = True, traceparent: str = "") -> JobHandle:
        """Accept one job. 3 round trips to Redis and one to the broker when the catalog is warm.

        Raises `InvalidInput` with every problem, `WorkflowNotFound` with suggestions and `TooManyJobs` (when there is a
        limit): nothing was written. Raises `Unavailable` when Redis is away: the job may have been written if the connection broke in that very moment;
        with an idempotency key the call can simply be repeated.

        Inputs are held against what the workflow takes, and stored as it takes them (`"12"` as 12), as far as the
        catalog knows. `validate=False` leaves them as they are, for who knows better.

        The job's trace hangs below `traceparent` (W3C), else below this program's current span (`shared/tracing.py`).
        """
        return (await self._accept([JobRequest.read(request)], validate=validate, traceparent=traceparent))[0]

    async def enqueue_many(self, requests: Iterable[Request], *, validate: bool = True) -> list[JobHandle]:
        """Accept several jobs, in order. All are checked before the first is written.

        Raises what `enqueue` raises; the fields of problems begin with the request's place, counted from 0
        (`2.inputs.seed`). When Redis goes away on the way, the jobs written so far are accepted: use idempotency keys.
        """
        read: list[JobRequest] = []
        problems: list[Problem] = []
        for place, request in enumerate(requests):
            try:
                read.append(JobRequest.read(request))
            except InvalidInput as error:
                problems += error.at(place)
        if problems:
            raise InvalidInput(problems)
        return await self._accept(read, validate=validate, many=True)

    async def _accept(
        self, requests: list[JobRequest], *, validate: bool, many: bool = False, traceparent: str = ""
    ) -> list[JobHandle]:
        factor = self._settings.machine_window_factor
        with self._db.asking():
            accepted = await admitted(self._equipment.catalog, requests, factor=factor, validate=validate, many=many)
        handles = []
        for request, target in accepted:
            handles.append(await self._create(request, target, traceparent))
        await self._dispatch()
        return handles

    async def _create(self, request: JobRequest, target: Target, traceparent: str) -> JobHandle:
        job_id = new_job_id()
        facts = tracing.job_attributes(job_id, request.label, request.frontend) | {
            "messaging.system": "conveyor",
            "messaging.operation.name": "enqueue",
            "messaging.operation.type": "create",
            "messaging.message.id": job_id,
        }
        with tracing.begin(job_id, traceparent, facts) as span:
            known, created = await self._store.create(
                request,
                target,
                job_id=job_id,
                windows=(self._settings.window, self._settings.user_window),
                most_open=self._most_open,
                weight=self._settings.tier_weights.get(request.user.tier or "", 1),
                tier=tier_name(request.user.tier, self._settings.tier_weights),
                run_seconds=milestones.of_submit(await self._history.outlook(target.deployment_id)),
                traceparent=span.traceparent,
            )
            # A repeat after a lost answer finds our own job: that is the one we made.
            is_new = created or known == job_id
            if not is_new:
                span.drop()  # the job it found has a trace of its own
        return JobHandle(known, is_new, self)

    async def _dispatch(self) -> None:
        """Fill the windows. Never fails: the jobs are accepted, and any worker's tick does the same again."""
        try:
            taken = await self._lanes.dispatch()
            if taken:
                await self._equipment.publisher.publish(taken)
        except Unavailable as error:
            log.warning("dispatch failed, the next tick will repeat it", extra={"error": str(error)})

    async def status(self, job_id: str) -> Status:
        """The job as it is now, where it waits and when it will have ended. 1-3 round trips.

        Raises `JobNotFound`, `Unavailable`.
        """
        job = await self._store.get(job_id)
        if job.final:
            return Status(job)
        outlook = await self._history.outlook(job.deployment_id)
        if job.state in (JobState.QUEUED, JobState.SUBMITTING):
            place = await self._lanes.place(job_id) if job.state is JobState.QUEUED else None
            run, turn = milestones.of_submit(outlook), place.eta_seconds if place else 0.0
            return Status(job, place, None if run is None or turn is None else round(turn + run, 1))
        return Status(job, eta_seconds=milestones.eta_seconds(job, outlook, await self._db.now_ms()))

    async def cancel(self, job_id: str) -> Cancelled:
        """Ask for a job's end; asking twice is fine.

        Answers `cancelled` (it waited, and is over), `requested` (its run is being cancelled; it may still succeed) or
        `final` (too late). Raises `JobNotFound`, `Unavailable`.
        """
        match await self._store.cancel(job_id):
            case "cancelled":
                # It may have been dispatched already: then its place in the windows is free for another.
                await self._dispatch()
                return "cancelled"
            case "missing":
                raise JobNotFound(f"No job {job_id}.", user_message="That job is not known (any more).")
            case "final":
                return "final"
            case _:
                return "requested"

    async def upload(self, source: "Source", name: str | None = None) -> "Upload":
        """Upload a file for an input: bytes, a `Path`, an open file, or an address as `str`, which we read ourselves.

        The same content is uploaded once; at most one call of the API. Raises `InvalidInput` (no file, or none the API
        takes), `MissingSetting` without an API key, `Unavailable`; see `shared/media/uploads.py`.
        """
        return await self._equipment.files.upload(source, name)

    async def fetch(
        self, job_id: str, folder: "str | Path", *, force: bool = False, tell: "Tell | None" = None
    ) -> "list[Saved]":
        """Save the outputs of a job into a folder, texts as `.txt`. A repeat writes only what is not there.

        A file of the same name and other content is left alone unless `force`. What its address does not give (any more)
        comes from the archive, also when the job is not kept any more, or else from a fresh address, for which an API
        key is needed. Tries all outputs before it raises: `FileUnusable`, `Unavailable` (also: the job
        has not ended), `JobFailed`, `JobNotFound`, `MissingSetting`; what was saved stays.
        """
        files, into = self._equipment.files, Path(folder)
        try:
            job = await self._store.get(job_id)
        except JobNotFound:
            saved = await files.save_archived(job_id, into, force=force, tell=tell)
            if saved is None:
                raise
            return saved
        return await files.save(job, into, force=force, tell=tell)

    async def wait(self, job_id: str, timeout_seconds: float | None = None) -> Event:
        """The job's final event. Raises `TimeoutError` after `timeout_seconds`, and what `follow` raises.

        Without a timeout the wait ends with the job, and every job ends.
        """
        async with asyncio.timeout(timeout_seconds), aclosing(self.follow(job_id)) as events:
            async for event in events:
                if event.final:
                    return event
        raise AssertionError("follow ends with a final event")

    async def follow(self, job_id: str, from_seq: int = 0) -> AsyncGenerator[Event]:
        """Every event of a job after `from_seq`, old ones first, then live, ending with the final one.

        A follower that got as far as the final event already gets nothing. Raises `JobNotFound` when the job is not
        kept (any more), `Unavailable` when Redis stays away for minutes. See `follow.py` for the promises.
        """
        async with aclosing(self.follow_many([job_id], from_seq)) as events:
            async for event in events:
                yield event

    async def follow_many(self, job_ids: Iterable[str], from_seq: int = 0) -> AsyncGenerator[Event]:
        """The events of several jobs over one connection, until all have ended."""
        async with aclosing(Follower(self._db, job_ids, from_seq=from_seq).events()) as events:
            async for event in events:
                yield event

    async def version(self, version_id: str) -> "Version":
        """One version of a workflow with its graphs; `Entry.version_id` says which one is deployed.

        From the API once a day, else from a copy. Raises `NotFound`, what else the API raises, `Unavailable`.
        """
        return await self._equipment.catalog.version(version_id)

    async def workflows(self, *, refresh: bool = False) -> "Copy":
        """What can be run, with the age of the answer. Raises `Unavailable` when nothing is known yet.

        With `refresh` it is read from the API now, and what the API raises is raised; some calls of the budget.
        """
        catalog = self._equipment.catalog
        if refresh:
            return await catalog.refresh()
        copy = await catalog.copy()
        if copy is None:
            raise Unavailable(
                "The catalog is empty: no worker has filled it, and COMFY_DEPLOY_API_KEY is not set here."
            )
        return copy

    async def aclose(self) -> None:
        """Close what this producer opened. Closing twice is fine; accepted jobs go on."""
        await self._equipment.aclose()
        if self._own_database:
            await self._db.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
