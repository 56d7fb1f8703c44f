"""Keep the screen up to date until q or Ctrl-C, whatever Redis does, and leave the terminal as it was.

Looking and drawing are two tasks: while Redis does not answer, the screen goes on saying for how long.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from producers.cli.outcome import OK
from producers.cli.top.frame import Frame
from producers.cli.top.reading import Reader
from producers.cli.top.screen import Size, draw
from shared.database import Database
from shared.errors import Unavailable
from shared.settings import Settings

#: A look that takes longer is given up; an answer that is older than twice the rhythm and this is called old.
LOOK_SECONDS = 5.0
OLD_SECONDS = 2.0
#: Pause between attempts while Redis is away, at most.
LONGEST_PAUSE_SECONDS = 5.0
#: How often the screen is drawn: the age of the last answer counts up.
DRAW_SECONDS = 0.25
HINT = "q ends it"


class Screen:
    """The last look, what has gone wrong since, and whether somebody wants to leave."""

    def __init__(self, reader: Reader, seconds: float) -> None:
        self._reader = reader
        self._seconds = seconds
        self._frame: Frame | None = None
        self._heard_at = time.monotonic()
        self._error = ""
        self.leave = asyncio.Event()

    async def look_on(self) -> None:
        """Look again and again; less often while Redis is away."""
        failures = 0
        while True:
            began = time.monotonic()
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    self._frame = await self._reader.look()
                failures, self._error, self._heard_at = 0, "", time.monotonic()
            except (Unavailable, TimeoutError) as error:
                failures += 1
                self._error = str(error) or f"Redis does not answer within {LOOK_SECONDS:.0f} s"
            pause = self._seconds
            if failures:
                pause = min(LONGEST_PAUSE_SECONDS, self._seconds * 2 ** (failures - 1)) * random.uniform(0.5, 1.0)
            await asyncio.sleep(max(0.0, began + pause - time.monotonic()))

    @property
    def _trouble(self) -> str:
        age = time.monotonic() - self._heard_at
        if self._error:
            return f"{self._error}; nothing heard for {age:.0f} s, asking again"
        return f"Redis has not answered for {age:.0f} s" if age > OLD_SECONDS + 2 * self._seconds else ""

    async def draw_on(self, console: Console) -> None:
        """Draw until somebody leaves."""
        with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
            while not self.leave.is_set():
                size = Size(console.size.width, console.size.height)
                if self._frame is None:
                    live.update(Text(f"conveyor top  {self._trouble or 'looking …'}   {HINT}"), refresh=True)
                else:
                    live.update(draw(self._frame, size, self._trouble, HINT), refresh=True)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(DRAW_SECONDS):
                        await self.leave.wait()


async def top(*, once: bool, seconds: float, as_json: bool) -> int:
    """One look printed, a line of JSON for each, or the screen; the last two until Ctrl-C. Raises `Unavailable` for the first."""
    settings = Settings.from_env()
    console = Console()
    async with Database.open(settings.redis_url) as database:
        reader = Reader(database, settings)
        if once or as_json or not console.is_terminal:
            while True:
                frame = await reader.look()
                if as_json:
                    typer.echo(json.dumps(frame.snapshot(), ensure_ascii=False))
                else:
                    console.print(draw(frame, Size(console.size.width, 1_000)), highlight=False)
                if once or not as_json:
                    return OK
                await asyncio.sleep(seconds)
        screen = Screen(reader, seconds)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, screen.leave.set)
        looking = asyncio.create_task(screen.look_on())
        # It ends only by a mistake, or a Redis that refuses us: that is raised below.
        looking.add_done_callback(lambda _: screen.leave.set())
        try:
            with _keys(screen.leave):
                await screen.draw_on(console)
        finally:
            looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await looking
            loop.remove_signal_handler(signal.SIGTERM)
    return OK


@contextlib.contextmanager
def _keys(leave: asyncio.Event) -> Iterator[None]:
    """Have q leave, without Enter and without showing what is typed; afterwards the terminal is as it was."""
    if not sys.stdin.isatty():
        yield
        return
    descriptor, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    before = termios.tcgetattr(descriptor)

    def typed() -> None:
        keys = os.read(descriptor, 64)
        if not keys or b"q" in keys.lower():  # nothing: the terminal has gone
            leave.set()

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, typed)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
