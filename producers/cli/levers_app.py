"""The commands of operators that change what a running installation does. Each is written into `conveyor audit`."""

from typing import Annotated

import typer

from producers.cli.options import AsJson, Reason
from producers.cli.outcome import carry_out

levers_app = typer.Typer()

Workflow = Annotated[str | None, typer.Option("--workflow", help="Only this workflow: its name, or its id.")]
User = Annotated[str | None, typer.Option("--user", help="Only this user, as FRONTEND:ID.")]
Frontend = Annotated[str | None, typer.Option("--frontend", help="Only this frontend.")]
PANEL = "For operators"


@levers_app.command(rich_help_panel=PANEL)
def pause(
    *,
    workflow: Workflow = None,
    user: User = None,
    frontend: Frontend = None,
    reason: Annotated[str, typer.Option("--reason", help="Why. Those whose jobs wait read it.")],
    as_json: AsJson = False,
) -> None:
    """Let no job out of its lane: of everybody, or of one workflow, user or frontend.

    Paused jobs keep their place and can be cancelled; the clock of their queue timeout stands still. Runs that exist go
    on and are delivered. New jobs are accepted, and wait, too. It holds until it is resumed, over restarts.

    [dim]$ conveyor pause --reason "the API is being moved"[/dim]

    [dim]$ conveyor pause --workflow "SDXL Portrait" --reason "its model is broken"[/dim]
    """
    from producers.cli import pauses  # noqa: PLC0415

    carry_out(lambda: pauses.pause(pauses.Chosen(workflow, user, frontend), reason, as_json=as_json))


@levers_app.command(rich_help_panel=PANEL)
def resume(
    *,
    workflow: Workflow = None,
    user: User = None,
    frontend: Frontend = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """End a pause: say the same as when it was paused. What else is paused stays so.

    [dim]$ conveyor resume --workflow "SDXL Portrait"[/dim]
    """
    from producers.cli import pauses  # noqa: PLC0415

    carry_out(lambda: pauses.resume(pauses.Chosen(workflow, user, frontend), reason, as_json=as_json))


@levers_app.command("pauses", rich_help_panel=PANEL)
def pauses_(as_json: AsJson = False) -> None:
    """List what is paused: since when, by whom, why.

    [dim]$ conveyor pauses[/dim]
    """
    from producers.cli import pauses  # noqa: PLC0415

    carry_out(lambda: pauses.show(as_json=as_json))


@levers_app.command(rich_help_panel=PANEL)
def drain(
    worker: Annotated[str, typer.Argument(metavar="WORKER", help="Its node name, as `conveyor doctor` shows it.")],
    *,
    undo: Annotated[bool, typer.Option("--undo", help="Have it take work again.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Stop it when nothing is under way.")] = False,
    wait: Annotated[float, typer.Option(metavar="SECONDS", min=0, max=3600, help="How long to wait for that.")] = 30.0,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Have a worker take nothing new: no submits, no looks, no upkeep. It finishes what is under way, and idles.

    What it follows needs no hand-over: the other workers look at it when it is due. It holds for this process: a worker
    that starts, as a supervisor does after --stop, takes work; to keep it away, stop it where it was started.
    Exit code 3: not everything was finished in time; it goes on draining.

    [dim]$ conveyor drain w1@host --reason "a new version"[/dim]

    [dim]$ conveyor drain w1@host --undo[/dim]
    """
    from producers.cli import drains  # noqa: PLC0415

    carry_out(lambda: drains.drain(worker, reason, undo=undo, stop=stop, wait_seconds=wait, as_json=as_json))


@levers_app.command(rich_help_panel=PANEL)
def requeue(
    job_id: Annotated[str, typer.Argument(metavar="JOB_ID")],
    *,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Have a stuck job taken up again, wherever it is stuck. It never makes a second paid run.

    A job that was dispatched or submitting is taken up by a worker within seconds; if a run of it may exist, that is looked
    for and adopted, and only when it cannot appear any more the job is posted again. A job with a run has it looked at.
    A job that has ended stays ended: enqueue it again.

    [dim]$ conveyor requeue 01a1fb4b-efc2-79a1-94b1-f3ed4809d12e[/dim]
    """
    from producers.cli import stuck  # noqa: PLC0415

    carry_out(lambda: stuck.requeue(job_id, reason, as_json=as_json))


@levers_app.command(rich_help_panel=PANEL)
def fail(
    job_id: Annotated[str, typer.Argument(metavar="JOB_ID")],
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why. It stands in the job's error.")],
    as_json: AsJson = False,
) -> None:
    """End a stuck job as failed, at once, and cancel its run upstream.

    The user gets the one final event. Workers cancel the run and ask again until it is over; if it is not known whether
    there is one, they look for it. To stop a job that is not stuck, `conveyor cancel` is kinder: a run that succeeds
    first is then delivered.

    [dim]$ conveyor fail 01a1fb4b-efc2-79a1-94b1-f3ed4809d12e --reason "the machine was deleted"[/dim]
    """
    from producers.cli import stuck  # noqa: PLC0415

    carry_out(lambda: stuck.fail(job_id, reason, as_json=as_json))


@levers_app.command(rich_help_panel=PANEL)
def erase(
    *,
    frontend: Annotated[str, typer.Option("--frontend", help="Whose user.")],
    user: Annotated[str, typer.Option("--user", help="The id that frontend gave.")],
    wait: Annotated[float, typer.Option(metavar="SECONDS", min=0, max=3600, help="For open jobs to end.")] = 60.0,
    reason: Reason = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Erase what is kept of a user: jobs, events, dead letters, archived outputs, idempotency keys, uploads, lanes.

    Open jobs are cancelled first; one that does not end in time keeps its record, and the exit code is 3: erase again then.
    Events nobody has read yet go, too. It says what it cannot reach: runs upstream, logs, backups.

    [dim]$ conveyor erase --frontend telegram --user 42 --reason "asked for by mail"[/dim]
    """
    from producers.cli import erase as erasing  # noqa: PLC0415

    carry_out(lambda: erasing.erase(frontend, user, reason, yes=yes, wait_seconds=wait, as_json=as_json))


@levers_app.command(rich_help_panel=PANEL)
def audit(
    *,
    last: Annotated[int, typer.Option(min=1, max=10_000, help="How many of the last acts.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List what operators changed: when, who, what, why. JSON tells before and after as well.

    [dim]$ conveyor audit --last 10[/dim]

    [dim]$ conveyor audit --json | jq 'select(.action == "pause")'[/dim]
    """
    from producers.cli import audit as acts  # noqa: PLC0415

    carry_out(lambda: acts.show(last, as_json=as_json))
