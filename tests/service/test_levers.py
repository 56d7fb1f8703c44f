"""The levers of operators on the command line: each does what it says, says what it did, and stands in the audit."""

import json
from typing import Any

import pytest

from tests.service.cli_stage import Stage, conveyor

pytestmark = pytest.mark.redis

WORKFLOW = "11111111-1111-4111-8111-111111111111"


@pytest.fixture(autouse=True)
def _catalog(stage: Stage) -> None:
    """A catalog of one workflow with two deployments."""
    entry = {"workflow_id": WORKFLOW, "name": "SDXL Portrait", "pool": "m1", "concurrency": 2}
    entries = [
        entry | {"deployment_id": f"d{n}", "environment": name} for n, name in enumerate(("staging", "production"))
    ]
    stage.redis.set("conveyor:catalog", json.dumps({"read_at": 2_000_000_000.0, "entries": entries}))


def told(*words: str) -> list[dict[str, Any]]:
    """A command's answer for programs, a line each."""
    result = conveyor(*words, "--json")
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def enqueue(user: str = "ada", count: int = 1) -> list[str]:
    """Jobs of a user of the page."""
    asked = ("enqueue", "--workflow", "sdxl portrait", "--frontend", "web", "--user", user, "--count", str(count))
    return [line["job_id"] for line in told(*asked)]


def acts() -> list[tuple[str, str, str]]:
    """What the audit says was done, to what and why."""
    return [(act["action"], act["target"], act["reason"]) for act in told("audit")]


SCOPES = [
    ((), "all", "everything"),
    (("--workflow", "sdxl-portrait"), f"workflow:{WORKFLOW}", "workflow SDXL Portrait"),
    (("--user", "web:ada"), "user:web:ada", "user web:ada"),
    (("--frontend", "web"), "frontend:web", "frontend web"),
]


@pytest.mark.parametrize(("options", "scope", "name"), SCOPES)
def test_a_pause_holds_jobs_back_until_it_is_resumed(
    stage: Stage, options: tuple[str, ...], scope: str, name: str
) -> None:
    """The job waits, its status says why, it may be cancelled; after the resume the next one goes."""
    [paused] = told("pause", *options, "--reason", "the model is broken")
    assert (paused["paused"]["scope"], paused["paused"]["name"], paused["new"]) == (scope, name, True)
    [first, second] = enqueue(count=2)
    assert not stage.redis.zcard("conveyor:window")
    assert "the model is broken" in conveyor("status", first).stdout
    [status] = told("status", first)
    assert (status["queue"]["paused"], status["queue"]["eta_seconds"]) == ("the model is broken", None)
    assert [line["name"] for line in told("pauses")] == [name]
    assert "Was paused already" in conveyor("pause", *options, "--reason", "again").stdout

    assert told("cancel", first)[0]["cancel"] == "cancelled"
    assert told("resume", *options)[0]["resumed"]["reason"] == "the model is broken"
    enqueue("bob")
    assert stage.redis.zscore("conveyor:window", second) is not None
    assert acts() == [("pause", scope, "the model is broken"), ("resume", scope, "")]
    assert "Nothing is paused" in conveyor("pauses").stderr
    assert "Was not paused" in conveyor("resume", *options).stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("pause",), "--reason"),
        (("pause", "--reason", " "), "say why"),
        (("pause", "--user", "ada", "--reason", "x"), "must be FRONTEND:ID"),
        (("pause", "--user", "web:ada", "--frontend", "web", "--reason", "x"), "at a time"),
        (("pause", "--workflow", "sdxl portrat", "--reason", "x"), "Did you mean 'SDXL Portrait'"),
    ],
)
def test_what_cannot_be_paused_is_refused(stage: Stage, words: tuple[str, ...], says: str) -> None:
    """One line that says what to say instead, exit code 2, and nothing is written."""
    result = conveyor(*words)
    assert (result.exit_code, says in result.output) == (2, True), result.output
    assert not stage.redis.exists("conveyor:pauses", "conveyor:audit")
