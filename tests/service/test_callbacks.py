"""A job's final event reaches the address its asker gave: signed, until it is taken, and nowhere it must not go.

A real Redis and a small real HTTP server; a day of attempts passes on a clock the test moves.
"""

import asyncio
import json
import logging
import re
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from shared.database import Database
from shared.jobs.lanes import Lanes
from shared.jobs.record import Job
from shared.jobs.request import JobRequest
from shared.jobs.store import JobStore
from shared.outside import open_client
from shared.settings import Settings
from tasks import callback
from tasks.callback import LEASE_SECONDS, deliver
from tasks.fault_points import arm
from tasks.patience import KEEP_TRYING_SECONDS
from tests.redis.stage import Clock, put
from tests.service.cli_stage import Stage, conveyor
from tests.service.gateway_fixtures import Gateway
from tests.service.gateway_fixtures import job as http_job
from tests.service.receiver import Receiver, receiving
from tests.service.worker_fixtures import Bench, until
from workers.callbacks import MOST_PER_HOST, Callbacks

pytestmark = pytest.mark.redis

SECRET = "whsec_" + "c2VjcmV0" * 4
KEEP_SECONDS = 3600
GUIDE = Path(__file__).resolve().parents[2] / "docs/guides/callbacks.md"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """Somebody who wants to hear."""
    async with receiving() as receiver:
        yield receiver


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    arm("after_callback", None)


class Sender:
    """The delivering side of a worker."""

    def __init__(self, database: Database, *, allow_private: bool = True) -> None:
        self.database = database
        self.store = JobStore(database, keep_seconds=KEEP_SECONDS)
        self.lanes = Lanes(database, Settings())
        self.client = open_client(allow_private=allow_private, seconds=5)

    async def ended(self, url: str, **parts: Any) -> str:
        """A job that has ended and shall be told to this address."""
        job_id = await put(self.database, callback={"url": url, "secret": SECRET}, **parts)
        assert await self.store.cancel(job_id) == "cancelled"
        return job_id

    async def due(self) -> list[str]:
        """What a tick would take."""
        return await self.lanes.overdue("callbacks", again_seconds=LEASE_SECONDS)

    async def tick(self) -> int:
        """Attempt what is due, and answer how many that were."""
        due = await self.due()
        for job_id in due:
            await deliver(self.store, self.client, job_id)
        return len(due)

    async def state(self, job_id: str) -> dict[str, Any]:
        """The callback as `status` shows it."""
        snapshot = (await self.store.get(job_id)).snapshot()["callback"]
        assert isinstance(snapshot, dict)
        return snapshot

    async def final_event(self, frontend: str = "web") -> bytes:
        """The last entry of the stream, as it stands there."""
        entries = await self.database.redis.xrevrange(self.database.keys.results(frontend), count=1)
        return str(entries[0][1]["data"]).encode()


@pytest.fixture
async def sender(database: Database) -> AsyncIterator[Sender]:
    """A worker that may call loopback."""
    sender = Sender(database)
    yield sender
    await sender.client.aclose()


@pytest.fixture
async def strict(database: Database) -> AsyncIterator[Sender]:
    """A worker as it is set up in production."""
    sender = Sender(database, allow_private=False)
    yield sender
    await sender.client.aclose()


# -- delivered ----------------------------------------------------------------------------------------------------------


async def test_the_final_event_arrives_once_and_verifies(sender: Sender, receiver: Receiver) -> None:
    """The specification's own verifier takes the signature, and the body is the event as on the stream."""
    job_id = await sender.ended(receiver.url, context={"chat_id": "7", "name": "Zoë"})

    assert await sender.tick() == 1
    assert await sender.tick() == 0

    [got] = receiver.received
    assert got.body == await sender.final_event()
    told = Webhook(SECRET).verify(got.body, got.headers)
    assert (told["job_id"], told["final"], told["context"]["name"]) == (job_id, True, "Zoë")
    assert got.headers["webhook-id"] == f"{job_id}_{told['seq']}"
    assert got.headers["content-type"] == "application/json"
    assert await sender.state(job_id) == {
        "url": receiver.url,
        "state": "delivered",
        "attempts": 1,
        "last_status": 204,
        "last_error": None,
        "next_at": None,
    }


