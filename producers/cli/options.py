"""Options several commands share, and who is typing."""

import getpass
import socket
from typing import Annotated

import typer

Reason = Annotated[str, typer.Option("--reason", help="Why, for the audit.", show_default=False)]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


def operator() -> str:
    """Who pulls a lever here, for the audit."""
    return f"{user()}@{socket.gethostname()}"


def user() -> str:
    """The name of the account on this machine."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have a number and no name: KeyError before Python 3.13
        return "cli"
