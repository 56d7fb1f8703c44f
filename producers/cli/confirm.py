"""Ask before something cannot be taken back."""

import signal
import sys

import typer

from producers.cli.outcome import say


def agreed(question: str, *, unasked: str, refused: str) -> bool:
    """Whether a person at the terminal says yes. `unasked` is what to say where nobody sits, `refused` after a no.

    Raises KeyboardInterrupt for Ctrl-C.
    """
    if not sys.stdin.isatty():
        say(f"{unasked}: add --yes when nobody can be asked.")
        return False
    if _confirmed(question):
        return True
    say(refused)
    return False


def _confirmed(question: str) -> bool:
    # The loop's own handler of Ctrl-C waits for the next await; a person at a prompt means now.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, handler)
