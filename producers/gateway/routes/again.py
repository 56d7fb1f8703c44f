"""Ask for what an earlier job asked for, once more: what a button under a picture does."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from producers.gateway.access import Known
from producers.gateway.inside import Here
from producers.gateway.models import Accepted
from producers.gateway.problems import invalid, not_found, responses
from producers.gateway.routes.jobs import JobId, body_of
from producers.recipes import rerun
from shared.jobs.request import InputValue

router = APIRouter(prefix="/v1", tags=["jobs"])


class Changes(BaseModel):
    """What is to be different; nothing asks for the same again."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    inputs: dict[str, InputValue] = Field(
        default_factory=dict, description="Values that replace those of the first job.", examples=[{"steps": 30}]
    )
    new_seed: bool = Field(False, description="Draw another seed: a variation.")
    context: dict[str, JsonValue] | None = Field(None, description="Instead of the first job's.")
    meta: dict[str, JsonValue] | None = Field(None, description="Instead of the first job's.")


EXAMPLE = {"new_seed": True}


def _changes(body: dict[str, Any]) -> Changes:
    try:
        return Changes.model_validate(body)
    except ValidationError as error:
        raise invalid(*((".".join(map(str, one["loc"])), one["msg"]) for one in error.errors())) from None


class AcceptedAgain(Accepted):
    """Another job was taken."""

    seed: int | None = Field(description="The seed it runs with; null when it has none, or the GPU draws it.")
    inputs: dict[str, InputValue] = Field(description="As they will be sent.")


@router.post(
    "/jobs/{job_id}/rerun",
    status_code=202,
    summary="The same again, or nearly",
    responses={
        **responses(401, 403, 404, 408, 413, 415, 422, 429, 503),
        202: {"headers": {"Location": {"description": "The new job.", "schema": {"type": "string"}}}},
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Changes"}, "example": EXAMPLE}},
        }
    },
)
async def again(  # noqa: PLR0917 - called by name
    job_id: JobId,
    request: Request,
    response: Response,
    caller: Known,
    here: Here,
    idempotency_key: Annotated[
        str | None, Header(description="The same key answers the same job for 24 hours: two taps are one.")
    ] = None,
) -> AcceptedAgain:
    """A new job with the first one's inputs, seed, user and context, as far as nothing else is said.

    With the same seed the outputs are the same, unless the workflow has changed since. The first job is kept for a day.
    """
    if (await here.producer.status(job_id)).job.request.frontend != caller.frontend:
        raise not_found("job")
    changes = _changes(await body_of(request))
    told: dict[str, Any] = {"context": changes.context, "meta": changes.meta, "idempotency_key": idempotency_key}
    more = {name: value for name, value in told.items() if value is not None}
    ordered = await rerun(here.producer, job_id, inputs=changes.inputs, new_seed=changes.new_seed, **more)
    url = f"/v1/jobs/{ordered.job.id}"
    response.headers["Location"] = url
    return AcceptedAgain(
        job_id=ordered.job.id,
        created=ordered.job.created,
        url=url,
        events_url=f"{url}/events",
        seed=ordered.seed,
        inputs=ordered.inputs,
    )
