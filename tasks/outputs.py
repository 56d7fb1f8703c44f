"""What did a run make? Every output group the API knows, unknown groups as files, none dropped.

The medium is judged by the file's ending, not by the group: the API puts videos, audio and archives all into `files`
(CONTRACT section 8).
"""

import json
import mimetypes
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from shared.comfydeploy import Item, MediaItem, Run
from shared.jobs.event import Output, OutputKind

#: A presigned address lives an hour from the read that made it; a little less, so that nobody comes too late.
PRESIGNED = timedelta(seconds=3600 - 60)

#: Endings the standard table lacks, or names by another word on some systems.
_TYPES = {
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".exr": "image/x-exr",
    ".mkv": "video/x-matroska",
    ".flac": "audio/flac",
    ".m4a": "audio/mp4",
    ".glb": "model/gltf-binary",
    ".gltf": "model/gltf+json",
    ".obj": "model/obj",
    ".ply": "model/ply",
    ".stl": "model/stl",
    ".safetensors": "application/octet-stream",
}
_MODEL_ENDINGS = {".glb", ".gltf", ".obj", ".ply", ".stl", ".fbx", ".usdz"}
_GROUP_KINDS: dict[str, OutputKind] = {
    "images": "image",
    "gifs": "animation",
    "animated": "animation",
    "mesh": "model",
    "model_file": "model",
    "audio": "audio",
    "text": "text",
    "text_file": "text",
}
_TOP_LEVEL: dict[str, OutputKind] = {
    "image": "image",
    "video": "video",
    "audio": "audio",
    "model": "model",
    "text": "text",
}


def outputs_of(run: Run, *, read_at: datetime) -> list[Output]:
    """The outputs of a run, in an order that is the same at every read (the API promises none)."""
    outputs = []
    nodes = sorted(run.outputs, key=lambda output: (output.node_id or "", output.output_id or "", output.id or ""))
    seen: dict[tuple[str, str], int] = {}
    for node in nodes:
        place = node.node_id or node.output_id or "-"
        for group, items in sorted(node.data.items()):
            for item in items:
                n = seen.get((place, group), 0)
                seen[place, group] = n + 1
                output = _media(group, item, read_at) if isinstance(item, MediaItem) else _text(item)
                facts = {"key": f"{place}:{group}:{n}", "node_id": node.node_id, "output_id": node.output_id}
                outputs.append(output.model_copy(update=facts))
    return outputs


def _text(item: Item) -> Output:
    return Output(key="", kind="text", text=item if isinstance(item, str) else json.dumps(item))


def _media(group: str, item: MediaItem, read_at: datetime) -> Output:
    name = item.filename or PurePosixPath(unquote(urlsplit(item.url).path)).name
    ending = PurePosixPath(name).suffix.lower()
    content_type = _TYPES.get(ending) or mimetypes.guess_type(name)[0]
    return Output(
        key="",
        kind=_kind(group, ending, content_type),
        url=item.url,
        url_expires_at=read_at + PRESIGNED if item.is_public is False else None,
        filename=name or None,
        content_type=content_type,
    )


def _kind(group: str, ending: str, content_type: str | None) -> OutputKind:
    if ending in _MODEL_ENDINGS:
        return "model"
    if ending == ".gif" or (group in ("gifs", "animated") and (content_type or "").startswith("image/")):
        return "animation"
    by_type = _TOP_LEVEL.get((content_type or "").partition("/")[0])
    return by_type or ("file" if content_type else _GROUP_KINDS.get(group, "file"))
