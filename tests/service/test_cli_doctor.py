"""The doctor: each fault that is planted is found, named, and comes with what to do."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from producers.cli.doctor import examine as examination
from producers.cli.doctor import server, workers
from shared.limits.bucket import TokenBucket
from shared.settings import Settings
from tests.service.cli_stage import Stage, conveyor

pytestmark = pytest.mark.redis

#: A job's id, wherever one is needed.
JOB_ID = "01a1fb4b-efc2-79a1-94b1-f3ed4809d12e"
ENTRY = {"workflow_id": "w", "name": "SDXL Portrait", "environment": "production", "pool": "m1", "concurrency": 2}


def catalog(age_seconds: float = 0.0) -> str:
    """A catalog of one deployment."""
    return json.dumps({"read_at": time.time() - age_seconds, "entries": [ENTRY | {"deployment_id": "d"}]})


def sign(**said: Any) -> str:
    """What a worker says of itself."""
    return json.dumps({"busy": 1, "slots": 8, "starved_seconds": 0.0} | said)


@pytest.fixture
def healthy(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """An installation in which all is well: a worker that answers, a fresh catalog."""
    monkeypatch.setenv("COMFY_DEPLOY_API_KEY", "k3y")
    monkeypatch.setattr(workers, "_ask", lambda *_: {"w1@host": True})
    stage.redis.set("conveyor:worker:w1@host", sign(), ex=30)
    stage.redis.set("conveyor:catalog", catalog())
    return stage


def examine(*words: str) -> tuple[int, list[dict[str, str]]]:
    """The exit code and the checks; without a call of the API unless asked for."""
    result = conveyor("doctor", "--json", *(words or ("--offline",)))
    assert not result.stderr, result.stderr
    return result.exit_code, [json.loads(line) for line in result.stdout.splitlines()]


def find(name: str, *words: str) -> tuple[int, dict[str, str]]:
    """The exit code and the worst check of a name."""
    code, checks = examine(*words)
    rank = ["ok", "warn", "fail"]
    return code, max((c for c in checks if c["name"] == name), key=lambda c: rank.index(c["verdict"]))


def ago(seconds: float) -> float:
    """Milliseconds since 1970, so long ago."""
    return (time.time() - seconds) * 1000


def test_a_healthy_installation_is_ok(healthy: Stage) -> None:
    """Every check ok, exit code 0, in the order from outside in."""
    code, checks = examine()
    assert (code, [c for c in checks if c["verdict"] != "ok"]) == (0, [])
    assert [check["name"] for check in checks] == (
        [
            "api key",
            "webhooks",
            "redis",
            "eviction",
            "aof",
            "memory",
            "clock",
            "worker",
            "broker",
            "rejected",
            "budget",
            "breaker",
            "api",
            "catalog",
            "pauses",
            "waiting",
            "window",
            "starting",
            "stuck",
            "in flight",
            "strays",
            "closing",
            "callbacks",
        ]
    )
    text = conveyor("doctor", "--offline").stdout
    assert "w1@host: 1 of 8 slots busy" in text
    assert text.splitlines()[-1] == f"0 failed, 0 to look at, {len(checks)} checks"


def _budget(stage: Stage, **fields: str) -> None:
    stage.redis.hset(f"conveyor:budget:{Settings.from_env().account}", mapping=fields)  # type: ignore[arg-type]


def _dead(stage: Stage) -> None:
    stage.redis.sadd("conveyor:frontends", "web")
    stage.redis.xadd("conveyor:results:web:dead", {"reason": "too large"})


def _silent_group(stage: Stage) -> None:
    stage.redis.sadd("conveyor:frontends", "web")
    stage.redis.xadd("conveyor:results:web", {"job_id": "x"}, id=f"{ago(400):.0f}-0")
    stage.redis.xgroup_create("conveyor:results:web", "bot", id="0")


def _unacknowledged(stage: Stage) -> None:
    _silent_group(stage)
    stage.redis.xreadgroup("bot", "bot-1", {"conveyor:results:web": ">"})


Plant = Callable[[Stage], object]

FAULTS: dict[str, tuple[Plant, str, str, str]] = {
    "no sign of life": (lambda s: s.redis.delete("conveyor:worker:w1@host"), "worker", "warn", "no sign of life"),
    "a worker that does not answer": (
        lambda s: s.redis.set("conveyor:worker:w2@host", sign()),
        "worker",
        "warn",
        "does not answer",
    ),
    "a starved worker": (
        lambda s: s.redis.set("conveyor:worker:w1@host", sign(starved_seconds=25.0)),
        "worker",
        "fail",
        "messages have waited 25 s",
    ),
    "a full broker": (lambda s: s.redis.rpush("conveyor", *["x"] * 200), "broker", "warn", "200 messages wait"),
    "foreign messages": (lambda s: s.redis.hset("conveyor:rejected", "not_json", 3), "rejected", "warn", "3 not json"),
    "a pause": (lambda s: _budget(s, closed_until=str(time.time() + 30)), "budget", "warn", "asked for a pause"),
    "a cut rate": (
        lambda s: _budget(s, factor="0.5", at=str(time.time()), recovers_from=str(time.time())),
        "budget",
        "warn",
        "cut to 50% by 429s",
    ),
    "an open breaker": (
        lambda s: _budget(s, failures="6", opened="2", closed_until=str(time.time() + 30)),
        "breaker",
        "warn",
        "6 calls in a row failed, opened 2 times",
    ),
    "a half-open breaker": (lambda s: _budget(s, failures="6", opened="2"), "breaker", "warn", "half-open"),
    "no catalog": (lambda s: s.redis.delete("conveyor:catalog"), "catalog", "warn", "empty"),
    "an old catalog": (lambda s: s.redis.set("conveyor:catalog", catalog(900)), "catalog", "warn", "900 s old"),
    "nobody expires": (
        lambda s: s.redis.zadd("conveyor:expiring", {JOB_ID: ago(90)}),
        "waiting",
        "fail",
        "1 past their queue timeout",
    ),
    "nobody rescues": (
        lambda s: s.redis.zadd("conveyor:starting", {JOB_ID: ago(90)}),
        "starting",
        "fail",
        "1 silent for too long",
    ),
    "a job past the lanes without a record": (
        lambda s: s.redis.zadd("conveyor:window", {JOB_ID: 1}),
        "stuck",
        "fail",
        JOB_ID,
    ),
    "a full window": (
        lambda s: s.redis.hset("conveyor:limits", "window", 0),
        "window",
        "warn",
        "0 of 0 past the lanes (set live)",
    ),
    "nobody looks": (lambda s: s.redis.zadd("conveyor:due", {"w": ago(90)}), "in flight", "fail", "not looked at"),
    "a forgotten workflow": (
        lambda s: s.redis.zadd("conveyor:inflight:w", {f"{JOB_ID} r": ago(0)}),
        "in flight",
        "warn",
        "1 workflow not due",
    ),
    "a stray": (lambda s: s.redis.zadd("conveyor:strays", {f"{JOB_ID} r": ago(90)}), "strays", "fail", "1 overdue"),
    "callbacks nobody delivers": (
        lambda s: s.redis.zadd("conveyor:callbacks", {JOB_ID: ago(90)}),
        "callbacks",
        "fail",
        "1 overdue",
    ),
    "open rows": (lambda s: s.redis.zadd("conveyor:closing", {JOB_ID: ago(90)}), "closing", "fail", "1 overdue"),
    "a drained worker": (
        lambda s: s.redis.hset("conveyor:drains", "w1@host", json.dumps({"who": "op@host", "reason": "a look inside"})),
        "worker",
        "warn",
        "takes nothing new, by op@host: a look inside",
    ),
    "dead letters": (_dead, "→ web", "warn", "1 dead letter"),
    "a frontend that does not read": (_silent_group, "→ web", "warn", "has 1 to read, 0 to acknowledge"),
    "a frontend that does not acknowledge": (_unacknowledged, "→ web", "warn", "has 0 to read, 1 to acknowledge"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(healthy: Stage, fault: str) -> None:
    """By the right check, with words that name it and a way to fix it; only what is bad changes the exit code."""
    plant, name, verdict, words = FAULTS[fault]
    plant(healthy)
    code, check = find(name)
    assert (check["verdict"], code) == (verdict, 3 if verdict == "fail" else 0)
    assert words in check["finding"]
    assert check["fix"]


def test_nobody_works(healthy: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """No sign of life and no answer: bad, and how to start one."""
    healthy.redis.delete("conveyor:worker:w1@host")
    monkeypatch.setattr(workers, "_ask", lambda *_: {})
    code, check = find("workers")
    assert (code, check["verdict"]) == (3, "fail")
    assert "make up" in check["fix"]


@pytest.fixture
def configured(healthy: Stage) -> Iterator[Callable[[str, str], object]]:
    """Change the server's configuration, for this test."""
    before = {name: healthy.redis.config_get(name)[name] for name in ("maxmemory-policy", "appendonly", "maxmemory")}  # type: ignore[index]
    yield healthy.redis.config_set
    for name, value in before.items():
        healthy.redis.config_set(name, value)


