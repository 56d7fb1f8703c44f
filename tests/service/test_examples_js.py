"""The JavaScript of `examples/js/` does what the guides say, run by the Node that is here."""

import base64
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from standardwebhooks import Webhook

from producers.local.processes import ROOT, environment
from producers.local.redis_server import RedisServer, free_port
from shared.database import Database
from shared.jobs.store import JobStore
from tests.redis.stage import put
from tests.service.cli_stage import Stage

EXAMPLES = ROOT / "examples/js"
NODE, NPM = shutil.which("node"), shutil.which("npm")
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()

pytestmark = pytest.mark.skipif(NODE is None, reason="node is not on the path (.ci/run installs it where it may)")


@pytest.fixture(scope="session")
def packages() -> None:
    """`examples/js/node_modules`, as the lock file says; made by the first test that needs it."""
    if NPM is None:
        pytest.skip("npm is not on the path (.ci/run installs it where it may)")
    lock, made = EXAMPLES / "package-lock.json", EXAMPLES / "node_modules/.package-lock.json"
    if made.exists() and made.stat().st_mtime >= lock.stat().st_mtime:
        return
    done = subprocess.run(
        [NPM, "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
        check=False,
        cwd=EXAMPLES,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode:
        pytest.skip(f"npm ci failed, is there a network? {done.stderr.strip()[-300:]}")


# -- verify-callback.mjs ------------------------------------------------------------------------------------------------

VERIFY = """
import { verifyCallback } from "%s";
const cases = JSON.parse(process.argv[1]);
console.log(JSON.stringify(cases.map(([secret, headers, body]) => {
  try { return verifyCallback(secret, headers, Buffer.from(body, "base64")); } catch (error) { return error.message; }
})));
"""


def verified(*cases: tuple[str, dict[str, str], bytes]) -> list[Any]:
    """What the example says to each."""
    given = json.dumps([(secret, headers, base64.b64encode(body).decode()) for secret, headers, body in cases])
    script = VERIFY % (EXAMPLES / "verify-callback.mjs").as_uri()
    done = subprocess.run(
        [str(NODE), "--input-type=module", "--eval", script, given],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    return found


def test_the_example_takes_what_the_specification_signs_and_nothing_else() -> None:
    """A good signature is taken, alone or beside another; a forged, changed, missing or old one is not."""
    body = '{"schema":"conveyor.event/1","name":"Zoë"}'.encode()
    now = datetime.now(UTC)

    def headers(at: datetime = now, **more: str) -> dict[str, str]:
        signature = Webhook(SECRET).sign("job_5", at, body.decode())
        found = {"webhook-id": "job_5", "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}
        return found | {f"webhook-{name}": text for name, text in more.items()}

    good = headers()["webhook-signature"]
    other = "whsec_" + base64.b64encode(bytes(32)).decode()

    assert verified(
        (SECRET, headers(), body),
        (SECRET, headers(signature=f"v1,AAAA v2,{good[3:]} {good}"), body),
        (other, headers(), body),
        (SECRET, headers(), body.replace(b"Zo", b"Jo")),
        (SECRET, headers(id="job_6"), body),
        (SECRET, headers(signature=good.replace("v1,", "v2,")), body),
        (SECRET, {}, body),
        (SECRET, headers(at=now - timedelta(minutes=6)), body),
        (SECRET, headers(at=now + timedelta(minutes=6)), body),
    ) == [
        json.loads(body),
        json.loads(body),
        *["callback: wrong signature"] * 4,
        *["callback: missing or old timestamp"] * 3,
    ]


# -- consume-results.mjs ------------------------------------------------------------------------------------------------

STREAM = "conveyor:results:web"

#: Prints each event it is handed; what `job` says in its context decides what becomes of it.
CONSUME = """
import { consume } from "%s";
const [url, consumer, how] = process.argv.slice(1);
const stopping = new AbortController();
process.once("SIGTERM", () => stopping.abort());
await consume({
  url, consumer, frontend: "web", group: "bot", signal: stopping.signal, blockMs: 200, claimIdleMs: 400, retryMs: 1,
  async handle(event) {
    console.log(JSON.stringify([event.context.name, event.seq]));
    if (how === "hang") await new Promise(() => setInterval(() => {}, 1000));
    if (how === "fail" && event.context.name === "bad") throw new Error("the chat is gone");
  },
});
"""


def until(fact: Callable[[], Any], what: str, seconds: float = 15.0) -> Any:
    """Wait until a fact is true and answer it; the deadline says what never came."""
    end = time.monotonic() + seconds
    while not (found := fact()):
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.02)
    return found


class Program:
    """A running Node program, and the lines it has printed."""

    def __init__(self, folder: Path, *words: str, **env: str) -> None:
        self.out, self.err = folder / f"{time.monotonic_ns()}.out", folder / f"{time.monotonic_ns()}.err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [str(NODE), *words], stdout=out, stderr=err, cwd=EXAMPLES, env={"PATH": "/usr/bin:/bin"} | env
            )

    def lines(self) -> list[str]:
        return self.out.read_text().splitlines()

    def told(self) -> list[tuple[str, int]]:
        return [(name, seq) for name, seq in map(json.loads, self.lines())]

    def heard(self, count: int) -> list[str]:
        """Its lines, once there are so many."""
        return list(until(lambda: len(lines := self.lines()) >= count and lines, f"{count} lines; {self.err}"))

    def stop(self) -> int:
        """End it as a supervisor does; answers its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


@contextmanager
def consumer(folder: Path, url: str, name: str = "one", how: str = "") -> Iterator[Program]:
    """A consumer of the frontend `web`."""
    script = CONSUME % (EXAMPLES / "consume-results.mjs").as_uri()
    program = Program(folder, "--input-type=module", "--eval", script, url, name, how)
    try:
        yield program
    finally:
        program.kill()


def cancelled(stage: Stage, *names: str) -> None:
    """Two events for each name: queued, and cancelled."""

    async def work(database: Database) -> None:
        for name in names:
            job_id = await put(database, user=name, context={"name": name, "chat_id": name})
            await JobStore(database).cancel(job_id)

    stage.with_database(work)


def pending(stage: Stage) -> int:
    """Events handed out and not acknowledged."""
    try:
        return int(stage.redis.xpending(STREAM, "bot")["pending"])
    except redis.ResponseError:
        return -1


@pytest.mark.redis
@pytest.mark.usefixtures("packages")
def test_the_program_of_the_guide_tells_and_acknowledges(stage: Stage, tmp_path: Path) -> None:
    """It makes its group, tells what a chat would hear, leaves nothing pending, and ends when it is told to."""
    cancelled(stage, "ada")
    program = Program(tmp_path, "consume-results.mjs", "web", "bot", "bot-1", REDIS_URL=stage.url)
    try:
        assert program.heard(2) == ["ada: you are number 1", "ada: Cancelled."]
        until(lambda: pending(stage) == 0, "everything is acknowledged")
        assert program.stop() == 0
    finally:
        program.kill()


@pytest.mark.redis
@pytest.mark.usefixtures("packages")
def test_what_a_killed_consumer_had_comes_again(stage: Stage, tmp_path: Path) -> None:
    """Under the same name first of all; under another name, once it has been idle. What was trimmed disturbs neither."""
    cancelled(stage, "ada", "bob")
    with consumer(tmp_path, stage.url, "one", "hang") as dead:
        assert dead.heard(1) == ['["ada",1]']
    stage.redis.xdel(STREAM, stage.redis.xrange(STREAM)[0][0])  # an operator has trimmed what was pending
    with consumer(tmp_path, stage.url, "one", "hang") as again:
        assert again.heard(1) == ['["ada",2]']
    with consumer(tmp_path, stage.url, "two") as other:
        assert [json.loads(line) for line in other.heard(3)] == [["ada", 2], ["bob", 1], ["bob", 2]]
        until(lambda: pending(stage) == 0, "everything is acknowledged")


@pytest.mark.redis
@pytest.mark.usefixtures("packages")
def test_a_destroyed_group_is_made_again_and_nothing_told_twice(stage: Stage, tmp_path: Path) -> None:
    """The new group begins at the beginning of the stream; what was told is known by (job_id, seq)."""
    cancelled(stage, "ada")
    with consumer(tmp_path, stage.url) as program:
        program.heard(2)
        until(lambda: pending(stage) == 0, "everything is acknowledged")
        stage.redis.xgroup_destroy(STREAM, "bot")
        cancelled(stage, "bob")

        assert [json.loads(line) for line in program.heard(4)] == [["ada", 1], ["ada", 2], ["bob", 1], ["bob", 2]]
        until(lambda: pending(stage) == 0, "everything is acknowledged")
        assert len(program.lines()) == 4


@pytest.mark.redis
@pytest.mark.usefixtures("packages")
def test_an_event_that_cannot_be_told_becomes_a_dead_letter(stage: Stage, tmp_path: Path) -> None:
    """After five tries, with the reason, in the form `conveyor results dead` reads; the others go on."""
    cancelled(stage, "bad", "good")
    with consumer(tmp_path, stage.url, how="fail") as program:
        assert [json.loads(line) for line in program.heard(12)] == [
            *[["bad", 1]] * 5,
            *[["bad", 2]] * 5,
            *[["good", 1], ["good", 2]],
        ]
    letters = [fields for _, fields in stage.redis.xrange(f"{STREAM}:dead")]
    assert [(letter["seq"], letter["reason"], letter["deliveries"]) for letter in letters] == [
        ("1", "the chat is gone", "5"),
        ("2", "the chat is gone", "5"),
    ]
    assert {"type", "job_id", "data", "entry", "group", "consumer"} <= set(letters[0])


@pytest.mark.redis
@pytest.mark.usefixtures("packages")
def test_a_consumer_outlives_a_restart_of_redis(tmp_path: Path) -> None:
    """It connects again by itself and goes on where it was."""
    server = RedisServer(tmp_path / "redis")
    server.start()
    try:
        cancelled(stage := Stage(server.url), "ada")
        with consumer(tmp_path, server.url) as program:
            program.heard(2)
            until(lambda: pending(stage) == 0, "everything is acknowledged")
            server.kill()
            until(lambda: "redis:" in program.err.read_text(), "it notices")
            server.start()
            cancelled(stage, "bob")

            assert [json.loads(line) for line in program.heard(4)][2:] == [["bob", 1], ["bob", 2]]
        stage.close()
    finally:
        server.stop()


# -- produce.mjs --------------------------------------------------------------------------------------------------------

REFUSED = """
import { Gateway } from "%s";
const gateway = new Gateway(process.argv[1]);
const asked = { workflow: "portrait", user: { id: "42" } };
const twice = [await gateway.enqueue(asked, "k"), await gateway.enqueue(asked, "k")];
const error = await gateway.enqueue({ ...asked, priority: 99, callback: { url: "x" } }).catch((error) => error);
const unknown = await gateway.follow(crypto.randomUUID()).next().catch((error) => error.message);
console.log(JSON.stringify([new Set(twice.map((job) => job.job_id)).size, error.problems.map((p) => p.field), unknown]));
"""


class Door:
    """The process `gateway`, on one port however often it is started."""

    def __init__(self, redis_url: str, log: Path) -> None:
        self.port, self._redis_url, self._log = free_port(), redis_url, log
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it answers a moment later."""
        env = environment(REDIS_URL=self._redis_url, PORT=str(self.port))
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "producers.gateway"], cwd=ROOT, env=env, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)


