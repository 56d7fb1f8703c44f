"""`conveyor api versions`: what a workflow does, and what it did before."""

import json
from typing import Annotated, Literal

import typer

from producers.cli.api.graphs import both_graphs
from producers.cli.api.options import GraphFiles, Limit, MachineId, Offset, group
from producers.cli.api.session import Session, talk
from producers.cli.api.told import list_all, show_one
from producers.cli.options import AsJson
from shared.errors import InvalidInput, NotFound, Problem

versions_app = group(
    "versions",
    """Versions of a workflow: list, read, add. A version is never changed; a deployment names the one it runs.

    [dim]$ conveyor api versions list b0000000-0000-4000-8000-000000000001[/dim]

    [dim]$ conveyor api versions get b0000000-… 3 --graph api > workflow_api.json[/dim]
    """,
)

WorkflowId = Annotated[str, typer.Argument(metavar="WORKFLOW_ID")]
HEADINGS = {"version": "id", "number": "number", "comment": "comment", "created": "created_at"}


@versions_app.command("list")
def list_(
    workflow_id: WorkflowId,
    *,
    search: Annotated[str | None, typer.Option(metavar="TEXT", help="A part of the comment, in any case.")] = None,
    limit: Limit = 100,
    offset: Offset = 0,
    as_json: AsJson = False,
) -> None:
    """List a workflow's versions, newest first. An unknown workflow has none.

    [dim]$ conveyor api versions list b0000000-0000-4000-8000-000000000001 --search "warmer"[/dim]
    """

    async def work(session: Session) -> None:
        async with session.call() as api:
            found = await api.versions.list(workflow_id, search, limit=limit, offset=offset)
        list_all(found, HEADINGS, as_json=as_json, limit=limit)

    talk(work)


@versions_app.command()
def get(
    id_: Annotated[str, typer.Argument(metavar="ID", help="A version's id; or a workflow's, before a number.")],
    number: Annotated[int | None, typer.Argument(metavar="[NUMBER]", min=1, help="Of that workflow.")] = None,
    *,
    graph: Annotated[
        Literal["editor", "api"] | None, typer.Option(help="Print only this graph, as ComfyUI would save it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show one version, by its id or by workflow and number; with `--json` its graphs, too.

    [dim]$ conveyor api versions get c0000000-0000-4000-8000-000000000001[/dim]

    [dim]$ conveyor api versions get b0000000-0000-4000-8000-000000000001 3 --graph editor > workflow.json[/dim]
    """

    async def work(session: Session) -> None:
        async with session.call() as api:
            found = await (api.versions.get(id_) if number is None else api.versions.get_by_number(id_, number))
        if graph is None:
            show_one(found, as_json=as_json)
            return
        wanted = found.workflow if graph == "editor" else found.workflow_api
        if wanted is None:
            raise NotFound(f"This version has no graph of that kind ({graph}).")
        typer.echo(json.dumps(wanted, ensure_ascii=False, indent=None if as_json else 2))

    talk(work)


@versions_app.command()
def create(
    workflow_id: WorkflowId,
    files: GraphFiles,
    *,
    comment: Annotated[str | None, typer.Option(help="What is new in it.")] = None,
    machine: MachineId = None,
    as_json: AsJson = False,
) -> None:
    """Add a version; other deployments than `preview` go on with the version they have (`conveyor api deployments put`).

    A repeat adds another. After a lost answer, list them before you repeat.

    [dim]$ conveyor api versions create b0000000-… workflow.json workflow_api.json --comment "warmer light"[/dim]
    """

    async def work(session: Session) -> None:
        editor, runs = both_graphs(files)
        if comment is not None and not comment.strip():
            raise InvalidInput([Problem("--comment", "is empty")])
        async with session.call() as api:
            made = await api.versions.create(workflow_id, editor, runs, comment=comment, machine_id=machine)
        show_one(made, as_json=as_json)
        await session.changed()

    talk(work)
