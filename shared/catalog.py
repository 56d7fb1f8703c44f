"""What does a request's `workflow` or `deployment_id` stand for upstream?

The API is the source of truth; this is a copy of its deployments, refreshed every five minutes by one worker at a time and
served older than that, up to a day, while the API is down. Without any copy a request is accepted unresolved and the worker
that submits it asks again: a cold cache must not turn users away.
"""

import asyncio
import json
import logging
import time
from dataclasses import dataclass
from typing import Any, Self

from shared.comfydeploy import ComfyDeploy
from shared.database import REDIS_AWAY, Database
from shared.errors import ConveyorError, InvalidInput, WorkflowNotFound
from shared.inputs import Signature, check, signature_of
from shared.jobs.request import JobRequest
from shared.jobs.store import Target
from shared.limits.bucket import TokenBucket
from shared.names import did_you_mean, tolerant
from shared.settings import Settings

log = logging.getLogger(__name__)

FRESH_SECONDS = 300.0
#: Older than this the copy is not believed any more, even while the API is down.
STALE_SECONDS = 24 * 3600.0
#: A name that is not in the copy makes us ask again, but not more often than this.
RECHECK_SECONDS = 10.0
#: A process keeps its parsed copy this long before it looks into Redis again.
MEMORY_SECONDS = 5.0
#: One refresher at a time; a killed one is replaced after this long.
REFRESH_LEASE_SECONDS = 30
#: Waiting for tokens and for the API, all calls of a refresh together.
REFRESH_TIMEOUT_SECONDS = 20.0
#: How long a request waits for a first copy that another process is reading.
AWAIT_SECONDS = 2.0

#: CONTRACT section 15: a machine without a limit of its own runs two containers.
DEFAULT_CONCURRENCY = 2

#: When a name stands for several deployments, the first of these wins.
ENVIRONMENTS = ("production", "staging", "preview", "private-share", "public-share", "community-share")


