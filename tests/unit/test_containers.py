"""The containers run what the Procfile says, under the same names, and hold no secret. No engine is needed or tried here."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from producers.local.processes import procfile
from producers.local.redis_server import RedisServer
from shared.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


def scalar(text: str) -> Any:
    """A value on one line: a JSON list or text, or plain words."""
    text = text.strip()
    assert not text.startswith(("&", "*", "|", ">", "!", "{", "'")), f"not read: {text!r}"
    return json.loads(text) if text.startswith(("[", '"')) else text


def read_compose(text: str) -> dict[str, Any]:
    """The part of YAML that docker-compose.yml keeps to: mappings by two blanks, lists of words, JSON lists.

    Strict on purpose: what it does not know, it refuses, so nothing in the file is passed over.
    """
    root: dict[str, Any] = {}
    open_: list[tuple[int, Any]] = [(-2, root)]
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        depth = len(line) - len(line.lstrip())
        while open_[-1][0] >= depth:
            open_.pop()
        assert depth == open_[-1][0] + 2, f"indentation: {line!r}"
        parent = open_[-1][1]
        if match := re.fullmatch(r" *- ([^\s].*)", line):
            assert ": " not in match[1], f"not read: {line!r}"
            parent.setdefault("-", []).append(scalar(match[1]))
            continue
        match = re.fullmatch(r" *([A-Za-z_]+):(| .+)", line)
        assert match, f"not read: {line!r}"
        name, value = match[1], match[2]
        assert name not in parent, f"twice: {line!r}"
        parent[name] = scalar(value) if value else {}
        if not value:
            open_.append((depth, parent[name]))
    return root


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """docker-compose.yml."""
    return read_compose((ROOT / "docker-compose.yml").read_text())


@pytest.fixture(scope="module")
def dockerfile() -> str:
    """Dockerfile, with continued lines joined and comments left out."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    return "\n".join(line for line in text.splitlines() if not line.startswith("#"))


def test_the_services_are_the_processes_of_the_procfile(compose: dict[str, Any]) -> None:
    """Every process is a service of the same name and command; beside them only Redis and the simulator."""
    services = compose["services"]

    assert {name: service["command"].split() for name, service in services.items() if name in procfile()} == procfile()
    assert set(services) - set(procfile()) == {"redis", "simulator"}


def test_the_image_starts_a_worker_when_nothing_else_is_said(dockerfile: str) -> None:
    """CMD is the line `worker` of the Procfile, without a shell in between that would swallow SIGTERM."""
    match = re.search(r"^CMD (\[.*\])$", dockerfile, re.MULTILINE)

    assert match
    assert json.loads(match[1]) == procfile()["worker"]


def test_redis_keeps_what_it_is_given(compose: dict[str, Any]) -> None:
    """Append-only file, no eviction, a volume: the options of the Redis that the tests run on."""
    redis = compose["services"]["redis"]
    words = redis["command"]

    options = dict(zip(words[1::2], words[2::2], strict=True))

    assert options == {
        "--appendonly": "yes",
        "--appendfsync": "everysec",
        "--save": "",
        "--maxmemory-policy": "noeviction",
    }
    source = Path(RedisServer.__module__.replace(".", "/") + ".py")
    ours = (ROOT / source).read_text()
    assert all(f'"{name[2:]}": "{value}"' in ours for name, value in options.items())
    assert redis["volumes"] == {"-": ["redis:/data"]}
    assert "redis" in compose["volumes"]
    assert "ports" not in redis


def test_a_worker_can_be_scaled_and_has_time_to_stop(compose: dict[str, Any]) -> None:
    """No fixed name or port, started again, and twice the ten seconds a worker may take to stop."""
    worker = compose["services"]["worker"]

    assert not {"container_name", "ports", "hostname"} & set(worker)
    assert worker["restart"] == "unless-stopped"
    assert worker["stop_grace_period"] == "20s"
    assert worker["env_file"] == ".env"


def test_whoever_needs_redis_waits_until_it_is_healthy(compose: dict[str, Any]) -> None:
    """A service that is given REDIS_URL is given this Redis, and depends on it."""
    for name, service in compose["services"].items():
        if name in procfile():
            assert service["environment"]["REDIS_URL"] == "redis://redis:6379/0"
            assert service["depends_on"]["redis"]["condition"] == "service_healthy"
    assert "healthcheck" in compose["services"]["redis"]


def test_flower_is_not_open_to_strangers(compose: dict[str, Any]) -> None:
    """Published on loopback only, behind a password that must be set, and without the API key."""
    flower = compose["services"]["flower"]

    assert all(port.startswith("127.0.0.1:") for port in flower["ports"]["-"])
    assert flower["environment"]["FLOWER_BASIC_AUTH"].startswith("${FLOWER_BASIC_AUTH:?")
    assert "env_file" not in flower


def test_the_simulator_is_only_there_when_asked_for(compose: dict[str, Any]) -> None:
    """It has a profile, and is published on loopback only."""
    simulator = compose["services"]["simulator"]

    assert simulator["profiles"] == ["simulator"]
    assert all(port.startswith("127.0.0.1:") for port in simulator["ports"]["-"])


def test_every_service_of_ours_says_how_healthy_it_is(compose: dict[str, Any], dockerfile: str) -> None:
    """The image's check asks a worker; the others bring their own, and it is not the worker's."""
    assert re.search(r'^HEALTHCHECK .*CMD \["python", "-m", "workers.health"\]$', dockerfile, re.MULTILINE)
    assert (ROOT / "workers" / "health.py").exists()
    for name, service in compose["services"].items():
        assert ("healthcheck" in service) == (name != "worker"), name


def test_the_image_runs_as_nobody_special(dockerfile: str) -> None:
    """A user of its own is the last word about users, and nothing is added from the network by hand."""
    assert re.findall(r"^USER (\w+)$", dockerfile, re.MULTILINE) == ["conveyor"]
    assert "curl" not in dockerfile
    assert "ADD " not in dockerfile
    assert "PYTHONUNBUFFERED=1" in dockerfile
    assert "-c constraints.txt" in dockerfile


def test_no_secret_is_built_in(compose: dict[str, Any], dockerfile: str) -> None:
    """Neither file gives a value to a secret setting, and `.env` does not even reach the builder."""
    secrets = [info.alias or "" for info in Settings.model_fields.values() if "SecretStr" in str(info.annotation)]
    assert len(secrets) >= 4
    for name in secrets:
        assert name not in dockerfile
        assert all(name not in service.get("environment", {}) for service in compose["services"].values())
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert "*" in ignored
    assert not {"!.env", "!.git", "!var"} & set(ignored)


def test_what_the_image_copies_reaches_the_builder(dockerfile: str) -> None:
    """Every COPY source exists and is let through by .dockerignore; and every package of ours is copied."""
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")}
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE)
    sources = {source for line in copies for source in line.split()}

    assert sources == let_through
    assert all((ROOT / source).exists() for source in sources)
    assert {"shared", "tasks", "workers", "producers", "simulator"} <= sources


@pytest.mark.parametrize("text", ["a:\n   b: c", "a: &x b", "a:\n  - c: d", "a: b\na: c", "a: b\n  c: d", "a b"])
def test_the_reader_refuses_what_it_does_not_know(text: str) -> None:
    """The tests above see all of the file or fail."""
    with pytest.raises(AssertionError):
        read_compose(text)
