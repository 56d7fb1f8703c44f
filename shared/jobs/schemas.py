"""Publish the models as JSON Schemas for frontends in other languages: `make schemas` writes, a test compares."""

import json
from pathlib import Path
from typing import Any

from shared.jobs.event import Event
from shared.jobs.request import JobRequest

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "schemas"


def schemas() -> dict[str, dict[str, Any]]:
    """File name to schema."""
    return {
        "job-request.json": JobRequest.model_json_schema(),
        "event.json": Event.model_json_schema(mode="serialization"),
    }


def text(schema: dict[str, Any]) -> str:
    """A schema as it stands in the file."""
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, schema in schemas().items():
        (FOLDER / name).write_text(text(schema))
