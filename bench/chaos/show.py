"""What does the person in front of the screen see? A live panel on a terminal, a plain line now and then elsewhere."""

import time
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from bench.chaos.crowd import Crowd
from bench.chaos.injector import Injected
from bench.chaos.session import Options, Outcome
from bench.chaos.wards import Watcher

PLAIN_EVERY_SECONDS = 10.0
MOST_CASES = 10


class Display:
    """Progress while a run lasts. Use it as a context: the panel needs its terminal back."""

    def __init__(self, console: Console, seconds: float) -> None:
        self._console = console
        self._seconds = seconds
        self._live = Live(console=console, transient=True, refresh_per_second=4) if console.is_terminal else None
        self._told_at = 0.0

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, phase: str, seconds: float, crowd: Crowd, watcher: Watcher, injected: list[Injected]) -> None:
        """Say where the run is."""
        states = (
            ", ".join(f"{count} {state}" for state, count in watcher.states.items() if count) or "nothing under way"
        )
        line = f"{seconds:5.0f} of {self._seconds:.0f} s  {phase}  {len(crowd.accepted)} accepted: {states}"
        if self._live:
            table = Table.grid()
            table.add_row(line)
            for one in injected[-6:]:
                table.add_row(f"[dim]  {one.at:6.1f}s  {one.kind}: {one.detail}[/]")
            self._live.update(table)
        elif time.monotonic() - self._told_at >= PLAIN_EVERY_SECONDS:
            self._told_at = time.monotonic()
            last = injected[-1] if injected else None
            self._console.print(line, f"| {last.kind}: {last.detail}" if last else "", highlight=False, soft_wrap=True)


def print_outcome(console: Console, options: Options, outcome: Outcome) -> None:
    """The scorecard, what was injected, and for each broken number the jobs and the command that shows it again."""
    table = Table(title=f"chaos, {options.seconds:g} s, seed {options.seed}, intensity {options.intensity:g}")
    table.add_column("what")
    table.add_column("value", justify="right")
    table.add_column("limit", justify="right")
    for line in outcome.lines:
        value = f"{line.value:.1f}" if line.value % 1 else f"{line.value:g}"
        limit = "" if line.limit is None else f"{'≥' if line.at_least else '≤'} {line.limit:g}"
        style = "red bold" if line.broken else None
        table.add_row(line.name, value, limit, style=style)
    console.print(table)
    for name, value in outcome.told.items():
        console.print(f"  {name}: {value}", highlight=False, soft_wrap=True)
    kinds: dict[str, int] = {}
    for one in outcome.injected:
        kinds[one.kind] = kinds.get(one.kind, 0) + 1
    console.print("  injected:", ", ".join(f"{kind} {n}" for kind, n in sorted(kinds.items())), soft_wrap=True)
    simulated = ", ".join(f"{kind} {n}" for kind, n in outcome.simulated.items())
    console.print("  calls, runs and hooks hit:", simulated, highlight=False, soft_wrap=True)
    for text, count in outcome.log_errors.most_common(8):
        console.print(f"  [yellow]log x{count}:[/] {text}", highlight=False, soft_wrap=True)
    for line in outcome.broken:
        console.print(f"[red]{line.name}: {line.value:g}[/]")
        for case in line.cases[:MOST_CASES]:
            console.print(f"    {case}", highlight=False, soft_wrap=True)
    if outcome.broken:
        console.print(f"events of the jobs named: {options.folder / 'broken.json'}", soft_wrap=True)
    console.print(f"again: {options.replay}", highlight=False, soft_wrap=True)
