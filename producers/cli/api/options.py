"""Options and questions that the commands of `conveyor api` share."""

from pathlib import Path
from typing import Annotated, Any

import typer

from producers.cli.confirm import agreed

Search = Annotated[str | None, typer.Option(metavar="TEXT", help="A part of the name, in any case.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="How many at the most.")]
Offset = Annotated[int, typer.Option(min=0, help="Leave out so many, for the next page.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
GraphFiles = Annotated[
    list[Path],
    typer.Argument(metavar="FILE...", help="What ComfyUI's Save and Export (API) wrote, or one file with both."),
]
MachineId = Annotated[str | None, typer.Option("--machine", metavar="ID", help="On which machine.")]


def group(name: str, help_: str) -> typer.Typer:
    """A group of commands that shows its help when it is called alone."""
    return typer.Typer(name=name, no_args_is_help=True, rich_markup_mode="rich", help=help_)


def may_delete(what: str, name: str | None, id_: str, *, yes: bool) -> bool:
    """Whether something is to be deleted: `--yes` was said, or a person agrees."""
    called = f"the {what} {name!r} ({id_})" if name else f"the {what} {id_}"
    return yes or agreed(
        f"Delete {called}?", unasked=f"{called[0].upper()}{called[1:]} would be deleted", refused="Nothing was deleted."
    )


def given(**options: Any) -> dict[str, Any]:
    """The options that were said."""
    return {name: value for name, value in options.items() if value is not None}
