"""`conveyor api runs`: what the API carries out, ours or not. Jobs are `conveyor enqueue`, `status`, `cancel`."""

from contextlib import AsyncExitStack
from typing import Annotated

import typer

from producers.cli.api.options import Limit, Offset, group
from producers.cli.api.session import Session, talk
from producers.cli.api.told import list_all, print_json, show_fields, show_one
from producers.cli.inputs import read_inputs
from producers.cli.options import AsJson
from producers.cli.outcome import REFUSED, say
from shared.errors import InvalidInput, Problem

runs_app = group(
    "runs",
    """Runs as the API sees them: list, read, follow, cancel, start one without a job.

    [dim]$ conveyor api runs list --workflow b0000000-0000-4000-8000-000000000001[/dim]

    [dim]$ conveyor api runs reasons b0000000-0000-4000-8000-000000000001[/dim]
    """,
)

Id = Annotated[str, typer.Argument(metavar="RUN_ID")]
WorkflowId = Annotated[str, typer.Argument(metavar="WORKFLOW_ID")]
HEADINGS = {"run": "id", "status": "status", "created": "created_at", "ended": "ended_at", "seconds": "run_seconds"}


@runs_app.command("list")
def list_(
    *,
    workflow: Annotated[str | None, typer.Option(metavar="ID", help="Of this workflow.")] = None,
    deployment: Annotated[str | None, typer.Option(metavar="ID", help="Of this deployment.")] = None,
    status: Annotated[
        str | None, typer.Option(help="Only of this one, with --workflow: success, failed, running, …")
    ] = None,
    limit: Limit = 20,
    offset: Offset = 0,
    as_json: AsJson = False,
) -> None:
    """List the runs of a workflow or of a deployment, newest first.

    [dim]$ conveyor api runs list --workflow b0000000-… --status failed[/dim]
    """

    async def work(session: Session) -> None:
        from shared.comfydeploy import RunStatus  # noqa: PLC0415 - brings the HTTP client

        if workflow is None and deployment is None:
            raise InvalidInput([Problem("list", "say of what: --workflow ID, --deployment ID, or both")])
        wanted = RunStatus.of(status) if status else None
        if status and (wanted is None or workflow is None):
            words = ", ".join(RunStatus)
            raise InvalidInput([Problem("--status", f"goes with --workflow and is one of: {words}")])
        async with session.call("look") as api:
            if workflow is None:
                found = await api.runs.list_by_deployment(deployment or "", limit=limit, offset=offset)
            else:
                found = await api.runs.list_by_workflow(
                    workflow, deployment_id=deployment, status=wanted, limit=limit, offset=offset
                )
        list_all(found, HEADINGS, as_json=as_json, limit=limit)

    talk(work)


@runs_app.command()
def get(run_id: Id, *, as_json: AsJson = False) -> None:
    """Show one run with what it has made so far.

    [dim]$ conveyor api runs get 7a2fcaf1-3a52-4b1a-93af-6845c64b2939[/dim]
    """

    async def work(session: Session) -> None:
        async with session.call("look") as api:
            run = await api.runs.get(run_id, queue_position=True)
        if as_json:
            show_one(run, as_json=True)
            return
        show_fields(
            {
                "run": run.id,
                "status": run.status,
                "workflow": run.workflow_id,
                "inputs": run.workflow_inputs,
                "progress": None if run.progress is None else f"{run.progress:.0%} {run.live_status or ''}".strip(),
                "queue": run.queue_position,
                "gpu": run.gpu,
                "created": run.created_at,
                "started": run.started_at,
                "ended": run.ended_at,
                "seconds": run.run_seconds,
            }
        )
        for output in run.outputs:
            for name, items in output.data.items():
                for item in items:
                    typer.echo(f"{name:<8}  {getattr(item, 'url', item)}")

    talk(work)


@runs_app.command()
def submit(
    deployment: Annotated[str, typer.Argument(metavar="DEPLOYMENT_ID")],
    *,
    input_: Annotated[
        list[str] | None, typer.Option("--input", metavar="NAME=VALUE", help="An input, as JSON or text. Repeatable.")
    ] = None,
    gpu: Annotated[str | None, typer.Option(help="Another GPU than the machine's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Start a run without a job and print its id. It is paid for, nobody hears of its end, and a repeat starts another.

    [dim]$ conveyor api runs submit d0000000-0000-4000-8000-000000000001 --input prompt="a fox"[/dim]
    """

    async def work(session: Session) -> None:
        inputs = read_inputs(input_ or [])
        async with session.call("submit") as api:
            run_id = await api.runs.submit(deployment, inputs, gpu=gpu)
        if as_json:
            print_json({"id": run_id})
        else:
            typer.echo(run_id)

    talk(work)


@runs_app.command()
def cancel(run_id: Id) -> None:
    """Ask for a run to be cancelled. The answer proves nothing: read the run. For a job it is `conveyor cancel`.

    [dim]$ conveyor api runs cancel 7a2fcaf1-3a52-4b1a-93af-6845c64b2939[/dim]
    """

    async def work(session: Session) -> int | None:
        from shared.comfydeploy import CancelAnswer  # noqa: PLC0415

        async with session.call("cancel") as api:
            answer = await api.runs.cancel(run_id)
        if answer is CancelAnswer.ACCEPTED:
            typer.echo("Cancellation asked for.")
            return None
        say(
            "There was nothing to cancel: no such run, one on a machine of your own, or one too fresh. Try again, or read it."
        )
        return REFUSED

    talk(work)


@runs_app.command()
def reasons(workflow_id: WorkflowId, *, as_json: AsJson = False) -> None:
    """Say why runs of a workflow failed, among its newest fifty; reading a single run does not tell.

    [dim]$ conveyor api runs reasons b0000000-0000-4000-8000-000000000001[/dim]
    """

    async def work(session: Session) -> None:
        async with session.call("look") as api:
            found = await api.runs.failure_reasons(workflow_id)
        for run_id, reason in found.items():
            if as_json:
                print_json({"id": run_id, "reason": reason})
            else:
                typer.echo(f"{run_id}  {reason or 'The API has no reason.'}")
        if not found:
            say("None of the newest runs has failed.")

    talk(work)


@runs_app.command()
def follow(
    workflow_id: WorkflowId,
    *,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many events.", show_default="Ctrl-C")] = None,
    as_json: AsJson = False,
) -> None:
    """Listen to what the API says about a workflow's runs as it happens. Hints only: events may be missing or wrong.

    [dim]$ conveyor api runs follow b0000000-0000-4000-8000-000000000001[/dim]
    """

    async def work(session: Session) -> None:
        told = 0
        async with AsyncExitStack() as stack:
            async with session.call("look") as api:
                events = await stack.enter_async_context(api.progress.of_workflow(workflow_id))
            async for event in events:
                if as_json:
                    print_json({"id": event.run_id, "status": event.status, "live_status": event.live_status})
                else:
                    typer.echo(f"{event.run_id}  {event.status or '':<10}  {event.live_status or ''}".rstrip())
                told += 1
                if told == count:
                    return

    talk(work)
