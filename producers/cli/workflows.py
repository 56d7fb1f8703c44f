"""What can be run, from the catalog; and what one workflow takes."""

import json
import time
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from producers.cli.outcome import OK, UNAVAILABLE, lines_of, say
from producers.producer import Producer
from shared.catalog import Copy, Entry
from shared.errors import ConveyorError, WorkflowNotFound
from shared.inputs import Input, form_of


async def show(name: str | None, *, refresh: bool, graph: bool, as_json: bool) -> int:
    """List the deployments by name; with a name its inputs, or its graph. Raises `WorkflowNotFound` with suggestions.

    What could not be refreshed is shown as far as it is known, and why is said beside it.
    """
    code = OK
    async with Producer.from_env() as producer:
        try:
            copy = await producer.workflows(refresh=refresh)
        except ConveyorError as error:
            if not refresh:
                raise
            copy, code = await producer.workflows(), UNAVAILABLE
            say(f"Not refreshed: {lines_of(error)[0]}")
        if name and graph and (one := copy.index.find(name)) and one.version_id:
            version = await producer.version(one.version_id)
            typer.echo(json.dumps(version.workflow_api, ensure_ascii=False, indent=None if as_json else 2))
            return code
    entries = sorted(copy.named(name) if name else copy.entries, key=lambda e: (e.name.casefold(), e.environment))
    if name and not entries:
        message = copy.unknown(name)
        raise WorkflowNotFound(message, user_message=message)
    if as_json:
        age = {"age_seconds": round(copy.age_seconds, 1), "stale": copy.stale}
        for entry in entries:
            typer.echo(json.dumps(_told(entry) | age, ensure_ascii=False))
    elif name is None:
        _list(entries)
    else:
        for entry in entries:
            _describe(entry)
    if not as_json:
        typer.echo(_age(copy))
    say(*copy.warnings)
    return code


def _age(copy: Copy) -> str:
    """As of when this is, in words."""
    age = f"as of {duration(copy.age_seconds)} ago"
    return f"{age}, which is too old: the API cannot be reached, or no worker runs" if copy.stale else age


def duration(seconds: float) -> str:
    """An age, as exactly as one wants to know it."""
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _told(entry: Entry) -> dict[str, Any]:
    """Everything that is known, for programs."""
    plain = entry.stored()
    told = plain.pop("signature") or {"inputs": None, "complete": False, "outputs": [], "notes": []}
    return plain | told | {"schema": form_of(entry.signature) if entry.signature else None}


def _list(entries: list[Entry]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("workflow", "environment", "deployment", "machine"):
        table.add_column(column, overflow="fold")
    for entry in entries:
        table.add_row(entry.name, entry.environment, entry.deployment_id, entry.pool)
    Console().print(table)


def _describe(entry: Entry) -> None:
    console = Console(highlight=False, markup=False)  # an author's text is no markup
    version = "" if entry.version is None else f"version {entry.version}, "
    console.print(f"{entry.name} ({entry.environment}), {version}{entry.deployment_id}", style="bold")
    if entry.kept_from:
        console.print(f"As it was {duration(time.time() - entry.kept_from)} ago: the API cannot list it any more.")
    signature = entry.signature
    if entry.description:
        console.print(entry.description)
    if signature is None:
        console.print("What it takes is not known.\n")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("input", "kind", "default", "takes", "about"):
        table.add_column(column, overflow="fold")
    for one in signature.inputs:
        table.add_row(one.name, one.kind, _default(one), _takes(one), _about(one))
    console.print(table)
    if signature.outputs:
        console.print(f"gives: {', '.join(signature.outputs)}")
    for note in signature.notes:
        console.print(f"note: {note}")
    console.print()


def _default(one: Input) -> str:
    if one.required:
        return "required"
    return "" if one.default is None else json.dumps(one.default, ensure_ascii=False)


def _takes(one: Input) -> str:
    if one.choices:
        return ", ".join(one.choices)
    low, high = one.minimum, one.maximum
    if low is not None and high is not None:
        return f"{low} to {high}"
    return f"at least {low}" if low is not None else f"at most {high}" if high is not None else ""


def _about(one: Input) -> str:
    return ". ".join(part for part in (one.label if one.label != one.name else "", one.description) if part)
