"""The containers run what the Procfile says, under the same names, shut in, and hold no secret.

No engine is needed or tried here; `make rehearse-image` goes as far as one can without.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import check_jsonschema
import jsonschema
import pytest
import yaml

from ops.dockerfile import Stage, stages
from producers.local.processes import procfile
from producers.local.redis_server import RedisServer
from shared.settings import Settings
from workers.watch import LAST_SECONDS

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_SCHEMA = Path(check_jsonschema.__file__).parent / "builtin_schemas/vendor/compose-spec.json"
OURS = {*procfile(), "simulator"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """docker-compose.yml."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return found


@pytest.fixture(scope="module")
def image() -> Stage:
    """The last stage of the Dockerfile, which becomes the image."""
    return stages((ROOT / "Dockerfile").read_text())[-1]


def seconds(duration: str) -> float:
    """A duration as the compose file writes it."""
    return float(duration.removesuffix("s"))


# -- the formats ------------------------------------------------------------------------------------------------------


def test_the_compose_file_is_one(compose: dict[str, Any]) -> None:
    """It fits the JSON Schema of the compose specification; and that schema would notice a mistake."""
    schema = json.loads(COMPOSE_SCHEMA.read_text())

    jsonschema.validate(compose, schema)

    worker = {**compose["services"]["worker"], "stop_grace_perod": "20s"}
    with pytest.raises(jsonschema.ValidationError, match="stop_grace_perod"):
        jsonschema.validate({**compose, "services": {"worker": worker}}, schema)


def test_the_linter_of_dockerfiles_has_nothing_to_say() -> None:
    """hadolint, which also checks the shell in RUN lines, finds nothing, however small."""
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent)
    if not hadolint:
        pytest.skip("hadolint has no wheel for this platform")

    found = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False)

    assert (found.returncode, found.stdout) == (0, "")


# -- what runs --------------------------------------------------------------------------------------------------------


def test_the_services_are_the_processes_of_the_procfile(compose: dict[str, Any]) -> None:
    """Every process is a service of the same name and command; beside them only Redis and the simulator."""
    services = compose["services"]

    assert {name: service["command"].split() for name, service in services.items() if name in procfile()} == procfile()
    assert set(services) - set(procfile()) == {"redis", "simulator"}


def test_the_image_starts_a_worker_when_nothing_else_is_said(image: Stage) -> None:
    """CMD is the line `worker` of the Procfile, without a shell in between that would swallow SIGTERM."""
    assert [json.loads(command) for command in image.all("CMD")] == [procfile()["worker"]]


def test_redis_keeps_what_it_is_given(compose: dict[str, Any]) -> None:
    """Append-only file, no eviction, a volume: the options of the Redis that the tests run on; and a limit, to be told."""
    redis = compose["services"]["redis"]
    script = redis["command"][-1]

    options = dict(re.findall(r"--([a-z-]+) (\S+)", script))

    assert {name: value.strip("'") for name, value in options.items()} == {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "maxmemory": "1gb",
        "dir": "/data",
    }
    ours = (ROOT / RedisServer.__module__.replace(".", "/")).with_suffix(".py").read_text()
    assert '"appendfsync": "everysec"' in ours
    assert '"maxmemory-policy": "noeviction"' in ours
    assert redis["volumes"] == ["redis:/data"]
    assert "redis" in compose["volumes"]
    assert redis["deploy"]["resources"]["limits"]["memory"] == "1536M"


def test_redis_asks_for_a_password_that_no_argument_shows(compose: dict[str, Any]) -> None:
    """It is read from its file inside the container, into the configuration; and nothing of Redis is published."""
    redis = compose["services"]["redis"]

    assert 'requirepass "$$(cat /run/secrets/redis_password)"' in redis["command"][-1].partition("<<END\n")[2]
    assert "--requirepass" not in redis["command"][-1]
    assert redis["secrets"] == ["redis_password"]
    assert "ports" not in redis


def test_a_worker_can_be_scaled_and_has_time_to_stop(compose: dict[str, Any]) -> None:
    """No fixed name or port, started again, and more time than a worker takes at the very most."""
    worker = compose["services"]["worker"]

    assert not {"container_name", "ports", "hostname"} & set(worker)
    assert worker["restart"] == "unless-stopped"
    assert seconds(worker["stop_grace_period"]) >= 1.5 * LAST_SECONDS
    assert worker["env_file"] == [{"path": ".env", "required": False}]


def test_whoever_needs_redis_waits_until_it_is_healthy(compose: dict[str, Any]) -> None:
    """A service that is given REDIS_URL is given this Redis and its password, and depends on it."""
    for name in procfile():
        service = compose["services"][name]
        assert service["environment"]["REDIS_URL"] == "redis://redis:6379/0"
        assert "redis_password" in service["secrets"]
        assert service["depends_on"]["redis"]["condition"] == "service_healthy"
    assert "healthcheck" in compose["services"]["redis"]


