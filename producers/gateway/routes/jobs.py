"""Put jobs in, ask about them, end them."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic_core import from_json

from producers.gateway.access import Caller, Known
from producers.gateway.inside import Here, Inside
from producers.gateway.models import Accepted, CancelAnswer, JobList, JobView
from producers.gateway.problems import Refused, invalid, not_found, responses
from producers.listing import jobs_of
from shared.errors import InvalidInput, Problem
from shared.jobs.record import Job
from shared.jobs.request import JobRequest
from shared.jobs.states import JobState

router = APIRouter(prefix="/v1", tags=["jobs"])

JobId = Annotated[
    str, Path(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", examples=["01a1fb52-f096-76b3-915b-49e82266f9cd"])
]
#: As `JobRequest.user.id` allows: one line.
UserId = Annotated[str, Query(min_length=1, max_length=128, description="As in `user.id`.", examples=["42"])]

EXAMPLE = {
    "workflow": "SDXL Portrait",
    "user": {"id": "42", "name": "Ada"},
    "inputs": {"prompt": "a fox in the snow"},
    "context": {"chat_id": "1001"},
    "progress": True,
}

#: The body is read by `JobRequest.read`, the same for every front door; here is what it is, for the OpenAPI.
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/JobRequest"}, "example": EXAMPLE},
        },
    }
}


@router.post(
    "/jobs",
    status_code=202,
    summary="Put a job in",
    responses={
        **responses(401, 403, 408, 413, 415, 422, 429, 503),
        202: {"headers": {"Location": {"description": "The job.", "schema": {"type": "string"}}}},
    },
    openapi_extra=_BODY,
)
async def enqueue(
    request: Request,
    response: Response,
    caller: Known,
    here: Here,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="The same key answers the same job for 24 hours. Also taken as `idempotency_key` in the body."
        ),
    ] = None,
) -> Accepted:
    """Check everything, then accept the job: from here on it will end, with one final event.

    A refused request names every field that is wrong and leaves nothing behind. With an idempotency key the request may be
    repeated after a lost answer.
    """
    asked = _asked(await body_of(request), caller, idempotency_key)
    job = await here.producer.enqueue(asked, traceparent=request.headers.get("traceparent", ""))
    url = f"/v1/jobs/{job.id}"
    response.headers["Location"] = url
    return Accepted(job_id=job.id, created=job.created, url=url, events_url=f"{url}/events")


async def body_of(request: Request) -> dict[str, Any]:
    """The body as an object; by hand, so that every refusal is a problem document that names what is wrong."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, "unsupported_media_type", "Send it as `application/json`.")
    try:
        body = from_json(await request.body(), allow_inf_nan=False)
    except ValueError as error:
        raise invalid(("request", f"is not JSON: {error}")) from None
    if not isinstance(body, dict):
        raise invalid(("request", "is not an object"))
    return body


def _asked(body: dict[str, Any], caller: Caller, key: str | None) -> JobRequest:
    """The request, for the caller's frontend. Raises `InvalidInput` with everything that is wrong."""
    problems = []
    if body.get("frontend") not in (None, caller.frontend):
        problems.append(Problem("frontend", f"this key is for the frontend {caller.frontend!r}; it may be left out"))
    if key is not None:
        if body.get("idempotency_key") not in (None, key):
            problems.append(Problem("idempotency_key", "is not the one in the header Idempotency-Key"))
        body = body | {"idempotency_key": key}
    try:
        asked = JobRequest.read(body | {"frontend": caller.frontend})
    except InvalidInput as error:
        raise InvalidInput([*problems, *error.problems]) from None
    if problems:
        raise InvalidInput(problems)
    return asked


@router.get("/jobs/{job_id}", summary="A job as it is now", responses=responses(401, 403, 404, 422, 429, 503))
async def status(job_id: JobId, caller: Known, here: Here) -> JobView:
    """The job, where it waits, how far it is, and what it made. Kept for a day after its end."""
    found = await here.producer.status(job_id)
    if found.job.request.frontend != caller.frontend:
        raise not_found("job")
    return JobView.of_status(found)


@router.get("/jobs", summary="A user's jobs", responses=responses(401, 403, 422, 429, 503))
async def listing(  # noqa: PLR0917 - the query's parameters, called by name
    caller: Known,
    here: Here,
    user: UserId,
    state: Annotated[list[JobState] | None, Query(description="Only jobs in one of these states.")] = None,
    cursor: Annotated[
        str | None, Query(pattern=r"^[0-9a-f-]{36}$", description="`next_cursor` of the page before.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> JobList:
    """Newest first, a page at a time. Jobs that come in meanwhile shift nothing."""
    # Before the jobs are read, so that a stream that goes on from there tells too much rather than too little.
    last = await _last_event(here, caller.frontend)
    page = await jobs_of(here.database, caller.frontend, user, states=state or (), cursor=cursor or "", limit=limit)
    return JobList(jobs=[JobView.of(job) for job in page.jobs], next_cursor=page.next_cursor, last_event_id=last)


async def _last_event(here: Inside, frontend: str) -> str:
    with here.database.asking():
        newest = await here.database.redis.xrevrange(here.database.keys.results(frontend), count=1)
    return str(newest[0][0]) if newest else "0-0"


@router.post(
    "/jobs/{job_id}/cancel",
    status_code=202,
    summary="End a job",
    responses=responses(401, 403, 404, 422, 429, 503),
)
async def cancel(job_id: JobId, caller: Known, here: Here) -> CancelAnswer:
    """Ask for a job's end; asking twice is fine. Its final event says how it ended: a run may still succeed."""
    await own_job(here, caller, job_id)
    return CancelAnswer(job_id=job_id, outcome=await here.producer.cancel(job_id))


async def own_job(here: Inside, caller: Caller, job_id: str) -> Job:
    """A job of the caller's frontend. Raises `JobNotFound`, and `Refused` (404) alike for another's."""
    job = await here.store.get(job_id)
    if job.request.frontend != caller.frontend:
        raise not_found("job")
    return job
