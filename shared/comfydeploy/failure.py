"""Why did a run fail? `GET /run` hides it; the heavy listing of a workflow shows what the GPU worker stored (CONTRACT section 8).

A reason is somebody else's text on its way into events that frontends store: it becomes one line of at most
`REASON_CHARACTERS`, without the query of any address in it (signatures, tokens), without what calls itself a secret and
without files sent as text. A secret that looks like any other word stays: nobody can tell. Pure.
"""

from __future__ import annotations

import re
from typing import Any

from shared.comfydeploy.values import mapping, word

#: An error's first sentences; with the traceback behind it, it may be a book.
REASON_CHARACTERS = 300

_QUERY = re.compile(r"(https?://)(?:[^\s/@]*@)?([^\s?#\"']*)[?#][^\s\"']*")
_USER = re.compile(r"(https?://)[^\s/@]*@")
_SECRET = re.compile(
    r"(?i)\b(bearer|[\w-]{0,40}(?:api[_-]?key|token|secret|password|authorization))"
    r"([\"']?\s*[:=]\s*[\"']?|(?<=bearer)\s+)((?:bearer|basic)\s+)?[^\s\"',;)}\]…]+"
)
_DATA = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,[\w+/=]*")


def reason_of(outputs: object) -> str | None:
    """Give the reason told by a run's raw outputs, None when none of them is an error."""
    for output in outputs if isinstance(outputs, list) else []:
        data = mapping(mapping(output).get("data"))
        told = _executing(data) or _preparing(data.get("error"))
        if told:
            return trimmed(told)
    return None


def trimmed(text: str) -> str:
    """Give a text of somebody else's as one line that may be shown and stored."""
    # Cut first: what is behind it is never shown, and patterns over megabytes take their time.
    text = "".join(c if c.isprintable() else " " for c in text[: 10 * REASON_CHARACTERS])
    text = _DATA.sub("data:…", _USER.sub(r"\1", _QUERY.sub(r"\1\2?…", text)))
    text = _SECRET.sub(r"\1\2…", text)
    text = " ".join(text.split())
    return text if len(text) <= REASON_CHARACTERS else f"{text[: REASON_CHARACTERS - 1]}…"


def _executing(data: dict[str, Any]) -> str | None:
    """A node failed: ComfyUI's own `execution_error`."""
    kind, message = word(data.get("exception_type")), word(data.get("exception_message"))
    if kind is None and message is None:
        return None
    said = ": ".join(part for part in (kind, message) if part)
    node = " ".join(
        part
        for part in (word(data.get("node_type")), f"(node {data['node_id']})" if data.get("node_id") else "")
        if part
    )
    return f"{node}: {said}" if node else said


def _preparing(error: object) -> str | None:
    """The graph was refused, or the worker failed before it ran: an object or a text under `error`."""
    if isinstance(error, str):
        return error or None
    body = mapping(error)
    if isinstance(body.get("error"), (dict, str)):  # ComfyUI's refusal of a graph, beside its `node_errors`
        return _preparing(body["error"])
    parts = (
        word(body.get(name)) for name in ("error_type", "type", "exception_message", "message", "error", "details")
    )
    return ": ".join(part for part in parts if part) or None
