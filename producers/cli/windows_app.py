"""The commands of `conveyor window`."""

from typing import Annotated

import typer

from producers.cli.options import AsJson, Reason
from producers.cli.outcome import carry_out

windows_app = typer.Typer(
    name="window",
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="""Show how many jobs may be past the lanes at once, and set it live.

    There is a window for everybody, one for each user and one for each machine. What is set here holds for all workers
    from their next dispatch on, over restarts, until it is reset. Jobs that are past the lanes already stay there.

    [dim]$ conveyor window show[/dim]

    [dim]$ conveyor window set --per-user 5 --reason "a busy evening"[/dim]
    """,
)


@windows_app.command()
def show(as_json: AsJson = False) -> None:
    """Show every window, how much of it is in use, and what was set live.

    [dim]$ conveyor window show[/dim]
    """
    from producers.cli import windows  # noqa: PLC0415

    carry_out(lambda: windows.show(as_json=as_json))


@windows_app.command("set")
def set_(
    *,
    all_: Annotated[int | None, typer.Option("--all", metavar="N", help="Jobs of everybody at once.")] = None,
    per_user: Annotated[int | None, typer.Option(metavar="N", help="Jobs of one user at once.")] = None,
    user: Annotated[
        list[str] | None, typer.Option(metavar="FRONTEND:ID=N", help="Jobs of this one user. Repeatable.")
    ] = None,
    machine: Annotated[
        list[str] | None, typer.Option(metavar="ID=N", help="Jobs on this machine, as `show` names it. Repeatable.")
    ] = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Have other windows hold than the environment and the catalog say. What is not named stays as it is.

    [dim]$ conveyor window set --all 300 --machine 6f2c…=8 --reason "two more GPUs"[/dim]
    """
    from producers.cli import windows  # noqa: PLC0415

    wanted = windows.Wanted(all_, per_user, user or (), machine or ())
    carry_out(lambda: windows.set_(wanted, reason, as_json=as_json))


@windows_app.command()
def reset(reason: Reason = "", as_json: AsJson = False) -> None:
    """Have the environment's windows and the catalog's hold again.

    [dim]$ conveyor window reset[/dim]
    """
    from producers.cli import windows  # noqa: PLC0415

    carry_out(lambda: windows.reset(reason, as_json=as_json))
