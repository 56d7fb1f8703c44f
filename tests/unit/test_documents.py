"""What the documents say is so: their links lead somewhere, their commands exist, their tables and pictures are the code's."""

import ast
import inspect
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from prometheus_client import Counter, Gauge, Histogram
from pydantic import SecretStr

from producers.cli.app import app
from shared import metrics
from shared import settings as settings_module
from shared.jobs.states import MOVES
from shared.settings import Settings
from shared.system_gauges import SYSTEM_GAUGES

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
PATH_IN_TEXT = re.compile(r"`((?:shared|tasks|workers|producers|simulator|tests|docs|bench)/[\w./-]+)`")
ARROW = re.compile(r"^\s*(\w+) --> (\w+) : ([A-Z])$", re.MULTILINE)


def name(path: Path) -> str:
    """A document as test ids show it."""
    return str(path.relative_to(ROOT))


def every_document() -> Any:
    """Run a test for each document."""
    return pytest.mark.parametrize("path", DOCUMENTS, ids=name)


def anchor(heading: str) -> str:
    """What a heading is linked by."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def code_lines(text: str) -> Iterator[str]:
    """The lines of code blocks, fenced or indented."""
    fenced = False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.strip()


# -- links, paths, commands -------------------------------------------------------------------------------------------


@every_document()
def test_links_lead_somewhere(path: Path) -> None:
    """Every relative link names a file that exists and, after a `#`, a heading in it."""
    for target in LINK.findall(path.read_text()):
        if target.startswith(("http:", "https:")):
            continue
        file, _, heading = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.+)$", found.read_text(), re.MULTILINE)
            assert heading in [anchor(one) for one in headings], target


@every_document()
def test_files_that_are_named_exist(path: Path) -> None:
    """A file or folder of ours in code quotes is there."""
    for file in PATH_IN_TEXT.findall(path.read_text()):
        assert (ROOT / file).exists(), file


@every_document()
def test_commands_exist(path: Path) -> None:
    """`make` targets and `conveyor` commands, with their options, are those of the Makefile and the command line."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # it is a group
    text = path.read_text()
    quoted = re.findall(r"`((?:make|conveyor|\.venv/bin/conveyor) [^`]+)`", text)
    for line in [*code_lines(text), *quoted]:
        for word in re.findall(r"(?:^|\$ |&& )make ([a-z-]+)", line):
            assert word in targets, line
        # Not after `install`: there it is the package.
        for command, rest in re.findall(r"(?:^|\$ |/|worker )conveyor ([a-z]+)(.*)", line):
            assert command in commands, line
            found, words = commands[command], rest.split()
            while words and (below := getattr(found, "commands", None)):
                # Its commands, of which `list` may be left out; alone it is spoken of as a whole.
                found = below.get(words.pop(0), below.get("list"))
                assert found, line
            options = {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)}
            assert set(re.findall(r"(?<=\s)--[a-z-]+", rest.partition("#")[0])) <= options | {"--help"}, line


@every_document()
def test_no_path_of_a_machine(path: Path) -> None:
    """A document is about the project, not about the machine it was written on."""
    assert not re.search(r"(?<![\w.])/(work|home|Users|root|tmp/\w)\b", path.read_text())


# -- the lifecycle ----------------------------------------------------------------------------------------------------


def test_the_picture_of_a_jobs_life_is_the_table_of_moves() -> None:
    """The arrows of docs/job-lifecycle.md are MOVES: none is missing, none is too many."""
    arrows = ARROW.findall((ROOT / "docs/job-lifecycle.md").read_text())

    drawn = {(one, to) for one, to, _ in arrows}

    assert drawn == {(one.value, to.value) for one, targets in MOVES.items() for to in targets}


def test_every_arrow_is_explained_under_its_letter() -> None:
    """Each arrow has a letter of its own, and the list under the picture explains it with the same two states."""
    text = (ROOT / "docs/job-lifecycle.md").read_text()
    arrows = {letter: (one, to) for one, to, letter in ARROW.findall(text)}

    explained = {
        letter: (one, to)
        for letter, one, to in re.findall(r"^\* \*\*([A-Z])\*\* `(\w+)` → `(\w+)`", text, re.MULTILINE)
    }

    assert len(arrows) == len(ARROW.findall(text))
    assert explained == arrows


# -- the tour ---------------------------------------------------------------------------------------------------------


def test_the_tour_names_files_of_about_the_length_it_says() -> None:
    """docs/reading-the-code.md promises an evening: a file that has grown by half is no longer what it promised."""
    stops = re.findall(
        r"^\d+\. \*\*`([\w./]+)`\*\*, (\d+) lines", (ROOT / "docs/reading-the-code.md").read_text(), re.MULTILINE
    )

    assert len(stops) >= 10
    for file, lines in stops:
        really = len((ROOT / file).read_text().splitlines())
        assert abs(really - int(lines)) <= max(20, int(lines) / 2), f"{file} has {really} lines"


def test_the_tour_says_how_long_it_is() -> None:
    """Its stops are numbered one by one, and the sum below them is their sum, to the next hundred."""
    text = (ROOT / "docs/reading-the-code.md").read_text()
    stops = [(int(a), int(b)) for a, b in re.findall(r"^(\d+)\. \*\*`[\w./]+`\*\*, (\d+) lines", text, re.MULTILINE)]

    told = re.search(r"^About ([\d,]+) lines", text, re.MULTILINE)

    assert [number for number, _ in stops] == list(range(1, len(stops) + 1))
    assert told
    assert abs(sum(lines for _, lines in stops) - int(told[1].replace(",", ""))) <= 100


