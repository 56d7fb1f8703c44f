"""Which form does a workflow need? The API's input nodes, in words a page can make fields of.

CONTRACT section 15: the kinds of input nodes, and what each is sent as. Seed and face-model inputs work and are never
listed, so they are not here either.
"""

from typing import Any, Literal

from pydantic import BaseModel, Field

from shared.catalog import Entry

Kind = Literal["text", "number", "integer", "boolean", "choice", "image", "images", "video", "audio", "file"]

#: Class of the node, without what all have in common, to the kind of field.
_KINDS: dict[str, Kind] = {
    "Image": "image",
    "ImageAlpha": "image",
    "ImageBatch": "images",
    "Video": "video",
    "Audio": "audio",
    "EXR": "file",
    "File": "file",
}
_BY_TYPE: dict[str, Kind] = {"integer": "integer", "float": "number", "boolean": "boolean"}


class Input(BaseModel):
    """One input of a workflow."""

    name: str = Field(description="The key in `inputs`.", examples=["prompt"])
    kind: Kind | str = Field(
        description="What to ask for. `image`, `video`, `audio` and `file` are sent as a URL (see `POST /v1/files`), "
        "`images` as a list of URLs.",
        examples=["text"],
    )
    title: str = Field(description="For people.", examples=["Prompt"])
    description: str | None = None
    default: Any = Field(None, description="What the workflow takes when the input is left out.")
    min: float | None = None
    max: float | None = None
    step: float | None = None
    choices: list[str] | None = Field(None, description="Of a `choice`.")


def inputs_of(entry: Entry) -> list[Input] | None:
    """The inputs of a deployment; None when the API does not say. Two nodes of one name are one input."""
    if entry.inputs is None:
        return None
    found: dict[str, Input] = {}
    for node in entry.inputs:
        one = _input(node)
        found.setdefault(one.name, one)
    return list(found.values())


def _input(node: dict[str, Any]) -> Input:
    default = node.get("default_value")
    choices = node.get("enum_options")
    name = str(node["input_id"])
    return Input(
        name=name,
        kind=_kind(node, choices),
        title=node.get("display_name") or name,
        description=node.get("description"),
        # A link to another node is nothing a person could see or change.
        default=default if isinstance(default, str | int | float | bool) else None,
        min=node.get("min_value"),
        max=node.get("max_value"),
        step=node.get("step"),
        choices=list(choices) if choices is not None else None,
    )


def _kind(node: dict[str, Any], choices: object) -> Kind:
    if choices is not None:
        return "choice"
    suffix = str(node.get("class_type") or "").removeprefix("ComfyUIDeployExternal")
    return _KINDS.get(suffix) or _BY_TYPE.get(str(node.get("type")), "text")