@dataclass(frozen=True, slots=True)
class Entry:
    """One deployment, as far as a job needs it."""

    deployment_id: str
    workflow_id: str
    name: str
    environment: str
    #: The machine whose window its jobs count in; empty when the API did not say.
    pool: str
    #: Runs carried out there at once.
    concurrency: int
    description: str | None = None
    #: What it takes and gives; None when the API did not say.
    signature: Signature | None = None

    @classmethod
    def of(cls, stored: dict[str, Any]) -> Self:
        """An entry as it is stored. Fields we do not know are left out: a newer process wrote them."""
        known = {name: value for name, value in stored.items() if name in cls.__dataclass_fields__}
        signature = known.get("signature")
        return cls(**(known | {"signature": None if signature is None else Signature.of(signature)}))

    def stored(self) -> dict[str, Any]:
        """For JSON; `of` reads it back."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return plain | {"signature": None if self.signature is None else self.signature.stored()}


@dataclass(frozen=True, slots=True)
class Copy:
    """All deployments, as read from the API at one time (seconds since 1970)."""

    read_at: float
    entries: tuple[Entry, ...]

    @property
    def age_seconds(self) -> float:
        """How old the copy is."""
        return time.time() - self.read_at

    def find(self, request: JobRequest) -> Entry | None:
        """The deployment a request means; production first. None when there is none."""
        if request.deployment_id:
            return next((e for e in self.entries if e.deployment_id == request.deployment_id), None)
        wanted = tolerant(request.workflow or "")
        found = [
            entry
            for entry in self.entries
            if tolerant(entry.name) == wanted and request.environment in (None, entry.environment)
        ]
        exact = [entry for entry in found if entry.name == request.workflow]
        rank = {environment: place for place, environment in enumerate(ENVIRONMENTS)}
        return min(exact or found, key=lambda entry: rank.get(entry.environment, len(rank)), default=None)

    def named(self, name: str) -> list[Entry]:
        """The deployments a person means: of a workflow by its name, or the one of this id."""
        return [e for e in self.entries if e.deployment_id == name or tolerant(e.name) == tolerant(name)]

    def did_you_mean(self, name: str) -> str:
        """A question with the names that look like this one; empty when none does."""
        return did_you_mean(name, (entry.name for entry in self.entries))


class Catalog:
    """The deployments of our API key. Without a client (a producer without a key) it only reads what workers wrote."""

    def __init__(
        self, database: Database, settings: Settings, bucket: TokenBucket, client: ComfyDeploy | None = None
    ) -> None:
        self._db = database
        self._bucket = bucket
        self._client = client
        self._factor = settings.machine_window_factor
        self._copy: Copy | None = None
        self._checked_at = 0.0
        self._no_refresh_until = 0.0
        self._learned: set[tuple[str, str]] = set()

    async def resolve(self, request: JobRequest) -> Target:
        """What to submit, whom to follow, and whose window it counts in.

        Raises `WorkflowNotFound` with suggestions when the name is certainly unknown. Without any copy the parts that
        are not known stay empty. 0 or 1 round trip; on a cold or too old copy also the calls of a refresh.
        """
        copy = await self.copy()
        entry = copy.find(request) if copy else None
        if entry is None and (workflow_id := await self._workflow_of(request.deployment_id)):
            return Target(deployment_id=request.deployment_id or "", workflow_id=workflow_id)
        if copy is not None and entry is None and copy.age_seconds > RECHECK_SECONDS:
            copy = await self._refreshed() or copy
            entry = copy.find(request)
        if entry is not None:
            return Target(
                deployment_id=entry.deployment_id,
                workflow_id=entry.workflow_id,
                pool=entry.pool,
                pool_limit=max(1, round(entry.concurrency * self._factor)) if entry.pool else 0,
            )
        if request.deployment_id or copy is None or copy.age_seconds > FRESH_SECONDS:
            # Deployments shared by others are not listed, but may be run; and an old copy may not know a new name.
            return Target(deployment_id=request.deployment_id or "")
        hint = copy.did_you_mean(request.workflow or "")
        where = f" in {request.environment}" if request.environment else ""
        message = f"There is no workflow {request.workflow!r}{where}.{hint}"
        raise WorkflowNotFound(message, user_message=message)

    async def checked(self, request: JobRequest) -> JobRequest:
        """The request with its inputs as they will be sent: `"12"` is 12 where a number is wanted.

        Raises `InvalidInput` with everything that is wrong. What an author changed a moment ago is read again before
        somebody is refused, and a copy that cannot be renewed refuses nobody. No round trip as a rule, see `resolve`.
        """
        copy = await self.copy()
        entry = copy.find(request) if copy else None
        inputs, problems = check(entry.signature if entry else None, request.inputs)
        if problems and copy is not None and copy.age_seconds > RECHECK_SECONDS:
            copy = await self._refreshed() or copy
            entry = copy.find(request)
            inputs, problems = check(entry.signature if entry else None, request.inputs)
            if copy.age_seconds > FRESH_SECONDS:
                return request
        if problems:
            raise InvalidInput(problems)
        return request.model_copy(update={"inputs": inputs})

    async def copy(self) -> Copy | None:
        """The copy at hand, however old up to a day: workers keep it fresh, and nobody waits for the API meanwhile.

        Only when there is none at all it is read now, or waited for while another process reads it; None when that fails.
        """
        copy = await self._stored()
        if copy is None:
            copy = await self._refreshed() or await self._awaited()
        return copy if copy is not None and copy.age_seconds < STALE_SECONDS else None

    async def learn(self, deployment_id: str, workflow_id: str) -> None:
        """Remember whose run an unlisted deployment's was, so that its next runs can be listed. A repeat changes nothing."""
        if (deployment_id, workflow_id) not in self._learned:
            with self._db.asking():
                await self._db.redis.hset(self._db.keys.workflows, deployment_id, workflow_id)
            self._learned.add((deployment_id, workflow_id))

    async def warm(self) -> None:
        """Keep the copy fresh for everybody; what a worker's upkeep calls."""
        copy = await self._stored()
        if copy is None or copy.age_seconds > FRESH_SECONDS * 0.8:
            await self._refreshed()

    async def _workflow_of(self, deployment_id: str | None) -> str:
        if deployment_id is None:
            return ""
        with self._db.asking():
            return str(await self._db.redis.hget(self._db.keys.workflows, deployment_id) or "")

    async def _awaited(self) -> Copy | None:
        """The copy that another process is reading at this moment, if it is there soon."""
        for _ in range(round(AWAIT_SECONDS / 0.1)):
            with self._db.asking():
                if not await self._db.redis.exists(self._db.keys.lease("catalog")):
                    break
            await asyncio.sleep(0.1)
        return await self._stored()

    async def _stored(self) -> Copy | None:
        if self._copy is not None and time.monotonic() - self._checked_at < MEMORY_SECONDS:
            return self._copy
        try:
            text = await self._db.redis.get(self._db.keys.catalog)
        except REDIS_AWAY:
            return self._copy
        if text:
            stored = json.loads(text)
            if self._copy is None or self._copy.read_at != stored["read_at"]:
                self._copy = Copy(stored["read_at"], tuple(Entry.of(entry) for entry in stored["entries"]))
            self._checked_at = time.monotonic()
        return self._copy

    async def _refreshed(self) -> Copy | None:
        """A new copy from the API; None when we may not ask, another process is asking, or the API did not answer.

        Raises `Unavailable` when Redis is away.
        """
        with self._db.asking():
            return await self._refresh()

    async def _refresh(self) -> Copy | None:
        lease = self._db.keys.lease("catalog")
        if self._client is None or time.monotonic() < self._no_refresh_until:
            return None
        if not await self._db.redis.set(lease, "1", nx=True, ex=REFRESH_LEASE_SECONDS):
            return None
        try:
            async with asyncio.timeout(REFRESH_TIMEOUT_SECONDS):
                entries = await self._read(self._client)
        except (ConveyorError, TimeoutError) as error:
            log.warning("the catalog could not be refreshed", extra={"error": str(error) or type(error).__name__})
            # Whoever asks next would wait for the same, and find the same.
            self._no_refresh_until = time.monotonic() + RECHECK_SECONDS
            return None
        finally:
            await self._db.redis.delete(lease)
        self._copy, self._checked_at = Copy(time.time(), entries), time.monotonic()
        text = json.dumps({"read_at": self._copy.read_at, "entries": [entry.stored() for entry in entries]})
        await self._db.redis.set(self._db.keys.catalog, text, ex=round(STALE_SECONDS))
        return self._copy

    async def _read(self, client: ComfyDeploy) -> tuple[Entry, ...]:
        """Two listings and one call for each machine, a token each."""
        await self._bucket.take("catalog")  # the listing is two calls
        async with self._bucket.call("catalog"):
            deployments = [d for d in await client.deployments.list() if d.workflow_id and d.workflow_name]
        limits: dict[str, int] = {}
        for machine_id in {d.machine_id for d in deployments if d.machine_id and not d.is_fluid}:
            try:
                async with self._bucket.call("catalog"):
                    machine = await client.machines.get(machine_id)
            except ConveyorError as error:
                log.warning("a machine could not be read", extra={"machine": machine_id, "error": str(error)})
                continue
            limits[machine_id] = machine.concurrency_limit or DEFAULT_CONCURRENCY
        return tuple(
            Entry(
                deployment_id=d.id,
                workflow_id=d.workflow_id or "",
                name=d.workflow_name or "",
                environment=d.environment or "",
                # A deployment with an image of its own (fluid) has containers, and a limit, of its own.
                pool=d.id if d.is_fluid else d.machine_id or "",
                concurrency=(d.concurrency_limit if d.is_fluid else limits.get(d.machine_id or ""))
                or DEFAULT_CONCURRENCY,
                description=d.description,
                signature=signature_of(d.input_types, d.workflow_api, d.workflow),
            )
            for d in deployments
        )