async def test_the_python_of_the_guide_works(sender: Sender, receiver: Receiver) -> None:
    """Its request is accepted, and its receiver reads what we send for it."""
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL):
        exec(block, names)
    asked = JobRequest.read(names["request"])
    assert asked.callback
    await sender.ended(receiver.url)
    await sender.tick()

    event = names["event_of"](SECRET, receiver.received[0].headers, receiver.received[0].body)

    assert event["final"]


async def test_a_job_that_has_not_ended_calls_nobody(sender: Sender, receiver: Receiver) -> None:
    """Only the final event is sent; until then the callback is pending and not due."""
    job_id = await put(sender.database, callback={"url": receiver.url, "secret": SECRET})

    assert await sender.tick() == 0
    state = await sender.state(job_id)
    assert (state["state"], state["attempts"], state["next_at"]) == ("pending", 0, None)


async def test_a_job_without_a_callback_calls_nobody(sender: Sender) -> None:
    """And says so: its snapshot has none, and its record ends as ever."""
    job_id = await put(sender.database)
    await sender.store.cancel(job_id)

    assert await sender.tick() == 0
    assert (await sender.store.get(job_id)).snapshot()["callback"] is None
    assert await sender.database.redis.ttl(sender.database.keys.job(job_id)) > 0


# -- tried again --------------------------------------------------------------------------------------------------------


async def test_a_day_of_failures_then_it_is_given_up(sender: Sender, receiver: Receiver) -> None:
    """Waits grow to an hour, every attempt is visible and has the same id, and the record outlives its usual time."""
    clock = await Clock.of(sender.database)
    job_id = await sender.ended(receiver.url)
    receiver.answers = [500] * 100
    began, waits = clock.now_ms, []
    while (state := await sender.state(job_id))["state"] == "pending":
        await clock.advance(max(0.0, state["next_at"] - clock.now_ms / 1000))
        assert await sender.tick() == 1
        assert await sender.due() == []
        after = await sender.state(job_id)
        assert (after["attempts"], after["last_status"], after["last_error"]) == (
            state["attempts"] + 1,
            500,
            "HTTP 500",
        )
        assert await sender.database.redis.ttl(sender.database.keys.job(job_id)) == (
            -1 if after["state"] == "pending" else KEEP_SECONDS
        )
        if after["next_at"]:
            waits.append(after["next_at"] - clock.now_ms / 1000)

    assert state["state"] == "failed"
    assert waits[:6] == sorted(waits[:6])
    assert waits[0] < 10
    assert 2500 < max(waits) < 4400
    assert KEEP_TRYING_SECONDS - 4400 < (clock.now_ms - began) / 1000 <= KEEP_TRYING_SECONDS
    assert 25 <= state["attempts"] == len(receiver.received) <= 40
    assert {got.headers["webhook-id"] for got in receiver.received} == {receiver.received[0].headers["webhook-id"]}
    await clock.advance(86_400)
    assert await sender.tick() == 0


async def test_a_receiver_that_comes_back_gets_it(sender: Sender, receiver: Receiver) -> None:
    """After a failure the next attempt delivers, signed anew under the same id."""
    job_id = await sender.ended(receiver.url)
    receiver.answers = [503]
    await sender.tick()
    await sender.database.redis.zadd(sender.database.keys.callbacks, {job_id: 0})
    await sender.tick()

    state = await sender.state(job_id)
    assert (state["state"], state["attempts"], state["last_status"], state["last_error"]) == ("delivered", 2, 204, None)
    first, second = receiver.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert Webhook(SECRET).verify(second.body, second.headers)["final"]


