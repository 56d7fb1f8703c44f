"""What does a request's `workflow` or `deployment_id` stand for upstream, and do its inputs suit it?

Without any copy a request is accepted unresolved, and the worker that submits it asks again: a cold cache must not turn
users away. Nor is anybody refused by a copy that is too old: what is asked for may be new.
"""

import contextlib
import time
from collections import OrderedDict
from functools import partial
from typing import Literal, Self

from shared.catalog.copy import Copy
from shared.catalog.entries import Entry, Listing, Machines, machines_of, stored_machines
from shared.catalog.freshness import DEPLOYMENTS_SECONDS, MACHINES_SECONDS, Freshness
from shared.catalog.index import Index
from shared.catalog.renewal import FIRST_WAIT_SECONDS, FORGOTTEN_WAIT_SECONDS, NOTE_SECONDS, Part
from shared.catalog.shelf import Seen, Shelf
from shared.catalog.upstream import Upstream
from shared.catalog.versions import Versions
from shared.comfydeploy import ComfyDeploy
from shared.comfydeploy.versions import Version
from shared.database import Database
from shared.errors import ConveyorError, InvalidInput, Unavailable, WorkflowNotFound
from shared.inputs import check
from shared.jobs.request import JobRequest
from shared.jobs.store import Target
from shared.limits.bucket import TokenBucket
from shared.metrics import CATALOG_LOOKUPS
from shared.settings import Settings

#: A name that is not in a copy younger than this is not asked for again.
RECHECK_SECONDS = 10.0
#: A name that was asked for in vain is not asked for again so soon, whatever the age of the copy.
NEGATIVE_SECONDS = 60.0
MOST_NEGATIVES = 1000

#: What can be forgotten: deployments and workflows are read together.
Kind = Literal["deployments", "workflows", "machines"]


