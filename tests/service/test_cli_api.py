"""`conveyor api`: every operation of the documents, typed at a command line, against the simulator as a real program."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from typer.testing import CliRunner, Result

from producers.cli.api.app import api_app
from producers.cli.app import app
from shared.limits.budget import CLASSES
from tests.service.cli_stage import Stage, conveyor
from tests.service.worker_fixtures import simulated

pytestmark = pytest.mark.redis

EDITOR: dict[str, Any] = {"nodes": [], "links": [], "version": 0.4}
RUNS: dict[str, Any] = {
    "1": {"class_type": "ComfyUIDeployExternalText", "inputs": {"input_id": "prompt", "default_value": "a cat"}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
}
FLUX = "d0000000-0000-4000-8000-000000000002"
UNKNOWN = "99999999-9999-4999-8999-999999999999"


@pytest.fixture(scope="module")
def world() -> Iterator[str]:
    """A simulator of its own, since what is written here stays."""
    with simulated(speed=50) as url:
        yield url


@pytest.fixture
def http(world: str) -> Iterator[httpx.Client]:
    """The simulator, as the test steers and reads it."""
    with httpx.Client(base_url=world, trust_env=False) as http:
        yield http


@pytest.fixture(autouse=True)
def _of_the_simulator(world: str, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of somebody who administers the account."""
    monkeypatch.setenv("COMFY_DEPLOY_API_URL", world)
    monkeypatch.setenv("COMFY_DEPLOY_API_KEY", "sim-key")
    monkeypatch.setenv("CONVEYOR_RATE_BURST", "500")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with what people have: both graphs, a picture, a machine, a token."""
    (tmp_path / "workflow.json").write_text(json.dumps(EDITOR))
    (tmp_path / "workflow_api.json").write_text(json.dumps(RUNS))
    (tmp_path / "fox.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    (tmp_path / "machine.json").write_text(
        '{"name": "from a file", "gpu": "L4", "run_timeout": 99, "python_version": "3.11"}'
    )
    (tmp_path / "token").write_text("s3cret\n")
    return tmp_path


def commands(group: Any, path: str = "") -> Iterator[str]:
    """Every command of a group, `machines create serverless`."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}"


class Typist:
    """Types commands, for programs and for people, and remembers which."""

    def __init__(self) -> None:
        self.known = set(commands(typer.main.get_command(api_app)))
        self.typed: set[str] = set()

    def type(self, *words: object) -> Result:
        """Type a command; it has to go well."""
        line = [str(word) for word in words]
        self.typed |= {one for one in self.known if one == " ".join(line[: len(one.split())])}
        result = conveyor("api", *line)
        assert result.exit_code == 0, f"{line}: {result.output}"
        return result

    def all(self, *words: object) -> list[dict[str, Any]]:
        """Its answer as JSON."""
        return [json.loads(line) for line in self.type(*words, "--json").stdout.splitlines()]

    def one(self, *words: object) -> dict[str, Any]:
        """The one object it answers."""
        (answer,) = self.all(*words)
        return answer


