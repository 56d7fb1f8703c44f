"""What did a run produce, without losing anything the API reported?

`outputs` holds one element per output-producing node; its `data` maps a kind (`images`, `files`, `text`, …) to items.
The kind is the node's habit, not the medium: judge the medium by the file (CONTRACT section 8). Webhooks carry the raw form
of the same, older servers and ComfyUI itself other forms still, so this is the parser for all; it raises nothing and drops
only nulls. Read as outputs, too:

* `outputs` as an object: node -> data, as ComfyUI's own history has it; or a single row;
* a row that is data itself, a file itself, or a bare address;
* in the place of a list of items: one item, or a list of lists;
* in the place of a file: its bare address, unless the kind is one of texts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from shared.comfydeploy.values import flag, mapping, number, whole, word


@dataclass(frozen=True, slots=True)
class MediaItem:
    """One file a node produced."""

    #: Where to fetch it. Presigned for one hour when `is_public` is false: never store it, read the run again.
    url: str
    #: `output`, or `temp` for previews (those appear in webhooks only).
    type: str | None = None
    filename: str | None = None
    is_public: bool | None = None
    subfolder: str | None = None
    #: Webhooks only, for example `video/h264-mp4`: a medium, and what ComfyUI calls its form.
    format: str | None = None
    #: Nobody was seen to send it yet.
    content_type: str | None = None
    #: Bytes; the same.
    size: int | None = None
    frame_rate: float | None = None


#: Kinds whose items are texts, also when they look like addresses.
_TEXTS = frozenset({"text", "text_file", "string", "error"})
#: What a row has beside its data.
_ABOUT = frozenset({"id", "output_id", "run_id", "node_meta", "node_id", "type", "created_at", "updated_at"})
#: Lists in lists beyond this stay as they are.
_DEEPEST = 4

#: A file, or whatever else a node reported: a text, a boolean, a number, an error object.
Item = MediaItem | str | bool | int | float | dict[str, Any] | list[Any]


@dataclass(frozen=True, slots=True)
class RunOutput:
    """What one node produced."""

    #: The row's id; None in what a webhook of a cancel may carry.
    id: str | None
    #: The name the workflow's author gave the node.
    output_id: str | None
    #: The node in the graph, from `node_meta`: the field `node_id` itself is always null.
    node_id: str | None
    node_class: str | None
    #: Kind -> items, in the API's order.
    data: dict[str, list[Item]]
    #: When the row was written, as the API spells it: what was there first stays first.
    created_at: str | None = None


def run_outputs(value: object) -> tuple[RunOutput, ...]:
    """Read the `outputs` of a run or of a webhook. Nothing, and what can hold no output, is none."""
    match value:
        case list():
            return tuple(_output(row) for row in value if row is not None)
        case dict() if "data" in value or _is_file(value):
            return (_output(value),)
        case dict():
            rows = {str(node): row for node, row in value.items() if row is not None}
            return tuple(replace(_output(row), node_id=node) for node, row in rows.items())
        case str() if _is_address(value):
            return (_output(value),)
        case _:
            return ()


def _output(row: object) -> RunOutput:
    about = mapping(row) if not _stands_alone(row) else {}
    meta = mapping(about.get("node_meta"))
    node = meta.get("node_id", about.get("node_id"))
    return RunOutput(
        id=word(about.get("id")),
        output_id=word(about.get("output_id")),
        node_id=str(node) if isinstance(node, (str, int)) and not isinstance(node, bool) else None,
        node_class=word(meta.get("node_class")),
        data={str(kind): _items(str(kind), items) for kind, items in _data(row).items()},
        created_at=word(about.get("created_at")),
    )


def _data(row: object) -> dict[str, Any]:
    """Kind -> items, of a row in any form."""
    if isinstance(row, dict) and not _stands_alone(row):
        if "data" not in row:
            return {kind: items for kind, items in row.items() if kind not in _ABOUT}
        row = row["data"]
        if row is None:
            return {}
        if isinstance(row, dict) and not _is_file(row):
            return row
    # A list was seen in the webhook of a cancel.
    return {"files" if _is_file(row) or _is_address(row) else "data": row}


def _items(kind: str, value: object, depth: int = 0) -> list[Item]:
    if not isinstance(value, list):
        return [] if value is None else [_item(kind, value)]
    found: list[Item] = []
    for item in value:
        if isinstance(item, list) and depth < _DEEPEST and _holds_files(kind, item):
            found += _items(kind, item, depth + 1)
        elif item is not None:
            found.append(_item(kind, item))
    return found


def _holds_files(kind: str, items: list[Any]) -> bool:
    return any(isinstance(item, list) or isinstance(_item(kind, item), MediaItem) for item in items)


def _item(kind: str, value: Any) -> Item:
    if _is_address(value) and kind not in _TEXTS:
        return MediaItem(url=value)
    if not _is_file(value):
        item: Item = value
        return item
    return MediaItem(
        url=value["url"],
        type=word(value.get("type")),
        filename=word(value.get("filename")),
        is_public=flag(value.get("is_public")),
        subfolder=word(value.get("subfolder")),
        format=word(value.get("format")),
        content_type=word(value.get("content_type")) or word(value.get("mime_type")),
        size=whole(value.get("size")),
        frame_rate=number(value.get("frame_rate")),
    )


def _is_file(value: object) -> bool:
    return isinstance(value, dict) and bool(word(value.get("url")))


def _stands_alone(row: object) -> bool:
    """Whether a file stands where a row should; a row may have an address beside its data."""
    return _is_file(row) and "data" not in mapping(row)


def _is_address(value: object) -> bool:
    """Whether a text is an address and nothing else."""
    return isinstance(value, str) and value.startswith(("https://", "http://")) and not any(map(str.isspace, value))
