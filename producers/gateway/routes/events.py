"""Live events, as Server-Sent Events: of one job until it ends, or of all jobs of a user."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Response

from producers.gateway.access import Known
from producers.gateway.inside import Here
from producers.gateway.problems import invalid, responses
from producers.gateway.routes.jobs import JobId, own_job
from producers.gateway.stream import EventStream

router = APIRouter(prefix="/v1", tags=["events"])

LAST = "Also taken from the query as `last_event_id`: a browser's EventSource cannot set headers at its first call."

_EXAMPLE = """retry: 1000

event: job.queued
id: 1
data: {"schema":"conveyor.event/1","type":"job.queued","job_id":"01a1fb52-f096-76b3-915b-49e82266f9cd","seq":1,"at":"2026-11-20T23:58:29.256Z","state":"queued","final":false,"run_id":null,"frontend":"web","workflow":"SDXL Portrait","user":{"id":"42","name":null,"tier":null},"context":{},"meta":{},"progress":null,"queue":{"position":1,"ahead":0,"eta_seconds":null},"result":null,"error":null,"timing":null}

: still here

"""

_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A stream of events; `data` of each is an event as in `docs/schemas/event.json`. A comment comes "
        "after 15 silent seconds.",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
    }
}
_SEQ = r"^\d{1,15}$"
_PLACE = r"^\d{1,15}(-\d{1,15})?$"


@router.get(
    "/jobs/{job_id}/events",
    summary="Follow a job",
    response_class=Response,
    responses={
        **_STREAM,
        204: {"description": "The job has ended, and the client knows it: an EventSource stops coming back."},
        **responses(401, 403, 404, 422, 429, 503),
    },
)
async def follow(
    job_id: JobId,
    caller: Known,
    here: Here,
    last_event_id: Annotated[
        str | None, Header(description=f"The `seq` that was heard last. {LAST}", pattern=_SEQ)
    ] = None,
    last: Annotated[str | None, Query(alias="last_event_id", pattern=_SEQ)] = None,
) -> Response:
    """Every event of a job, past ones first, up to the final one; then the stream ends.

    After a lost connection go on with `Last-Event-ID`: no event is missing, none comes twice. A client that does not read
    is cut off, and can go on in the same way.
    """
    heard = int(last_event_id or last or 0)
    listener = await here.feed.listen_to_job(job_id)
    try:
        job = await own_job(here, caller, job_id)
    except BaseException:
        here.feed.leave(listener)
        raise
    if job.final and job.seq == heard:
        here.feed.leave(listener)
        return Response(status_code=204)
    return EventStream(here.teller.job(job, listener, heard), listener, here.feed)


@router.get(
    "/users/{user:path}/events",
    summary="Follow a user",
    response_class=Response,
    responses={**_STREAM, **responses(401, 403, 404, 422, 429, 503)},
)
async def follow_user(
    user: Annotated[str, Path(min_length=1, max_length=128, description="As in `user.id`.", examples=["42"])],
    caller: Known,
    here: Here,
    last_event_id: Annotated[
        str | None, Header(description=f"The `id` that was heard last. {LAST}", pattern=_PLACE)
    ] = None,
    last: Annotated[str | None, Query(alias="last_event_id", pattern=_PLACE)] = None,
) -> Response:
    """Every event of every job of a user, from now on or from `Last-Event-ID` on; ends only when the client goes.

    To know the present first: `GET /v1/jobs?user=…`, then come here with its `last_event_id`. Events may be told twice in
    between; `(job_id, seq)` names an event. An event `stream.gap` says that what you asked for is partly gone.
    """
    heard = last_event_id or last
    if heard is not None and "-" not in heard:
        heard = f"{heard}-0"
    if not user.isprintable():
        raise invalid(("user", "contains control characters or line breaks"))
    listener = await here.feed.listen_to_user(caller.frontend, user)
    return EventStream(here.teller.user(caller.frontend, user, listener, heard), listener, here.feed)
