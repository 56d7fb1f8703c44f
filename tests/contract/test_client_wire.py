"""What really happens on a socket decides whether a lost submit may be repeated; so these use sockets.

Each test scripts a tiny server and checks two things: which error the client raises, and how many requests arrived.
"""

import asyncio
import contextlib
import gc
import json
import logging
import socket
import struct
import traceback
from contextlib import asynccontextmanager
from urllib.parse import unquote

import aiohttp
import httpx
import pytest
from httpx_aiohttp import AiohttpTransport

from shared.comfydeploy import ComfyDeploy, Timeouts
from shared.comfydeploy.transport import Transport, named, never_sent
from shared.errors import (
    InvalidInput,
    RateLimited,
    Stopping,
    Unauthorized,
    Unavailable,
    Undecided,
    UnexpectedAnswer,
)

KEY = "key-that-must-not-leak"
RUN = {"id": "r", "status": "running"}


def reply(status, body=b"", *headers):
    """Write an HTTP answer; the connection is kept."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [f"HTTP/1.1 {status} X", f"content-length: {len(content)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + content


class Server:
    """Reads whole requests and does with each what the script says; a script that gives false closes."""

    def __init__(self, script):
        self.script = script
        self.requests = []
        self.connections = 0
        self.asked = asyncio.Event()
        self._writers = set()
        self._tasks = set()

    async def serve(self, reader, writer):
        self.connections += 1
        self._writers.add(writer)
        self._tasks.add(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                body = await reader.readexactly(length[0]) if length else b""
                self.requests.append((head, body))
                self.asked.set()
                if not await self.script(len(self.requests), writer):
                    break
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def stop(self):
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks)


@asynccontextmanager
async def serving(script, *, timeouts=None, transport=None, observe=None):
    """Run a scripted server and a client of it; gives both."""
    server = Server(script)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        async with ComfyDeploy(address, KEY, timeouts=timeouts, transport=transport, observe=observe) as api:
            yield server, api
    finally:
        listener.close()
        await server.stop()
        await listener.wait_closed()


def always(answer):
    async def script(_count, writer):
        writer.write(answer)
        await writer.drain()
        return True

    return script


async def hang_up(_count, _writer):
    return False


async def reset(_count, writer):
    # A zero linger time turns close() into a reset.
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return False


async def say_nothing(_count, writer):
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def half_an_answer(_count, writer):
    writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"run_id":')
    await writer.drain()
    return False


async def trickle(_count, writer):
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


LOST = {
    "closed without an answer": hang_up,
    "reset after the request": reset,
    "no answer in time": say_nothing,
    "half an answer": half_an_answer,
    "bytes for ever": trickle,
    "not HTTP": always(b"SSH-2.0-OpenSSH_9.7\r\n\r\n"),
    "200 without a run id": always(reply(200, {})),
    "200 that is not JSON": always(reply(200, b"<html>welcome</html>")),
    "200 with broken JSON": always(reply(200, b'{"run_id": "r')),
    "500 of the API": always(reply(500, b"Internal Server Error")),
    "502 of a proxy": always(reply(502, b"<html>bad gateway</html>")),
    "503 with Retry-After": always(reply(503, b"", "retry-after: 7")),
    "504 of a proxy": always(reply(504)),
}

SHORT = Timeouts(connect_seconds=1, pool_seconds=1, read_seconds=0.3, submit_seconds=0.3)

#: The one we use, and the two somebody may pass in: whichever it is, a lost answer must not look like "never sent".
TRANSPORTS = {"ours": Transport, "stock httpx-aiohttp": AiohttpTransport, "httpx's own": httpx.AsyncHTTPTransport}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("script", LOST)
async def test_a_submit_whose_answer_is_lost_is_undecided(script, transport):
    """Once the request may have arrived, a run may exist: Undecided, and exactly one request was sent."""
    async with serving(LOST[script], timeouts=SHORT, transport=TRANSPORTS[transport]()) as (server, api):
        with pytest.raises(Undecided) as caught:
            await api.runs.submit("d", {})
    assert len(server.requests) == 1
    assert KEY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("script", ["closed without an answer", "reset after the request"])
async def test_a_submit_lost_on_a_reused_connection_is_undecided(script):
    """The same on a connection that has served before, where aiohttp and httpx fail in other ways."""

    async def then_lost(count, writer):
        return await (always(reply(200, RUN)) if count == 1 else LOST[script])(count, writer)

    async with serving(then_lost, timeouts=SHORT) as (server, api):
        await api.runs.get("r")
        with pytest.raises(Undecided):
            await api.runs.submit("d", {})
    assert len(server.requests) == 2
    assert server.connections == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_refused_connection_is_certainly_no_run(transport):
    """Nobody listening: Unavailable, so the caller may submit again at once."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with ComfyDeploy(address, KEY, transport=TRANSPORTS[transport]()) as api:
            with pytest.raises(Unavailable):
                await api.runs.submit("d", {})


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_unknown_host_is_certainly_no_run(transport, monkeypatch):
    """A name that does not resolve: Unavailable."""

    def fail(*_args, **_kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "no such host")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    async with ComfyDeploy("http://api.invalid", KEY, transport=TRANSPORTS[transport]()) as api:
        with pytest.raises(Unavailable):
            await api.runs.submit("d", {})


