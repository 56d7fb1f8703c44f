"""Settings come from the environment once; a typo is refused, and nothing secret is ever shown."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from shared import settings as settings_module
from shared.errors import MissingSetting
from shared.settings import PREFIX, Settings

ENV_EXAMPLE = Path(__file__).resolve().parents[2] / ".env.example"

#: One value for every variable that is not its default, as an operator would write it, and what it becomes.
EXAMPLES: dict[str, tuple[str, Any]] = {
    "COMFY_DEPLOY_API_KEY": ("key-1", "key-1"),
    "COMFY_DEPLOY_API_URL": ("http://127.0.0.1:3011/api", "http://127.0.0.1:3011/api"),
    "REDIS_URL": ("redis://elsewhere:6379/3", "redis://elsewhere:6379/3"),
    "REDIS_PASSWORD": ("hunter2", "hunter2"),
    "CONVEYOR_RATE_PER_SECOND": ("2.5", 2.5),
    "CONVEYOR_RATE_BURST": ("50", 50),
    "CONVEYOR_WINDOW": ("7", 7),
    "CONVEYOR_USER_WINDOW": ("3", 3),
    "CONVEYOR_TIER_WEIGHTS": ("plus=2, pro=4", {"plus": 2, "pro": 4}),
    "CONVEYOR_MACHINE_WINDOW_FACTOR": ("1.5", 1.5),
    "CONVEYOR_SLOTS": ("16", 16),
    "CONVEYOR_PUBLIC_URL": ("https://hooks.example", "https://hooks.example"),
    "CONVEYOR_SECRET": ("s3cret", "s3cret"),
    "CONVEYOR_SSE": ("1", True),
    "CONVEYOR_API_KEYS": ("web:one, bot:two", ["web:one", "bot:two"]),
    "CONVEYOR_CALLBACK_ALLOW_PRIVATE": ("1", True),
    "PORT": ("8080", 8080),
    "CONVEYOR_HOST": ("127.0.0.1", "127.0.0.1"),
    "CONVEYOR_CORS_ORIGINS": (
        "https://one.example, https://two.example",
        ["https://one.example", "https://two.example"],
    ),
    "CONVEYOR_REQUESTS_PER_MINUTE": ("60", 60),
    "CONVEYOR_USER_JOBS": ("5", 5),
    "CONVEYOR_UPLOAD_BYTES": ("1000", 1000),
    "CONVEYOR_CACHE_FOLDER": ("/var/cache/conveyor", "/var/cache/conveyor"),
    "CONVEYOR_CACHE_BYTES": ("1000", 1000),
    "CONVEYOR_ARCHIVE": ("s3://pictures/conveyor", "s3://pictures/conveyor"),
    "CONVEYOR_JOB_KEEP_SECONDS": ("3600", 3600),
    "CONVEYOR_DEAD_KEEP_SECONDS": ("7200", 7200),
    "CONVEYOR_LOG_FORMAT": ("json", "json"),
    "CONVEYOR_LOG_LEVEL": ("debug", "debug"),
    "CONVEYOR_METRICS_PORT": ("9100", 9100),
    "CONVEYOR_METRICS_ADDRESS": ("0.0.0.0", "0.0.0.0"),
    "FLOWER_PORT": ("5556", 5556),
    "CONVEYOR_FLOWER_HISTORY": ("100", 100),
}
FIELDS: dict[str, tuple[str, FieldInfo]] = {f.alias or "": (name, f) for name, f in Settings.model_fields.items()}


def plain(value: Any) -> Any:
    """A setting without its mask."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.get_secret_value() if hasattr(value, "get_secret_value") else value


def as_text(value: Any) -> str:
    """A default as an operator writes it."""
    if value is None or value in ([], {}):
        return ""
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def example_lines() -> dict[str, str]:
    """`.env.example` as variable -> default; fails on a line that is neither a comment, nor empty, nor a setting."""
    found = {}
    for line in ENV_EXAMPLE.read_text().splitlines():
        if match := re.fullmatch(r"(?:# ?)?([A-Z][A-Z_]+)=(.*)", line):
            assert match[1] not in found, f"{match[1]} stands twice in .env.example"
            found[match[1]] = match[2]
        else:
            assert not line or line.startswith("#"), line
    return found