def test_every_operation_can_be_typed(stage: Stage, http: httpx.Client, files: Path) -> None:
    """A workflow is uploaded, deployed on a machine of ours, run, followed, changed and deleted; files come and go. All
    commands there are were typed, and every call paid a token."""
    http.post("/_sim/reset")
    me = Typist()
    graphs = files / "workflow.json", files / "workflow_api.json"

    # -- machines
    fast = me.one("machines", "create", "serverless", "--name", "fast", "--gpu", "H100", "--containers", 4)
    assert (fast["status"], fast["gpu"], fast["concurrency_limit"]) == ("building", "H100", 4)
    other = me.one("machines", "create", "serverless", "--from", files / "machine.json", "--name", "other")
    assert (other["name"], other["gpu"], other["run_timeout_seconds"]) == ("other", "L4", 99)
    own = me.one(
        "machines",
        "create",
        "custom",
        "--name",
        "own",
        "--endpoint",
        "http://gpu.test",
        "--token-file",
        files / "token",
    )
    assert (own["type"], own["endpoint"]) == ("classic", "http://gpu.test")
    changed = me.one("machines", "update", "serverless", fast["id"], "--run-timeout", 7200)
    assert (changed["name"], changed["run_timeout_seconds"]) == ("fast", 7200)
    assert me.one("machines", "update", "custom", own["id"], "--name", "mine")["name"] == "mine"
    assert {one["name"] for one in me.all("machines", "list")} >= {"fast", "other", "mine"}
    assert me.one("machines", "get", fast["id"])["concurrency_limit"] == 4
    me.type("machines", "delete", own["id"], "--yes")
    assert me.one("machines", "get", own["id"])["deleted"]

    # -- a workflow and its versions
    workflow = me.one("workflows", "create", "Night Scenes", *graphs)["id"]
    assert [one["id"] for one in me.all("workflows", "list", "--search", "night")] == [workflow]
    first = me.one("workflows", "get", workflow)["latest"]
    assert (first["number"], first["workflow"], first["workflow_api"]) == (1, EDITOR, RUNS)
    printed = me.type("versions", "get", workflow, 1, "--graph", "api").stdout
    assert json.loads(printed) == RUNS
    both = files / "both.json"
    both.write_text(me.type("versions", "get", first["id"], "--json").stdout)
    assert me.one("versions", "create", workflow, both, "--comment", "warmer")["number"] == 2
    assert [one["number"] for one in me.all("versions", "list", workflow)] == [2, 1]
    assert me.one("workflows", "update", workflow, "--name", "Day Scenes")["name"] == "Day Scenes"
    assert me.one("workflows", "update", workflow, "--pin")["pinned"]

    # -- deployed, it can be run by its name at once
    put = ("deployments", "put", workflow, "--environment", "production", "--machine")
    deployment = me.one(*put, other["id"])["id"]
    assert me.one(*put, fast["id"], "--version", "1")["id"] == deployment
    (listed,) = me.all("deployments", "list", "--workflow", workflow)
    assert (listed["workflow_name"], listed["version"], listed["machine_id"]) == ("Day Scenes", 1, fast["id"])
    assert deployment in {one["id"] for one in me.all("deployments", "list", "--environment", "production")}
    assert me.one("deployments", "get", deployment)["workflow_api"] == RUNS
    assert me.one("deployments", "update", deployment, "--gpu", "L40S")["gpu"] == "L40S"
    assert me.one("deployments", "get", FLUX)["has_app"]
    assert not me.one("deployments", "deactivate", FLUX)["has_app"]
    share = me.one("deployments", "put", workflow, "--environment", "public-share", "--machine", other["id"])["id"]
    me.type("deployments", "delete", share, "--yes")
    assert conveyor("enqueue", "--workflow", "day scenes", "--input", "prompt=fox").exit_code == 0

    # -- runs
    http.post("/_sim/config", json={"durations": {"image": {"median": 100, "sigma": 0}}})
    run = me.one("runs", "submit", deployment, "--input", "prompt=a fox")["id"]
    assert [
        one["run_id"] if "run_id" in one else one["id"] for one in me.all("runs", "follow", workflow, "--count", 1)
    ] == [run]
    assert me.one("runs", "get", run)["workflow_inputs"] == {"prompt": "a fox"}
    assert [one["id"] for one in me.all("runs", "list", "--workflow", workflow)] == [run]
    assert [one["id"] for one in me.all("runs", "list", "--deployment", deployment)] == [run]
    me.type("runs", "cancel", run)
    assert me.all("runs", "reasons", workflow) == []

    # -- files
    assert me.type("files", "upload", files / "fox.png").stdout.startswith(str(http.base_url))
    assert me.one("files", "presign", "fox.png")["headers"]["content-type"] == "image/png"
    put_file = me.one("files", "put", files / "fox.png", "--register")
    assert http.get(put_file["url"]).content == (files / "fox.png").read_bytes()
    (asset,) = me.all("assets", "search", "fox")
    assert [one["id"] for one in me.all("assets", "list")] == [asset["id"]]
    assert me.one("assets", "get", asset["id"])["size"] == put_file["size"]
    me.type("assets", "delete", asset["id"], "--yes")

    # -- the end
    assert me.one("prices")["H100"]
    me.type("workflows", "delete", workflow, "--yes")
    assert me.all("workflows", "list", "--search", "scenes") == []
    assert me.typed == me.known
    budget = json.loads(conveyor("rate", "show", "--json").stdout)
    asked = http.get("/_sim/stats").json()["calls"]
    asked.pop("POST /update-run", None)
    assert sum(budget["granted"][name] for name in CLASSES) >= sum(asked.values())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["workflows", "list"], "SDXL Portrait"),
        (["workflows", "get", "b0000000-0000-4000-8000-000000000001"], "One portrait, 512 px."),
        (["versions", "list", "b0000000-0000-4000-8000-000000000001"], "first"),
        (["deployments", "list"], "public-share"),
        (["deployments", "get", "d0000000-0000-4000-8000-000000000001"], "prompt (string)"),
        (["machines", "list"], "Training machine"),
        (["machines", "get", "a0000000-0000-4000-8000-000000000001"], "A10G"),
        (["prices"], "8.42"),
        (["assets", "search", "nothing like it"], "There are none."),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_people_get_columns(words: list[str], said: str) -> None:
    """Without `--json` an answer is aligned text, none of it JSON."""
    text = Typist().type(*words).output
    assert said in text
    assert "{" not in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["workflows", "get", UNKNOWN], "not found"),
        (["workflows", "create", "x", "token", "workflow_api.json"], "token: is no JSON"),
        (["workflows", "create", "x", "workflow_api.json"], "the editor's graph is missing"),
        (["workflows", "create", "x", "workflow.json", "workflow.json"], "is a second editor graph"),
        (["versions", "create", UNKNOWN, "workflow.json"], "the graph that runs is missing"),
        (["versions", "create", UNKNOWN, "machine.json"], "is no graph of ComfyUI"),
        (["workflows", "update", UNKNOWN], "say what to change"),
        (["workflows", "update", UNKNOWN, "--name", "x", "--pin"], "stand alone"),
        (
            ["deployments", "put", UNKNOWN, "--environment", "production", "--version", UNKNOWN],
            "machine_id: is needed",
        ),
        (["deployments", "update", UNKNOWN], "say what to change"),
        (["machines", "create", "serverless"], "say what it shall be"),
        (["machines", "create", "custom"], "--name: is needed\n--endpoint: is needed"),
        (["machines", "delete", "a0000000-0000-4000-8000-000000000001", "--yes"], "still have these workflows"),
        (["machines", "delete", "a0000000-0000-4000-8000-000000000001"], "'Image machine'"),
        (["runs", "list"], "say of what"),
        (["runs", "list", "--workflow", UNKNOWN, "--status", "done"], "success, failed"),
        (["runs", "cancel", UNKNOWN], "nothing to cancel"),
        (["files", "upload", "missing.png"], "missing.png: cannot be read"),
        (["files", "upload", "token.txt"], "cannot be read"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_refusals_say_why(files: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str) -> None:
    """Exit codes and one line for each problem, as everywhere; nothing on stdout."""
    monkeypatch.chdir(files)
    result = conveyor("api", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_without_a_key_nobody_is_asked(monkeypatch: pytest.MonkeyPatch, http: httpx.Client) -> None:
    """The setting is named; a key the API does not know is a person's business, too."""
    before = http.get("/_sim/stats").json()["calls"]
    monkeypatch.delenv("COMFY_DEPLOY_API_KEY")
    result = conveyor("api", "prices")
    assert (result.exit_code, "COMFY_DEPLOY_API_KEY is not set" in result.stderr) == (2, True)
    assert http.get("/_sim/stats").json()["calls"] == before
    monkeypatch.setenv("COMFY_DEPLOY_API_KEY", "another")
    assert conveyor("api", "workflows", "list").exit_code == 3


def test_a_closed_budget_holds_a_person_up(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API asked for a pause: nobody calls, and the line says where to look."""
    monkeypatch.setattr("producers.cli.api.session.TOKEN_SECONDS", 0.2)
    conveyor("rate", "set", "--per-second", "0.001", "--burst", "5")
    results = [conveyor("api", "prices") for _ in range(6)]
    assert results[0].exit_code == 0
    assert (results[-1].exit_code, "conveyor rate show" in results[-1].stderr) == (3, True)


def test_every_group_teaches_by_examples() -> None:
    """The help of each command shows how it is typed."""
    for name in commands(typer.main.get_command(api_app)):
        shown = CliRunner().invoke(app, ["api", *name.split(), "--help"], env={"COLUMNS": "200"})
        assert f"$ conveyor api {name}" in shown.stdout, name
