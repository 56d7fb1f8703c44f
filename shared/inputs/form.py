"""Which JSON Schema do a workflow's inputs follow? For form builders and for programs that check before they ask.

Whatever it allows, `check` takes; `check` also takes what people type (`"12"` for a number), which it does not tell.
"""

from typing import Any

from shared.inputs.signature import FILES, Input, Signature

_TYPES = {"number": "number", "integer": "integer", "boolean": "boolean"}
_URL = {"type": "string", "format": "uri", "pattern": "^https?://[^\\s/?#]+[^\\s]*$"}


def form_of(signature: Signature) -> dict[str, Any]:
    """The schema of a job's `inputs`."""
    required = [one.name for one in signature.inputs if one.required]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {one.name: _property(one) for one in signature.inputs},
        **({"required": required} if required else {}),
        "additionalProperties": not signature.complete,
    }


def _property(one: Input) -> dict[str, Any]:
    said = {
        "title": one.label,
        "description": one.description,
        **_values(one),
        "minimum": one.minimum,
        "maximum": one.maximum,
        "enum": list(one.choices) if one.choices else None,
        "default": one.default,
        # Ours: what the type alone cannot tell a form.
        "x-kind": one.kind,
        "x-multiline": one.multiline or None,
        "x-step": one.step,
    }
    return {name: value for name, value in said.items() if value is not None}


def _values(one: Input) -> dict[str, Any]:
    if one.kind == "any":
        return {"type": ["string", "number", "boolean", "array"]}
    if one.kind == "images":
        return {"type": "array", "items": dict(_URL), **({"minItems": 1} if one.required else {})}
    return dict(_URL) if one.kind in FILES else {"type": _TYPES.get(one.kind, "string")}
