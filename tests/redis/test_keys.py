"""Lua derives keys in the words of `shared/keys.py`, and every script says what it takes, answers and costs."""

import inspect
import re

import pytest

from shared.database import SCRIPTS
from shared.keys import Keys
from tests.redis.stage import SCRIPT_NAMES

PREFIX = "p:"
#: `key('lane', pool, user)` as (first words, how many parts follow).
_CALL = re.compile(r"\bkey\(((?:[^()]|\([^()]*\))*)\)")


def python_keys() -> set[str]:
    """Every key of `Keys`, with `*` where an id stands."""
    keys = Keys(PREFIX)
    found = set()
    for name, member in inspect.getmembers(Keys):
        if isinstance(member, property):
            found.add(str(getattr(keys, name)))
        elif inspect.isfunction(member) and not name.startswith("_"):
            found.add(str(getattr(keys, name)(*"*" * (len(inspect.signature(member).parameters) - 1))))
    return found


def lua_keys(text: str) -> set[str]:
    """Every key a script derives, with `*` where a variable stands."""
    code = "\n".join(line.partition("--")[0] for line in text.splitlines())
    calls = [call[1] for call in _CALL.finditer(code) if call[1] != "..."]
    parts = [[part.strip() for part in re.split(r",(?![^\[(]*[\])])", call)] for call in calls]
    return {PREFIX + ":".join(part[1:-1] if part[0] in "'\"" else "*" for part in call) for call in parts}


def header(name: str) -> str:
    """The comment a script opens with."""
    lines = (SCRIPTS / f"{name}.lua").read_text().splitlines()
    return "\n".join(line for line in lines[: next(i for i, line in enumerate(lines) if not line.startswith("--"))])


@pytest.mark.parametrize("name", ["prelude", *SCRIPT_NAMES])
def test_every_key_of_a_script_is_a_key_of_keys_py(name: str) -> None:
    """A key spelled in Lua is spelled the same in Python: there is one page that lists them all."""
    # `overdue` takes the name of a set, `count_down` and dispatch the name of a counter.
    variable = {f"{PREFIX}*", f"{PREFIX}window:*"}

    assert lua_keys((SCRIPTS / f"{name}.lua").read_text()) - variable <= python_keys()


def test_the_reader_of_lua_keys_finds_them() -> None:
    """The test above is not empty: the keys a job's move touches are found."""
    assert {f"{PREFIX}{name}" for name in ("job:*", "window", "starting", "inflight:*", "closing")} <= lua_keys(
        (SCRIPTS / "transition.lua").read_text()
    )


def test_no_script_builds_a_key_by_hand() -> None:
    """Keys come from `key(...)` in the prelude and from nowhere else."""
    for name in SCRIPT_NAMES:
        code = re.sub(r"--.*", "", (SCRIPTS / f"{name}.lua").read_text())

        assert not re.search(r"\bprefix\b|ARGV\[1\]|KEYS\[", code), name


@pytest.mark.parametrize("name", SCRIPT_NAMES)
def test_a_script_opens_with_its_page(name: str) -> None:
    """The header names the file, what it is given, what it answers and what it costs; the clock, if it has one."""
    page = header(name)
    code = (SCRIPTS / f"{name}.lua").read_text().removeprefix(page)

    assert page.startswith(f"-- {name}.lua — ")
    assert "ARGV[1]  prefix" in page
    assert "\n-- Replies  " in page
    assert "\n-- Cost " in page
    if "now_ms()" in code or "'TIME'" in code:
        assert "\n-- Clock    Redis TIME" in page


@pytest.mark.parametrize("name", SCRIPT_NAMES)
def test_the_page_of_a_script_names_every_argument(name: str) -> None:
    """The arguments used are the arguments explained, without gaps."""
    page = header(name)
    code = (SCRIPTS / f"{name}.lua").read_text().removeprefix(page)
    explained = [int(number) for number in re.findall(r"-- ARGV\[(\d+)…?\] ", page)]
    used = {int(number) for number in re.findall(r"ARGV\[(\d+)\]", code)}

    assert explained == list(range(1, len(explained) + 1))
    assert used <= set(explained)
    # The prefix is the prelude's; the last may stand for a list that goes to the end.
    assert set(explained) - used <= ({1, len(explained)} if "#ARGV" in code else {1})


def test_keys_stay_below_their_prefix() -> None:
    """A test or a second installation on the same Redis meets nothing of the other."""
    assert all(key.startswith(PREFIX) for key in python_keys())
