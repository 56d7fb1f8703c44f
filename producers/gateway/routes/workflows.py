"""What can be run?"""

from typing import Annotated

from fastapi import APIRouter, Path

from producers.gateway.access import Known
from producers.gateway.inside import Here
from producers.gateway.models import WorkflowForm, WorkflowForms, WorkflowList, WorkflowView
from producers.gateway.problems import not_found, responses

router = APIRouter(prefix="/v1", tags=["workflows"])


@router.get("/workflows", summary="What can be run", responses=responses(401, 403, 429, 503))
async def workflows(_caller: Known, here: Here) -> WorkflowList:
    """Every deployment of ours, with its inputs. A copy, kept fresh by the workers; it says how old it is."""
    copy = await here.producer.workflows()
    return WorkflowList(
        workflows=[WorkflowView.of(entry) for entry in copy.entries],
        age_seconds=round(copy.age_seconds, 1),
        stale=copy.stale,
        warnings=copy.warnings,
    )


@router.get("/workflows/{name:path}", summary="One workflow", responses=responses(401, 403, 404, 422, 429, 503))
async def workflow(
    name: Annotated[str, Path(min_length=1, max_length=200, examples=["SDXL Portrait"])], _caller: Known, here: Here
) -> WorkflowForms:
    """The deployments of one workflow, by its name (case, spaces and punctuation do not matter) or a deployment's id.

    Each with a JSON Schema of its inputs, to build a form from.
    """
    copy = await here.producer.workflows()
    found = copy.named(name)
    if not found:
        raise not_found("workflow")
    return WorkflowForms(
        workflows=[WorkflowForm.of(entry) for entry in found],
        age_seconds=round(copy.age_seconds, 1),
        stale=copy.stale,
        warnings=copy.warnings,
    )
