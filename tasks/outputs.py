"""What did a run make? Every output group the API knows, unknown groups as files, none dropped.

The medium is judged by the file, not by the group, since the API puts videos, audio and archives all into `files` (CONTRACT
section 8): by the content type when the node told one, then by the name's ending, and only then by the group.

What is understood and no output: the flags `animated: [true]` beside a node's pictures, which say that these move; and
previews (`type: temp`) without an address, which lie on a machine that is gone. The latter are counted and logged.
"""

import json
import logging
import mimetypes
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import PurePosixPath

from shared.comfydeploy import Item, MediaItem, Run, RunOutput
from shared.jobs.event import Output, OutputKind
from shared.media.addresses import expires_at, last_part
from shared.metrics import OUTPUTS

log = logging.getLogger(__name__)

#: A presigned address lives an hour from the read that made it, unless it says otherwise.
PRESIGNED = timedelta(hours=1)
#: A little less, so that nobody comes too late.
MARGIN = timedelta(seconds=60)

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
#: Types that say nothing of what a file is.
_ANY = frozenset({"application/octet-stream", "binary/octet-stream"})


def outputs_of(run: Run, *, read_at: datetime) -> list[Output]:
    """The outputs of a run, in an order that is the same at every read (the API promises none).

    A row that is added later comes after those of its node, so that it changes no key.
    """
    outputs = []
    nodes = sorted(
        run.outputs,
        key=lambda output: (output.node_id or "", output.output_id or "", output.created_at or "", output.id or ""),
    )
    seen: dict[tuple[str, str], int] = {}
    for node in nodes:
        place = _clean(node.node_id or node.output_id or "-")
        for group, item, moves in _items(node):
            if isinstance(item, dict) and _is_preview(item):
                OUTPUTS.labels("left_out").inc()
                log.warning("preview left out", extra={"run_id": run.id, "node": place, "group": group})
                continue
            # Nodes within subgraphs have a colon in their ids; a group without one keeps keys apart.
            group_of_key = _clean(group).replace(":", "_")
            n = seen.get((place, group_of_key), 0)
            seen[place, group_of_key] = n + 1
            output = _media(group, item, read_at, moves=moves) if isinstance(item, MediaItem) else _text(item)
            facts = {"key": f"{place}:{group_of_key}:{n}", "node_id": node.node_id, "output_id": node.output_id}
            outputs.append(output.model_copy(update={name: fact and _clean(fact) for name, fact in facts.items()}))
    return outputs


def _items(node: RunOutput) -> Iterator[tuple[str, Item, bool]]:
    """Group, item, and whether the node said that its pictures move."""
    flags = node.data.get("animated", [])
    pictures = any(isinstance(item, MediaItem) for item in node.data.get("images", []))
    said = pictures and bool(flags) and all(isinstance(flag, bool) for flag in flags)
    for group, items in sorted(node.data.items()):
        if said and group == "animated":
            continue
        for place, item in enumerate(items):
            # One flag stands for all pictures, or there is one for each.
            moves = said and group == "images" and bool(flags[place] if len(flags) == len(items) else flags[0])
            yield group, item, moves


def _is_preview(item: dict[str, object]) -> bool:
    return item.get("type") == "temp" and "filename" in item


def _text(item: Item) -> Output:
    text = item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)
    return Output(key="", kind="text", text=_clean(text))


def _media(group: str, item: MediaItem, read_at: datetime, *, moves: bool) -> Output:
    embedded = item.url.startswith("data:")
    name = _clean(item.filename or ("" if embedded else last_part(item.url)))
    ending = PurePosixPath(name).suffix.lower()
    by_name = _TYPES.get(ending) or mimetypes.guess_type(name)[0]
    told = item.content_type or (item.url[len("data:") :].partition(",")[0] if embedded else "")
    told = told.partition(";")[0].strip().lower()
    if told in _ANY or "/" not in told or not told.isascii():
        told = ""
    return Output(
        key="",
        kind=_kind(group, ending, told or by_name, item.format or "", moves=moves),
        url=_clean(item.url),
        url_expires_at=_end(item, read_at),
        filename=name or None,
        content_type=told or by_name,
        size=item.size if item.size is not None and item.size >= 0 else None,
    )


def _end(item: MediaItem, read_at: datetime) -> datetime | None:
    """When the address ends: as its signature says, or an hour after it was made."""
    end = expires_at(item.url) or (read_at + PRESIGNED if item.is_public is False else None)
    try:
        return end and end - MARGIN
    except OverflowError:  # of the year 1
        return end


def _kind(group: str, ending: str, content_type: str | None, form: str, *, moves: bool) -> OutputKind:
    if ending in _MODEL_ENDINGS:
        return "model"
    # `video/h264-mp4` is no content type, but its first word is true.
    medium = (content_type or form).partition("/")[0].lower()
    if content_type == "image/gif" or (medium == "image" and (moves or group in ("gifs", "animated"))):
        return "animation"
    by_type = _TOP_LEVEL.get(medium)
    return by_type or ("file" if content_type else _GROUP_KINDS.get(group, "file"))


def _clean(text: str) -> str:
    """Without halves of characters, which JSON can hold and no UTF-8 can."""
    return text.encode(errors="replace").decode()
