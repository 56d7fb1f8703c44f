"""The commands of `conveyor rate`."""

from typing import Annotated

import typer

from producers.cli.options import AsJson, Reason
from producers.cli.outcome import carry_out

rate_app = typer.Typer(
    name="rate",
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="""Show the budget of API calls, and set it live.

    It is one for all workers of an API key. What is set here holds from their next call on, until it is reset.

    [dim]$ conveyor rate show[/dim]

    [dim]$ conveyor rate set --per-second 4[/dim]
    """,
)


@rate_app.command()
def show(as_json: AsJson = False) -> None:
    """Show rate, burst, tokens, what the API's refusals left of them, and who asked how often.

    [dim]$ conveyor rate show[/dim]
    """
    from producers.cli import rate  # noqa: PLC0415

    carry_out(lambda: rate.show(as_json=as_json))


@rate_app.command("set")
def set_(
    *,
    per_second: Annotated[
        float | None, typer.Option(metavar="X", help="API calls a second, all workers together.")
    ] = None,
    burst: Annotated[
        int | None, typer.Option(metavar="N", help="API calls at once after a quiet time; 5 or more.")
    ] = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Have another rate or burst hold than the environment says. The other of the two stays as it is.

    [dim]$ conveyor rate set --per-second 4 --burst 10[/dim]
    """
    from producers.cli import rate  # noqa: PLC0415

    carry_out(lambda: rate.set_(per_second, burst, reason, as_json=as_json))


@rate_app.command()
def reset(reason: Reason = "", as_json: AsJson = False) -> None:
    """Have the environment's rate and burst hold again, undiminished by the 429s so far.

    [dim]$ conveyor rate reset[/dim]
    """
    from producers.cli import rate  # noqa: PLC0415

    carry_out(lambda: rate.reset(reason, as_json=as_json))
