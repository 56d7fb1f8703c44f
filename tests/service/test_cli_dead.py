"""Dead letters on the command line: what is listed, what is asked, what is put back."""

import asyncio
import json
from contextlib import aclosing

import pytest

from producers.results import ResultConsumer
from shared.database import Database
from tests.service.cli_stage import Program, Stage, conveyor

pytestmark = pytest.mark.redis


def bury(stage: Stage, jobs: int, group: str = "bot") -> list[str]:
    """Enqueue jobs and give up on their first events; the ids of the dead letters."""
    conveyor("enqueue", "--workflow", "portrait", "--frontend", "telegram", "--count", str(jobs))

    async def work(database: Database) -> None:
        results = ResultConsumer("telegram", group, "bot-1", database=database, block_seconds=0.05)
        async with asyncio.timeout(10), aclosing(aiter(results)) as deliveries:
            for _ in range(jobs):
                await (await anext(deliveries)).fail("the chat is gone", retry=False)

    stage.with_database(work)
    return [letter["id"] for letter in listed()]


def listed(*more: str) -> list[dict[str, str]]:
    """The dead letters as programs read them."""
    return [json.loads(line) for line in conveyor("results", "dead", "telegram", "--json", *more).stdout.splitlines()]


def replayed(*words: str) -> tuple[int, list[str]]:
    """Replay; the exit code and the words."""
    result = conveyor("results", "replay", "telegram", "--json", *words)
    return result.exit_code, [json.loads(line)["replayed"] for line in result.stdout.splitlines()]


def test_dead_letters_are_listed(stage: Stage) -> None:
    """For people under headings, for programs as JSON; older ones are counted."""
    bury(stage, 2)
    heading, *lines = conveyor("results", "dead", "telegram").stdout.splitlines()
    assert heading.split() == ["entry", "when", "job", "seq", "type", "group", "deliveries", "reason"]
    assert [line.split()[5:8] for line in lines] == [["job.queued", "bot", "1"]] * 2
    assert all(line.endswith("the chat is gone") for line in lines)
    letters = listed()
    assert [letter["job_id"] for letter in letters] == stage.jobs("telegram")
    last = conveyor("results", "dead", "telegram", "--last", "1")
    assert "1 older" in last.stderr
    assert letters[1]["id"] in last.stdout
    assert listed("--group", "archive") == []


def test_a_control_character_in_a_reason_reaches_no_terminal(stage: Stage) -> None:
    """A platform's words are printed, not obeyed."""
    stage.redis.xadd("conveyor:results:telegram:dead", {"reason": "\x1b[2Jgone\nfor ever", "group": "bot"})
    assert "\x1b" not in conveyor("results", "dead", "telegram").stdout
    assert len(conveyor("results", "dead", "telegram").stdout.splitlines()) == 2


def test_replay_by_id_by_job_and_all(stage: Stage) -> None:
    """Each way takes what it says, and no more."""
    first, second, *_ = bury(stage, 4)
    assert replayed(first, "--yes", "--reason", "the chat is back") == (0, ["pending"])
    [act] = [json.loads(line) for line in conveyor("audit", "--json").stdout.splitlines()]
    assert (act["action"], act["target"], act["reason"]) == ("replay", "telegram", "the chat is back")
    assert (act["before"], act["after"]) == ("1", '{"pending": 1}')
    job_id = next(letter["job_id"] for letter in listed() if letter["id"] == second)
    assert replayed("--job", job_id, "--yes") == (0, ["pending"])
    assert replayed("--all", "--group", "archive", "--yes") == (0, [])
    said = conveyor("results", "replay", "telegram", "--all", "--yes")
    assert (said.exit_code, said.stdout) == (0, "2 pending again in the group that failed.\n")
    assert listed() == []
    assert conveyor("results", "replay", "telegram", "--all").stderr == "There is nothing to replay.\n"


@pytest.mark.parametrize("words", [(), ("--all", "--job", "x"), ("1-0", "--all")])
def test_replay_asks_for_one_choice(stage: Stage, words: tuple[str, ...]) -> None:
    """None, or two at once, is refused, and nothing is touched."""
    bury(stage, 1)
    result = conveyor("results", "replay", "telegram", *words)
    assert result.exit_code == 2
    assert "ENTRY_ID..., or --job ID, or --all" in result.stderr
    assert len(listed()) == 1


def test_an_unknown_letter_is_named(stage: Stage) -> None:
    """A slip in one id replays nothing."""
    [letter] = bury(stage, 1)
    result = conveyor("results", "replay", "telegram", letter, "1-1", "--yes")
    assert (result.exit_code, result.stderr) == (2, "1-1: is no dead letter of telegram (any more)\n")
    assert len(listed()) == 1


def test_without_a_terminal_it_wants_yes(stage: Stage) -> None:
    """A script must say that it means it."""
    bury(stage, 1)
    result = conveyor("results", "replay", "telegram", "--all")
    assert result.exit_code == 2
    assert "1 dead letter of 1 job would go to bot on telegram" in result.stderr
    assert len(listed()) == 1


@pytest.mark.parametrize(("answer", "code", "left"), [("y\n", 0, 0), ("n\n", 2, 1)])
def test_on_a_terminal_it_asks(stage: Stage, answer: str, code: int, left: int) -> None:
    """And does what it is told."""
    bury(stage, 1)
    with Program("results", "replay", "telegram", "--all", url=stage.url, terminal=True) as program:
        program.until("Replay 1 dead letter of 1 job to bot on telegram?")
        program.type(answer)
        assert program.end() == code
    assert len(listed()) == left


def test_ctrl_c_at_the_question_ends_at_once(stage: Stage) -> None:
    """Exit code 130, and the letters stay where they are."""
    bury(stage, 1)
    with Program("results", "replay", "telegram", "--all", url=stage.url, terminal=True) as program:
        program.until("Replay 1 dead letter")
        program.interrupt_at_prompt()
        assert program.end() == 130
    assert "Traceback" not in program.text
    assert len(listed()) == 1


def test_what_cannot_be_replayed_is_kept_and_said(stage: Stage) -> None:
    """A group that does not exist would never read it: exit code 2, and how to go on."""
    bury(stage, 1)
    stage.redis.xgroup_destroy("conveyor:results:telegram", "bot")
    result = conveyor("results", "replay", "telegram", "--all", "--yes")
    assert (result.exit_code, len(listed())) == (2, 1)
    assert "1 kept: their group does not exist; start its consumer" in result.stdout


def test_a_copy_warns_of_the_other_groups(stage: Stage) -> None:
    """The event has been trimmed: everybody reads it again, and the operator knows."""
    bury(stage, 1)
    stage.redis.xtrim("conveyor:results:telegram", maxlen=0, approximate=False)
    result = conveyor("results", "replay", "telegram", "--all", "--yes")
    assert result.exit_code == 0
    assert "other groups read them again" in result.stdout
