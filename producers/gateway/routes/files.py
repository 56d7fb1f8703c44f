"""Files for inputs: through us to ComfyUI Deploy, whose key no client has."""

import asyncio
import mimetypes

from fastapi import APIRouter, Request
from starlette.datastructures import UploadFile

from producers.gateway.access import Known
from producers.gateway.inside import Here
from producers.gateway.models import FileView
from producers.gateway.problems import Refused, invalid, responses
from shared.errors import Unavailable

router = APIRouter(prefix="/v1", tags=["files"])

#: What inputs are made of. The API takes more (`application/*`); nobody has asked for it yet.
_FAMILIES = ("image/", "video/", "audio/")
#: Seconds an upload waits for its turn and its token.
_TURN_SECONDS = 20.0
_LONGEST_NAME = 200

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}


@router.post(
    "/files",
    status_code=201,
    summary="Upload a file",
    responses=responses(400, 401, 403, 408, 413, 415, 422, 429, 502, 503),
    openapi_extra=_BODY,
)
async def upload(request: Request, _caller: Known, here: Here) -> FileView:
    """One image, video or audio file, in the form field `file`; its `url` goes into `inputs`.

    The type is judged by the ending of the file's name, as ComfyUI Deploy does. The address may expire after an hour: use it
    at once.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Refused(415, "unsupported_media_type", "Send the file as `multipart/form-data`.")
    async with request.form(max_files=1, max_fields=8) as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise invalid(("file", "is missing: a file in the form field `file`"))
        name, kind = _name_and_kind(file.filename or "")
        if not file.size:
            raise invalid(("file", "is empty"))
        if file.size > here.settings.upload_bytes:
            raise Refused(413, "too_large", f"A file may have {here.settings.upload_bytes:,} bytes.")
        if here.api is None:
            raise Unavailable("Files cannot be taken: COMFY_DEPLOY_API_KEY is not set for the gateway.")
        try:
            async with asyncio.timeout(_TURN_SECONDS):
                await here.uploads.acquire()
        except TimeoutError:
            raise Unavailable("Too many uploads at once.") from None
        try:
            try:
                async with asyncio.timeout(_TURN_SECONDS):
                    # A file is the beginning of a submit.
                    failures = await here.bucket.take("submit")
            except TimeoutError:
                raise Unavailable("No call of the API was free in time.") from None
            async with here.bucket.learning(failures):
                kept = await here.api.files.upload(name, await file.read(), kind)
        finally:
            here.uploads.release()
        return FileView(url=kept.url, file_id=kept.file_id, filename=name, content_type=kind, size=file.size)


def _name_and_kind(given: str) -> tuple[str, str]:
    """The file's name without folders, and its type. Raises `Refused` (415, 422)."""
    name = given.replace("\\", "/").rpartition("/")[2].strip()[-_LONGEST_NAME:]
    if not name or not name.isprintable():
        raise invalid(("file", "has no usable name"))
    kind = mimetypes.guess_type(name)[0] or ""
    if not kind.startswith(_FAMILIES) or kind == "image/svg+xml":
        raise Refused(
            415,
            "unsupported_media_type",
            "Only images, videos and audio are taken, by the ending of the file's name.",
            problems=[("file", "is no image, video or audio by its name")],
        )
    return name, kind
