"""What does the catalog say to a request, before anything is written? Resolved, its inputs checked, and in which lanes it waits.

Long jobs have lanes and a window of their own beside those of their machine. A training holds its place for hours: among
pictures a few of them would fill the machine's window, and nobody's picture would leave its lane until one has ended. On a
machine that only one workflow uses, long jobs may have every container; on one that is shared, half of them
(docs/decisions/0017).

Read next: `shared/jobs/lanes.py`.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from shared.errors import InvalidInput, Problem
from shared.jobs.request import JobRequest
from shared.jobs.store import Target

if TYPE_CHECKING:
    from shared.catalog import Copy
    from shared.comfydeploy.versions import Version

#: Who allows a run more than this asks for a long job.
LONG_RUN_SECONDS = 1800
#: What the lanes of a machine's long jobs are called after the machine.
LONG = "/long"
#: Containers of a machine nobody knows (CONTRACT section 15).
USUAL_CONTAINERS = 2


class Resolves(Protocol):
    """What knows the workflows: `shared.catalog.Catalog`, or a test's stand-in."""

    async def resolve(self, request: JobRequest) -> Target: ...
    async def checked(self, request: JobRequest) -> JobRequest: ...
    async def copy(self) -> "Copy | None": ...
    async def refresh(self) -> "Copy": ...
    async def version(self, version_id: str) -> "Version": ...


async def admitted(
    catalog: Resolves, requests: list[JobRequest], *, factor: float, validate: bool, many: bool
) -> list[tuple[JobRequest, Target]]:
    """The requests with their inputs as they will be sent, and what each stands for.

    `factor` is by how much a machine's window is larger than its containers. Raises `WorkflowNotFound`, and `InvalidInput`
    with the problems of all, with the place of each request when there are `many`.
    """
    accepted, problems = list[tuple[JobRequest, Target]](), list[Problem]()
    for place, request in enumerate(requests):
        try:
            target = await catalog.resolve(request)
            # What could not be resolved is not known to the catalog: no use asking it once more.
            asked = await catalog.checked(request) if validate and target.workflow_id else request
        except InvalidInput as error:
            problems += error.at(place) if many else error.problems
            continue
        if request.run_timeout_seconds > LONG_RUN_SECONDS:
            target = _among_long(target, await catalog.copy(), factor)
        accepted.append((asked, target))
    if problems:
        raise InvalidInput(problems)
    return accepted


def _among_long(target: Target, copy: "Copy | None", factor: float) -> Target:
    """The same among the long jobs of its machine."""
    containers = max(1, round(target.pool_limit / factor)) if target.pool_limit else USUAL_CONTAINERS
    beside = (entry for entry in copy.entries if entry.pool == target.pool) if copy and target.pool else ()
    if any(entry.workflow_id != target.workflow_id for entry in beside):
        containers = max(1, containers // 2)
    return replace(target, pool=f"{target.pool}{LONG}", pool_limit=containers)