@pytest.mark.parametrize(
    ("setting", "check", "verdict", "words"),
    [
        ("maxmemory-policy allkeys-lru", "eviction", "fail", "would drop jobs and results"),
        ("appendonly no", "aof", "warn", "a restart of Redis forgets jobs"),
    ],
)
def test_a_redis_that_forgets(
    configured: Callable[[str, str], object], setting: str, check: str, verdict: str, words: str
) -> None:
    """Eviction is refused loudly, a missing append-only file is a warning."""
    name, value = setting.split()
    configured(name, value)
    code, found = find(check)
    assert (found["verdict"], words in found["finding"], code) == (verdict, True, 3 if verdict == "fail" else 0)
    assert value != "allkeys-lru" or "noeviction" in found["fix"]


def test_a_redis_that_is_nearly_full(healthy: Stage, configured: Callable[[str, str], object]) -> None:
    """It says how much is left before no job is accepted."""
    used = int(healthy.redis.info("memory")["used_memory"])  # type: ignore[index]
    configured("maxmemory", str(int(used * 1.2)))
    code, found = find("memory")
    assert (found["verdict"], code) == ("warn", 0)


def test_clocks_apart(healthy: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's clock is compared with Redis's."""
    ahead = SimpleNamespace(time=lambda: time.time() + 7, monotonic=time.monotonic)
    monkeypatch.setattr(server, "time", ahead)
    _, check = find("clock")
    assert (check["verdict"], "7.0 s ahead of Redis" in check["finding"]) == ("warn", True)


def test_a_wrong_password_is_bad_and_not_shown(healthy: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis refuses us: one line, and no word of the password."""
    monkeypatch.setenv("REDIS_URL", healthy.url.replace("://", "://nobody:hunter2@"))
    code, check = find("redis")
    assert (code, check["verdict"]) == (3, "fail")
    assert "refuses us" in check["finding"]
    assert "hunter2" not in json.dumps(check)


def test_a_redis_that_never_answers_is_a_finding(healthy: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the connection and says nothing: the doctor does not wait for ever, and says what it did not ask."""
    monkeypatch.setattr(examination, "CHECK_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        code, checks = examine()
    assert (code, [c["name"] for c in checks if c["verdict"] != "ok"]) == (3, ["redis", "rest"])


def test_a_redis_that_is_too_old_is_said(healthy: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands we need would be missing."""
    monkeypatch.setattr(server, "OLDEST", (99, 0))
    code, check = find("redis")
    assert (code, check["verdict"], "older than 99.0" in check["finding"]) == (3, "fail", True)


def test_a_workflow_nobody_listens_to(healthy: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """With CONVEYOR_SSE each workflow with runs should have a listener; one that has is ok."""
    monkeypatch.setenv("CONVEYOR_SSE", "1")
    healthy.redis.zadd("conveyor:due", {"w": ago(-60)})
    assert (find("sse")[1]["verdict"], find("sse")[1]["finding"]) == ("warn", "0 of 1 workflow with runs listened to")
    healthy.redis.set("conveyor:lease:listen:w", "w1")
    assert find("sse")[1]["verdict"] == "ok"


def test_a_warning_counts_when_it_is_asked_to(healthy: Stage) -> None:
    """For a script that wants to hear of everything; what failed still counts more."""
    assert examine("--offline", "--strict")[0] == 0
    healthy.redis.delete("conveyor:catalog")
    assert [examine("--offline", *words)[0] for words in ((), ("--strict",))] == [0, 1]


def test_a_wrong_setting_is_a_finding(healthy: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor is what one runs when something is set wrong."""
    monkeypatch.setenv("CONVEYOR_WINDOWS", "7")
    code, check = find("settings")
    assert (code, check["verdict"], "CONVEYOR_WINDOWS" in check["finding"]) == (3, "fail", True)


def test_webhooks_need_a_secret(healthy: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A public address without a secret cannot sign."""
    monkeypatch.setenv("CONVEYOR_PUBLIC_URL", "https://hooks.example.org")
    code, check = find("webhooks")
    assert (code, "CONVEYOR_SECRET" in check["finding"]) == (3, True)


def test_settings_are_shown_and_secrets_are_not(healthy: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting with where it comes from; keys, secrets and passwords in addresses are covered."""
    secrets = ("s3cret-api-key", "s3cret-hooks", "s3cret-gateway", "s3cret-userinfo", "s3cret-query")
    monkeypatch.setenv("COMFY_DEPLOY_API_KEY", secrets[0])
    monkeypatch.setenv("CONVEYOR_SECRET", secrets[1])
    monkeypatch.setenv("CONVEYOR_API_KEYS", f"web:{secrets[2]},bot:x")
    monkeypatch.setenv("COMFY_DEPLOY_API_URL", f"https://me:{secrets[3]}@api.test/api?token={secrets[4]}&a=1")
    result = conveyor("doctor", "--settings", "--offline")
    assert result.exit_code == 0, result.output
    shown = {line.split()[1]: line.split(None, 2)[2] for line in result.stdout.splitlines() if line.startswith("ok")}
    assert {str(field.alias) for field in Settings.model_fields.values()} <= shown.keys()
    assert shown["CONVEYOR_WINDOW"] == "200 (default)"
    assert shown["COMFY_DEPLOY_API_URL"] == "https://me:********@api.test/api?token=********&a=1 (environment)"
    assert not [secret for secret in secrets if secret in result.output]


def test_the_api_is_asked_with_one_call(healthy: Stage, simulator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers and takes the key; the call is paid from the catalog's tokens."""
    monkeypatch.setenv("COMFY_DEPLOY_API_URL", simulator)
    monkeypatch.setenv("COMFY_DEPLOY_API_KEY", "sim-key")
    code, check = find("api", "--settings")
    assert (code, check["verdict"], "takes our key" in check["finding"]) == (0, "ok", True)
    assert healthy.redis.hget(f"conveyor:budget:{Settings.from_env().account}", "granted:catalog") == "1"


def test_a_wrong_key_is_bad(healthy: Stage, simulator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused: what to check, and the key is not repeated."""
    monkeypatch.setenv("COMFY_DEPLOY_API_URL", simulator)
    monkeypatch.setenv("COMFY_DEPLOY_API_KEY", "wr0ng-key")
    code, check = find("api", "--settings")
    assert (code, check["verdict"], "401" in check["finding"]) == (3, "fail", True)
    assert "COMFY_DEPLOY_API_KEY" in check["fix"]
    assert "wr0ng-key" not in json.dumps(check)


def test_an_api_that_is_down_is_bad(healthy: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens there: one line, no traceback."""
    monkeypatch.setenv("COMFY_DEPLOY_API_URL", "http://127.0.0.1:9/api")
    code, check = find("api", "--settings")
    assert (code, check["verdict"]) == (3, "fail")
    assert "COMFY_DEPLOY_API_URL" in check["fix"]


def test_while_the_bucket_is_closed_the_api_is_left_alone(healthy: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API asked for a pause; the doctor keeps it, too."""
    monkeypatch.setenv("COMFY_DEPLOY_API_URL", "http://127.0.0.1:9/api")
    healthy.with_database(lambda database: TokenBucket(database, Settings.from_env()).push_back(30, slow_down=False))
    code, check = find("api", "--settings")
    assert (code, check["verdict"], "not asked" in check["finding"]) == (0, "warn", True)


def test_jobs_are_counted_where_they_are(healthy: Stage) -> None:
    """Waiting by user, on their way, in flight by workflow."""
    asked = ("enqueue", "--workflow", "sdxl portrait", "--frontend", "web", "--json")
    for user, count in (("ada", "7"), ("bob", "1")):
        assert conveyor(*asked, "--user", user, "--count", count).exit_code == 0
    # m1 has room for 2 x 2 jobs, and ada was first
    _, waiting = find("waiting")
    assert waiting["finding"] == "4 jobs in 2 lanes: web:ada 3, web:bob 1"
    _, window = find("window")
    assert window["finding"] == "4 of 200 past the lanes; full: 1 machine"
    _, starting = find("starting")
    assert starting["finding"].startswith("4 of 64")
    for job_id in healthy.redis.zrange("conveyor:starting", 0, -1):  # type: ignore[union-attr]
        healthy.run(str(job_id))
    _, flying = find("in flight")
    assert flying["finding"] == "4 runs of 1 workflow: w 4"


UNKNOWN = {"inputs": None, "complete": False, "outputs": [], "notes": []}


def test_workflows_lists_the_catalog(healthy: Stage) -> None:
    """Name, environment, deployment and machine, for people and for programs."""
    [entry] = [json.loads(line) for line in conveyor("workflows", "--json").stdout.splitlines()]
    assert entry.pop("age_seconds") < 60
    more = {"deployment_id": "d", "description": None, "schema": None, "stale": False, "kept_from": None}
    more |= {"version": None, "version_id": None}
    assert entry == ENTRY | more | UNKNOWN
    text = conveyor("workflows").stdout
    assert "SDXL Portrait" in text
    assert "s ago" in text
