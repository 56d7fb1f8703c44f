"""How is the catalog read from the API? A token of class `catalog` for each call.

Two calls for all deployments, one for each hundred workflows. One enum that an author left broken makes the API answer the
whole listing of deployments with 500 (CONTRACT section 15): then each workflow is asked for its own, the broken one keeps
what was known of it, and the copy says so.

A machine's limit is told only by the machine itself. The listing of machines, one call a hundred, tells which were changed,
and only those are asked; every one after ten minutes all the same, since that a change is always told is not proven.
"""

import asyncio
import logging
import time
from collections.abc import Iterable

from shared.catalog.entries import DEFAULT_CONCURRENCY, Entry, Listing, Machine, Machines
from shared.comfydeploy import ComfyDeploy
from shared.comfydeploy.deployments import Deployment
from shared.comfydeploy.workflows import Workflow
from shared.errors import ConveyorError, GiveUp, TryLater, Unavailable
from shared.inputs import signature_of
from shared.limits.bucket import TokenBucket

log = logging.getLogger(__name__)

PAGE = 100
#: More pages than anybody has; a listing that never ends must end.
MOST_PAGES = 200

#: When so many workflows in a row cannot be read, and none could, it is the API that is in trouble and not an enum.
TROUBLE = 3

#: Machines asked at once.
MOST_AT_ONCE = 8
#: A machine's limit is asked for again after so long, changed or not.
MACHINE_SECONDS = 600.0


class Upstream:
    """Reads what the catalog keeps. Raises what the client raises; a copy is whole, or there is none."""

    def __init__(self, client: ComfyDeploy, bucket: TokenBucket) -> None:
        self._client, self._bucket = client, bucket

    async def listing(self, before: Listing | None, before_read_at: float) -> Listing:
        """Every deployment. 3 calls as a rule; with a broken enum about one more for each workflow."""
        workflows, deployments = await asyncio.gather(self._workflows(), self._deployments(), return_exceptions=True)
        if isinstance(workflows, BaseException):
            raise workflows
        if isinstance(deployments, Unavailable) and deployments.upstream_status == 500 and workflows:
            trouble = {"error": str(deployments)}
            log.warning("deployments cannot be listed, workflows are asked one by one", extra=trouble)
            return await self._one_by_one(workflows, before or Listing(), before_read_at, deployments)
        if isinstance(deployments, BaseException):
            raise deployments
        return Listing(_entries(deployments), {one.id: one.name or "" for one in workflows})

    async def machines(self, wanted: Iterable[str], before: Machines) -> Machines:
        """The machines of these ids. 1 call, and one for each that was changed."""
        wanted = sorted(set(wanted))
        if not wanted:
            return {}
        changed: dict[str, str] = {}
        for page in range(MOST_PAGES):
            async with self._bucket.call("catalog"):
                found = await self._client.machines.list(limit=PAGE, offset=page * PAGE)
            changed |= {one.id: str(one.updated_at) for one in found}
            if len(found) < PAGE or changed.keys() >= set(wanted):
                break
        at_once = asyncio.Semaphore(MOST_AT_ONCE)

        async def read(machine_id: str) -> Machine | None:
            # A deleted one is not listed, but may still be read, and run on.
            async with at_once:
                return await self._machine(machine_id, changed.get(machine_id, ""), before.get(machine_id))

        read_ones = await asyncio.gather(*(read(machine_id) for machine_id in wanted))
        return {key: one for key, one in zip(wanted, read_ones, strict=True) if one}

    async def _machine(self, machine_id: str, mark: str, known: Machine | None) -> Machine | None:
        """One machine as it is now; as it was when it cannot be read, None when nothing is known."""
        if known is not None and known.changed == mark and 0 <= time.time() - known.read_at < MACHINE_SECONDS:
            return known
        try:
            async with self._bucket.call("catalog"):
                one = await self._client.machines.get(machine_id)
        except TryLater:
            raise
        except ConveyorError as error:
            log.warning("a machine could not be read", extra={"machine": machine_id, "error": str(error)})
            return known
        return Machine(one.name or "", one.concurrency_limit or DEFAULT_CONCURRENCY, mark, time.time())

    async def _deployments(self) -> tuple[Deployment, ...]:
        await self._bucket.take("catalog")  # the listing is two calls
        async with self._bucket.call("catalog"):
            return await self._client.deployments.list()

    async def _workflows(self) -> list[Workflow]:
        """All workflows; none when the key may not list them, which alone is no reason to do without deployments."""
        workflows: list[Workflow] = []
        try:
            for page in range(MOST_PAGES):
                async with self._bucket.call("catalog"):
                    found = await self._client.workflows.list(limit=PAGE, offset=page * PAGE)
                workflows += found
                if len(found) < PAGE:
                    break
        except TryLater:
            raise
        except ConveyorError as error:
            log.warning("workflows cannot be listed", extra={"error": str(error)})
        return workflows

    async def _one_by_one(
        self, workflows: list[Workflow], before: Listing, before_read_at: float, trouble: Unavailable
    ) -> Listing:
        deployments: list[Deployment] = []
        broken: list[Workflow] = []
        for one in workflows:
            try:
                found = await self._of_workflow(one)
            except Unavailable as error:
                if error.upstream_status is not None:
                    raise
                # After a crash the API closes the connection, and a call that was sent into it is lost.
                found = await self._of_workflow(one)
            if found is None:
                broken.append(one)
                if len(broken) >= TROUBLE and not deployments:
                    raise trouble
            else:
                deployments += found
        kept = [entry for entry in before.entries if entry.workflow_id in {one.id for one in broken}]
        warnings = []
        for one in broken:
            log.warning("a workflow cannot be read", extra={"workflow_id": one.id, "workflow": one.name})
            known = (
                "what was known of it before is kept"
                if any(e.workflow_id == one.id for e in kept)
                else "it is left out"
            )
            warnings.append(
                f"The API cannot list the deployments of {one.name!r} (is there an enum whose options are no list?): {known}."
            )
        entries = (*_entries(deployments), *(_kept(entry, before_read_at) for entry in kept))
        return Listing(entries, {one.id: one.name or "" for one in workflows}, tuple(warnings))

    async def _of_workflow(self, one: Workflow) -> tuple[Deployment, ...] | None:
        """One workflow's deployments; None when they cannot be listed."""
        async with self._bucket.call("catalog"):
            try:
                return await self._client.deployments.list_by_workflow(one.id)
            except Unavailable as error:
                if error.upstream_status != 500:
                    raise
                # It answers: this is no trouble of the API, and several broken workflows must not close the budget.
                return None
            except GiveUp:
                return ()


def _kept(entry: Entry, read_at: float) -> Entry:
    plain = {name: getattr(entry, name) for name in Entry.__dataclass_fields__}
    return Entry(**(plain | {"kept_from": entry.kept_from or read_at}))


def _entries(deployments: Iterable[Deployment]) -> tuple[Entry, ...]:
    """Deployments without a name cannot be asked for, nor followed without a workflow."""
    return tuple(
        Entry(
            deployment_id=one.id,
            workflow_id=one.workflow_id,
            name=one.workflow_name,
            environment=one.environment or "",
            # A deployment with an image of its own (fluid) has containers, and a limit, of its own.
            pool=one.id if one.is_fluid else one.machine_id or "",
            concurrency=(one.concurrency_limit if one.is_fluid else None) or DEFAULT_CONCURRENCY,
            description=one.description,
            signature=signature_of(one.input_types, one.workflow_api, one.workflow),
            version_id=one.workflow_version_id,
            version=one.version,
        )
        for one in deployments
        if one.workflow_id and one.workflow_name
    )
