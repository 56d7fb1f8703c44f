"""A secret may come from a file: `<name>_FILE` says which, and what is wrong with one is said without showing it."""

from pathlib import Path

import pytest

from shared.errors import MissingSetting
from shared.settings import Settings


def write(folder: Path, content: str | bytes) -> str:
    """A file with this content; its path."""
    path = folder / "secret"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.mark.parametrize("name", sorted(Settings.secrets()))
@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_every_secret_can_come_from_a_file(tmp_path: Path, name: str, ending: str) -> None:
    """It is the same as setting the variable; the newline at the end of the file is not part of it."""
    value = "redis://:hunter2@elsewhere:6379/0" if name == "REDIS_URL" else "web:hunter2"

    assert Settings.from_env({f"{name}_FILE": write(tmp_path, value + ending)}) == Settings.from_env({name: value})


def test_the_secrets_are_these() -> None:
    """The names a compose file or a manifest may rely on; a setting without a secret has no file."""
    assert Settings.secrets() >= {
        "COMFY_DEPLOY_API_KEY",
        "CONVEYOR_SECRET",
        "CONVEYOR_API_KEYS",
        "REDIS_URL",
        "REDIS_PASSWORD",
    }
    with pytest.raises(MissingSetting, match="Unknown setting CONVEYOR_WINDOW_FILE"):
        Settings.from_env({"CONVEYOR_WINDOW_FILE": "/nowhere"})


def test_keys_in_a_file_may_stand_on_lines_of_their_own(tmp_path: Path) -> None:
    """A line for each key reads better than a comma."""
    keys = Settings.from_env({"CONVEYOR_API_KEYS_FILE": write(tmp_path, "web:one\nbot:two,cli:three\n")}).api_keys

    assert [key.get_secret_value() for key in keys] == ["web:one", "bot:two", "cli:three"]


def test_an_empty_variable_names_no_file() -> None:
    """As everywhere, `NAME=` is the same as no line."""
    assert Settings.from_env({"CONVEYOR_SECRET_FILE": ""}) == Settings()


@pytest.mark.parametrize(
    ("content", "why"),
    [("", "empty"), ("\n", "empty"), (b"\xff\xfehunter2", "not text"), ("hunter2" * 4000, "larger than 16,384 bytes")],
    ids=["empty", "newline", "binary", "large"],
)
def test_a_file_of_no_use_is_refused_by_the_name_of_its_variable(
    tmp_path: Path, content: str | bytes, why: str
) -> None:
    """The operator reads which file and why, and not what is in it."""
    path = write(tmp_path, content)

    with pytest.raises(MissingSetting, match="CONVEYOR_SECRET_FILE") as told:
        Settings.from_env({"CONVEYOR_SECRET_FILE": path})

    assert f"{path}: {why}" in str(told.value)
    assert "hunter2" not in str(told.value)


def test_files_that_cannot_be_read_are_told_all_at_once(tmp_path: Path) -> None:
    """One that is not there and one that is a folder are two names in one message."""
    with pytest.raises(MissingSetting, match="No such file or directory") as told:
        Settings.from_env({"CONVEYOR_SECRET_FILE": str(tmp_path / "gone"), "REDIS_URL_FILE": str(tmp_path)})

    assert f"REDIS_URL_FILE: {tmp_path}: Is a directory" in str(told.value)


def test_a_secret_is_set_in_one_place(tmp_path: Path) -> None:
    """The variable and its file together are refused: one of them is out of date."""
    with pytest.raises(MissingSetting, match="CONVEYOR_SECRET and CONVEYOR_SECRET_FILE are both set") as told:
        Settings.from_env({"CONVEYOR_SECRET_FILE": write(tmp_path, "hunter2"), "CONVEYOR_SECRET": "hunter3"})

    assert "hunter" not in str(told.value)


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("", "redis://:h%40nt%2Fer@localhost:6379/0"),
        ("redis://redis:6379/2", "redis://:h%40nt%2Fer@redis:6379/2"),
        (
            "rediss://worker@redis/0?health_check_interval=2",
            "rediss://worker:h%40nt%2Fer@redis/0?health_check_interval=2",
        ),
    ],
)
def test_a_password_of_redis_becomes_part_of_its_address(url: str, whole: str) -> None:
    """So that the address can be in plain sight and the password in a file."""
    assert Settings.from_env({"REDIS_URL": url, "REDIS_PASSWORD": "h@nt/er"}).redis_url == whole


def test_redis_has_one_password() -> None:
    """A second one in the address is refused, without showing either."""
    with pytest.raises(MissingSetting, match="REDIS_PASSWORD is set and REDIS_URL has a password") as told:
        Settings.from_env({"REDIS_URL": "redis://:hunter2@redis:6379/0", "REDIS_PASSWORD": "hunter3"})

    assert "hunter" not in str(told.value)
