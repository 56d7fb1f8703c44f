"""Which nodes are in a graph, and with which values? The same answer for both forms in which a version keeps its graph.

The API form is what runs: node id -> `class_type` and `inputs`, where `["12", 0]` is a link. The editor's form has the
values in `widgets_values`, in the order of the node's widgets, or by name. Nothing here raises: a graph is what a person
and many programs wrote.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from shared.comfydeploy.values import mapping, word
from shared.inputs.nodes import CLASSES, NOTES

#: Enough for a hint; whole manuals stay where they were written.
NOTE_CHARACTERS = 300
MOST_NOTES = 5

#: The editor's modes of nodes that do not run: muted and bypassed.
_ASLEEP = frozenset({"2", "4"})


@dataclass(frozen=True, slots=True)
class Node:
    """One node of either form."""

    id: str
    class_type: str
    #: By field; a link is a list of the other node's id and its output's number.
    values: dict[str, Any]


def is_link(value: object) -> bool:
    """Whether a value is another node's."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int)


def nodes_of_api(graph: dict[str, Any]) -> Iterator[Node]:
    """The nodes of the graph that runs, in its order."""
    for node_id, node in graph.items():
        if isinstance(node, dict) and (class_type := word(node.get("class_type"))):
            yield Node(node_id, class_type, mapping(node.get("inputs")))


def nodes_of_editor(graph: dict[str, Any]) -> Iterator[Node]:
    """The nodes of the editor's graph that would run, also those inside subgraphs."""
    for node in _editor_nodes(graph):
        class_type = word(node.get("type"))
        if class_type and str(node.get("mode")) not in _ASLEEP:
            yield Node(str(node.get("id")), class_type, _values(node, class_type))


def links_of(nodes: list[Node]) -> set[str]:
    """The ids of nodes whose values others take. Of the API form: the editor's keeps its links elsewhere."""
    return {value[0] for node in nodes for value in node.values.values() if is_link(value)}


def notes_of(graph: dict[str, Any]) -> tuple[str, ...]:
    """What the author wrote into note nodes, cut short, each once."""
    found: dict[str, None] = {}
    for node in _editor_nodes(graph):
        values = node.get("widgets_values")
        if word(node.get("type")) in NOTES and isinstance(values, list) and values and isinstance(values[0], str):
            text = values[0].strip()
            found[text if len(text) <= NOTE_CHARACTERS else f"{text[: NOTE_CHARACTERS - 1].rstrip()}…"] = None
    return tuple(text for text in found if text)[:MOST_NOTES]


def _editor_nodes(graph: dict[str, Any]) -> Iterator[dict[str, Any]]:
    subgraphs = mapping(graph.get("definitions")).get("subgraphs")
    for level in (graph, *(subgraphs if isinstance(subgraphs, list) else ())):
        nodes = mapping(level).get("nodes")
        yield from (node for node in (nodes if isinstance(nodes, list) else ()) if isinstance(node, dict))


def _values(node: dict[str, Any], class_type: str) -> dict[str, Any]:
    """The values by field. Newer editors list the widgets among the slots, in their order; for older ones we know it."""
    listed = node.get("inputs")
    slots = [slot for slot in (listed if isinstance(listed, list) else ()) if isinstance(slot, dict)]
    widgets = [str(mapping(slot.get("widget")).get("name")) for slot in slots if mapping(slot.get("widget"))]
    known = CLASSES[class_type].widgets if class_type in CLASSES else ()
    kept = node.get("widgets_values")
    if isinstance(kept, dict):
        values = dict(kept)
    elif isinstance(kept, list):
        # An old editor lists only the widgets that were made into slots: that is no order.
        order = tuple(widgets) if "input_id" in widgets else known
        values = dict(zip(order, kept, strict=False))
    else:
        values = {}
    # What is linked wins over the widget's own value. Whose value it is does not matter here.
    return values | {str(slot.get("name")): [str(slot["link"]), 0] for slot in slots if slot.get("link") is not None}
