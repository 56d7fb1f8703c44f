"""Live events by HTTP: past ones first, then as they come; nothing twice, nothing left out, whoever is killed."""

import asyncio
import re
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from producers.gateway import feed, stream, told
from producers.local.redis_server import RedisServer
from shared.database import Database
from shared.jobs.event import Progress
from shared.jobs.store import JobStore
from shared.settings import Settings
from tests.service.gateway_fixtures import API_KEYS, RUN, Gateway, job, opened, walk
from tests.service.gateway_streams import Heard, Process, served
from tests.service.gateway_streams import stream as open_stream
from tests.service.worker_fixtures import until

pytestmark = pytest.mark.redis


def numbers(events: list[Heard]) -> list[int]:
    """The `seq` of each."""
    return [int(event.data["seq"]) for event in events]


@pytest.fixture
async def url(gateway: Gateway) -> AsyncIterator[str]:
    """Where the gateway of this process listens."""
    async with served(gateway) as address:
        yield address


@pytest.fixture
def process(redis_server: RedisServer) -> Iterator[Process]:
    """A gateway as a process of its own, on a database of its own."""
    one = Process(redis_server.url.replace("/0", "/9")).start()
    yield one
    one.close()


async def test_a_stream_tells_the_past_then_what_comes_and_ends(gateway: Gateway, url: str) -> None:
    """From `job.queued` to the final event; then the stream ends, and who knows the end gets a 204."""
    job_id = await gateway.enqueue()
    await walk(gateway.database, job_id, *RUN[:2])
    async with open_stream(url, f"/v1/jobs/{job_id}/events") as following:
        assert following.response.headers["content-type"].startswith("text/event-stream")
        past = await following.some(2)
        await walk(gateway.database, job_id, *RUN[2:])
        rest = await following.rest()

    assert [event.type for event in past + rest] == ["job.queued", "job.submitted", "job.running", "job.succeeded"]
    assert [event.id for event in past + rest] == ["1", "2", "3", "4"]
    assert rest[-1].data["result"]["outputs"][0]["url"] == "https://pictures.test/fox.png"
    known = await gateway.http.get(f"/v1/jobs/{job_id}/events", headers={"last-event-id": "4"})
    assert known.status_code == 204


@pytest.mark.parametrize("by", ["header", "query"])
async def test_a_stream_goes_on_after_the_last_event_heard(gateway: Gateway, url: str, by: str) -> None:
    """`Last-Event-ID` is the `seq` that was heard last."""
    job_id = await gateway.enqueue()
    await walk(gateway.database, job_id, *RUN)
    last = {"last": "2"} if by == "header" else {"last_event_id": "2"}
    async with open_stream(url, f"/v1/jobs/{job_id}/events", **last) as following:
        assert numbers(await following.rest()) == [3, 4]


async def test_what_the_stream_does_not_hold_is_told_from_the_record(gateway: Gateway, url: str) -> None:
    """A job whose events were trimmed, all or some, is told as it is, and its end is heard."""
    job_id = await gateway.enqueue()
    await walk(gateway.database, job_id, *RUN[:3])
    await gateway.database.redis.xtrim(gateway.database.keys.results("web"), maxlen=0, approximate=False)
    async with open_stream(url, f"/v1/jobs/{job_id}/events") as following:
        assert numbers(await following.some(1)) == [3]
        await walk(gateway.database, job_id, *RUN[3:])
        assert numbers(await following.rest()) == [4]


