"""The published schemas are the models, and what we send and take fits them."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from shared.jobs.schemas import FOLDER, schemas, text

GOLDEN = Path(__file__).resolve().parents[1] / "contract" / "golden"


@pytest.mark.parametrize("name", schemas())
def test_the_published_schema_is_the_model(name: str) -> None:
    """`docs/schemas/` is written by `make schemas`; when this fails, run it and look at what changed for readers."""
    assert (FOLDER / name).read_text() == text(schemas()[name])


def test_no_schema_is_published_that_no_model_stands_behind() -> None:
    """The folder holds the schemas of the models and nothing else."""
    assert {path.name for path in FOLDER.glob("*.json")} == set(schemas())


@pytest.mark.parametrize("name", schemas())
def test_the_published_schema_is_a_schema(name: str) -> None:
    """Tools that read JSON Schema can use the files."""
    jsonschema.Draft202012Validator.check_schema(json.loads((FOLDER / name).read_text()))


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("events-*.json")), ids=lambda path: path.name)
def test_events_fit_the_published_schema(path: Path) -> None:
    """A frontend that validates takes every event any version ever sent."""
    published = jsonschema.Draft202012Validator(json.loads((FOLDER / "event.json").read_text()))

    events = json.loads(path.read_text())

    assert events
    for entry in events:
        published.validate(json.loads(entry["data"]))


@pytest.mark.parametrize(
    ("fits", "request_"),
    [
        (True, {"workflow": "w", "frontend": "web", "user": {"id": "1"}, "inputs": {"a": 1, "b": ["x"], "c": 0.5}}),
        (True, {"workflow": "w", "frontend": "web", "user": {"id": "1"}, "context": {"a": {"b": None}}}),
        (False, {"workflow": "w", "frontend": "web", "user": {"id": "1"}, "inputs": {"a": None}}),
        (False, {"workflow": "w", "frontend": "web", "user": {"id": "1"}, "inputs": {"a": {}}}),
        (False, {"workflow": "w", "frontend": "web", "user": {"id": "1"}, "colour": "red"}),
        (False, {"workflow": "w", "frontend": "Web", "user": {"id": "1"}}),
        (False, {"workflow": "w", "frontend": "web", "user": {"id": 1}}),
        (False, {"workflow": "w", "frontend": "web"}),
    ],
)
def test_the_request_schema_refuses_what_the_door_refuses(fits: bool, request_: dict[str, Any]) -> None:
    """A frontend in another language finds most mistakes before it asks."""
    published = jsonschema.Draft202012Validator(json.loads((FOLDER / "job-request.json").read_text()))

    assert published.is_valid(request_) is fits
