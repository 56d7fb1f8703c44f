"""Which of a run's outputs does a reader get to see, and in which shape?

Workers post whatever nodes produce. Reads clean it: an output that does not fit the model is dropped *whole*, which is
how previews vanish, and how the reason of a failure vanishes too. Webhooks drop the same ones but carry the media objects
raw, with their extra keys. The webhook of a cancel carries everything, unfiltered and unsigned.
"""

from __future__ import annotations

from typing import Any

from simulator.bucket import Bucket
from simulator.rows import Output
from simulator.timestamps import millis, model

_MEDIA_KINDS = ("images", "files", "gifs", "mesh")
_MEDIA_KEYS = ("url", "type", "filename", "is_public", "subfolder", "upload_duration")


def fits(data: Any) -> bool:
    """Tell whether an output has the form {kind: [media or string or boolean, ...]}."""
    if not isinstance(data, dict):
        return False
    for items in data.values():
        if not isinstance(items, list):
            return False
        for item in items:
            if isinstance(item, dict):
                if not all(isinstance(item.get(key), str) for key in ("url", "type", "filename")):
                    return False
            elif not isinstance(item, str | bool):
                return False
    return True


def author_id(data: dict[str, Any]) -> str | None:
    """Give the `output_id` the workflow's author chose: that of the first item that has one."""
    for items in data.values():
        for item in items:
            if isinstance(item, dict) and item.get("output_id"):
                return str(item["output_id"])
    return None


def signed(data: dict[str, Any], bucket: Bucket) -> dict[str, Any]:
    """Give data whose private addresses carry a fresh signature. The stored row keeps the bare address."""

    def sign(kind: str, item: Any) -> Any:
        private = kind in _MEDIA_KINDS and isinstance(item, dict) and item.get("is_public") is False
        return {**item, "url": bucket.sign_url(item["url"])} if private else item

    return {kind: [sign(kind, item) for item in items] for kind, items in data.items()}


def for_read(output: Output, bucket: Bucket) -> dict[str, Any]:
    """Shape an output that fits for `GET /run`: nine keys, media objects cut down to six."""
    data = {
        kind: [{key: item.get(key) for key in _MEDIA_KEYS} if isinstance(item, dict) else item for item in items]
        for kind, items in signed(output.data, bucket).items()
    }
    return {
        "id": output.id,
        "output_id": author_id(output.data),
        "run_id": output.run_id,
        "data": data,
        "node_meta": output.node_meta,
        "created_at": model(output.created_at),
        "updated_at": model(output.updated_at),
        "type": None,
        "node_id": None,
    }


def for_row(output: Output, data: Any = None) -> dict[str, Any]:
    """Shape an output as the stored row, for listings and hooks: raw data unless other data is given."""
    return {
        "node_meta": output.node_meta,
        "id": output.id,
        "updated_at": millis(output.updated_at),
        "run_id": output.run_id,
        "data": output.data if data is None else data,
        "created_at": millis(output.created_at),
    }


def for_hook(output: Output, bucket: Bucket, *, sign: bool = True) -> dict[str, Any]:
    """Shape an output that fits for a webhook: raw media objects; `output_id` only if there is one."""
    row = for_row(output, signed(output.data, bucket) if sign else output.data)
    chosen = author_id(output.data)
    return row if chosen is None else {**row, "output_id": chosen}
