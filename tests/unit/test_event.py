"""An event is complete in itself, and readers of one version read what another version sends."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from shared.jobs.event import Event

EVENT: dict[str, Any] = {
    "schema": "conveyor.event/1",
    "type": "job.succeeded",
    "job_id": "01900000-0000-7000-8000-000000000001",
    "seq": 4,
    "at": "2026-11-20T22:10:19.165Z",
    "state": "succeeded",
    "final": True,
    "run_id": "run-1",
    "frontend": "telegram",
    "workflow": "Portrait",
    "user": {"id": "42", "name": None, "tier": None},
    "context": {"chat_id": "-100"},
    "meta": {},
    "progress": None,
    "queue": None,
    "result": {"outputs": [{"key": "9:images:0", "kind": "image", "url": "https://x/a.png"}]},
    "error": None,
    "timing": {"total": 12.5},
}


def test_reads_what_it_knows() -> None:
    """Every field of an event arrives, times as times."""
    event = Event.model_validate(EVENT)

    assert (event.type, event.seq, event.state, event.final) == ("job.succeeded", 4, "succeeded", True)
    assert event.at == datetime(2026, 11, 20, 22, 10, 19, 165000, UTC)
    assert event.context == {"chat_id": "-100"}
    assert event.result
    assert event.result.outputs[0].key == "9:images:0"
    assert event.timing
    assert event.timing.total == 12.5


def test_ignores_what_it_does_not_know() -> None:
    """A newer worker may send more, at any depth: an older frontend reads on."""
    newer = json.loads(json.dumps(EVENT))
    newer |= {"batch": {"id": "b1"}}
    newer["user"]["locale"] = "de"
    newer["result"]["outputs"][0]["blurhash"] = "x"
    newer["timing"]["billing"] = 1

    assert Event.model_validate(newer) == Event.model_validate(EVENT)


def test_parts_that_did_not_happen_may_be_missing() -> None:
    """Only what every event has is required."""
    least = {name: EVENT[name] for name in ("type", "job_id", "seq", "at", "state", "final", "frontend", "user")}

    event = Event.model_validate(least)

    assert event.schema_ == "conveyor.event/1"
    assert event.result is event.error is event.progress is event.queue is None


def test_survives_json_unchanged() -> None:
    """An event written by this version is the same event when this version reads it."""
    event = Event.model_validate(EVENT)

    assert Event.model_validate_json(event.model_dump_json(by_alias=True)) == event


@pytest.mark.parametrize("missing", ["type", "job_id", "seq", "at", "state", "final", "frontend", "user"])
def test_an_event_without_its_core_is_not_an_event(missing: str) -> None:
    """What a frontend needs to know which job is meant and how it stands cannot be left out."""
    with pytest.raises(ValidationError, match=missing):
        Event.model_validate({name: value for name, value in EVENT.items() if name != missing})