def test_every_setting_has_an_alias_that_the_examples_here_know() -> None:
    """A new setting needs a name in the environment, and a line in this test."""
    assert set(EXAMPLES) == set(FIELDS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_variable_sets_its_setting(name: str) -> None:
    """Each variable of the environment sets the setting it is the alias of, and no other."""
    text, expected = EXAMPLES[name]
    field = FIELDS[name][0]

    settings = Settings.from_env({name: text})

    assert plain(getattr(settings, field)) == expected
    # A password becomes part of the address.
    others = {field, "redis_url"} if name == "REDIS_PASSWORD" else {field}
    assert settings.model_dump(exclude=others) == Settings().model_dump(exclude=others)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_empty_variable_means_the_default(name: str) -> None:
    """A line `NAME=` in an env file is the same as no line."""
    assert Settings.from_env({name: ""}) == Settings()


def test_reads_the_process_environment_when_given_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument the settings come from the environment of the process."""
    monkeypatch.setenv("CONVEYOR_WINDOW", "12")

    assert Settings.from_env().window == 12


def test_an_unknown_variable_of_ours_is_refused_by_name() -> None:
    """A misspelt limit is told, with every other unknown name, and its value is not."""
    environ = {"CONVEYOR_RATE_PER_SEC": "hunter2", "CONVEYOR_WINDOWS": "hunter3", "CONVEYOR_WINDOW": "5"}

    with pytest.raises(MissingSetting) as told:
        Settings.from_env(environ)

    assert "CONVEYOR_RATE_PER_SEC" in str(told.value)
    assert "CONVEYOR_WINDOWS" in str(told.value)
    assert "hunter" not in str(told.value)


def test_variables_of_others_are_none_of_our_business() -> None:
    """Only names that start with our prefix can be typos of ours."""
    assert Settings.from_env({"PATH": "/bin", "REDIS_HOST": "x", "XCONVEYOR_WINDOW": "x"}) == Settings()


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("CONVEYOR_RATE_PER_SECOND", "0"),
        ("CONVEYOR_RATE_PER_SECOND", "nan"),
        ("CONVEYOR_RATE_PER_SECOND", "inf"),
        ("CONVEYOR_RATE_BURST", "9"),
        ("CONVEYOR_RATE_BURST", "20.5"),
        ("CONVEYOR_WINDOW", "0"),
        ("CONVEYOR_USER_WINDOW", "-1"),
        ("CONVEYOR_TIER_WEIGHTS", "pro=11"),
        ("CONVEYOR_TIER_WEIGHTS", "pro"),
        ("CONVEYOR_MACHINE_WINDOW_FACTOR", "hunter2"),
        ("CONVEYOR_SLOTS", "1001"),
        ("CONVEYOR_ARCHIVE", "archive"),
        ("CONVEYOR_ARCHIVE", "s3://key:hunter2@pictures/x"),
        ("CONVEYOR_ARCHIVE", "s3://pictures/x?secret=hunter2"),
        ("CONVEYOR_ARCHIVE", "s3://pictures/../x"),
        ("CONVEYOR_ARCHIVE", "https://pictures.example"),
        ("CONVEYOR_JOB_KEEP_SECONDS", "59"),
        ("CONVEYOR_LOG_FORMAT", "hunter2"),
        ("FLOWER_PORT", "65536"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(name: str, wrong: str) -> None:
    """The operator reads which variable is wrong and what would be right; the value may be a secret in the wrong line."""
    with pytest.raises(MissingSetting, match=name) as told:
        Settings.from_env({name: wrong})

    assert "hunter2" not in str(told.value)
    assert told.value.__cause__ is None


def test_every_wrong_value_is_told_at_once() -> None:
    """Two wrong variables are two names in one message."""
    with pytest.raises(MissingSetting, match="CONVEYOR_WINDOW") as told:
        Settings.from_env({"CONVEYOR_WINDOW": "x", "FLOWER_PORT": "y"})

    assert "FLOWER_PORT" in str(told.value)


@pytest.mark.parametrize("show", [repr, str, lambda s: s.model_dump_json()], ids=["repr", "str", "json"])
def test_secrets_are_masked(show: Any) -> None:
    """Printing or dumping the settings shows no secret."""
    settings = Settings.from_env(
        {"COMFY_DEPLOY_API_KEY": "hunter1", "CONVEYOR_SECRET": "hunter2", "CONVEYOR_API_KEYS": "web:hunter3"}
    )

    assert "hunter" not in show(settings)


def test_settings_do_not_change() -> None:
    """What was read at process start is what holds."""
    with pytest.raises(ValidationError, match="frozen"):
        Settings().window = 3  # type: ignore[misc]


def test_a_missing_key_says_where_to_get_one() -> None:
    """A worker without an API key tells its operator the variable's name and where a key comes from."""
    with pytest.raises(MissingSetting, match=r"COMFY_DEPLOY_API_KEY.*dashboard"):
        Settings().require_api_key()
    with pytest.raises(MissingSetting, match="CONVEYOR_SECRET"):
        Settings().require_secret()

    assert Settings.from_env({"COMFY_DEPLOY_API_KEY": "k"}).require_api_key() == "k"
    assert Settings.from_env({"CONVEYOR_SECRET": "s"}).require_secret() == "s"


def test_an_account_is_told_apart_by_key_and_address_and_gives_neither_away() -> None:
    """Budget and catalog belong to one key at one address; their name in Redis shows nothing of it."""
    one = Settings.from_env({"COMFY_DEPLOY_API_KEY": "hunter1"})
    other_key = Settings.from_env({"COMFY_DEPLOY_API_KEY": "hunter2"})
    other_place = Settings.from_env({"COMFY_DEPLOY_API_KEY": "hunter1", "COMFY_DEPLOY_API_URL": "http://there/api"})

    assert len({one.account, other_key.account, other_place.account, Settings().account}) == 4
    assert re.fullmatch(r"[0-9a-f]{12}", one.account)


def test_env_example_lists_every_setting_with_its_default_and_nothing_else() -> None:
    """`.env.example` and the settings are equal, in both directions."""
    assert example_lines() == {name: as_text(field.default) for name, (_, field) in FIELDS.items()}


def test_env_example_explains_every_setting_in_the_words_of_the_code() -> None:
    """The comment above a variable in `.env.example` is the docstring below the field."""
    source = Path(settings_module.__file__).read_text()
    explained = dict(re.findall(r'alias="([A-Z_]+)"[^"]*\)\n    """(.*?)"""', source))
    example = ENV_EXAMPLE.read_text()

    assert set(explained) == set(FIELDS)
    for name, words in explained.items():
        assert re.search(rf"^# {re.escape(words)}\n(?:# )?{name}=", example, re.MULTILINE), name


def test_env_example_changes_nothing_when_it_is_used_as_it_is() -> None:
    """Copied to `.env` unchanged, even with every comment sign before a setting taken away, it means the defaults."""
    assert Settings.from_env(example_lines()) == Settings()
    assert all(name.startswith((PREFIX, "COMFY_DEPLOY_", "REDIS_", "FLOWER_", "PORT")) for name in example_lines())
