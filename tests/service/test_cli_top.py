"""`conveyor top`: what one look tells, that it stays small, and that the screen survives Redis and leaves no trace."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from producers.cli.top import reading
from producers.local.redis_server import RedisServer
from shared.settings import Settings
from tests.service.cli_stage import SCRIPT, Program, Stage, conveyor

pytestmark = pytest.mark.redis


def enqueue(user: str, count: int = 1) -> list[str]:
    """Put jobs in; their ids."""
    result = conveyor("enqueue", "--workflow", "SDXL Portrait", "--user", user, "--count", str(count), "--json")
    assert result.exit_code == 0, result.output
    return [json.loads(line)["job_id"] for line in result.stdout.splitlines()]


def look() -> dict[str, Any]:
    """One look, as scripts see it."""
    result = conveyor("top", "--once", "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_look_tells_what_goes_on(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits and why, what runs, what has failed and who works: each number is the one in Redis."""
    monkeypatch.setenv("CONVEYOR_USER_WINDOW", "2")
    failed, running = enqueue("ada", 5)[:2]
    stage.run(failed)
    stage.fail(failed)
    stage.run(running)
    conveyor("pause", "--user", "cli:ada", "--reason", "too many")
    stage.redis.set("conveyor:worker:w1@host", json.dumps({"busy": 3, "slots": 8, "starved_seconds": 0}), ex=30)

    told = look()

    assert (told["waiting"], told["past"], told["in_flight"]) == (3, 1, 1)
    assert told["ended"] == {"failed": 1}
    assert told["failures"][0]["message"] == "CUDA out of memory"
    assert told["failures"][0]["job_id"] == failed
    assert told["slow"][0] | {"seconds": 0} == {
        "job_id": running,
        "state": "running",
        "seconds": 0,
        "user": "cli:ada",
        "workflow": "SDXL Portrait",
        "run_id": f"run-{running}",
        "fraction": 0.5,
        "progress": "KSampler",
        "cancelling": False,
    }
    assert told["lanes"] == [{"user": "cli:ada", "waiting": 3, "aside": 0, "paused": True, "past": 1, "limit": 2}]
    assert told["pauses"][0]["reason"] == "too many"
    assert [worker["name"] for worker in told["workers"]] == ["w1@host"]
    assert told["calls"] is None


def test_a_look_is_small_whatever_waits(stage: Stage) -> None:
    """Ten thousand jobs of two thousand users are asked about with some hundred commands, in three round trips."""
    pipe = stage.redis.pipeline(transaction=False)
    stage.redis.hset("conveyor:pools", "m1", 4)
    for user in range(2_000):
        pipe.zadd("conveyor:ring:m1", {f"web:{user}": 100 + user % 2})
        pipe.zadd(f"conveyor:lane:m1:web:{user}", {f"{user}-{job}": job for job in range(5)})
    pipe.zadd("conveyor:expiring", {str(job): job for job in range(10_000)})
    pipe.zadd("conveyor:due", {f"workflow-{number}": number for number in range(1_000)})
    pipe.execute()

    told = look()

    assert told["waiting"] == 10_000
    assert told["workflows"] == 1_000
    assert told["round_trips"] == 3
    assert told["commands"] < reading.MOST_LANES + 2 * reading.MOST_WORKFLOWS + 50
    assert len(told["lanes"]) == reading.MOST_KNOWN
    assert len(told["flights"]) == reading.MOST_WORKFLOWS


def test_only_new_events_are_read_and_each_end_is_counted_once(stage: Stage) -> None:
    """The second look reads on where the first one ended; when there is too much to read it says `at least`."""
    for number in range(reading.FIRST_EVENTS):
        stage.redis.xadd("conveyor:results:cli", {"type": "job.succeeded", "job_id": str(number), "data": "{}"})
    stage.redis.sadd("conveyor:frontends", "cli")

    async def looks(database: Any) -> list[tuple[int, bool]]:
        reader = reading.Reader(database, Settings.from_env())
        told = [await reader.look(), await reader.look()]
        await database.redis.xadd("conveyor:results:cli", {"type": "job.failed", "job_id": "x", "data": "garbage"})
        told.append(await reader.look())
        assert told[-1].failures[0].job_id == "x"
        return [(sum(frame.ended.values()), frame.ended_at_least) for frame in told]

    first = reading.FIRST_EVENTS
    assert stage.with_database(looks) == [(first, True), (first, True), (first + 1, True)]


def test_q_ends_it_and_the_terminal_is_as_before(stage: Stage) -> None:
    """The other screen is left, the cursor shows, and what is typed shows again."""
    with Program("top", url=stage.url, terminal=True) as program:
        before = program.modes()
        program.until("no worker is seen")
        assert program.modes() != before

        program.type("xq")

        assert program.end() == 0
        assert program.modes() == before
        assert program.raw.rfind(b"\x1b[?1049l") > program.raw.rfind(b"\x1b[?1049h")
        assert program.raw.rfind(b"\x1b[?25h") > program.raw.rfind(b"\x1b[?25l")


def test_the_screen_says_when_redis_goes_away_and_goes_on_when_it_is_back(tmp_path: Path) -> None:
    """It stays up, says what is wrong, asks again, and Ctrl-C ends it with a clean terminal."""
    server = RedisServer(tmp_path)
    server.start()
    try:
        with Program("top", "--every", "0.2", url=server.url, terminal=True) as program:
            before = program.modes()
            program.until("q ends it")
            server.kill()
            program.until("asking again")
            server.start()
            program.text = ""
            program.until("q ends it")

            program.interrupt()

            assert program.end() == 130
            assert program.modes() == before
    finally:
        server.stop()


def test_a_redis_that_refuses_us_ends_it(stage: Stage) -> None:
    """What waiting does not mend is raised, after the terminal is as it was; it is not called an outage."""
    stage.redis.set("conveyor:pauses", "not a hash")
    with Program("top", url=stage.url, terminal=True) as program:
        before = program.modes()

        assert program.end() != 0
        assert program.modes() == before
        assert "WRONGTYPE" in program.text


def test_without_redis_one_look_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script gets exit code 3 and a sentence."""
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")

    result = conveyor("top", "--once")

    assert result.exit_code == 3
    assert "is away" in result.stderr


def test_a_reader_that_has_enough_is_no_error(stage: Stage) -> None:
    """`conveyor top --json | head -1` ends without a word about Redis."""
    words = [SCRIPT, "top", "--json", "--every", "0.2"]
    env = {**os.environ, "REDIS_URL": stage.url}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["waiting"] == 0
        process.stdout.close()

        assert process.wait(20) == 0
        assert process.stderr.read() == b""
