"""Rows of text under aligned headings, as wide as they need: nothing is cut, on a terminal or in a file."""

from collections.abc import Iterable, Sequence


def columns(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines to print, the headings first."""
    table = [list(headings), *([_one_line(cell) for cell in row] for row in rows)]
    widths = [max(len(row[place]) for row in table) for place in range(len(headings))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def _one_line(cell: object) -> str:
    return "".join(character if character.isprintable() else " " for character in str(cell))
