"""A user is erased: what he asked for and got is nowhere in Redis or the archive any more, and nobody else's is touched."""

import json
from pathlib import Path
from typing import Any, cast

import pytest

from shared.archive.archive import folder_of
from tests.service.cli_stage import Stage, conveyor

pytestmark = pytest.mark.redis

#: What may not be found any more, in no key and no value: his id and his words.
USER, WORDS, FILE = "zoe-7", "a very private fox", "https://assets.test/in/zoe.png"
DEPLOYMENT = "3f0c2c0e-6c2c-4a8e-9d3c-111111111111"


def enqueue(user: str, key: str) -> str:
    """A job of the page, with a key and a file."""
    inputs = ("--input", f"prompt={WORDS if user == USER else 'a plain cat'}", "--input", f"image={FILE}")
    asked = ("enqueue", "--deployment", DEPLOYMENT, "--frontend", "web", "--user", user, "--json")
    result = conveyor(*asked, *inputs, "--idempotency-key", key)
    assert result.exit_code == 0, result.output
    return str(json.loads(result.stdout)["job_id"])


def dump(stage: Stage) -> dict[str, str]:
    """Every key of the database with its value as text."""
    read: dict[str, Any] = {
        "string": stage.redis.get,
        "hash": stage.redis.hgetall,
        "zset": lambda key: stage.redis.zrange(key, 0, -1),
        "set": stage.redis.smembers,
        "list": lambda key: stage.redis.lrange(key, 0, -1),
        "stream": stage.redis.xrange,
    }
    return {key: str(read[cast(str, stage.redis.type(key))](key)) for key in cast(list[str], stage.redis.keys("*"))}


def erase(*words: str) -> tuple[int, dict[str, Any]]:
    """The exit code and what was erased."""
    result = conveyor("erase", "--frontend", "web", "--user", USER, "--yes", "--json", *words)
    return result.exit_code, json.loads(result.stdout)


def test_nothing_of_an_erased_user_is_found_by_value(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records, lanes, keys, events, dead letters, results, uploads, archive: searched for by his id and his words. Only the
    audit names him. A waiting job was cancelled first; others' jobs are as they were."""
    monkeypatch.setenv("CONVEYOR_ARCHIVE", str(tmp_path))
    done, waiting, other = enqueue(USER, "his-1"), enqueue(USER, "his-2"), enqueue("bob", "bobs")
    stage.run(done)
    stage.succeed(done)
    stage.redis.set(f"celery-task-meta-{done}", json.dumps({"result": WORDS}))
    stage.redis.hset("conveyor:upload:acc:digest", "stored", json.dumps({"url": FILE, "file_id": "f"}))
    stage.redis.hset("conveyor:upload:acc:others", "stored", json.dumps({"url": "https://assets.test/in/bob.png"}))
    events = cast(list[Any], stage.redis.xrange("conveyor:results:web"))
    stage.redis.xadd("conveyor:results:web:dead", next(fields for _, fields in events if fields["job_id"] == done))
    stage.redis.xgroup_create("conveyor:results:web", "bot", id="0")
    stage.redis.xreadgroup("bot", "bot-1", {"conveyor:results:web": ">"}, count=2)
    (tmp_path / folder_of(done)).mkdir(parents=True)
    (tmp_path / folder_of(done) / "fox.png").write_bytes(b"fox")
    before = {key: value for key, value in dump(stage).items() if "bob" in key or other in key}

    code, told = erase("--reason", "asked for by mail")

    assert (code, told["open"], told["runs"]) == (0, [], [f"run-{done}"])
    assert (told["jobs"], told["dead_letters"], told["uploads"], told["archived_files"]) == (2, 1, 1, 1)
    after = dump(stage)
    found = {
        key for key, value in after.items() for secret in (USER, WORDS, done, waiting) if secret in f"{key} {value}"
    }
    # The broker's message and the pending list of a group name a job by its id and nothing else.
    assert found <= {"conveyor:audit", "conveyor"}
    assert WORDS not in str(after)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {key: value for key, value in after.items() if "bob" in key or other in key} == before
    [act] = [json.loads(line) for line in conveyor("audit", "--json").stdout.splitlines()]
    assert (act["action"], act["target"], act["reason"]) == ("erase", f"web:{USER}", "asked for by mail")
    assert erase()[1]["jobs"] == 0


def test_a_job_that_does_not_end_keeps_its_record(stage: Stage) -> None:
    """Its run is paid for: exit code 3, its cancellation was asked for, and the rest of him is erased; later all of it is."""
    ended, running = enqueue(USER, "1"), enqueue(USER, "2")
    for job_id in (ended, running):
        stage.run(job_id)
    stage.succeed(ended)

    code, told = erase("--wait", "0")

    assert (code, told["open"], told["jobs"]) == (3, [running], 1)
    assert stage.redis.hexists(f"conveyor:job:{running}", "cancel_requested_at")
    assert not stage.redis.exists(f"conveyor:job:{ended}")
    stage.fail(running)
    assert (erase()[0], bool(stage.redis.exists(f"conveyor:job:{running}"))) == (0, False)


def test_it_asks_before_it_erases(stage: Stage) -> None:
    """Where nobody can be asked it says what would be erased, and how to go on; nothing is."""
    job_id = enqueue(USER, "1")
    result = conveyor("erase", "--frontend", "web", "--user", USER)
    assert (result.exit_code, "1 job of web:zoe-7" in result.stderr, "--yes" in result.stderr) == (2, True, True)
    assert stage.redis.exists(f"conveyor:job:{job_id}")
    text = conveyor("erase", "--frontend", "web", "--user", USER, "--yes", "--wait", "0").stdout
    assert "Not erased:" in text
    assert "BGREWRITEAOF" in text
