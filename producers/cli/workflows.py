"""What can be run, from the catalog."""

import json
from dataclasses import asdict

import typer
from rich.console import Console
from rich.table import Table

from producers.cli.outcome import OK
from producers.producer import Producer


async def show(*, as_json: bool) -> int:
    """List the deployments by name."""
    async with Producer.from_env() as producer:
        copy = await producer.workflows()
    entries = sorted(copy.entries, key=lambda entry: (entry.name.casefold(), entry.environment))
    if as_json:
        for entry in entries:
            typer.echo(json.dumps(asdict(entry), ensure_ascii=False))
        return OK
    table = Table(box=None, pad_edge=False, caption=f"as of {copy.age_seconds:.0f} s ago")
    for name in ("workflow", "environment", "deployment", "machine"):
        table.add_column(name, overflow="fold")
    for entry in entries:
        table.add_row(entry.name, entry.environment, entry.deployment_id, entry.pool)
    Console().print(table)
    return OK
