"""The budget on the command line: what is shown is what holds, and what is set holds for every worker."""

import json
from typing import Any

import pytest

from shared.limits.bucket import FLOORS, TokenBucket
from shared.limits.budget import LEAST_BURST, Budget
from shared.settings import Settings
from tests.service.cli_stage import Stage, conveyor

pytestmark = pytest.mark.redis


@pytest.fixture(autouse=True)
def _with_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget is that of a key."""
    monkeypatch.setenv("COMFY_DEPLOY_API_KEY", "k3y")


def shown(*words: str) -> dict[str, Any]:
    """A command's answer for programs."""
    result = conveyor("rate", *words, "--json")
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def grants(stage: Stage, asks: int) -> int:
    """How many of so many asks at once are granted, by a worker's own bucket."""

    async def work(database: Any) -> int:
        bucket = TokenBucket(database, Settings.from_env())
        return sum([await bucket.ask("submit") == 0 for _ in range(asks)])

    return stage.with_database(work)


def test_a_fresh_budget_is_the_environments(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has called yet: full, open, and as configured."""
    monkeypatch.setenv("CONVEYOR_RATE_PER_SECOND", "7.5")
    budget = shown("show")
    assert (budget["rate"], budget["rate_set"], budget["burst"], budget["tokens"]) == (7.5, False, 20, 20)
    assert (budget["breaker"], budget["closed_seconds"], budget["factor"]) == ("closed", 0, 1)


def test_what_is_set_holds_for_workers_until_it_is_reset(stage: Stage) -> None:
    """The bucket grants by the operator's numbers; one can be set without the other."""
    assert shown("set", "--per-second", "0.5", "--burst", "5")["rate"] == 0.5
    assert grants(stage, 20) == 2
    budget = shown("show")
    assert (budget["rate_set"], budget["burst_set"], budget["burst"]) == (True, True, 5)
    assert (budget["granted"]["submit"], budget["refused"]["submit"]) == (2, 18)
    assert shown("set", "--burst", "9")["rate"] == 0.5
    budget = shown("reset")
    assert (budget["rate"], budget["burst"], budget["rate_set"], budget["burst_set"]) == (10, 20, False, False)


def test_a_reset_gives_back_what_429s_took(stage: Stage) -> None:
    """The factor is whole again, for the workers as well; the pause the API asked for holds on."""
    stage.with_database(lambda database: TokenBucket(database, Settings.from_env()).push_back(30, slow_down=True))
    assert shown("show")["factor"] == 0.5
    budget = shown("reset")
    assert (budget["factor"], budget["now"], budget["closed_seconds"] > 0) == (1, 10, True)


def test_what_is_shown_after_a_pause_is_what_is_granted(stage: Stage) -> None:
    """A pause ends with one token, and both say so."""
    stage.with_database(lambda database: TokenBucket(database, Settings.from_env()).push_back(0.001, slow_down=False))
    shown("set", "--per-second", "0.01")
    assert round(shown("show")["tokens"]) == 1
    assert grants(stage, 5) == 1


def test_the_lines_for_people(stage: Stage) -> None:
    """Rate, factor, breaker and calls by class; and that it was set live."""
    conveyor("rate", "set", "--per-second", "4")
    text = conveyor("rate", "show").stdout
    assert "4 calls/s, set live" in text
    assert "breaker      closed" in text
    assert [line.split()[0] for line in text.splitlines()[-4:]] == ["submit", "look", "catalog", "cancel"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "say --per-second X, --burst N, or both"),
        (("--per-second", "0"), "--per-second: must be above 0"),
        (("--per-second", "-1"), "--per-second: must be above 0"),
        (("--per-second", "nan"), "--per-second: must be above 0"),
        (("--per-second", "inf"), "--per-second: must be above 0"),
        (("--burst", "4"), "--burst: must be 5 to"),
        (("--burst", "ten"), "valid integer"),
    ],
)
def test_numbers_that_cannot_hold_are_refused(stage: Stage, words: tuple[str, ...], said: str) -> None:
    """One line, exit code 2, and the budget stays as it was."""
    result = conveyor("rate", "set", *words)
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr
    assert stage.redis.keys("conveyor:budget:*") == []


def test_without_a_key_nothing_is_set(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be the budget of nobody; showing it says so."""
    monkeypatch.delenv("COMFY_DEPLOY_API_KEY")
    for words in (("set", "--per-second", "3"), ("reset",)):
        result = conveyor("rate", *words)
        assert (result.exit_code, "COMFY_DEPLOY_API_KEY is not set" in result.stderr) == (2, True)
    assert "the budget of nobody" in conveyor("rate", "show").stderr


def test_the_least_burst_is_what_the_bucket_needs() -> None:
    """A token for each class and one more, as the script has it."""
    assert len(FLOORS) + 1 == LEAST_BURST


@pytest.mark.parametrize(
    ("stored", "breaker", "closed"),
    [
        ({"failures": "4"}, "closed", 0),
        ({"failures": "4", "closed_until": "107"}, "closed", 7),
        ({"failures": "5", "closed_until": "107"}, "open", 7),
        ({"failures": "5", "closed_until": "99"}, "half-open", 0),
    ],
)
def test_the_breaker_as_it_stands(stored: dict[str, str], breaker: str, closed: float) -> None:
    """Five failures in a row open it; when its time is up it is half-open; a pause the API asked for is no breaker."""
    budget = Budget.read(stored, Settings(), 100.0)
    assert (budget.breaker, budget.closed_seconds) == (breaker, closed)


def test_the_factor_recovers_as_the_script_has_it(stage: Stage) -> None:
    """What is shown is what the next call would find: a hundredth of the rate comes back each second."""
    stored = {"factor": "0.5", "at": "90", "recovers_from": "95", "tokens": "1"}
    budget = Budget.read(stored, Settings(), 100.0)
    assert (round(budget.factor, 6), round(budget.now, 6)) == (0.55, 5.5)
    assert budget.tokens == 20
