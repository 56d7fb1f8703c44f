"""Which workflow does an operator mean? By its name, as tolerant as everywhere, or by its id."""

from dataclasses import dataclass
from uuid import UUID

from shared.catalog import Catalog
from shared.errors import InvalidInput, Problem


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow upstream; its deployments share its id."""

    id: str
    name: str


async def find_workflow(catalog: Catalog, said: str) -> Workflow:
    """The workflow of a name or an id. Raises `InvalidInput` for what is neither known nor an id. 0 or 1 round trip."""
    copy = await catalog.copy()
    entries = copy.entries if copy else ()
    found = {e.workflow_id: e.name for e in entries if e.workflow_id == said} or {
        e.workflow_id: e.name for e in (copy.named(said) if copy else [])
    }
    if len(found) > 1:
        ids = " or ".join(sorted(found))
        raise InvalidInput([Problem("workflow", f"{said!r} is the name of several: say {ids}")])
    for workflow_id, name in found.items():
        return Workflow(workflow_id, name)
    try:
        # One that is not listed for us may still have jobs waiting.
        return Workflow(str(UUID(said)), said)
    except ValueError:
        hint = copy.did_you_mean(said) if copy else " The catalog is empty: say the workflow's id."
        raise InvalidInput([Problem("workflow", f"there is no workflow {said!r}.{hint}")]) from None
