"""What can be run, from the catalog; and what one workflow takes."""

import json
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from producers.cli.outcome import OK
from producers.producer import Producer
from shared.catalog import Entry
from shared.errors import WorkflowNotFound
from shared.inputs import Input, form_of


async def show(name: str | None, *, as_json: bool) -> int:
    """List the deployments by name; with a name its inputs. Raises `WorkflowNotFound` with suggestions."""
    async with Producer.from_env() as producer:
        copy = await producer.workflows()
    entries = sorted(copy.named(name) if name else copy.entries, key=lambda e: (e.name.casefold(), e.environment))
    if name and not entries:
        message = f"There is no workflow {name!r}.{copy.did_you_mean(name)}"
        raise WorkflowNotFound(message, user_message=message)
    if as_json:
        for entry in entries:
            typer.echo(json.dumps(_told(entry), ensure_ascii=False))
        return OK
    if name is None:
        _list(entries, copy.age_seconds)
    for entry in entries if name else ():
        _describe(entry)
    return OK


def _told(entry: Entry) -> dict[str, Any]:
    """Everything that is known, for programs."""
    plain = entry.stored()
    told = plain.pop("signature") or {"inputs": None, "complete": False, "outputs": [], "notes": []}
    return plain | told | {"schema": form_of(entry.signature) if entry.signature else None}


def _list(entries: list[Entry], age_seconds: float) -> None:
    table = Table(box=None, pad_edge=False, caption=f"as of {age_seconds:.0f} s ago")
    for column in ("workflow", "environment", "deployment", "machine"):
        table.add_column(column, overflow="fold")
    for entry in entries:
        table.add_row(entry.name, entry.environment, entry.deployment_id, entry.pool)
    Console().print(table)


def _describe(entry: Entry) -> None:
    console = Console(highlight=False, markup=False)  # an author's text is no markup
    console.print(f"{entry.name} ({entry.environment}), {entry.deployment_id}", style="bold")
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
