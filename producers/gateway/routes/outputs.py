"""A file that a job made, under an address that does not end: from the archive, or by way of a fresh address."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse

from producers.gateway.access import Known
from producers.gateway.inside import Here, Inside
from producers.gateway.problems import not_found, responses
from producers.gateway.routes.jobs import JobId
from shared.errors import FileUnusable, GiveUp, JobNotFound
from shared.jobs.archive import Copy
from shared.jobs.event import Output
from shared.media.addresses import expires_at
from shared.media.renewal import Renewal

router = APIRouter(prefix="/v1", tags=["files"])

Key = Annotated[str, Path(min_length=1, max_length=200, description="`key` of the output.", examples=["9:images:0"])]

#: What a browser may show where it stands. Everything else it saves: a page a run made must not run as one of ours.
_SHOWN = ("image/", "video/", "audio/")
_DRAWN_BY_SCRIPTS = "image/svg+xml"

_FILE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file.", "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}},
    307: {"description": "It has no copy; here is an address of its own, which ends within the hour."},
}


@router.get(
    "/jobs/{job_id}/outputs/{key}",
    summary="A file a job made",
    response_class=Response,
    responses={**responses(401, 403, 404, 422, 429, 502, 503), **_FILE},
)
async def output(job_id: JobId, key: Key, caller: Known, here: Here) -> Response:
    """The file from the archive, for as long as that keeps it, also when the job is not known any more.

    Without a copy the answer leads to the file at the API, as long as the API has it.
    """
    frontend, run_id, outputs, copies = await _job(here, job_id)
    found = next((one for one in outputs if one.key == key), None)
    if frontend != caller.frontend or found is None:
        raise not_found("output")
    if (copy := copies.get(key)) and here.archive:
        pieces = here.archive.pieces(job_id, copy)
        try:
            first = await anext(pieces)
        except (FileUnusable, StopAsyncIteration):
            pass  # somebody has deleted it
        else:
            return StreamingResponse(_with(first, pieces), headers=_headers(found, copy), media_type=copy.content_type)
    if found.url is None and found.text is not None:
        return PlainTextResponse(found.text)
    address = await _address(here, run_id, found)
    if not address.startswith(("https://", "http://")):
        raise not_found("output")
    return RedirectResponse(address, status_code=307)


async def _job(here: Inside, job_id: str) -> tuple[str, str | None, list[Output], Mapping[str, Copy]]:
    """Whose job it is, its run, what it made, and what there are copies of."""
    try:
        job = await here.store.get(job_id)
    except JobNotFound:
        kept = await here.archive.find(job_id) if here.archive else None
        if kept is None:
            raise not_found("job") from None
        copies = {one.output.key: one.copy_ for one in kept.outputs if one.copy_}
        return kept.frontend, kept.run_id, [one.output for one in kept.outputs], copies
    outputs = job.result.outputs if job.result else []
    return job.request.frontend, job.run_id, outputs, job.archive.copies if job.archive else {}


async def _address(here: Inside, run_id: str | None, found: Output) -> str:
    """Where the API has the file now; a fresh address costs one call."""
    if found.url is None:
        raise not_found("output")
    end = expires_at(found.url) or found.url_expires_at
    if end is None or end > datetime.now(UTC):
        return found.url
    if here.api is None:
        raise not_found("output")
    api = here.api
    try:
        fresh = await Renewal(here.bucket, lambda: api, run_id)(found.url)
    except GiveUp:  # the API has forgotten the run
        fresh = None
    if fresh is None:
        raise not_found("output")
    return fresh


async def _with(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in pieces:
        yield piece


def _headers(found: Output, copy: Copy) -> dict[str, str]:
    is_shown = copy.content_type.startswith(_SHOWN) and copy.content_type != _DRAWN_BY_SCRIPTS
    name = quote(found.filename or copy.name, safe="")
    return {
        "Content-Length": str(copy.size),
        "Content-Disposition": f"{'inline' if is_shown else 'attachment'}; filename*=UTF-8''{name}",
        "ETag": f'"{copy.digest}"',
        # The same key of the same job is the same file for ever; but it is somebody's own.
        "Cache-Control": "private, max-age=86400, immutable",
    }