# -- the decisions ----------------------------------------------------------------------------------------------------

DECISIONS = sorted((ROOT / "docs/decisions").glob("*.md"))


def test_each_decision_has_a_number_of_its_own() -> None:
    """The name of each begins with its number, and so does its heading."""
    numbers = [int(path.name[:4]) for path in DECISIONS]
    assert len(numbers) == len(set(numbers))
    for path in DECISIONS:
        assert path.read_text().startswith(f"# {int(path.name[:4])}. "), path.name


@pytest.mark.parametrize("path", DECISIONS, ids=name)
def test_a_decision_says_what_it_cost(path: Path) -> None:
    """Status, the pain, what was decided, and what was given up for it."""
    text = path.read_text()

    assert "\n**Status**: " in text
    headings = [line for line in text.splitlines() if line in ("## Context", "## Decision", "## What we gave up")]
    assert headings == ["## Context", "## Decision", "## What we gave up"]


# -- the settings -----------------------------------------------------------------------------------------------------


def meanings() -> dict[str, str]:
    """The docstring below each field of Settings, in one line."""
    body = next(
        node for node in ast.parse(inspect.getsource(settings_module)).body if isinstance(node, ast.ClassDef)
    ).body
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def allowed(annotation: Any, metadata: list[Any]) -> str:
    """What may stand in the variable, in words."""
    if annotation is bool:
        return "`0`, `1`"
    if bounds := [
        f"{sign} {getattr(bound, mark):,}"
        for bound in metadata
        for mark, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))
        if hasattr(bound, mark)
    ]:
        return f"{'whole number' if annotation is int else 'number'} {', '.join(bounds)}"
    if words := [word for word in get_args(annotation) if isinstance(word, str)]:
        return ", ".join(f"`{word}`" for word in words)
    return "secret" if SecretStr in (annotation, *get_args(annotation)) else "text"


def settings_table() -> list[str]:
    """The rows of docs/configuration.md, as they follow from Settings."""
    rows = []
    for field, info in Settings.model_fields.items():
        plain = int(info.default) if info.annotation is bool else info.default
        default = "" if plain in (None, "", [], {}) else f"`{plain}`"
        rows.append(f"| `{info.alias}` | {default} | {allowed(info.annotation, info.metadata)} | {meanings()[field]} |")
    return rows


def test_the_table_of_settings_is_the_settings() -> None:
    """docs/configuration.md has a row for each setting, with its default, its bounds and its meaning, and no other."""
    text = (ROOT / "docs/configuration.md").read_text()

    rows = [line for line in text.splitlines() if re.match(r"\| `[A-Z_]+` \|", line)]

    assert rows == settings_table()


def metrics_table() -> list[str]:
    """The rows of docs/reference/metrics.md, as they follow from the declarations."""
    rows = []
    for metric in vars(metrics).values():
        if isinstance(metric, Counter | Gauge | Histogram):
            described = next(iter(metric.describe()))
            name = described.name + ("_total" if described.type == "counter" else "")
            rows.append((name, described.type, metric._labelnames, described.documentation))
    rows += [(gauge.name, "gauge", gauge.labels, gauge.documentation) for gauge in SYSTEM_GAUGES.values()]
    return [
        f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in labels)} | {question} |"
        for name, kind, labels, question in rows
    ]


def test_the_table_of_metrics_is_the_metrics() -> None:
    """docs/reference/metrics.md has a row for each metric that is declared, with its kind, its labels and its question."""
    text = (ROOT / "docs/reference/metrics.md").read_text()

    assert metrics_table() == [line for line in text.splitlines() if line.startswith("| `conveyor_")]


def test_the_metrics_that_guides_speak_of_are_exported() -> None:
    """Who looks for a name from a guide in Prometheus finds it: a metric, or one of a histogram's parts."""
    exported = set(re.findall(r"^\| `(conveyor_\w+)`", (ROOT / "docs/reference/metrics.md").read_text(), re.MULTILINE))
    parts = {f"{name}{part}" for name in exported for part in ("", "_bucket", "_sum", "_count", "_total")}
    for page in (ROOT / "docs/guides").glob("*.md"):
        assert set(re.findall(r"`(conveyor_[a-z_]+)", page.read_text())) <= parts, page.name


# -- the examples -----------------------------------------------------------------------------------------------------


def test_the_javascript_of_the_guides_is_the_examples() -> None:
    """Each block is a file of examples/js/ without its first comment; tests run the files."""
    examples = {"\n\n" + path.read_text().partition("\n\n")[2] for path in (ROOT / "examples/js").glob("*.mjs")}
    for path in ROOT.glob("docs/guides/*.md"):
        for block in re.findall(r"```js\n(.*?)```", path.read_text(), re.DOTALL):
            assert f"\n\n{block}" in examples, path.name


@pytest.mark.parametrize(
    "block",
    [
        block
        for page in ("consume-results", "media")
        for block in re.findall(r"```python\n(.*?)```", (ROOT / f"docs/guides/{page}.md").read_text(), re.DOTALL)
    ],
)
def test_the_python_of_the_guide_uses_names_that_exist(block: str) -> None:
    """The example compiles, and what it imports and takes from it is there. (That it works was tried by hand.)"""
    names: dict[str, Any] = {}

    exec(block.replace("asyncio.run(main())", ""), names)

    assert callable(names.get("main") or names.get("ask"))
