"""How is an answer of the API shown? As aligned columns or lines for people, as JSON for programs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import typer

from producers.cli.columns import columns
from producers.cli.outcome import say

#: Whole graphs: tens to hundreds of kB, which only who asks for one thing wants to see.
GRAPHS = ("workflow", "workflow_api")


def list_all(rows: Sequence[Any], headings: Mapping[str, str], *, as_json: bool, limit: int = 0) -> None:
    """Print a listing; `headings` say which field stands under which. Says on stderr when there may be another page."""
    if as_json:
        for row in rows:
            print_json({name: value for name, value in asdict(row).items() if name not in GRAPHS})
    elif rows:
        table = columns(list(headings), [[text(getattr(row, name)) for name in headings.values()] for row in rows])
        for place, line in enumerate(table):
            typer.secho(line, bold=place == 0)
    else:
        say("There are none.")
    if limit and len(rows) == limit:
        say(f"There may be more: --offset goes on after these {limit}.")


def show_one(item: Any, *, as_json: bool) -> None:
    """Print one thing: every field that says something; as JSON with its graphs, in lines without."""
    fields = asdict(item)
    if as_json:
        print_json(fields)
        return
    show_fields({name.removesuffix("_seconds"): value for name, value in fields.items() if name not in GRAPHS})


def show_fields(fields: Mapping[str, Any]) -> None:
    """Print names and values below each other; what says nothing is left out."""
    width = max((len(name) for name in fields), default=0)
    for name, value in fields.items():
        if value not in (None, "", [], (), {}):
            typer.echo(f"{name.replace('_', ' '):<{width}}  {text(value)}")


def print_json(value: Any) -> None:
    """Print one line of JSON: times as ISO 8601, prices as texts."""
    typer.echo(json.dumps(value, ensure_ascii=False, default=_plain))


def text(value: Any) -> str:
    """A value for people: local times, yes and no, nothing for nothing."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        case float():
            return f"{round(value, 3):g}"
        case dict() | list() | tuple():
            return json.dumps(value, ensure_ascii=False, default=_plain)
        case _:
            return str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return sorted(value) if isinstance(value, set | frozenset) else str(value)
