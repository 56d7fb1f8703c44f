"""What a process writes to its log."""

import asyncio
import json
import logging
from pathlib import Path

import pytest

from shared.logs import about, configure
from shared.redaction import secrets_of
from shared.settings import Settings


@pytest.mark.parametrize("log_format", ["pretty", "json"])
def test_a_traceback_shows_no_local_variable(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A frame may hold a key or a secret; what went wrong and where is told without."""
    configure(Settings.from_env({"CONVEYOR_LOG_FORMAT": log_format}))
    secret = "hunter" + "2"  # not a word of the source, which a traceback quotes

    try:
        int(f"{len(secret)} letters")
    except ValueError:
        logging.getLogger("test").exception("failed")

    written = capsys.readouterr().out
    assert "7 letters" in written
    assert "test_logs.py" in written
    assert "hunter2" not in written


API_KEY, SECRET, GATEWAY_KEY, REDIS_PASSWORD = "cd-key-5be1", 'sign"here-77', "gw-key-90aa", "redis pa/ss"
ENVIRON = {
    "COMFY_DEPLOY_API_KEY": API_KEY,
    "CONVEYOR_SECRET": SECRET,
    "CONVEYOR_API_KEYS": f"web:{GATEWAY_KEY}",
    "REDIS_URL": "redis://:redis%20pa%2Fss@127.0.0.1:6379/0",
}


def logger(log_format: str) -> logging.Logger:
    """A logger of a process whose settings hold secrets. Not a fixture: what is captured begins with the test."""
    configure(Settings.from_env({**ENVIRON, "CONVEYOR_LOG_FORMAT": log_format}))
    return logging.getLogger("somebody.elses")


both = pytest.mark.parametrize("log_format", ["pretty", "json"])


@both
@pytest.mark.parametrize("secret", [API_KEY, SECRET, GATEWAY_KEY, REDIS_PASSWORD, "redis%20pa%2Fss"])
def test_a_secret_of_the_settings_is_hidden_wherever_it_turns_up(
    secret: str, log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a library's message, in a field of any name, in an error's words and its traceback; the rest of the line stays."""
    logger(log_format).warning("refused %s", secret, extra={"detail": {"deep": [f"Bearer {secret}"]}})
    try:
        int(f"no entry with {secret}")
    except ValueError:
        logger(log_format).exception("failed")

    written = capsys.readouterr().out
    assert "refused (hidden)" in written
    assert "no entry with (hidden)" in written
    for spelling in (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1]):
        assert spelling not in written


@both
@pytest.mark.parametrize(
    "name",
    [
        "authorization",
        "Authorization",
        "api_key",
        "apiKey",
        "COMFY_DEPLOY_API_KEY",
        "x-api-key",
        "bearer_token",
        "password",
        "secret",
        "callbackSecret",
        "signature",
        "access_token",
        "cookie",
    ],
)
def test_a_field_is_hidden_by_its_name(name: str, log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    """At the top and below, whatever it holds."""
    logger(log_format).warning("asked", extra={"headers": {name: "swordfish"}, name: ["swordfish"]})
    written = capsys.readouterr().out
    assert "swordfish" not in written
    assert written.count("(hidden)") == 2


@both
def test_what_is_no_secret_stays(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Counted tokens, keys of Redis, ordinary addresses."""
    logger(log_format).warning(
        "seen", extra={"tokens": 17, "key": "conveyor:job:1", "url": "https://x.example/a?view=1", "keys": 3}
    )
    written = capsys.readouterr().out
    for piece in ("17", "conveyor:job:1", "https://x.example/a?view=1", "3"):
        assert piece in written


@both
@pytest.mark.parametrize(
    "text",
    [
        "https://b.s3.amazonaws.com/o.png?X-Amz-Date=1&X-Amz-Signature=swordfish&x=1",
        "https://a.example/hooks/comfydeploy/1?sig=swordfish",
        "https://a.example/?one=1&access_token=swordfish",
        "Authorization: Bearer swordfish",
        "redis://user:swordfish@redis:6379/0",
        "https://api.telegram.org/file/bot1234567:swordfish/photo.png",
    ],
)
def test_what_opens_an_address_is_hidden(text: str, log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever's it is: an address that was signed works for everybody who reads it."""
    logger(log_format).warning("cannot be fetched", extra={"error": f"GET {text} failed"})
    written = capsys.readouterr().out
    assert "swordfish" not in written
    assert "(hidden)" in written
    assert "failed" in written


async def test_a_line_says_which_job_it_is_about(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever writes it, also in what is started within; afterwards nothing of it is left."""
    configure(Settings.from_env({"CONVEYOR_LOG_FORMAT": "json"}))

    async def work() -> None:
        logging.getLogger("library").warning("hm")

    with about("job-1", "run-1"):
        await asyncio.gather(work(), work())
    await work()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line.get("job_id"), line.get("run_id")) for line in lines] == [("job-1", "run-1")] * 2 + [(None, None)]


def test_the_level_is_that_of_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    """`CONVEYOR_LOG_LEVEL=warning` leaves the ordinary out."""
    configure(Settings.from_env({"CONVEYOR_LOG_LEVEL": "warning"}))
    logging.getLogger("test").info("ordinary")
    logging.getLogger("test").warning("odd")
    written = capsys.readouterr().out
    assert "odd" in written
    assert "ordinary" not in written


def test_secrets_of_other_programs_in_our_processes_are_known() -> None:
    """Flower's password, also from a file, and what the collector of traces is told; words too short to be secrets are not."""
    environ = {
        "FLOWER_BASIC_AUTH": "ops:flower-pass,dev:other-pass",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20collector-token,x-a=b",
    }
    found = secrets_of(Settings.from_env(ENVIRON), environ)
    assert {"flower-pass", "other-pass", "collector-token"} <= found
    assert {"b", ""}.isdisjoint(found)
    assert {API_KEY, SECRET, GATEWAY_KEY, REDIS_PASSWORD} <= found


def test_flowers_password_from_a_file_is_known(tmp_path: Path) -> None:
    """As it is read by Flower; a file that is not there is Flower's business."""
    file = tmp_path / "auth"
    file.write_text("ops:flower-pass\n")
    assert "flower-pass" in secrets_of(Settings(), {"FLOWER_BASIC_AUTH_FILE": str(file)})
    assert secrets_of(Settings(), {"FLOWER_BASIC_AUTH_FILE": str(tmp_path / "none")}) == set()