@pytest.fixture
def door(stage: Stage, tmp_path: Path) -> Iterator[Door]:
    """A gateway that is not started yet."""
    door = Door(stage.url, tmp_path / "gateway.log")
    yield door
    door.kill()


@pytest.mark.redis
def test_the_producer_follows_a_job_while_the_gateway_comes_and_goes(stage: Stage, door: Door, tmp_path: Path) -> None:
    """Asked before the gateway is up, followed over its end: one job, each event once, and the program ends with it."""
    program = Program(tmp_path, "produce.mjs", "portrait", '{"prompt": "a fox"}', CONVEYOR_URL=door.url)
    try:
        door.start()
        assert program.heard(1) == ["job.queued"]
        [(_, queued)] = stage.redis.xrange(STREAM)
        stage.run(queued["job_id"])
        program.heard(4)
        door.kill()
        stage.succeed(queued["job_id"])
        door.start()

        assert program.process.wait(30) == 0
        assert program.lines() == [
            "job.queued",
            "job.submitted",
            "job.running",
            "job.progress  KSampler",
            "job.succeeded  https://pictures.test/fox.png",
        ]
    finally:
        program.kill()


@pytest.mark.redis
def test_the_producer_does_not_repeat_what_is_refused(door: Door, tmp_path: Path) -> None:
    """A repeated key is one job; a refusal comes at once with every field; an unknown job is not followed for ever."""
    door.start()
    script = REFUSED % (EXAMPLES / "produce.mjs").as_uri()
    program = Program(tmp_path, "--input-type=module", "--eval", script, door.url)
    try:
        assert json.loads(program.heard(1)[0]) == [1, ["priority", "callback.url", "callback.secret"], "HTTP 404"]
        assert program.process.wait(10) == 0
    finally:
        program.kill()
