"""Options several commands share, and who is typing."""

import getpass
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


def user() -> str:
    """The name of the account on this machine."""
    try:
        return getpass.getuser()
    except OSError:
        return "cli"
