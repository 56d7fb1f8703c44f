"""The screen of `conveyor top` fits the terminal, and shows text of others as text."""

import io

import pytest
from rich.console import Console

from producers.cli.top.frame import Failure, Flight, Frame, Lane, Machine, Pause, SlowJob, Worker
from producers.cli.top.screen import LEAST, Size, draw, shares
from shared.limits.budget import Budget
from shared.settings import Settings

LONG = "a name that goes on and on " * 10


def frame(number: int, name: str = LONG) -> Frame:
    """A look with so many of everything."""
    every = range(number)
    return Frame(
        at=1_795_208_000.0,
        commands=60,
        round_trips=3,
        latency_ms=1.5,
        budget=Budget.read({"closed_until": "9e9", "failures": "5"}, Settings(), 1_795_208_000.0),
        calls={"submit": 1.0, "look": 5.5, "catalog": 0.0, "cancel": 0.0},
        waiting=10_000,
        starting=64,
        past=200,
        window=200,
        messages=64,
        ended={"succeeded": 5, "failed": 1},
        ended_at_least=True,
        pauses=[Pause("all", name, 3.0, "operator@host", name)] if number else [],
        machines=[Machine(f"{n}{name}", 4, 4) for n in every],
        lanes=[Lane(f"web:{n}{name}", 500, 3, paused=True, past=20, limit=20) for n in every],
        flights=[Flight(f"{n}", f"{n}{name}", 16, -20.0) for n in every],
        workflows=number,
        slow=[SlowJob(f"{n}", "running", 400.0, "web:ada", name, "run", 0.5, name, cancelling=False) for n in every],
        failures=[Failure(f"{n}", "failed", 4000.0, "web:ada", name, "upstream_failed", name) for n in every],
        workers=[Worker(f"w{n}@{name}", 8, 8, 25.0, draining=True) for n in every],
    )


def drawn(shown: Frame, width: int = 80, height: int = 24, trouble: str = "") -> list[str]:
    """The lines on a terminal of this size."""
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, force_terminal=False, legacy_windows=False)
    console.print(draw(shown, Size(width, height), trouble, "q ends it"), highlight=False)
    return out.getvalue().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 60), (60, 20)])
@pytest.mark.parametrize("number", [0, 1, 3, 50])
def test_it_fits(width: int, height: int, number: int) -> None:
    """No line is wider than the terminal, and there are no more lines than it has, whatever goes on."""
    lines = drawn(frame(number), width, height)

    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)


def test_every_section_has_a_place_in_80_by_24() -> None:
    """With fifty of everything each section shows its first few, and says how many more there are."""
    text = "\n".join(drawn(frame(50)))

    for words in (
        "calls",
        "jobs",
        "ended",
        "paused",
        "user",
        "workflow",
        "machine",
        "worker",
        "longest past",
        "failed last",
    ):
        assert words in text
    assert "46 more" in text


def test_trouble_stands_in_the_first_line() -> None:
    """What is wrong, and as of when the rest is."""
    assert drawn(frame(1), trouble="Redis at h:1 is away")[0].startswith("conveyor top   Redis at h:1 is away   as of ")


def test_text_of_others_cannot_steer_the_terminal() -> None:
    """A workflow's name with an escape sequence is shown without it."""
    text = "\n".join(drawn(frame(3, name="\x1b[2J\x07\r\nx"), width=200, height=60))

    assert "[2J" in text
    assert not {"\x1b", "\x07", "\r"} & set(text)


@pytest.mark.parametrize(
    ("room", "wanted", "given"),
    [
        (14, (4, 3, 4, 3), [4, 3, 4, 3]),
        (14, (50, 50, 50, 50), [4, 3, 4, 3]),
        (14, (1, 1, 50, 1), [1, 1, 11, 1]),
        (20, (50, 2, 50, 0), [9, 2, 9, 0]),
        (5, (50, 50, 50, 50), [1, 1, 1, 2]),
        (0, (5, 5, 5, 5), [0, 0, 0, 0]),
    ],
)
def test_lines_go_where_there_is_something_to_say(room: int, wanted: tuple[int, ...], given: list[int]) -> None:
    """Each gets its least part, and what is left goes round to who wants more."""
    assert shares(room, wanted, LEAST) == given
