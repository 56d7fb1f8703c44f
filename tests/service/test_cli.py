"""The command line: what it prints, and the code it leaves with."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from producers.cli.app import app
from producers.cli.inputs import value
from producers.local.redis_server import RedisServer

pytestmark = pytest.mark.redis

JOB = ("enqueue", "--workflow", "portrait", "--user", "ada")


@pytest.fixture(autouse=True)
def redis_url(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A database of its own for this file: commands publish into it."""
    url = redis_server.url.replace("/0", "/6")
    monkeypatch.setenv("REDIS_URL", url)
    monkeypatch.setenv("COLUMNS", "200")
    return url


def conveyor(*arguments: str) -> Result:
    """Run a command."""
    return CliRunner().invoke(app, list(arguments))


def one_job(*arguments: str) -> str:
    """Enqueue a job; its id."""
    result = conveyor(*JOB, "--json", *arguments)
    assert result.exit_code == 0, result.output
    return str(json.loads(result.stdout)["job_id"])


@pytest.mark.parametrize(
    ("typed", "expected"),
    [("7", 7), ("0.5", 0.5), ("true", True), ('"7"', "7"), ("a cat", "a cat"), ("[1]", [1]), ("NaN", "NaN"), ("", "")],
)
def test_inputs_are_json_or_text(typed: str, expected: object) -> None:
    """People type words and numbers, programs JSON."""
    assert value(typed) == expected


def test_a_job_from_enqueue_to_cancel() -> None:
    """Enqueue, status, cancel, watch: each in JSON."""
    job_id = one_job("--input", "seed=7", "--input", "prompt=a cat")
    status = json.loads(conveyor("status", job_id, "--json").stdout)
    assert (status["state"], status["user"]["id"]) == ("queued", "ada")
    assert json.loads(conveyor("cancel", job_id, "--json").stdout) == {"job_id": job_id, "cancel": "cancelled"}
    watched = conveyor("watch", job_id, "--json")
    assert watched.exit_code == 1
    assert [json.loads(line)["type"] for line in watched.stdout.splitlines()] == ["job.queued", "job.cancelled"]
    lines = conveyor("watch", job_id).stdout.splitlines()
    assert len(lines) == 2
    assert "cancelled" in lines[1]
    assert "cancelled" in conveyor("status", job_id).stdout


def test_many_jobs_with_keys() -> None:
    """`--count` numbers the keys, so a repeat makes nothing new."""
    asked = (*JOB, "--count", "3", "--idempotency-key", "many", "--json")
    first = [json.loads(line) for line in conveyor(*asked).stdout.splitlines()]
    again = [json.loads(line) for line in conveyor(*asked).stdout.splitlines()]
    assert len({job["job_id"] for job in first}) == 3
    assert [job["job_id"] for job in again] == [job["job_id"] for job in first]
    assert [job["created"] for job in again] == [False] * 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*JOB, "--input", "seed=null", "--priority", "77"), ["inputs.seed: ", "priority: "]),
        ((*JOB, "--input", "seed"), ["--input seed: write it as NAME=VALUE"]),
        ((*JOB, "--input", "a=1", "--input", "a=2"), ["inputs.a: is given twice"]),
        (("enqueue",), ["workflow: "]),
        (("status", "nobody"), ["No job nobody."]),
        (("cancel", "nobody"), ["No job nobody."]),
        (("watch", "nobody"), ["No job nobody."]),
        (("results", "a", "b"), ["unexpected extra argument"]),
        (("enqueue", "--colour", "red"), ["No such option"]),
    ],
)
def test_refusals_are_lines_and_code_2(arguments: tuple[str, ...], said: list[str]) -> None:
    """One line for each problem, on stderr, no traceback."""
    result = conveyor(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert all(one in result.stderr for one in said), result.stderr


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable, not a traceback."""
    monkeypatch.setenv("CONVEYOR_WINDOWS", "7")
    result = conveyor("status", "x")
    assert (result.exit_code, "CONVEYOR_WINDOWS" in result.stderr) == (2, True)


def test_redis_away_is_code_3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Unavailable is told in one line."""
    monkeypatch.setenv("REDIS_URL", f"unix://{tmp_path}/nobody.sock")
    for arguments in (("status", "x"), JOB, ("results", "web")):
        result = conveyor(*arguments)
        assert result.exit_code == 3, result.output
        assert len(result.stderr.splitlines()) == 1
    doctor = conveyor("doctor")
    assert doctor.exit_code == 3
    assert "REDIS_URL" in doctor.stdout


def test_results_are_listed_and_taken_once() -> None:
    """Listing touches nothing; taking from a group acknowledges."""
    job_id = one_job("--frontend", "mirror")
    listed = conveyor("results", "mirror", "--json")
    assert [json.loads(line)["job_id"] for line in listed.stdout.splitlines()] == [job_id]
    assert "queued" in conveyor("results", "mirror").stdout
    taken = conveyor("results", "mirror", "--group", "g", "--json")
    assert [json.loads(line)["job_id"] for line in taken.stdout.splitlines()] == [job_id]
    assert conveyor("results", "mirror", "--group", "g", "--json").stdout == ""
    assert conveyor("results", "dead", "mirror").stdout == ""


def test_workflows_without_a_catalog_is_unavailable() -> None:
    """Nobody has filled the catalog yet."""
    result = conveyor("workflows")
    assert (result.exit_code, "catalog is empty" in result.stderr) == (3, True)


def test_doctor_says_what_is_missing() -> None:
    """No worker answers here; the check says how to start one."""
    result = conveyor("doctor", "--json")
    checks = {check["name"]: check for check in map(json.loads, result.stdout.splitlines())}
    assert result.exit_code == 3
    assert checks["redis"]["verdict"] == checks["eviction"]["verdict"] == checks["aof"]["verdict"] == "ok"
    assert checks["workers"]["verdict"] == "fail"
    assert checks["workers"]["fix"]
    assert "workers" in conveyor("doctor").stdout


def test_every_command_teaches_by_example() -> None:
    """Each help page shows a line one can type."""
    commands = "enqueue watch status cancel workflows doctor demo up"
    more = ["results", "results list", "results dead", "results replay", "rate", "rate show", "rate set", "rate reset"]
    for command in commands.split() + more:
        example = command.removesuffix(" list")
        assert f"$ conveyor {example}" in conveyor(*command.split(), "--help").stdout


def test_as_a_program(redis_url: str) -> None:
    """The console script waits, prints the final event, and leaves with 1 when the job did not succeed."""
    script = Path(sys.executable).with_name("conveyor")
    waiting = subprocess.Popen(
        [script, *JOB, "--wait", "--json"], stdout=subprocess.PIPE, text=True, env={"REDIS_URL": redis_url}
    )
    assert waiting.stdout
    job_id = json.loads(waiting.stdout.readline())["job_id"]
    assert conveyor("cancel", job_id).exit_code == 0
    rest, _ = waiting.communicate(timeout=20)
    assert json.loads(rest)["type"] == "job.cancelled"
    assert waiting.returncode == 1


def test_a_status_does_not_load_celery() -> None:
    """What takes long to load is loaded by the commands that need it."""
    code = (
        "import sys, producers.cli.app, producers.producer; print(sum(m in sys.modules for m in ('celery', 'httpx')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"
