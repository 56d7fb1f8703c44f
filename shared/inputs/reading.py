"""How does a signature follow from what the API tells about a deployment?

Best from the graph that runs: there every input is, also seeds and face models, which `input_types` leaves out, and the
defaults of files, which it does not tell. Without that graph from `input_types` and the editor's graph, and then there may
be inputs nobody has told us of.

Left out, every input keeps what the workflow has (CONTRACT section 4). So an input is required only when the graph shows
that there is nothing to keep: a node without any default, whose value another node takes, and whose author does not call
it optional.
"""

import json
import math
import re
from collections.abc import Iterable
from typing import Any

from shared.comfydeploy.deployments import InputType
from shared.comfydeploy.values import number, word
from shared.inputs.graphs import Node, is_link, links_of, nodes_of_api, nodes_of_editor, notes_of
from shared.inputs.nodes import CLASSES, OUTPUTS, SEED, UNKNOWN, NodeClass
from shared.inputs.signature import NUMBERS, Input, Kind, Signature

DESCRIPTION_CHARACTERS = 500

_OPTIONAL = re.compile(r"\boptional\b", re.IGNORECASE)
_ADDRESS = re.compile(r"\s*(https?|data):", re.IGNORECASE)


def signature_of(
    input_types: Iterable[InputType] | None,
    workflow_api: dict[str, Any] | None = None,
    workflow: dict[str, Any] | None = None,
) -> Signature | None:
    """What a deployment takes and gives; None when neither its inputs nor its graphs are told. Never raises."""
    if input_types is None and workflow_api is None and workflow is None:
        return None
    running = list(nodes_of_api(workflow_api or {}))
    drawn = list(nodes_of_editor(workflow or {}))
    taken = links_of(running)
    found = [_input(node, is_taken=node.id in taken) for node in running if _name(node)]
    if input_types is not None:
        known = {one.name for one in found}
        found += [_input(_told(one)) for one in input_types if one.input_id not in known]
    if workflow_api is None:
        known = {one.name for one in found}
        found += [one for node in drawn if _name(node) and (one := _input(node)).name not in known]
    merged: dict[str, Input] = {}
    for one in found:
        merged[one.name] = _both(merged[one.name], one) if one.name in merged else one
    outputs = dict.fromkeys(kind for node in running or drawn if (kind := _output(node)))
    return Signature(
        inputs=tuple(merged.values()),
        complete=workflow_api is not None,
        outputs=tuple(outputs),
        notes=notes_of(workflow or {}),
    )


def _name(node: Node) -> str | None:
    return word(node.values.get("input_id"))


def _told(one: InputType) -> Node:
    """An entry of `input_types` as the node it was read from."""
    values = {
        "input_id": one.input_id,
        "default_value": one.default_value,
        "min_value": one.min_value,
        "max_value": one.max_value,
        "step": one.step,
        "display_name": one.display_name,
        "description": one.description,
        "options": None if one.enum_options is None else list(one.enum_options),
    }
    return Node("", one.class_type or "", {name: value for name, value in values.items() if value is not None})


def _input(node: Node, *, is_taken: bool = False) -> Input:
    of, values = CLASSES.get(node.class_type, UNKNOWN), node.values
    choices = _choices(values.get("options")) if of.kind == "choice" else None
    # An enum whose options cannot be read is a text, as upstream takes it.
    kind: Kind = "text" if of.kind == "choice" and not choices else of.kind
    name = str(values["input_id"])
    label = word(values.get("display_name")) or name
    description = (word(values.get("description")) or "")[:DESCRIPTION_CHARACTERS].strip() or None
    low, high = (number(values.get(bound)) for bound in ("min_value", "max_value"))
    if node.class_type == SEED:
        # Out of its range means random: nothing is wrong with it.
        description = description or "-1 draws one."
        low = high = None
    is_number = kind in NUMBERS
    if low is not None and high is not None and low > high:
        low = high = None
    return Input(
        name=name,
        kind=kind,
        label=label,
        description=description,
        default=_default(of, values, kind),
        required=is_taken and _has_nothing(of, values) and not _OPTIONAL.search(f"{label} {description or ''}"),
        minimum=_tidy(low) if is_number else None,
        maximum=_tidy(high) if is_number else None,
        step=_tidy(number(values.get("step"))) if is_number else None,
        choices=choices or None,
        multiline=of.multiline,
    )


def _tidy(value: float | None) -> float | None:
    return int(value) if value is not None and value.is_integer() else value


def _choices(options: object) -> tuple[str, ...] | None:
    """An enum's options: a list, or the JSON of one. Anything else is not told (upstream answers 500 to it)."""
    if isinstance(options, str):
        try:
            options = json.loads(options)
        except (ValueError, RecursionError):
            return None
    return tuple(dict.fromkeys(str(option) for option in options)) if isinstance(options, list) else None


def _default(of: NodeClass, values: dict[str, Any], kind: Kind) -> str | float | bool | None:
    """The value that stands in, as far as it can be shown and sent: no links, no addresses, which may hold a secret."""
    for field in of.defaults:
        value = values.get(field)
        match value:
            case str() if _ADDRESS.match(value) or (kind not in ("text", "choice", "model")):
                continue
            case bool() if kind != "boolean":
                continue
            case float() if not math.isfinite(value):
                continue
            case str() | int() | float():
                return value
    return None


def _has_nothing(of: NodeClass, values: dict[str, Any]) -> bool:
    """Whether nothing stands in for this input. Where we do not know all the fields of a class, something may."""
    if of.kind not in ("image", "images", "audio", "file"):
        return False
    return not any(
        is_link(value)
        or (isinstance(value, str) and value.strip() not in ("", "[]"))
        or (isinstance(value, list) and value)
        for value in (values.get(field) for field in of.defaults)
    )


def _both(one: Input, other: Input) -> Input:
    """Two nodes of one name both get the value: what holds is what suits both; where that is unclear, all is let in."""
    low = max((v for v in (one.minimum, other.minimum) if v is not None), default=None)
    high = min((v for v in (one.maximum, other.maximum) if v is not None), default=None)
    if low is not None and high is not None and low > high:
        low = high = None
    choices = tuple(c for c in one.choices or () if c in (other.choices or ())) or None
    same = one.kind == other.kind and (one.kind != "choice" or choices is not None)
    return Input(
        name=one.name,
        kind=one.kind if same else "any",
        label=one.label if one.label != one.name else other.label,
        description=one.description or other.description,
        default=one.default,
        required=one.required or other.required,
        minimum=low if same else None,
        maximum=high if same else None,
        step=one.step if same else None,
        choices=choices if same else None,
        multiline=one.multiline or other.multiline,
    )


def _output(node: Node) -> str | None:
    if node.class_type == "VHS_VideoCombine":
        medium = str(node.values.get("format") or "")
        return "animation" if medium.startswith("image/") else "video" if medium.startswith("video/") else None
    return OUTPUTS.get(node.class_type)
