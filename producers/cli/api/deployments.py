"""`conveyor api deployments`: which version of a workflow runs where."""

from typing import Annotated

import typer

from producers.cli.api.options import MachineId, Yes, given, group, may_delete
from producers.cli.api.session import Session, talk
from producers.cli.api.told import list_all, show_fields, show_one
from producers.cli.options import AsJson
from producers.cli.outcome import REFUSED
from shared.errors import InvalidInput, NotFound, Problem

deployments_app = group(
    "deployments",
    """Deployments: a version of a workflow on a machine, under an environment. Jobs run on deployments.

    [dim]$ conveyor api deployments list --environment production[/dim]

    [dim]$ conveyor api deployments put b0000000-… --environment staging --machine a0000000-…[/dim]
    """,
)

Id = Annotated[str, typer.Argument(metavar="DEPLOYMENT_ID")]
MachineVersion = Annotated[
    str | None, typer.Option("--machine-version", metavar="ID", help="A version of a machine, instead of --machine.")
]
HEADINGS = {
    "deployment": "id",
    "workflow": "workflow_name",
    "environment": "environment",
    "version": "version",
    "machine": "machine_id",
    "own image": "is_fluid",
}


@deployments_app.command("list")
def list_(
    *,
    environment: Annotated[str | None, typer.Option(help="Only of this one: production, staging, preview, …")] = None,
    workflow: Annotated[
        str | None, typer.Option(metavar="ID", help="Only of this workflow; one call, not two.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List deployments, newest first, with and without an image of their own. Two calls, since the API shows one half at a time.

    [dim]$ conveyor api deployments list --environment production[/dim]
    """

    async def work(session: Session) -> None:
        if workflow is None:
            async with session.call(count=2) as api:
                found = await api.deployments.list(environment)
        else:
            async with session.call() as api:
                listed = await api.deployments.list_by_workflow(workflow)
            found = tuple(one for one in listed if environment in (None, one.environment))
        list_all(found, HEADINGS, as_json=as_json)

    talk(work)


@deployments_app.command()
def get(deployment_id: Id, *, as_json: AsJson = False) -> None:
    """Show one deployment and what it takes; with `--json` its graphs, too.

    [dim]$ conveyor api deployments get d0000000-0000-4000-8000-000000000001[/dim]
    """

    async def work(session: Session) -> None:
        async with session.call() as api:
            found = await api.deployments.get(deployment_id)
        if as_json:
            show_one(found, as_json=True)
            return
        inputs = [f"{one.input_id} ({one.type})" for one in found.input_types or ()]
        show_fields(
            {
                "deployment": found.id,
                "workflow": f"{found.workflow_name} ({found.workflow_id})",
                "environment": found.environment,
                "version": f"{found.version} ({found.workflow_version_id})",
                "machine": found.machine_id,
                "own_image": found.is_fluid,
                "gpu": found.gpu,
                "containers": found.concurrency_limit,
                "run_timeout": found.run_timeout_seconds and f"{found.run_timeout_seconds:g} s",
                "description": found.description,
                "inputs": ", ".join(inputs),
                "changed": found.updated_at,
            }
        )

    talk(work)


@deployments_app.command()
def put(
    workflow_id: Annotated[str, typer.Argument(metavar="WORKFLOW_ID")],
    *,
    environment: Annotated[str, typer.Option(help="production, staging, preview, public-share, …")],
    version: Annotated[
        str | None, typer.Option(metavar="ID_OR_NUMBER", help="Which version.", show_default="the latest")
    ] = None,
    machine: MachineId = None,
    machine_version: MachineVersion = None,
    deployment: Annotated[
        str | None, typer.Option(metavar="ID", help="Change this one, instead of the environment's.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a deployment, or change the one this workflow has in this environment (the API calls it an upsert).

    A repeat changes nothing. Asking for the latest version, or one by number, costs a call more.

    [dim]$ conveyor api deployments put b0000000-… --environment production --machine a0000000-… --version 3[/dim]
    """

    async def work(session: Session) -> None:
        version_id = await _version_id(session, workflow_id, version)
        async with session.call() as api:
            made = await api.deployments.put(
                workflow_id,
                version_id,
                environment,
                machine_id=machine,
                machine_version_id=machine_version,
                deployment_id=deployment,
            )
        show_one(made, as_json=as_json)
        await session.changed()

    talk(work)


async def _version_id(session: Session, workflow_id: str, version: str | None) -> str:
    if version is not None and not version.isdecimal():
        return version
    async with session.call() as api:
        if version is not None:
            return (await api.versions.get_by_number(workflow_id, int(version))).id
        latest = (await api.workflows.get(workflow_id)).latest
    if latest is None:
        raise NotFound("This workflow has no version that could be deployed.")
    return latest.id


@deployments_app.command()
def update(
    deployment_id: Id,
    *,
    version: Annotated[str | None, typer.Option(metavar="ID", help="Another version, by its id.")] = None,
    machine: MachineId = None,
    machine_version: MachineVersion = None,
    gpu: Annotated[str | None, typer.Option(help="T4, L4, A10G, L40S, A100, H100, …")] = None,
    containers: Annotated[int | None, typer.Option(min=1, help="Containers at once.")] = None,
    run_timeout: Annotated[int | None, typer.Option(min=1, metavar="SECONDS", help="Longest run.")] = None,
    idle_timeout: Annotated[
        int | None, typer.Option(min=0, metavar="SECONDS", help="A container idles so long.")
    ] = None,
    keep_warm: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Containers that stay up; they cost.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change what is given of a deployment; the API may deploy it anew.

    [dim]$ conveyor api deployments update d0000000-… --gpu H100 --run-timeout 7200[/dim]
    """
    changes = given(
        workflow_version_id=version,
        machine_id=machine,
        machine_version_id=machine_version,
        gpu=gpu,
        concurrency_limit=containers,
        run_timeout_seconds=run_timeout,
        idle_timeout_seconds=idle_timeout,
        keep_warm=keep_warm,
    )

    async def work(session: Session) -> None:
        if not changes:
            raise InvalidInput([Problem("update", "say what to change")])
        async with session.call() as api:
            changed = await api.deployments.update(deployment_id, **changes)
        show_one(changed, as_json=as_json)
        await session.changed()

    talk(work)


@deployments_app.command()
def delete(deployment_id: Id, *, yes: Yes = False) -> None:
    """Delete a share. Other deployments cannot be deleted: the API refuses; delete the workflow, or put another version.

    [dim]$ conveyor api deployments delete d0000000-0000-4000-8000-000000000018[/dim]
    """

    async def work(session: Session) -> int | None:
        if not may_delete("deployment", None, deployment_id, yes=yes):
            return REFUSED
        async with session.call() as api:
            await api.deployments.delete(deployment_id)
        typer.echo("Deleted.")
        await session.changed()
        return None

    talk(work)


@deployments_app.command()
def deactivate(deployment_id: Id, *, as_json: AsJson = False) -> None:
    """Take down the app that a deployment with an image of its own has on the GPU side.

    [dim]$ conveyor api deployments deactivate d0000000-0000-4000-8000-000000000002[/dim]
    """

    async def work(session: Session) -> None:
        async with session.call() as api:
            changed = await api.deployments.deactivate(deployment_id)
        show_one(changed, as_json=as_json)
        await session.changed()

    talk(work)
