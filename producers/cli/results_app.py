"""The commands of `conveyor results`. Without one of their names it lists: `conveyor results web` is `… list web`."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from producers.cli.options import AsJson, Reason, user
from producers.cli.outcome import REFUSED, carry_out, say

Frontend = Annotated[str, typer.Argument(metavar="FRONTEND", help="Whose stream: telegram, discord, web, cli, …")]
OfGroup = Annotated[str | None, typer.Option("--group", help="Only those this consumer group gave up on.")]


class _ListsByDefault(TyperGroup):
    """Takes a first word that is no command for a frontend to list."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["list", *args]
        return super().parse_args(ctx, args)


results_app = typer.Typer(
    name="results",
    cls=_ListsByDefault,
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="""List a frontend's events, follow or take them; list dead letters and replay them.

    [dim]$ conveyor results telegram --last 50[/dim]

    [dim]$ conveyor results web --follow[/dim]

    [dim]$ conveyor results dead telegram[/dim]
    """,
)


@results_app.command("list")
def list_(
    *,
    frontend: Frontend,
    last: Annotated[int, typer.Option(min=0, max=100_000, help="How many of the last events.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with new events until Ctrl-C.")] = False,
    group: Annotated[str | None, typer.Option(help="Take from this group, and acknowledge what was printed.")] = None,
    consumer: Annotated[str | None, typer.Option(help="Our name in the group.", show_default="cli-you")] = None,
    as_json: AsJson = False,
) -> None:
    """List a frontend's last events, follow them, or take them from a consumer group. The word `list` may be left out.

    [dim]$ conveyor results telegram --last 50[/dim]

    [dim]$ conveyor results web --group mirror --json > events.jsonl[/dim]
    """
    from producers.cli import results as listing  # noqa: PLC0415

    if consumer and not group:
        say("--consumer: needs --group")
        raise typer.Exit(REFUSED)
    if group:
        name = consumer or f"cli-{user()}"
        carry_out(lambda: listing.take(frontend, group, name, endless=follow, as_json=as_json))
    else:
        carry_out(lambda: listing.show(frontend, last=last, follow=follow, as_json=as_json))


@results_app.command()
def dead(
    *,
    frontend: Frontend,
    last: Annotated[int, typer.Option(min=0, max=100_000, help="How many of the last letters.")] = 100,
    group: OfGroup = None,
    as_json: AsJson = False,
) -> None:
    """List events that could not be delivered: when, job, number, type, reason, group, deliveries.

    [dim]$ conveyor results dead telegram[/dim]
    """
    from producers.cli.dead import show  # noqa: PLC0415

    carry_out(lambda: show(frontend, last=last, group=group, as_json=as_json))


@results_app.command()
def replay(
    *,
    frontend: Frontend,
    entries: Annotated[list[str] | None, typer.Argument(metavar="[ENTRY_ID...]", help="As `dead` lists them.")] = None,
    job: Annotated[str | None, typer.Option(metavar="ID", help="All of this job.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All there are.")] = False,
    group: OfGroup = None,
    reason: Reason = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Give dead letters back to the group that gave up on them, in the order of each job.

    The group gets them as the events they were, with the same job and number. Events of the job it has taken since
    then stay taken, so a replayed one may be older than the last one seen. Other groups hear of it only if the event
    had been trimmed from the stream: then everybody reads a copy at its end.

    [dim]$ conveyor results replay telegram 1795219109256-0[/dim]

    [dim]$ conveyor results replay telegram --job 01a1fb53-46e4-776d-bf0b-5f53bbbc6b8d[/dim]

    [dim]$ conveyor results replay telegram --all --yes[/dim]
    """
    from producers.cli import dead as letters  # noqa: PLC0415

    choice = letters.Choice(entries or (), job, all_, group)
    carry_out(lambda: letters.replay(frontend, choice, reason, yes=yes, as_json=as_json))
