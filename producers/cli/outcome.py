"""How does a command end? One place turns what happened into lines on stderr and an exit code.

0 ok    1 a job failed    2 usage, or refused input    3 unavailable    130 stopped with Ctrl-C
"""

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import typer

from shared.errors import ConveyorError, GiveUp, InvalidInput, MissingSetting

OK, JOB_FAILED, REFUSED, UNAVAILABLE, STOPPED = 0, 1, 2, 3, 130


def lines_of(error: Exception) -> list[str]:
    """One line for each problem, none with a traceback."""
    if isinstance(error, InvalidInput):
        return [f"{problem.field}: {problem.reason}" for problem in error.problems]
    return [" ".join(str(error).split())]


def code_of(error: Exception) -> int:
    """The exit code an error stands for."""
    return REFUSED if isinstance(error, GiveUp | MissingSetting) else UNAVAILABLE


def say(*lines: str) -> None:
    """Say something that is not the command's output."""
    for line in lines:
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - this is what a command line is for


def carry_out(work: Callable[[], Coroutine[Any, Any, int]], *, on_stop: Callable[[], list[str]] = list) -> None:
    """Run a command's work and leave with its exit code. `on_stop` says what to tell after Ctrl-C."""
    # Warnings of the library are for services; a person gets one line about what went wrong.
    logging.getLogger().setLevel(logging.CRITICAL)
    try:
        code = asyncio.run(work())
    except KeyboardInterrupt:
        say(*on_stop())
        code = STOPPED
    except ConveyorError as error:
        say(*lines_of(error))
        code = code_of(error)
    except BrokenPipeError:  # who read our output (`| head`) has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = OK
    except Exception as error:
        from shared.database import REDIS_AWAY  # noqa: PLC0415 - `--help` must not wait for the Redis client

        if not isinstance(error, REDIS_AWAY):
            raise
        say(f"Redis is away: {type(error).__name__}. Check REDIS_URL, or run: conveyor doctor")
        code = UNAVAILABLE
    raise typer.Exit(code)
