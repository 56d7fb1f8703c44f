"""How do people and programs see jobs move? A live table on a terminal, a line for each event elsewhere, or JSON."""

import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from shared.jobs.event import Event, QueuePlace
from shared.jobs.states import JobState

COLOURS = {
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "red",
    JobState.TIMED_OUT: "red",
    JobState.EXPIRED: "red",
    JobState.CANCELLED: "yellow",
    JobState.RUNNING: "cyan",
}


class Display(Protocol):
    """Shows events as they come."""

    def tell(self, event: Event) -> None: ...
    def place(self, job_id: str, place: QueuePlace | None) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


def detail(event: Event) -> str:
    """What there is to say about an event besides its state."""
    if event.error is not None:
        return event.error.message
    if event.result is not None:
        shown = [output.url or output.text or output.filename or output.key for output in event.result.outputs]
        return "  ".join(shown)
    if event.progress is not None:
        fraction = event.progress.fraction
        percent = "" if fraction is None else f"{fraction:.0%}"
        return f"{percent} {event.progress.text or ''}".strip()
    if event.queue is not None and event.state is JobState.QUEUED:
        return f"position {event.queue.position}, {event.queue.ahead} ahead{_paused(event.queue)}"
    return f"run {event.run_id}" if event.run_id else ""


def _paused(place: QueuePlace) -> str:
    return f", paused: {place.paused}" if place.paused else ""


def left(event: Event) -> str:
    """How long it will still take, at the most in four of five cases; empty when nobody knows, or that time is over."""
    if event.final or event.eta_seconds is None:
        return ""
    seconds = event.eta_seconds - (datetime.now(UTC) - event.at).total_seconds()
    return f"≤ {seconds:.0f} s" if seconds >= 1 else ""


class Lines:
    """A line for each event: time, job, state, detail."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def tell(self, event: Event) -> None:
        """Print the event."""
        clock = event.at.astimezone().strftime("%H:%M:%S")
        line = f"{clock} {event.job_id} {event.state.value:<10} {detail(event)}".rstrip()
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def place(self, job_id: str, place: QueuePlace | None) -> None:
        """Say nothing: the first event told the place, and a log need not see every step."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class JsonLines(Lines):
    """A line of JSON for each event, or for the final ones only."""

    def __init__(self, console: Console, *, final_only: bool = False) -> None:
        super().__init__(console)
        self._final_only = final_only

    def tell(self, event: Event) -> None:
        """Print the event as it is on the stream."""
        if event.final or not self._final_only:
            text = json.dumps(event.model_dump(mode="json", by_alias=True), ensure_ascii=False)
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveTable:
    """A row for each job: state, place or progress, seconds, outcome. Jobs that run stand first when all do not fit."""

    def __init__(self, console: Console, job_ids: Iterable[str]) -> None:
        self._console = console
        self._events: dict[str, Event | None] = dict.fromkeys(job_ids)
        self._places: dict[str, QueuePlace | None] = {}
        self._since = time.monotonic()
        self._took: dict[str, float] = {}
        self._live = Live(console=console, get_renderable=self._table, refresh_per_second=8)

    def tell(self, event: Event) -> None:
        """Show the event in its job's row; a progress event keeps what is known."""
        self._events[event.job_id] = event
        self._places.pop(event.job_id, None)
        if event.final:
            self._took[event.job_id] = time.monotonic() - self._since

    def place(self, job_id: str, place: QueuePlace | None) -> None:
        """Show where a waiting job stands now."""
        self._places[job_id] = place

    def _table(self) -> Table:
        room = max(5, self._console.size.height - 6)
        rows = sorted(self._events, key=lambda job_id: _urgency(self._events[job_id]))
        shown = set(rows[:room])
        table = Table(box=None, pad_edge=False, expand=True)
        for name in ("job", "state"):
            table.add_column(name, no_wrap=True)
        table.add_column("progress", width=24)
        table.add_column("s", justify="right")
        table.add_column("left", justify="right", no_wrap=True)
        table.add_column("", ratio=1, overflow="ellipsis", no_wrap=True)
        for job_id, event in self._events.items():
            if job_id in shown:
                self._add_row(table, job_id, event)
        ended = len(self._took)
        hidden = f", {len(rows) - len(shown)} not shown" if len(rows) > len(shown) else ""
        table.caption = f"{ended} of {len(rows)} ended{hidden}"
        return table

    def _add_row(self, table: Table, job_id: str, event: Event | None) -> None:
        seconds = self._took.get(job_id, time.monotonic() - self._since)
        if event is None:
            table.add_row(job_id, "…", "", f"{seconds:.0f}", "", "")
            return
        bar: ProgressBar | Text = Text("")
        said = detail(event)
        if event.state is JobState.RUNNING:
            fraction = event.progress.fraction if event.progress else None
            bar = ProgressBar(total=1.0, completed=fraction or 0.0, pulse=fraction is None)
        elif event.state is JobState.QUEUED:
            place = self._places.get(job_id, event.queue)
            bar, said = Text(f"{place.ahead} ahead" if place else "starting"), _paused(place)[2:] if place else ""
        state = Text(event.state.value, style=COLOURS.get(event.state, ""))
        table.add_row(job_id, state, bar, f"{seconds:.0f}", left(event), Text(said))

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()


def _urgency(event: Event | None) -> int:
    """Running first, then on their way, then waiting, then ended."""
    if event is None:
        return 2
    if event.final:
        return 3
    return {JobState.RUNNING: 0, JobState.SUBMITTED: 1}.get(event.state, 2)


def display(job_ids: Iterable[str], *, as_json: bool, final_only: bool = False) -> Display:
    """The one that fits where the output goes."""
    console = Console()
    if as_json:
        return JsonLines(console, final_only=final_only)
    return LiveTable(console, job_ids) if console.is_terminal else Lines(console)
