"""What did a run produce, without losing anything the API reported?

`outputs` holds one element per output-producing node; its `data` maps a kind (`images`, `files`, `text`, …) to items.
The kind is the node's habit, not the medium: judge the medium by the file's extension (CONTRACT section 8). Webhooks
carry the raw form of the same, so this is the parser for both; it raises nothing and drops only nulls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shared.comfydeploy.values import flag, mapping, number, word


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
    #: Webhooks only, for example `video/h264-mp4`.
    format: str | None = None
    frame_rate: float | None = None


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


def run_outputs(value: object) -> tuple[RunOutput, ...]:
    """Read the `outputs` of a run or of a webhook; anything that is not a list of objects is no output."""
    if not isinstance(value, list):
        return ()
    return tuple(_output(row) for row in value if isinstance(row, dict))


def _output(row: dict[str, Any]) -> RunOutput:
    meta = mapping(row.get("node_meta"))
    node = meta.get("node_id", row.get("node_id"))
    data = row.get("data")
    if isinstance(data, list):  # seen in the webhook of a cancel
        data = {"data": data}
    return RunOutput(
        id=word(row.get("id")),
        output_id=word(row.get("output_id")),
        node_id=str(node) if isinstance(node, (str, int)) and not isinstance(node, bool) else None,
        node_class=word(meta.get("node_class")),
        data={str(kind): _items(items) for kind, items in mapping(data).items()},
    )


def _items(value: object) -> list[Item]:
    items = value if isinstance(value, list) else [value]
    return [_item(item) for item in items if item is not None]


def _item(value: Any) -> Item:
    if not isinstance(value, dict) or not isinstance(url := value.get("url"), str) or not url:
        item: Item = value
        return item
    return MediaItem(
        url=url,
        type=word(value.get("type")),
        filename=word(value.get("filename")),
        is_public=flag(value.get("is_public")),
        subfolder=word(value.get("subfolder")),
        format=word(value.get("format")),
        frame_rate=number(value.get("frame_rate")),
    )
