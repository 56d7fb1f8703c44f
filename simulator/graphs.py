"""What does a workflow take and give? Read from its graphs, with the holes the real service has.

`inputs` knows the node classes upstream recognises and no others: Seed and FaceModel nodes work at run time but are never
listed. Fields it does not know are dropped. An enum whose options are not a JSON list makes the whole request fail, which
is why `inputs` may raise.
"""

from __future__ import annotations

import json
from typing import Any

#: class_type -> (type, fields copied from the node)
_RECOGNISED: dict[str, tuple[str, tuple[str, ...]]] = {
    "ComfyUIDeployExternalText": ("string", ("default_value",)),
    "ComfyUIDeployExternalTextAny": ("string", ("default_value",)),
    "ComfyUIDeployExternalTextSingleLine": ("string", ("default_value",)),
    "ComfyUIDeployExternalImage": ("string", ()),
    "ComfyUIDeployExternalImageAlpha": ("string", ()),
    "ComfyUIDeployExternalImageBatch": ("string", ()),
    "ComfyUIDeployExternalNumber": ("float", ("default_value",)),
    "ComfyUIDeployExternalNumberInt": ("integer", ("default_value",)),
    "ComfyUIDeployExternalNumberSlider": ("float", ("default_value", "min_value", "max_value")),
    "ComfyUIDeployExternalNumberSliderInt": ("integer", ("default_value", "min_value", "max_value")),
    "ComfyUIDeployExternalBoolean": ("boolean", ("default_value",)),
    "ComfyUIDeployExternalEnum": ("string", ("default_value",)),
    "ComfyUIDeployExternalLora": ("string", ()),
    "ComfyUIDeployExternalCheckpoint": ("string", ("default_value",)),
    "ComfyUIDeployExternalVideo": ("string", ()),
    "ComfyUIDeployExternalAudio": ("string", ()),
    "ComfyUIDeployExternalEXR": ("string", ()),
    "ComfyUIDeployExternalFile": ("string", ()),
    "ComfyDeployWebscoketImageInput": ("binary", ()),
}
_LISTED_OUTPUTS = ("ComfyDeployStdOutputImage", "ComfyDeployStdOutputAny")


class MalformedOptions(ValueError):
    """An enum node whose `options` is not a JSON list of strings."""


def input_types(workflow_api: dict[str, Any] | None) -> list[dict[str, Any]] | None:
    if not workflow_api:
        return None
    found = []
    for node in workflow_api.values():
        class_type, values = node.get("class_type"), node.get("inputs", {})
        if class_type not in _RECOGNISED or "input_id" not in values:
            continue
        kind, copied = _RECOGNISED[class_type]
        entry: dict[str, Any] = {
            "type": kind,
            "class_type": class_type,
            "input_id": values["input_id"],
            "default_value": None,
            "min_value": None,
            "max_value": None,
            "display_name": values.get("display_name", ""),
            "description": values.get("description", ""),
            "enum_options": None,
            "step": values.get("step"),
        }
        entry.update({key: values.get(key) for key in copied})
        if class_type == "ComfyUIDeployExternalEnum":
            entry["enum_options"] = _options(values.get("options"))
        found.append(entry)
    return found


def output_types(workflow: dict[str, Any] | None) -> list[dict[str, Any]]:
    return [
        {"class_type": node["type"], "output_id": node["widgets_values"][0]}
        for node in (workflow or {}).get("nodes", [])
        if node.get("type") in _LISTED_OUTPUTS and node.get("widgets_values")
    ]


def _options(text: Any) -> list[str]:
    try:
        options = json.loads(text)
    except (TypeError, ValueError) as error:
        raise MalformedOptions(text) from error
    if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
        raise MalformedOptions(text)
    return options


def jsonb_order(values: dict[str, Any]) -> dict[str, Any]:
    """Put keys into the order PostgreSQL's JSONB gives them: shorter first, then by bytes. The sent order is lost."""
    ordered: dict[str, Any] = {}
    for key in sorted(values, key=lambda key: (len(key.encode()), key.encode())):
        value = values[key]
        ordered[key] = jsonb_order(value) if isinstance(value, dict) else value
    return ordered