async def test_a_silent_receiver_is_tried_again(
    sender: Sender, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt has an end, also when the receiver took the request and never answers."""
    monkeypatch.setattr(callback, "ATTEMPT_SECONDS", 0.2)
    job_id = await sender.ended(receiver.url)
    receiver.answers = [0]
    await sender.tick()

    state = await sender.state(job_id)
    assert (state["state"], state["last_status"], state["last_error"]) == ("pending", None, "no answer in time")
    assert len(receiver.received) == 1


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://127.0.0.1:1/", "no connection"),
        ("http://receiver.invalid/", "the name was not found"),
        ("https://127.0.0.1:{port}/", "no TLS connection, or a certificate that is not accepted"),
    ],
)
async def test_a_receiver_that_cannot_be_reached_is_tried_again(
    sender: Sender, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, url: str, error: str
) -> None:
    """Nobody listens, there is no such name, no TLS: said in words of ours."""

    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    if "invalid" in url:
        monkeypatch.setattr(socket, "getaddrinfo", unknown)
    job_id = await sender.ended(url.format(port=receiver.port))
    await sender.tick()

    state = await sender.state(job_id)
    assert (state["state"], state["last_error"]) == ("pending", error)


async def test_the_receiver_may_ask_for_patience(sender: Sender, receiver: Receiver) -> None:
    """`Retry-After` in seconds is honoured, up to an hour."""
    receiver.answers, receiver.headers = [429], {"retry-after": "900"}
    clock = await Clock.of(sender.database)
    job_id = await sender.ended(receiver.url)
    await sender.tick()

    assert (await sender.state(job_id))["next_at"] == clock.now_ms / 1000 + 900


async def test_410_is_the_end(sender: Sender, receiver: Receiver) -> None:
    """A receiver that says that it is gone is not asked again."""
    receiver.answers = [410]
    job_id = await sender.ended(receiver.url)
    await sender.tick()

    state = await sender.state(job_id)
    assert (state["state"], state["attempts"], state["last_status"]) == ("failed", 1, 410)
    assert await sender.database.redis.zcard(sender.database.keys.callbacks) == 0


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(sender: Sender, receiver: Receiver, status: int) -> None:
    """It would lead past the check of the address, and carries a signed body to a stranger."""
    receiver.answers, receiver.headers = [status], {"location": f"http://127.0.0.1:{receiver.port}/elsewhere"}
    job_id = await sender.ended(receiver.url)
    await sender.tick()

    state = await sender.state(job_id)
    assert (state["state"], state["last_status"]) == ("pending", status)
    assert [got.path for got in receiver.received] == ["/hook"]


@pytest.mark.parametrize("how", ["killed", "cancelled"])
async def test_a_worker_that_ends_in_the_middle_leaves_it_to_another(
    sender: Sender, receiver: Receiver, how: str
) -> None:
    """The receiver has it, nobody noted that: after the lease it is sent again, under the same id."""
    clock = await Clock.of(sender.database)
    job_id = await sender.ended(receiver.url)

    async def end(_: str) -> None:
        raise (KeyboardInterrupt if how == "killed" else asyncio.CancelledError)

    arm("after_callback", end)
    with pytest.raises((KeyboardInterrupt, asyncio.CancelledError)):
        await sender.tick()
    arm("after_callback", None)
    assert await sender.tick() == 0
    await clock.advance(LEASE_SECONDS)
    assert await sender.tick() == 1

    assert len(receiver.received) == 2
    assert len({got.headers["webhook-id"] for got in receiver.received}) == 1
    state = await sender.state(job_id)
    assert (state["state"], state["attempts"]) == ("delivered", 2)


async def test_it_is_sent_although_the_stream_has_forgotten_the_event(sender: Sender, receiver: Receiver) -> None:
    """Streams are trimmed after an hour, a callback is tried for a day."""
    await sender.ended(receiver.url)
    event = await sender.final_event()
    await sender.database.redis.xtrim(sender.database.keys.results("web"), maxlen=0, approximate=False)
    await sender.tick()

    assert [got.body for got in receiver.received] == [event]


# -- where it must not go -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"])
async def test_our_own_network_is_out_of_reach(strict: Sender, receiver: Receiver, host: str) -> None:
    """Nothing is sent, it is the end, and the answer does not say what the name led to."""
    job_id = await strict.ended(f"http://{host}:{receiver.port}/")
    await strict.tick()

    assert receiver.received == []
    state = await strict.state(job_id)
    assert (state["state"], state["last_error"]) == ("failed", "the address is not a public one")


class Names:
    """Stands for DNS: each question about a name gets the next answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
        self.answers, self.asked = list(answers), 0
        monkeypatch.setattr(socket, "getaddrinfo", self)

    def __call__(self, host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        assert host == "receiver.test"
        self.asked += 1
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.answers.pop(0)]


async def test_one_private_address_among_several_is_enough(
    strict: Sender, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that leads to us and elsewhere is refused as a whole: the client would choose."""
    Names(monkeypatch, ["93.184.216.34", "127.0.0.1"])
    job_id = await strict.ended(f"http://receiver.test:{receiver.port}/")
    await strict.tick()

    assert receiver.received == []
    assert (await strict.state(job_id))["state"] == "failed"


async def test_a_name_is_asked_once_and_the_answer_is_what_is_called(
    strict: Sender, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No second question could get another answer (DNS rebinding); the Host header stays the name's."""
    names = Names(monkeypatch, ["127.0.0.1"], ["10.0.0.1"])
    asked: list[str] = []

    def seems_public(address: str) -> bool:
        asked.append(address)
        return True

    monkeypatch.setattr("shared.outside.client.is_public", seems_public)
    await strict.ended(f"http://receiver.test:{receiver.port}/")
    await strict.tick()

    assert names.asked == 1
    assert asked == ["127.0.0.1", "127.0.0.1"], "checked when it was resolved, and when the socket was made"
    assert [got.headers["host"] for got in receiver.received] == [f"receiver.test:{receiver.port}"]


async def test_tls_is_asked_for_under_the_name(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection goes to a checked address, and the certificate that is asked for is the name's (SNI)."""
    hello = asyncio.get_running_loop().create_future()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello.set_result(await reader.read(4096))
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        Names(monkeypatch, ["127.0.0.1"])
        job_id = await sender.ended(f"https://receiver.test:{server.sockets[0].getsockname()[1]}/")
        await sender.tick()

    assert b"receiver.test" in await hello
    assert (await sender.state(job_id))["state"] == "pending"


async def test_the_socket_is_the_last_check(
    strict: Sender, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if a resolver let a private address pass, no connection is made to it."""
    answers = iter([True])
    monkeypatch.setattr("shared.outside.client.is_public", lambda _: next(answers, False))
    Names(monkeypatch, ["127.0.0.1"])
    job_id = await strict.ended(f"http://receiver.test:{receiver.port}/")
    await strict.tick()

    assert receiver.received == []
    assert (await strict.state(job_id))["last_error"] == "the address is not a public one"


async def test_proxies_of_the_environment_are_not_used(
    sender: Sender, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy would resolve the name by itself, after our check."""
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    await sender.ended(receiver.url)
    await sender.tick()

    assert len(receiver.received) == 1


# -- the secret ---------------------------------------------------------------------------------------------------------


async def everything(database: Database) -> dict[str, str]:
    """Every key of the database with its value as text."""
    redis, found = database.redis, {}
    async for name in redis.scan_iter(match=f"{database.keys.prefix}*"):
        match await redis.type(name):
            case "hash":
                value: Any = await redis.hgetall(name)
            case "zset":
                value = await redis.zrange(name, 0, -1)
            case "stream":
                value = await redis.xrange(name)
            case "set":
                value = await redis.smembers(name)
            case _:
                value = await redis.get(name)
        found[str(name)] = str(value)
    return found


async def test_the_secret_is_in_one_place_and_then_in_none(
    sender: Sender, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in the record, a stream, a key's name or a log; and with the decision it is forgotten."""
    caplog.set_level(logging.DEBUG)
    receiver.answers = [500]
    job_id = await sender.ended(receiver.url, idempotency_key="k")
    await sender.tick()
    held = await everything(sender.database)
    assert [name for name, value in held.items() if SECRET in value] == [sender.database.keys.callback(job_id)]
    await sender.database.redis.zadd(sender.database.keys.callbacks, {job_id: 0})
    await sender.tick()
    job = await sender.store.get(job_id)
    left = await everything(sender.database)

    assert (await sender.state(job_id))["state"] == "delivered"
    for text in (*held, *left, *left.values(), repr(job), json.dumps(job.snapshot()), caplog.text):
        assert SECRET not in text
        assert SECRET.removeprefix("whsec_") not in text
    assert "callback delivered" in caplog.text


def test_the_command_line_shows_the_callback_and_not_its_secret(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """`conveyor status` tells how far it is; nothing on the command line prints the secret."""
    monkeypatch.setenv("REDIS_URL", stage.url)

    async def ended(database: Database) -> str:
        store = JobStore(database)
        job_id = await put(database, callback={"url": "http://127.0.0.1:9/hook", "secret": SECRET})
        await store.cancel(job_id)
        await store.begin_errand(job_id, "callback")
        found = {"callback_status": "500", "callback_error": "HTTP 500"}
        await store.settle_errand(job_id, "callback", "again", found, again_seconds=60)
        return job_id

    job_id = stage.with_database(ended)
    shown = [conveyor("status", job_id), conveyor("status", job_id, "--json"), conveyor("results", "web")]
    shown += [conveyor("results", "web", "--json"), conveyor("doctor")]

    assert "callback   pending, 1 attempt, HTTP 500; next at " in shown[0].output
    assert json.loads(shown[1].output)["callback"]["last_status"] == 500
    assert not any(SECRET in result.output for result in shown)


async def test_by_http_a_callback_is_asked_for_and_shown_without_its_secret(gateway: Gateway) -> None:
    """`POST /v1/jobs` takes it and refuses a wrong one by field; `GET` tells how far it is."""
    asked = {"url": "https://receiver.test/hook", "secret": SECRET}
    job_id = await gateway.enqueue(callback=asked)
    shown = await gateway.http.get(f"/v1/jobs/{job_id}")
    wrong = await gateway.http.post("/v1/jobs", json=http_job(callback=asked | {"url": "https://ada:hunter2@x.test"}))
    listed = await gateway.http.get("/v1/jobs", params={"user": "ada"})

    callback = shown.json()["callback"]
    assert (callback["url"], callback["state"], callback["attempts"]) == (asked["url"], "pending", 0)
    assert (wrong.status_code, [one["field"] for one in wrong.json()["problems"]]) == (422, ["callback.url"])
    assert not any(text in answer.text for answer in (shown, wrong, listed) for text in (SECRET, "hunter2"))


# -- the chore of a worker ----------------------------------------------------------------------------------------------


async def test_a_slow_receiver_does_not_hold_up_another(bench: Bench) -> None:
    """Of one host only so many are called at once; the rest waits its turn, and other hosts do not wait for it."""
    worker = bench.another(CONVEYOR_CALLBACK_ALLOW_PRIVATE="1")
    callbacks = Callbacks(worker.engine)

    async def ended(url: str) -> Job:
        job_id = await put(worker.database, callback={"url": url, "secret": SECRET})
        await worker.engine.store.cancel(job_id)
        return await worker.job(job_id)

    async with receiving() as slow, receiving() as quick:
        slow.answers = [0] * MOST_PER_HOST
        for url in [slow.url] * (MOST_PER_HOST + 3) + [quick.url] * 2:
            await ended(url)
        await callbacks.deliver_due()

        async def arrived() -> bool:
            return len(quick.received) == 2 and len(slow.received) == MOST_PER_HOST

        await until(arrived, what="both receivers are called")
        redis, keys = worker.database.redis, worker.database.keys
        waiting = await redis.zrangebyscore(keys.callbacks, "-inf", await worker.database.now_ms() + 2_000)
        assert len(waiting) == 3, "they come up again in a second, not after the lease"
        slow.release.set()

        async def all_there() -> bool:
            await callbacks.deliver_due()
            return len(slow.received) == MOST_PER_HOST + 3

        await until(all_there, what="the rest is delivered")
        await callbacks.aclose()
        assert await redis.zcard(keys.callbacks) == 0