def test_the_simulator_is_only_there_when_asked_for(compose: dict[str, Any]) -> None:
    """It has a profile, an image of its own with what only it needs, and is published on loopback only."""
    simulator = compose["services"]["simulator"]

    assert simulator["profiles"] == ["simulator"]
    assert (simulator["image"], simulator["build"]["args"]) == ("conveyor-simulator", {"EXTRAS": "simulator"})


def test_every_service_of_ours_says_how_healthy_it_is(compose: dict[str, Any], image: Stage) -> None:
    """The image's check asks a worker; the others bring their own, and it is not the worker's."""
    assert image.all("HEALTHCHECK")[0].endswith('CMD ["python", "-m", "workers.health"]')
    assert (ROOT / "workers" / "health.py").exists()
    for name, service in compose["services"].items():
        assert ("healthcheck" in service) == (name != "worker"), name


# -- shut in ----------------------------------------------------------------------------------------------------------


def test_every_container_is_shut_in(compose: dict[str, Any]) -> None:
    """Read-only but for a bounded /tmp, no rights of the kernel's, bounded in memory and processes, logs that rotate."""
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert all(re.fullmatch(r"/tmp:size=\d+m,mode=1777", mount) for mount in service["tmpfs"]), name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["logging"]["options"]["max-size"] == "10m", name
        if name != "simulator":
            assert {"memory", "pids"} <= set(service["deploy"]["resources"]["limits"]), name


def test_only_loopback_is_published(compose: dict[str, Any]) -> None:
    """What is to be reached from elsewhere is for a proxy with TLS in front."""
    published = [port for service in compose["services"].values() for port in service.get("ports", [])]

    assert len(published) == 3
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_the_image_runs_as_nobody_special(image: Stage) -> None:
    """A user of its own, by number, is the last word about users; nothing is added from the network by hand."""
    assert image.all("USER") == ["10001:10001"]
    text = (ROOT / "Dockerfile").read_text()
    assert "curl" not in text
    assert "ADD " not in text
    assert "-c constraints.txt" in text
    assert "PYTHONUNBUFFERED=1" in image.all("ENV")[0]


# -- secrets ----------------------------------------------------------------------------------------------------------


def test_every_secret_is_a_file_of_its_own(compose: dict[str, Any]) -> None:
    """Each `…_FILE` names a secret the service is given, each given one is declared, and none has a value anywhere."""
    declared = compose["secrets"]
    assert declared == {name: {"file": f"secrets/{name}"} for name in declared}
    used = set()
    for name, service in compose["services"].items():
        given = set(service.get("secrets", []))
        environment = service.get("environment", {})
        named = {path.rpartition("/")[2] for key, path in environment.items() if key.endswith("_FILE")}
        assert given == named or name == "redis"
        assert not {*Settings.secrets(), "FLOWER_BASIC_AUTH"} & set(environment) - {"REDIS_URL"}
        used |= given
    assert used == set(declared)


def test_the_files_of_secrets_are_those_we_read(compose: dict[str, Any]) -> None:
    """A `…_FILE` that nobody reads would be a process without its secret."""
    names = {key for name in OURS for key in compose["services"][name].get("environment", {}) if key.endswith("_FILE")}

    assert names <= {f"{name}_FILE" for name in Settings.secrets()} | {"FLOWER_BASIC_AUTH_FILE"}


def test_flower_is_not_given_the_api_key(compose: dict[str, Any]) -> None:
    """It needs Redis and its own password, and gets neither the key nor .env."""
    flower = compose["services"]["flower"]

    assert set(flower["secrets"]) == {"redis_password", "flower_basic_auth"}
    assert "env_file" not in flower


def test_no_secret_is_built_in() -> None:
    """Neither the folder of secrets nor `.env` reaches the builder or a commit."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert not any(name in dockerfile for name in Settings.secrets())
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert "*" in ignored
    assert not {"!.env", "!.git", "!var", "!secrets"} & set(ignored)
    assert {".env", "secrets/"} <= set((ROOT / ".gitignore").read_text().split())


def test_what_the_image_copies_reaches_the_builder() -> None:
    """Every COPY source exists and is let through by .dockerignore; and every package of ours is copied."""
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")}
    copies = [copy for stage in stages((ROOT / "Dockerfile").read_text()) for copy in stage.all("COPY")]
    sources = {source for copy in copies if not copy.startswith("--from") for source in copy.split()[:-1]}

    assert sources == let_through
    assert all((ROOT / source).exists() for source in sources)
    assert {"shared", "tasks", "workers", "producers", "simulator"} <= sources


def test_a_line_that_is_no_instruction_is_noticed() -> None:
    """The tests above see all of the Dockerfile or fail."""
    with pytest.raises(ValueError, match="not an instruction"):
        stages("FROM x\nrun me")