async def test_a_silent_stream_is_kept_open_and_asks_the_record(
    gateway: Gateway, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Comments come while nothing happens; and an end that never reached the stream is told all the same."""
    monkeypatch.setattr(told, "KEEP_ALIVE_SECONDS", 0.1)
    job_id = await gateway.enqueue()
    async with open_stream(url, f"/v1/jobs/{job_id}/events") as following:
        await following.some(1)
        # As if Redis had lost the stream's end and not the record's.
        redis, keys = gateway.database.redis, gateway.database.keys
        await redis.hset(keys.job(job_id), mapping={"state": "expired", "seq": "2", "final_at": "1795208000000"})
        rest = await following.rest()
    assert [(event.type, event.data["seq"]) for event in rest] == [("job.expired", 2)]
    assert following.comments


async def test_many_listeners_hear_the_same_in_order(gateway: Gateway, url: str) -> None:
    """Fifty streams over one reader: each hears every event of its job and no other's."""
    jobs = [await gateway.enqueue() for _ in range(5)]

    async def follow(job_id: str) -> list[Heard]:
        async with open_stream(url, f"/v1/jobs/{job_id}/events") as following:
            return await following.rest()

    following = [asyncio.create_task(follow(jobs[n % 5])) for n in range(50)]
    await until(lambda: _streams(gateway, 50), what="all follow")
    await asyncio.gather(*(walk(gateway.database, one, *RUN) for one in jobs))
    for n, events in enumerate(await asyncio.gather(*following)):
        assert numbers(events) == [1, 2, 3, 4]
        assert {event.data["job_id"] for event in events} == {jobs[n % 5]}
    assert await until(lambda: _streams(gateway, 0), what="nobody listens any more")


async def _streams(gateway: Gateway, count: int) -> bool:
    return f"conveyor_streams {count}.0" in (await gateway.http.get("/metrics")).text


async def _cut_off(gateway: Gateway) -> float:
    found = re.search(r'streams_ended_total{why="slow"} ([\d.]+)', (await gateway.http.get("/metrics")).text)
    return float(found[1]) if found else 0.0


# -- a user's jobs ----------------------------------------------------------------------------------------------------


async def test_a_user_hears_all_his_jobs_and_nobody_elses(gateway: Gateway, url: str) -> None:
    """From now on without `Last-Event-ID`; from the listing's place on with it, without a gap in between."""
    first = await gateway.enqueue("ada/1 é")
    listing = (await gateway.http.get("/v1/jobs", params={"user": "ada/1 é"})).json()
    await walk(gateway.database, first, *RUN[:2])
    path = "/v1/users/ada%2F1%20%C3%A9/events"
    async with (
        open_stream(url, path) as fresh,
        open_stream(url, path, last_event_id=listing["last_event_id"]) as resumed,
    ):
        assert [event.type for event in await resumed.some(1)] == ["job.submitted"]
        await gateway.enqueue("bob")
        second = await gateway.enqueue("ada/1 é")
        await walk(gateway.database, first, *RUN[2:])
        expected = [(second, 1), (first, 3), (first, 4)]
        for following in (fresh, resumed):
            events = await following.some(3)
            assert [(event.data["job_id"], event.data["seq"]) for event in events] == expected
    async with open_stream(url, path, last=events[0].id) as again:
        assert numbers(await again.some(2)) == [3, 4]


async def test_a_user_is_told_when_events_are_gone(gateway: Gateway, url: str) -> None:
    """Who comes back after his place was trimmed hears `stream.gap` first."""
    await gateway.enqueue()
    place = (await gateway.http.get("/v1/jobs", params={"user": "ada"})).json()["last_event_id"]
    await gateway.enqueue()
    await gateway.database.redis.xtrim(gateway.database.keys.results("web"), maxlen=1, approximate=False)
    async with open_stream(url, "/v1/users/ada/events", last=place) as following:
        assert [event.type for event in await following.some(2)] == ["stream.gap", "job.queued"]
    async with open_stream(url, "/v1/users/ada/events", last="0-0") as following:
        assert [event.type for event in await following.some(1)] == ["job.queued"]


# -- trouble ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", ["events", "seconds"])
async def test_a_slow_client_is_cut_off_and_goes_on(
    gateway: Gateway, url: str, limit: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Who does not read is let go instead of filling our memory; what he missed he gets when he comes back."""
    if limit == "events":
        monkeypatch.setattr(feed, "MOST_WAITING", 20)
        monkeypatch.setattr(stream, "LAST_SECONDS", 0.1)
    else:
        monkeypatch.setattr(stream, "SEND_SECONDS", 0.2)
    job_id = await gateway.enqueue(meta={"padding": "x" * 8000}, progress=True)
    await walk(gateway.database, job_id, *RUN[:3])
    address = httpx.URL(url)
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect((address.host, address.port))
        slow.sendall(f"GET /v1/jobs/{job_id}/events HTTP/1.1\r\nHost: {address.netloc.decode()}\r\n\r\n".encode())
        await until(lambda: _streams(gateway, 1), what="it follows")
        store = JobStore(gateway.database)
        count = 0

        async def cut_off() -> bool:
            nonlocal count
            count += 1
            assert await store.progress(job_id, Progress(fraction=0.1, text=f"step {count}"))
            return await _cut_off(gateway) > before

        before = await _cut_off(gateway)
        await until(cut_off, what="it is cut off")
    await walk(gateway.database, job_id, "succeeded")
    async with open_stream(url, f"/v1/jobs/{job_id}/events", last="3") as following:
        assert numbers(await following.rest()) == list(range(4, 4 + count + 1))
    assert "request broke" not in caplog.text


async def test_a_stream_rides_out_a_restart_of_redis(tmp_path: Path) -> None:
    """Redis stops and comes back under an open stream: no event is missing, none comes twice."""
    async with RedisServer(tmp_path) as server, Database.open(server.url) as database:
        async with opened(Settings(redis_url=server.url), database) as gateway, served(gateway) as url:
            job_id = await gateway.enqueue()
            async with open_stream(url, f"/v1/jobs/{job_id}/events") as following:
                heard = await following.some(1)
                await asyncio.to_thread(server.stop)
                away = await gateway.http.get(f"/v1/jobs/{job_id}")
                assert (away.status_code, away.json()["code"]) == (503, "unavailable")
                assert int(away.headers["retry-after"]) >= 1
                assert "127.0.0.1" not in away.json()["detail"]
                assert (await gateway.http.get("/healthz")).status_code == 200
                assert (await gateway.http.get("/readyz")).json()["checks"]["redis"] == "away"
                await asyncio.to_thread(server.start)
                await walk(database, job_id, *RUN)
                heard += await following.rest()
        assert numbers(heard) == [1, 2, 3, 4]


async def test_a_stream_goes_on_after_the_gateway_was_killed(process: Process, redis_server: RedisServer) -> None:
    """`kill -9`, a new process, `Last-Event-ID`: no gap and no double, over what happened meanwhile."""
    async with (
        Database.open(redis_server.url.replace("/0", "/9")) as database,
        httpx.AsyncClient(base_url=process.url) as http,
    ):
        answer = await http.post("/v1/jobs", json=job())
        path = answer.json()["events_url"]
        job_id = answer.json()["job_id"]
        heard: list[Heard] = []
        async with open_stream(process.url, path) as following:
            await walk(database, job_id, *RUN[:2])
            heard += await following.some(2)
            await asyncio.to_thread(process.end, signal.SIGKILL)
            with pytest.raises(httpx.HTTPError):
                await following.rest()
        await walk(database, job_id, RUN[2])
        await asyncio.to_thread(process.start)
        async with open_stream(process.url, path, last=heard[-1].id) as following:
            heard += await following.some(1)
            await walk(database, job_id, RUN[3])
            heard += await following.rest()
        assert numbers(heard) == [1, 2, 3, 4]
        await database.redis.flushdb()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_told_to_stop_it_ends_streams_at_once(
    process: Process, redis_server: RedisServer, number: signal.Signals
) -> None:
    """Open streams end cleanly, so that clients go elsewhere; the exit code is 0 and nothing is written of errors."""
    async with httpx.AsyncClient(base_url=process.url) as http:
        path = (await http.post("/v1/jobs", json=job())).json()["events_url"]
    async with open_stream(process.url, path) as following:
        await following.some(1)
        ending = asyncio.create_task(asyncio.to_thread(process.end, number))
        async with asyncio.timeout(3):
            assert await following.rest() == []
            code, said = await ending
    assert code == 0
    assert "only this machine is served" in said
    assert "rror" not in said
    async with Database.open(redis_server.url.replace("/0", "/9")) as database:
        await database.redis.flushdb()


def test_a_key_that_cannot_be_read_stops_it(redis_server: RedisServer) -> None:
    """The message names the variable, shows no key, and the exit code is 2."""
    one = Process(redis_server.url, CONVEYOR_API_KEYS=API_KEYS.replace(":", "="))
    with pytest.raises(AssertionError) as told_:
        one.start()
    one.close()
    assert "CONVEYOR_API_KEYS" in str(told_.value)
    assert "web-key" not in str(told_.value)