class Catalog:
    """The deployments of our API key. Belongs to one event loop.

    Without a client (a producer without a key) it only reads what others wrote. Close it before the client.
    """

    def __init__(
        self, database: Database, settings: Settings, bucket: TokenBucket, client: ComfyDeploy | None = None
    ) -> None:
        self._db = database
        self._factor = settings.machine_window_factor
        upstream = Upstream(client, bucket) if client else None
        self._listing = Part[tuple[Listing, Index]](
            "deployments",
            database,
            Shelf(
                database,
                "catalog",
                DEPLOYMENTS_SECONDS,
                lambda stored: _indexed(Listing.of(stored)),
                lambda value: value[0].stored(),
            ),
            partial(_read_listing, upstream) if upstream else None,
        )
        self._machines = Part[Machines](
            "machines",
            database,
            Shelf(database, "catalog:machines", MACHINES_SECONDS, machines_of, stored_machines),
            partial(self._read_machines, upstream) if upstream else None,
            # Without it a job runs all the same; only its window may be another.
            first_wait_seconds=FORGOTTEN_WAIT_SECONDS,
        )
        self._versions = Versions(database, bucket, client)
        #: What was asked for in vain -> until when (monotonic seconds) it is not asked for again.
        self._negatives: OrderedDict[tuple[str, ...], float] = OrderedDict()
        self._learned: set[tuple[str, str]] = set()

    # -- for jobs -----------------------------------------------------------------------------------------------

    async def resolve(self, request: JobRequest) -> Target:
        """What to submit, whom to follow, and whose window it counts in. No round trip as a rule, one now and then.

        Raises `WorkflowNotFound` with suggestions when the name is certainly unknown, and `InvalidInput` with the
        candidates when it can mean several. Without any copy the parts that are not known stay empty.
        """
        seen = await self._listing.get()
        entry = None
        with contextlib.suppress(InvalidInput):  # what can mean several is asked for again, too, before it is refused
            entry = _find(seen, request)
        if entry is None and (workflow_id := await self._workflow_of(request.deployment_id)):
            return Target(deployment_id=request.deployment_id or "", workflow_id=workflow_id)
        if entry is None:
            wanted = (request.deployment_id or "", request.workflow or "", request.environment or "")
            seen = await self._again(seen, wanted)
            entry = _find(seen, request)
        if entry is not None:
            limit = max(1, round(await self._concurrency(entry) * self._factor)) if entry.pool else 0
            return Target(entry.deployment_id, entry.workflow_id, entry.pool, limit)
        if request.deployment_id or seen.freshness is not Freshness.FRESH:
            # Deployments shared by others are not listed, but may be run; and an old copy may not know a new name.
            return Target(deployment_id=request.deployment_id or "")
        message = _copy(seen).unknown(request.workflow or "", request.environment)
        raise WorkflowNotFound(message, user_message=message)

    async def checked(self, request: JobRequest) -> JobRequest:
        """The request with its inputs as they will be sent: `"12"` is 12 where a number is wanted.

        Raises `InvalidInput` with everything that is wrong. What an author changed a moment ago is read again before
        somebody is refused, and a copy that cannot be renewed refuses nobody. No round trip as a rule, see `resolve`.
        """
        seen = await self._listing.get()
        entry = _find(seen, request)
        inputs, problems = check(entry.signature if entry else None, request.inputs)
        if problems and entry is not None:
            seen = await self._again(seen, ("inputs", entry.deployment_id))
            entry = _find(seen, request)
            inputs, problems = check(entry.signature if entry else None, request.inputs)
            if problems and (seen.freshness is not Freshness.FRESH or (entry and entry.kept_from)):
                return request
        if problems:
            raise InvalidInput(problems)
        return request.model_copy(update={"inputs": inputs})

    async def learn(self, deployment_id: str, workflow_id: str) -> None:
        """Remember whose run an unlisted deployment's was, so that its next runs can be listed. A repeat changes nothing."""
        if (deployment_id, workflow_id) not in self._learned:
            with self._db.asking():
                await self._db.redis.hset(self._db.keys.workflows, deployment_id, workflow_id)
            self._learned.add((deployment_id, workflow_id))

    # -- for people ---------------------------------------------------------------------------------------------

    async def copy(self) -> Copy | None:
        """What can be run, however old up to a day; waits only when there is nothing, or when it is known to be outdated.

        None when nothing is known and the API does not tell in time. Raises `Unavailable` when Redis is away.
        """
        with self._db.asking():
            seen = await self._listing.get()
        return _copy(seen) if seen.held else None

    async def refresh(self) -> Copy:
        """Read deployments, workflows and machines anew, past all copies; who asks at the same time shares the answer.

        Raises what the API raises, and `Unavailable`, also without a client; then the copies are as they were. Machines
        that could not be read keep their limits, and that is logged.
        """
        with self._db.asking():
            seen = await self._listing.refresh()
            with contextlib.suppress(ConveyorError):
                await self._machines.refresh()
        return _copy(seen)

    async def version(self, version_id: str) -> Version:
        """One version of a workflow with its graphs, as `Versions.get`."""
        with self._db.asking():
            return await self._versions.get(version_id)

    async def forget(self, *kinds: Kind) -> None:
        """We, or somebody who tells us, changed what the catalog is a copy of; without kinds, anything. One round trip.

        No copy is thrown away. Every process knows within a second that its copy is outdated; who asks then waits some
        seconds for a new one, and gets the outdated when there is none. A repeat costs another reading. Raises
        `Unavailable`: then tell it again.
        """
        parts = {"deployments": "catalog", "workflows": "catalog", "machines": "catalog:machines"}
        named = dict.fromkeys(parts[kind] for kind in kinds or parts)
        await self._db.run("forget", round(NOTE_SECONDS * 1000), *named)
        self._listing.doubt()
        self._machines.doubt()

    async def warm(self) -> None:
        """Keep the copies fresh for everybody; what a worker's upkeep calls. 2 round trips, and nothing is waited for."""
        with self._db.asking():
            await self._listing.warm()
            if (await self._listing.peek()).held is not None:  # it says which machines
                await self._machines.warm()

    async def aclose(self) -> None:
        """Give up what is being read. Closing twice is fine."""
        await self._listing.aclose()
        await self._machines.aclose()
        await self._versions.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # -- inside -------------------------------------------------------------------------------------------------

    async def _again(self, seen: Seen[tuple[Listing, Index]], wanted: tuple[str, ...]) -> Seen[tuple[Listing, Index]]:
        """What there is after asking the API for something that the copy does not have; the same, if that was done lately."""
        now = time.monotonic()
        if self._negatives.get(wanted, 0.0) > now:
            CATALOG_LOOKUPS.labels("deployments", "negative").inc()
            return seen
        if seen.held is None or seen.age_seconds <= RECHECK_SECONDS:
            return seen
        found = await self._listing.newer(seen, wait_seconds=FIRST_WAIT_SECONDS)
        if found.held is not None and found.held.read_at > seen.held.read_at:
            self._negatives[wanted] = now + NEGATIVE_SECONDS
            while len(self._negatives) > MOST_NEGATIVES:
                self._negatives.popitem(last=False)
        return found

    async def _concurrency(self, entry: Entry) -> int:
        """How many of a pool's runs are carried out at once."""
        if entry.pool == entry.deployment_id:
            return entry.concurrency
        seen, listing = await self._machines.get(), await self._listing.peek()
        if (
            seen.held
            and listing.held
            and entry.pool not in seen.held.value
            and seen.held.read_at < listing.held.read_at
        ):
            # New since the machines were read.
            seen = await self._machines.newer(seen, wait_seconds=FORGOTTEN_WAIT_SECONDS)
        machine = seen.held.value.get(entry.pool) if seen.held else None
        return machine.concurrency if machine else entry.concurrency

    async def _workflow_of(self, deployment_id: str | None) -> str:
        if deployment_id is None:
            return ""
        with self._db.asking():
            return str(await self._db.redis.hget(self._db.keys.workflows, deployment_id) or "")

    async def _read_machines(self, upstream: Upstream, seen: Seen[Machines]) -> Machines:
        listing = await self._listing.peek()
        if listing.held is None:
            raise Unavailable("Which machines are used is not known yet.")
        used = {entry.pool for entry in listing.held.value[0].entries if entry.pool not in ("", entry.deployment_id)}
        return await upstream.machines(used, seen.held.value if seen.held else {})


async def _read_listing(upstream: Upstream, seen: Seen[tuple[Listing, Index]]) -> tuple[Listing, Index]:
    before, read_at = (seen.held.value[0], seen.held.read_at) if seen.held else (None, 0.0)
    return _indexed(await upstream.listing(before, read_at))


def _indexed(listing: Listing) -> tuple[Listing, Index]:
    return listing, Index(listing.entries, listing.workflows)


def _find(seen: Seen[tuple[Listing, Index]], request: JobRequest) -> Entry | None:
    return _copy(seen).find(request) if seen.held else None


def _copy(seen: Seen[tuple[Listing, Index]]) -> Copy:
    listing, index = seen.held.value if seen.held else _indexed(Listing())
    return Copy(listing, index, seen.age_seconds, seen.freshness is not Freshness.FRESH, seen.trouble)