async def test_no_free_connection_is_certainly_no_run():
    """A submit that only waited for a connection in our own pool was not sent."""
    timeouts = Timeouts(connect_seconds=0.2, pool_seconds=0.2, read_seconds=5, submit_seconds=5)
    async with serving(say_nothing, timeouts=timeouts, transport=Transport(max_connections=1)) as (server, api):
        holder = asyncio.create_task(api.runs.get("r"))
        await server.asked.wait()
        with pytest.raises(Unavailable):
            await api.runs.submit("d", {})
        holder.cancel()
        await asyncio.gather(holder, return_exceptions=True)
    assert len(server.requests) == 1


async def test_a_cancelled_submit_gives_its_connection_back():
    """Cancelling a call in flight raises CancelledError and leaves the pool usable."""

    async def slow_then_quick(count, writer):
        return await (say_nothing if count == 1 else always(reply(200, {"run_id": "r2"})))(count, writer)

    async with serving(slow_then_quick, transport=Transport(max_connections=1)) as (server, api):
        first = asyncio.create_task(api.runs.submit("d", {}))
        await server.asked.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await api.runs.submit("d", {}) == "r2"


@pytest.mark.parametrize("script", ["closed without an answer", "reset after the request", "502 of a proxy"])
async def test_a_read_that_fails_costs_one_request(script):
    """No hidden repeat, not even on a connection that had worked: each call has paid for one token."""

    async def then_lost(count, writer):
        return await (always(reply(200, RUN)) if count == 1 else LOST[script])(count, writer)

    async with serving(then_lost, timeouts=SHORT) as (server, api):
        await api.runs.get("r")
        with pytest.raises(Unavailable):
            await api.runs.get("r")
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (reply(429, b"", "retry-after: 7"), 7.0),
        (
            reply(429, b"", "date: Fri, 20 Nov 2026 22:00:00 GMT", "retry-after: Fri, 20 Nov 2026 22:00:30 GMT"),
            30.0,
        ),
        (reply(429, {"detail": "slow down"}), None),
    ],
)
async def test_a_rate_limit_says_how_long(answer, seconds):
    """429 on a submit and on a read, with seconds, a date or nothing: RateLimited with the wait."""
    async with serving(always(answer)) as (_server, api):
        for call in (api.runs.submit("d", {}), api.runs.get("r"), api.runs.cancel("r")):
            with pytest.raises(RateLimited) as caught:
                await call
            assert caught.value.retry_after_seconds == seconds


async def test_a_503_that_says_when_to_come_back():
    """For a read it is a rate limit; for a submit it stays undecided, and the wait is there all the same."""
    async with serving(LOST["503 with Retry-After"]) as (_server, api):
        with pytest.raises(RateLimited):
            await api.runs.get("r")
        with pytest.raises(Undecided) as caught:
            await api.runs.submit("d", {})
    assert caught.value.retry_after_seconds == 7.0
    assert caught.value.upstream_status == 503


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("nan"), "finite"),
        (float("inf"), "finite"),
        ([1, {"a": float("-inf")}], "finite"),
        (b"bytes", "bytes"),
        ({1, 2}, "set"),
        ("a\x00b", "zero character"),
        ("\ud800", "half a character"),
        ({"k": object()}, "object"),
    ],
    ids=["nan", "inf", "nested", "bytes", "set", "zero", "surrogate", "object"],
)
async def test_what_cannot_be_sent_is_refused_before_sending(value, reason):
    """JSON has no NaN and the API's database no zero character; every bad input is named and nothing is sent."""
    async with serving(always(reply(200, {"run_id": "r"}))) as (server, api):
        with pytest.raises(InvalidInput) as caught:
            await api.runs.submit("d", {"bad": value, "good": 1, "worse": float("nan")})
    assert [problem.field for problem in caught.value.problems] == ["inputs.bad", "inputs.worse"]
    assert reason in caught.value.problems[0].reason
    assert server.requests == []


