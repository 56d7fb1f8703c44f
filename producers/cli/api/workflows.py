"""`conveyor api workflows`: list, read, upload, change and delete workflows."""

from typing import Annotated

import typer

from producers.cli.api.graphs import read_graphs
from producers.cli.api.options import GraphFiles, Limit, MachineId, Offset, Search, Yes, given, group, may_delete
from producers.cli.api.session import Session, talk
from producers.cli.api.told import list_all, print_json, show_fields, show_one
from producers.cli.options import AsJson
from producers.cli.outcome import REFUSED, say
from shared.errors import InvalidInput, Problem

workflows_app = group(
    "workflows",
    """Workflows: list, read, upload, change, delete. To run one it needs a deployment (`conveyor api deployments`).

    [dim]$ conveyor api workflows list --search portrait[/dim]

    [dim]$ conveyor api workflows create "My Portrait" workflow.json workflow_api.json[/dim]
    """,
)

Id = Annotated[str, typer.Argument(metavar="WORKFLOW_ID")]


@workflows_app.command("list")
def list_(*, search: Search = None, limit: Limit = 100, offset: Offset = 0, as_json: AsJson = False) -> None:
    """List workflows, pinned ones first, then the newest.

    [dim]$ conveyor api workflows list --search portrait --json | jq -r .id[/dim]
    """

    async def work(session: Session) -> None:
        async with session.call() as api:
            found = await api.workflows.list(search, limit=limit, offset=offset)
        headings = {"workflow": "id", "name": "name", "pinned": "pinned", "changed": "updated_at"}
        list_all(found, headings, as_json=as_json, limit=limit)

    talk(work)


@workflows_app.command()
def get(workflow_id: Id, *, as_json: AsJson = False) -> None:
    """Show one workflow with its latest version; with `--json` also that version's graphs.

    [dim]$ conveyor api workflows get b0000000-0000-4000-8000-000000000001[/dim]
    """

    async def work(session: Session) -> None:
        async with session.call() as api:
            found = await api.workflows.get(workflow_id)
        if as_json:
            show_one(found, as_json=True)
            return
        latest = found.latest
        version = {"version": latest.number, "version_id": latest.id, "comment": latest.comment} if latest else {}
        show_fields(
            {
                "workflow": found.id,
                "name": found.name,
                "description": found.description,
                **version,
                "machine": found.machine_id,
                "pinned": found.pinned,
                "created": found.created_at,
                "changed": found.updated_at,
            }
        )

    talk(work)


@workflows_app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    files: GraphFiles,
    *,
    machine: MachineId = None,
    as_json: AsJson = False,
) -> None:
    """Upload a workflow and print its id. With a machine it gets a `preview` deployment, and can be run at once.

    A repeat makes another workflow. After a lost answer, list them before you repeat.

    [dim]$ conveyor api workflows create "My Portrait" workflow.json workflow_api.json --machine a0000000-…[/dim]
    """

    async def work(session: Session) -> None:
        editor, runs = read_graphs(files)
        if editor is None:
            raise InvalidInput([Problem("FILE", "the editor's graph is missing; in ComfyUI: Save")])
        async with session.call() as api:
            workflow_id = await api.workflows.create(name, editor, runs, machine_id=machine)
        if as_json:
            print_json({"id": workflow_id})
        else:
            typer.echo(workflow_id)
        if runs is None:
            say("It cannot be run yet: the graph of Export (API) was not among the files.")
        await session.changed()

    talk(work)


@workflows_app.command()
def update(
    workflow_id: Id,
    *,
    name: Annotated[str | None, typer.Option(help="Another name.")] = None,
    description: Annotated[str | None, typer.Option(help="What people read about it.")] = None,
    cover_image: Annotated[str | None, typer.Option(metavar="URL", help="Its picture.")] = None,
    machine: MachineId = None,
    pin: Annotated[
        bool | None, typer.Option("--pin/--unpin", help="At the head of the listing; alone, without others.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change what is given of a workflow.

    [dim]$ conveyor api workflows update b0000000-… --name "Portrait, warm"[/dim]

    [dim]$ conveyor api workflows update b0000000-… --pin[/dim]
    """
    changes = given(name=name, description=description, cover_image=cover_image, machine_id=machine)

    async def work(session: Session) -> None:
        if bool(changes) == (pin is not None):
            raise InvalidInput([Problem("update", "say what to change; --pin and --unpin stand alone")])
        async with session.call() as api:
            if pin is None:
                changed = await api.workflows.update(workflow_id, **changes)
            else:
                changed = await api.workflows.pin(workflow_id, pin)
        show_one(changed, as_json=as_json)
        await session.changed()

    talk(work)


@workflows_app.command()
def delete(workflow_id: Id, *, yes: Yes = False) -> None:
    """Delete a workflow; runs of its deployments are refused from then on.

    [dim]$ conveyor api workflows delete b0000000-0000-4000-8000-000000000001[/dim]
    """

    async def work(session: Session) -> int | None:
        name = None
        if not yes:
            async with session.call() as api:
                name = (await api.workflows.get(workflow_id)).name
        if not may_delete("workflow", name, workflow_id, yes=yes):
            return REFUSED
        async with session.call() as api:
            await api.workflows.delete(workflow_id)
        typer.echo("Deleted.")
        await session.changed()
        return None

    talk(work)
