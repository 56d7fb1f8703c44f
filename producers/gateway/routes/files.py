"""Files for inputs: through us to ComfyUI Deploy, whose key no client has."""

from fastapi import APIRouter, Request
from starlette.datastructures import UploadFile

from producers.gateway.access import Known
from producers.gateway.inside import Here
from producers.gateway.models import FileView
from producers.gateway.problems import Refused, invalid, responses
from shared.errors import Unavailable
from shared.media.kinds import HEAD_BYTES, kind_of_ending, sniff
from shared.media.names import split, type_of_name

router = APIRouter(prefix="/v1", tags=["files"])

#: What inputs are made of. The API takes more (`application/*`); nobody has asked for it yet.
_FAMILIES = ("image/", "video/", "audio/")
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

    What it is is judged by its content, and its name gets the ending that goes with it. The same content has the same
    address for hours. The address may expire after half an hour: use it at once.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Refused(415, "unsupported_media_type", "Send the file as `multipart/form-data`.")
    async with request.form(max_files=1, max_fields=8) as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise invalid(("file", "is missing: a file in the form field `file`"))
        name = _name(file.filename or "")
        if not file.size:
            raise invalid(("file", "is empty"))
        if file.size > here.settings.upload_bytes:
            raise Refused(413, "too_large", f"A file may have {here.settings.upload_bytes:,} bytes.")
        _check_kind(name, await file.read(HEAD_BYTES))
        if here.uploads is None:
            raise Unavailable("Files cannot be taken: COMFY_DEPLOY_API_KEY is not set for the gateway.")
        kept = await here.uploads.upload(file.file, name)
        return FileView(
            url=kept.url,
            file_id=kept.file_id,
            filename=kept.filename,
            content_type=kept.content_type,
            size=kept.size,
        )


def _name(given: str) -> str:
    """The file's name without folders. Raises `Refused` (422)."""
    name = given.replace("\\", "/").rpartition("/")[2].strip()[-_LONGEST_NAME:]
    if not name or not name.isprintable():
        raise invalid(("file", "has no usable name"))
    return name


def _check_kind(name: str, head: bytes) -> None:
    """Raises `Refused` (415) for what is no image, video or audio by its content and, where that says nothing, its name."""
    kind = sniff(head)
    if kind is None and kind_of_ending(split(name)[1]) is not None:
        reason = "is something else than its name says"
    else:
        content_type = kind.content_type if kind else type_of_name(name)
        if content_type.startswith(_FAMILIES) and content_type != "image/svg+xml":
            return
        reason = "is no image, video or audio"
    raise Refused(
        415, "unsupported_media_type", "Only images, videos and audio are taken.", problems=[("file", reason)]
    )