async def test_an_id_cannot_lead_to_another_route():
    """Whatever an id holds, it stays one segment of the path; an empty one is refused here."""
    stranges = ["../machines?x=1#y", "a/b", "ä %2e"]
    async with serving(always(reply(404, {"detail": "Not Found"}))) as (server, api):
        for strange in stranges:
            with pytest.raises(UnexpectedAnswer):
                await api.runs.get(strange)
        for none in ("", ".", ".."):
            with pytest.raises(InvalidInput):
                await api.runs.get(none)
    # aiohttp may unquote what needs no quotes (`%3D`), never what would change the route.
    targets = [head.split(b" ")[1].decode() for head, _ in server.requests]
    assert [target.count("/") for target in targets] == [3, 3, 3]
    assert [unquote(target) for target in targets] == [f"/api/run/{strange}" for strange in stranges]
    assert not any("?" in target or "#" in target for target in targets)


async def test_the_key_is_in_no_repr_message_or_log(caplog):
    """Not even when the server sends it back; only the Authorization header carries it."""
    caplog.set_level(logging.DEBUG)
    echo = {"detail": f"Bearer {KEY} was refused", "error": KEY}
    async with serving(always(reply(401, echo))) as (server, api):
        with pytest.raises(Unauthorized) as caught:
            await api.runs.get("r")
        shown = [repr(api), str(api), repr(api.runs), repr(api.timeouts), str(caught.value), repr(caught.value)]
    assert f"bearer {KEY}".encode() in server.requests[0][0].lower()
    assert "(key)" in str(caught.value)
    assert not any(KEY in text for text in [*shown, caplog.text])


async def test_a_cookie_never_takes_the_place_of_the_key():
    """The API prefers a `__session` cookie to the key, so one that is set is not sent back."""
    async with serving(always(reply(200, RUN, "set-cookie: __session=other; Path=/"))) as (server, api):
        await api.runs.get("r")
        await api.runs.get("r")
    assert not any(b"cookie" in head.lower() for head, _ in server.requests)


async def test_an_observer_hears_of_every_call_and_cannot_break_one():
    """Route template, status and seconds for each request, also when no answer came; its own errors are dropped."""
    heard = []

    def observe(route, status, seconds):
        heard.append((route, status, seconds >= 0))
        raise RuntimeError("the metrics are on fire")

    async def script(count, writer):
        return count < 3 and await always(reply(200, {"run_id": "r", **RUN}))(count, writer)

    async with serving(script, observe=observe) as (_server, api):
        assert await api.runs.submit("d", {}) == "r"
        await api.runs.get("abc")
        with pytest.raises(Unavailable):
            await api.runs.cancel("abc")
    assert heard == [
        ("POST /run/deployment/queue", 200, True),
        ("GET /run/{run_id}", 200, True),
        ("POST /run/{run_id}/cancel", None, True),
    ]


async def test_a_closed_client_leaves_nothing_open():
    """Connections are reused while open and gone after closing; a call after that raises Stopping."""
    async with serving(always(reply(200, RUN))) as (server, api):
        await asyncio.gather(*(api.runs.get("r") for _ in range(20)))
        for _ in range(20):
            await api.runs.get("r")
        assert server.connections <= 20
        await api.aclose()
        await api.aclose()
        with pytest.raises(Stopping):
            await api.runs.get("r")
        with pytest.raises(Stopping):
            await api.runs.submit("d", {})
    gc.collect()  # an open socket would warn here, and warnings are errors


async def test_closing_the_client_under_a_submit_leaves_it_undecided():
    """A worker that stops while an answer is on its way must look the run up later, not lose it."""
    async with serving(say_nothing) as (server, api):
        submit = asyncio.create_task(api.runs.submit("d", {}))
        await server.asked.wait()
        await api.aclose()
        with pytest.raises(Undecided):
            await submit


#: aiohttp's errors as its own code raises them: may the request have been sent?
AIOHTTP_ERRORS = [
    (aiohttp.ConnectionTimeoutError("t"), True),
    (aiohttp.InvalidURL("u"), True),
    (aiohttp.ServerDisconnectedError(), False),
    (aiohttp.ClientOSError(104, "reset"), False),
    (aiohttp.ClientConnectionResetError("closing"), False),
    (aiohttp.ClientConnectionError("closed"), False),
    (aiohttp.SocketTimeoutError("t"), False),
    (aiohttp.ServerTimeoutError("t"), False),
    (aiohttp.ClientPayloadError("cut"), False),
    (TimeoutError(), False),
    (ConnectionResetError(), False),
]


@pytest.mark.parametrize(("error", "expected"), AIOHTTP_ERRORS)
def test_an_aiohttp_error_proves_what_it_proves(error, expected):
    """Also wrapped as httpx-aiohttp wraps it: there every lost connection is a ConnectTimeout, "never sent"."""
    wrapped = httpx.ConnectTimeout("as httpx-aiohttp says")
    wrapped.__cause__ = error
    assert never_sent(error) is expected
    assert never_sent(wrapped) is expected
    assert never_sent(named(wrapped)) is expected
