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
    result = conveyor("pause", *options, "--reason", "the model is broken", "--json")
    assert ("No job of a frontend 'web' was ever taken" in result.stderr) == ("web" in name)
    paused = json.loads(result.stdout)
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
    assert name in conveyor("audit").stdout
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


def windows(*words: str) -> dict[str, int]:
    """The windows by name."""
    return {line["name"]: line["window"] for line in told("window", *words)}


def test_windows_are_set_live_and_reset(stage: Stage) -> None:
    """They hold from the next dispatch on: for everybody, each user, one user, one machine; a reset ends all of it."""
    first = enqueue(count=6)
    assert stage.redis.zcard("conveyor:window") == 4
    assert windows("show") == {"window": 200, "user_window": 20, "pool:m1": 4}
    assert windows("set", "--machine", "m1=5", "--per-user", "9", "--reason", "a new GPU") == {
        "window": 200,
        "user_window": 9,
        "pool:m1": 5,
    }
    enqueue("bob")
    assert stage.redis.zcard("conveyor:window") == 5
    assert windows("set", "--all", "3", "--user", "web:ada=2")["user:web:ada"] == 2
    told("cancel", first[0])
    assert stage.redis.zcard("conveyor:window") == 4
    windows("set", "--all", "50")
    enqueue("cy")
    assert int(stage.redis.hget("conveyor:window:users", "web:ada")) == 3  # type: ignore[arg-type]
    assert windows("reset") == {"window": 200, "user_window": 20, "pool:m1": 4}
    acted = [(act["action"], act["reason"], act["before"], act["after"]) for act in told("audit")]
    assert acted[0][:3] == ("window set", "a new GPU", "{}")
    assert json.loads(acted[0][3]) == {"user_window": "9", "pool:m1": "5"}
    assert [action for action, *_ in acted] == ["window set"] * 3 + ["window reset"]
    assert json.loads(acted[-1][2]) == {"window": "50", "user_window": "9", "pool:m1": "5", "user:web:ada": "2"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "say --all N"),
        (("--all", "0"), "must be 1 to"),
        (("--machine", "m9=2"), "no job was ever for 'm9'"),
        (("--machine", "m1"), "must be NAME=N"),
        (("--user", "ada=2"), "must be FRONTEND:ID"),
    ],
)
def test_a_wrong_window_is_refused(stage: Stage, words: tuple[str, ...], says: str) -> None:
    """One line for each problem, and nothing is written."""
    result = conveyor("window", "set", *words)
    assert (result.exit_code, says in result.output) == (2, True), result.output
    assert not stage.redis.exists("conveyor:limits", "conveyor:audit")


def test_a_stuck_job_is_requeued_or_failed(stage: Stage) -> None:
    """What was done is said for people and for programs, and stands in the audit; a job that has ended stays ended."""
    [job_id] = enqueue()
    assert told("requeue", job_id) == [{"job_id": job_id, "requeue": "rescued", "detail": "queued"}]
    stage.run(job_id)
    assert "looked at now" in conveyor("requeue", job_id, "--reason", "silent").stdout
    assert told("fail", job_id, "--reason", "deleted") == [{"job_id": job_id, "fail": "failed", "state": "failed"}]
    assert stage.redis.zrange("conveyor:strays", 0, -1) == [f"{job_id} run-{job_id}"]
    assert "has ended as failed" in conveyor("fail", job_id, "--reason", "deleted").stderr
    assert "has ended" in conveyor("requeue", job_id).stdout
    assert acts() == [("requeue", job_id, ""), ("requeue", job_id, "silent"), ("failed", job_id, "deleted")]
    assert conveyor("fail", "nobody", "--reason", "x").exit_code == 2
    assert conveyor("requeue", "nobody").exit_code == 2


def test_a_worker_nobody_has_seen_is_not_drained(stage: Stage) -> None:
    """The workers that are up are named; nothing is written."""
    stage.redis.set("conveyor:worker:w1@host", json.dumps({"busy": 2, "slots": 8, "starved_seconds": 0.0}))
    result = conveyor("drain", "w2@host")
    assert (result.exit_code, "up are: w1@host" in result.stderr) == (2, True)
    assert conveyor("drain", "w1@host", "--undo", "--stop").exit_code == 2
    assert not stage.redis.exists("conveyor:drains", "conveyor:audit")


def test_a_worker_that_does_not_finish_in_time_goes_on_draining(stage: Stage) -> None:
    """Exit code 3, how much is under way, and a warning that nobody else is up."""
    stage.redis.set(
        "conveyor:worker:w1@host", json.dumps({"busy": 2, "slots": 8, "starved_seconds": 0.0, "draining": 1})
    )
    result = conveyor("drain", "w1@host", "--wait", "0", "--reason", "a new version")
    assert (result.exit_code, "2 submits under way" in result.stderr) == (3, True)
    assert "No other worker takes work" in result.stderr
    assert stage.redis.hexists("conveyor:drains", "w1@host")
    assert acts() == [("drain", "w1@host", "a new version")]
