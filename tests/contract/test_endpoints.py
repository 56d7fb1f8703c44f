"""The page of endpoints is the client: no spelling of the documents, no route and no method is missing, and none is invented."""

import ast
import importlib
import inspect
import pkgutil
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

import shared.comfydeploy
from producers.cli.api.app import api_app
from shared.comfydeploy import ComfyDeploy

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/reference/comfydeploy-endpoints.md").read_text()
CONTRACT = (ROOT / "docs/reference/comfydeploy-contract.md").read_text()

ROUTE = re.compile(r"(?:GET|POST|PATCH|DELETE) /\S*")


def cells(line: str) -> list[str]:
    """The cells of a table's row."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def section(text: str, heading: str) -> list[list[str]]:
    """The rows of the table below a heading."""
    below = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [cells(line) for line in below.splitlines() if line.startswith("|")][2:]


THEIRS = section(PAGE, "As the documents say it")
#: (real, method, command, test) of both tables.
ROWS = [row[1:] for row in THEIRS] + section(PAGE, "Not in the documents")


def asked() -> set[str]:
    """Every route the client's modules name."""
    modules = [
        importlib.import_module(f"shared.comfydeploy.{found.name}")
        for found in pkgutil.iter_modules(shared.comfydeploy.__path__)
    ]
    named = {value for module in modules for value in vars(module).values() if isinstance(value, str)}
    return {value for value in named if ROUTE.fullmatch(value)}


@cache
def functions(file: str) -> set[str]:
    """The functions of a test file."""
    tree = ast.parse((ROOT / "tests/contract" / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_spelling_of_the_documents_has_a_row() -> None:
    """Section 19 of the contract lists them; what it joins in one cell are several here."""
    spelled = {
        part.strip()
        for theirs, *_ in section(CONTRACT, "19. Spellings in our design documents")
        for part in theirs.split(", ")
    }
    assert len(spelled) > 15
    assert spelled == {theirs.strip("`") for theirs, *_ in THEIRS}


def test_every_route_the_client_asks_has_a_row_and_no_other() -> None:
    """A route that is added to the client is added to the page, with its test."""
    shown = {found.rstrip("`;,") for real, *_ in ROWS for found in ROUTE.findall(real.partition("; ")[0])}
    assert shown == asked()


@pytest.fixture
async def client() -> Any:
    async with ComfyDeploy("http://api.test", "key") as client:
        yield client


async def test_every_method_of_the_client_has_a_row_and_no_other(client: ComfyDeploy) -> None:
    """`resource.method` of every public coroutine and stream of the client's resources."""
    named = {method for _, methods, *_ in ROWS for method in re.findall(r"`([\w.]+)`", methods)}
    resources = {
        name: value for name, value in vars(client).items() if type(value).__module__.startswith("shared.comfydeploy")
    }
    there = {
        f"{resource}.{name}"
        for resource, value in resources.items()
        for name, method in inspect.getmembers(type(value), inspect.isroutine)
        if not name.startswith("_") and resource != "timeouts"
    }
    assert named == there


def commands(group: Any, path: str = "") -> set[str]:
    """Every command of a group, `machines create serverless`."""
    found = set[str]()
    for name, command in group.commands.items():
        found |= commands(command, f"{path}{name} ") if hasattr(command, "commands") else {f"{path}{name}"}
    return found


def test_every_command_of_the_api_has_a_row_and_no_other() -> None:
    """What can be asked in Python can be typed, and a command that is added is added to the page."""
    named = {command for *_, typed, _ in ROWS for command in re.findall(r"`([^`]+)`", typed)}
    assert named == commands(typer.main.get_command(api_app))
    assert not [real for real, _, typed, _ in ROWS if not typed]


@pytest.mark.parametrize("test", sorted({test.strip("`") for *_, test in ROWS}))
def test_every_test_that_is_named_exists(test: str) -> None:
    """A row without a test would be a promise."""
    file, _, name = test.partition("::")
    assert name in functions(file)
