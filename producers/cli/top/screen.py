"""How does a look become a screen? Lines that fit: nothing wraps, and what there is no room for is counted.

In 80 columns and 24 lines everything has its place; more lines go to the sections that have more to say.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from producers.cli.progress import COLOURS
from producers.cli.top.frame import Frame, SlowJob
from shared.jobs.states import JobState

#: A job past the lanes for longer than this is worth a second look, seconds.
SLOW_SECONDS = 300.0
STARVED_SECONDS = 20.0

#: Lines of each band of sections in the smallest screen: lanes and runs, machines and workers, slow jobs, failures.
LEAST = (4, 3, 4, 3)


@dataclass(frozen=True, slots=True)
class Size:
    """Of the terminal."""

    width: int
    height: int


def draw(frame: Frame, size: Size, trouble: str = "", hint: str = "") -> RenderableType:
    """The whole screen. `trouble` says why it may be out of date, `hint` how to leave it."""
    head = [*_head(frame, trouble, hint), *_pauses(frame)]
    bands = [
        (_lanes(frame), _flights(frame)),
        (_machines(frame), _workers(frame)),
        (_slow(frame),),
        (_failures(frame),),
    ]
    wanted = [max(len(section) for section in band) - 1 for band in bands]
    rooms = shares(size.height - len(head) - len(bands) - 1, wanted, LEAST)
    lines: list[RenderableType] = [_cut(line, size.width) for line in head]
    for band, room in zip(bands, rooms, strict=True):
        width = size.width if len(band) == 1 else (size.width - 2) // len(band)
        columns = [[_cut(line, width) for line in _fitted(section, room)] for section in band]
        if len(columns) == 1:
            lines += columns[0]
            continue
        grid = Table.grid(padding=(0, 2, 0, 0))
        for _ in columns:
            grid.add_column(width=width, no_wrap=True)
        for row in range(max(len(column) for column in columns)):
            grid.add_row(*(column[row] if row < len(column) else Text("") for column in columns))
        lines.append(grid)
    return Group(*lines)


def shares(room: int, wanted: Sequence[int], least: Sequence[int]) -> list[int]:
    """Lines for each band: what it wants, if all fit; else its least part, and the rest where it is wanted."""
    given = [min(want, small) for want, small in zip(wanted, least, strict=True)]
    while sum(given) > room and any(given):
        given[given.index(max(given))] -= 1
    left = room - sum(given)
    while left > 0 and any(want > has for want, has in zip(wanted, given, strict=True)):
        for place, want in enumerate(wanted):
            if left > 0 and want > given[place]:
                given[place] += 1
                left -= 1
    return given


def plain(text: str) -> str:
    """Text of others, without what a terminal would obey."""
    return "".join(character if character.isprintable() else " " for character in text)


def _cut(line: Text, width: int) -> Text:
    line = line.copy()
    line.truncate(width, overflow="ellipsis")
    line.no_wrap = True
    return line


def _fitted(section: list[Text], room: int) -> list[Text]:
    """A heading and as many lines as there is room for; the heading says how many are not shown."""
    heading, *rows = section
    hidden = len(rows) - room
    if hidden > 0:
        heading = Text.assemble(heading, (f"  {hidden} more", "dim"))
    return [heading, *rows[:room]]


def _heading(text: str) -> Text:
    return Text(text, style="bold cyan")


def _head(frame: Frame, trouble: str, hint: str) -> list[Text]:
    budget = frame.budget
    clock = time.strftime("%H:%M:%S", time.localtime(frame.at))
    if trouble:
        last = Text.assemble((f" {plain(trouble)} ", "bold white on red"), f"  as of {clock}")
    else:
        last = Text(f"{clock}   Redis {frame.latency_ms:.1f} ms   account {budget.account}   {hint}", style="dim")
    rate = f"{budget.now:.3g} calls/s"
    notes = [] if budget.factor > 0.999 else [f"slowed to {budget.factor:.0%} of {budget.rate:g} by 429s"]
    notes += ["rate set live"] if budget.rate_set else []
    notes += [f"closed for {budget.closed_seconds:.0f} s"] if budget.closed_seconds else []
    notes += [f"breaker {budget.breaker}"] if budget.breaker != "closed" else []
    calls = frame.calls or {}
    used = sum(calls.values())
    spent = f"{used:.1f} of {rate}" if calls else rate
    share = used / budget.now if budget.now else 0.0
    return [
        Text.assemble(("conveyor top  ", "bold"), last),
        Text.assemble(
            ("calls    ", "bold"),
            (spent, "yellow" if share > 0.9 else ""),
            f"   tokens {budget.tokens:.0f} of {budget.burst}   ",
            ("; ".join(notes), "bold red" if budget.closed_seconds or budget.breaker != "closed" else "yellow"),
        ),
        Text.assemble("         ", (_by_class(calls), "dim")),
        Text.assemble(
            ("jobs     ", "bold"),
            f"waiting {frame.waiting:,}   starting {frame.starting}   in flight {frame.in_flight:,}   ",
            (f"past the lanes {frame.past} of {frame.window}", "yellow" if frame.past >= frame.window else ""),
        ),
        Text.assemble(("ended    ", "bold"), *_ended(frame)),
    ]


def _by_class(calls: dict[str, float]) -> str:
    return "   ".join(f"{name} {rate:.1f}" for name, rate in calls.items()) or "by class: from the second look on"


def _ended(frame: Frame) -> list[str | tuple[str, str]]:
    if not frame.ended:
        return [("nothing in the last minute", "dim")]
    words: list[str | tuple[str, str]] = []
    for state, number in frame.ended.items():
        words += [(f"{state.replace('_', ' ')} {number:,}", COLOURS.get(JobState(state), "")), "   "]
    return [*words, ("in the last minute, and more" if frame.ended_at_least else "in the last minute", "dim")]


def _pauses(frame: Frame) -> list[Text]:
    if not frame.pauses:
        return []
    names = "; ".join(f"{pause.name} ({pause.who}, {_span(pause.seconds)}: {pause.reason})" for pause in frame.pauses)
    return [Text.assemble(("paused   ", "bold"), (plain(names), "bold yellow"))]


def _lanes(frame: Frame) -> list[Text]:
    rows = [
        Text.assemble(
            f"{lane.waiting + lane.aside:>7,}  ",
            (f"{lane.past:>3}/{lane.limit:<4}", "yellow" if lane.past >= lane.limit else ""),
            f" {plain(lane.user)}",
            ("  paused" if lane.paused or lane.aside else "", "yellow"),
        )
        for lane in frame.lanes
    ]
    return [_heading("waiting   past  user"), *(rows or [Text("nobody waits", style="dim")])]


def _flights(frame: Frame) -> list[Text]:
    rows = [
        Text.assemble(
            f"{flight.runs:>5,}  ",
            (f"{_look(flight.look_seconds):>7}", "red" if flight.look_seconds < -10 else ""),
            f"  {plain(flight.name)}",
        )
        for flight in frame.flights
    ]
    if frame.workflows > len(frame.flights):
        rows.append(Text(f"{frame.workflows - len(frame.flights)} more workflows", style="dim"))
    return [_heading(" runs     look  workflow"), *(rows or [Text("no runs in flight", style="dim")])]


def _look(seconds: float) -> str:
    return f"in {seconds:.0f} s" if seconds >= 0 else "now" if seconds > -2 else f"{-seconds:.0f} s late"


def _machines(frame: Frame) -> list[Text]:
    rows = [
        Text.assemble(
            (f"{machine.past:>7}/{machine.limit or '∞'}", "yellow" if 0 < machine.limit <= machine.past else ""),
            f"  {plain(machine.pool) or 'not known'}",
        )
        for machine in frame.machines
    ]
    return [_heading(" window  machine"), *(rows or [Text("no machine yet", style="dim")])]


def _workers(frame: Frame) -> list[Text]:
    rows = [
        Text.assemble(
            f"{worker.busy:>4}/{worker.slots:<3} {plain(worker.name)}",
            ("  draining" if worker.draining else "", "yellow"),
            (
                f"  starved {worker.starved_seconds:.0f} s" if worker.starved_seconds > STARVED_SECONDS else "",
                "bold red",
            ),
        )
        for worker in frame.workers
    ]
    heading = Text.assemble(
        _heading("slots   worker"), (f"  {frame.messages} messages wait" if frame.messages else "", "dim")
    )
    return [heading, *(rows or [Text("no worker is seen", style="bold red")])]


def _slow(frame: Frame) -> list[Text]:
    rows = [
        Text.assemble(
            (f"{_span(job.seconds):>7}  ", "yellow" if job.seconds > SLOW_SECONDS else ""),
            (f"{_state(job):<12} ", _colour(job.state)),
            f"{plain(job.job_id)}  {plain(job.workflow)}  {plain(job.user)}  {plain(job.progress)}",
        )
        for job in frame.slow
    ]
    return [_heading("longest past the lanes"), *(rows or [Text("none", style="dim")])]


def _failures(frame: Frame) -> list[Text]:
    rows = [
        Text.assemble(
            f"{_span(failure.seconds_ago):>7}  ",
            (f"{plain(failure.code or failure.state)}  ", "red"),
            f"{plain(failure.job_id)}  {plain(failure.workflow)}: {plain(failure.message)}",
        )
        for failure in frame.failures
    ]
    return [_heading("failed last, how long ago"), *(rows or [Text("none", style="dim")])]


def _state(job: SlowJob) -> str:
    if job.cancelling:
        return "cancelling"
    return job.state if job.fraction is None else f"{job.state} {job.fraction:.0%}"


def _colour(state: str) -> str:
    try:
        return COLOURS.get(JobState(state), "")
    except ValueError:
        return ""


def _span(seconds: float) -> str:
    """A time in at most six characters."""
    if seconds < 100:
        return f"{max(0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.0f} h"
