"""Which graph is in this file? A workflow has two, and ComfyUI saves each in a file of its own.

The editor's (Save) holds `nodes` with `widgets_values`; the one that runs (Export (API)) holds `class_type` and `inputs` by
node id. What `conveyor api versions get --json` prints holds both, so it can be edited and sent back.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared.errors import InvalidInput, Problem

Graph = dict[str, Any]


def read_graphs(paths: Sequence[Path]) -> tuple[Graph | None, Graph | None]:
    """The editor's graph and the one that runs, from one or two files in any order.

    Raises `InvalidInput` with every file that is none, or is one too many.
    """
    found: dict[str, Graph] = {}
    problems: list[Problem] = []
    for path in paths:
        try:
            graphs = _told(path, read_object(path))
        except InvalidInput as error:
            problems += error.problems
            continue
        problems += [Problem(str(path), f"is a second {kind} graph") for kind in graphs if kind in found]
        found |= graphs
    if problems:
        raise InvalidInput(problems)
    return found.get("editor"), found.get("API")


def both_graphs(paths: Sequence[Path]) -> tuple[Graph, Graph]:
    """The same where both are needed."""
    editor, runs = read_graphs(paths)
    lacking = [
        Problem("FILE", f"the {kind} is missing; in ComfyUI: {how}")
        for graph, kind, how in ((editor, "editor's graph", "Save"), (runs, "graph that runs", "Export (API)"))
        if graph is None
    ]
    if editor is None or runs is None:
        raise InvalidInput(lacking)
    return editor, runs


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; `-` is the standard input. Raises `InvalidInput`."""
    try:
        content = json.loads(sys.stdin.read() if str(path) == "-" else path.read_bytes())
    except OSError as error:
        raise InvalidInput([Problem(str(path), f"cannot be read: {error.strerror}")]) from None
    except (ValueError, RecursionError) as error:
        raise InvalidInput([Problem(str(path), f"is no JSON: {error}")]) from None
    if not isinstance(content, dict):
        raise InvalidInput([Problem(str(path), "has to hold a JSON object")])
    return content


def _told(path: Path, content: dict[str, Any]) -> dict[str, Graph]:
    """Which graphs a file holds."""
    if isinstance(content.get("nodes"), list):
        return {"editor": content}
    if content and all(isinstance(node, dict) and "class_type" in node for node in content.values()):
        return {"API": content}
    pair = {"editor": content.get("workflow"), "API": content.get("workflow_api")}
    graphs = {kind: graph for kind, graph in pair.items() if isinstance(graph, dict)}
    if not graphs:
        raise InvalidInput([Problem(str(path), "is no graph of ComfyUI: neither what Save writes nor Export (API)")])
    return graphs
