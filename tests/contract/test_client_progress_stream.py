"""What does the client make of the progress stream? The recorded lines, the simulator, and servers that behave badly."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.comfydeploy import ComfyDeploy, ProgressEvent, Timeouts
from shared.comfydeploy.progress_stream import lines, read_event
from shared.errors import (
    ConveyorError,
    RateLimited,
    Stopping,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
    WorkflowNotFound,
)
from tests.contract.simulator_fixtures.served import FLUX, PORTRAIT_WORKFLOW, Simulated, served

KEY = "key-that-must-not-leak"
RECORDED = json.loads((Path(__file__).parent / "recorded" / "captures.json").read_text())
CAPTURES = {one["name"]: one for one in RECORDED["captures"] if "request" in one}
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
EVENT = b'data: {"run_id": "r1", "status": "success", "progress": -1}\n\n'


def recorded_events(name: str) -> list[ProgressEvent]:
    """The events in a recorded stream."""
    read = (read_event(line.encode()) for line in CAPTURES[name]["response"]["lines"])
    return [event for event in read if event is not None]


async def in_chunks(*chunks: bytes) -> AsyncIterator[bytes]:
    """Bytes as they come from a connection."""
    for chunk in chunks:
        yield chunk


# --------------------------------------------------------------------------- reading


def test_the_recorded_stream_becomes_events() -> None:
    """Greetings are left out, -1 means that the progress is not known, and only the last event is an end."""
    events = recorded_events("sse.stream_progress_run")
    assert [event.status for event in events] == ["queued", "running", "queued", "output", "success"]
    assert {event.progress for event in events} == {None}
    assert [event.may_be_the_end for event in events] == [False] * 4 + [True]
    assert events[0].run_id == "d228c8ae-a9f0-4312-b1a3-d8dc5681490f"


def test_a_recorded_stream_tells_of_another_runs_end_as_that_runs() -> None:
    """Asked for one run, the stream was ended by another: the event says whose end it is."""
    name = "sse.stream_progress_run_ended_by_another_run"
    asked = CAPTURES[name]["request"]["query"]["run_id"]
    ends = [event.run_id for event in recorded_events(name) if event.may_be_the_end]
    assert len(ends) == 1
    assert ends != [asked]


def test_a_recorded_row_is_an_event_too() -> None:
    """With return_run the stream holds whole rows; run, status and progress are where a row has them."""
    assert recorded_events("sse.stream_progress_workflow_return_run") == [
        ProgressEvent("2552cf17-606c-41a8-8312-94c1acdc19d0", "running", 0.0, None)
    ]


@pytest.mark.parametrize(
    "line",
    [b"", b": a comment", b"event: x", b"data:", b"data: {", b"data: 7", b'data: {"run_id": 7}', b"data: \xff\xfe"],
)
def test_what_is_no_event_is_skipped(line: bytes) -> None:
    """Nothing that a stream says raises."""
    assert read_event(line) is None


def test_odd_values_are_not_known() -> None:
    """A null status is how a cancel arrives; progress is a fraction or nothing; a live status is told."""
    event = read_event(b'data: {"run_id": "r", "status": null, "progress": "0.5", "node_class": "KSampler"}')
    assert event == ProgressEvent("r", None, 0.5, "KSampler")
    assert event.may_be_the_end


async def test_lines_are_cut_wherever_the_chunks_are() -> None:
    """A line may come in pieces, several at once, and with either ending."""
    assert [line async for line in lines(in_chunks(b"da", b"ta: 1\r\nb", b"\n\nc\nunfinished"))] == [
        b"data: 1",
        b"b",
        b"",
        b"c",
    ]


async def test_a_line_without_end_is_not_kept() -> None:
    """What is longer than the bound is dropped up to its end, in one chunk or in many; the next line is read."""
    long = [b"x" * 50] * 40
    assert [line async for line in lines(in_chunks(b"a\n", *long, b"x\nb\n"), most_bytes=100)] == [b"a", b"b"]
    assert [line async for line in lines(in_chunks(b"a\n" + b"".join(long) + b"\nb\n"), most_bytes=100)] == [b"a", b"b"]


# --------------------------------------------------------------------------- the simulator


@pytest.fixture
async def sim() -> AsyncIterator[Simulated]:
    async with served(autopilot=False) as simulated:
        yield simulated


@asynccontextmanager
async def client_of(sim: Simulated) -> AsyncIterator[ComfyDeploy]:
    async with ComfyDeploy(str(sim.client.base_url), "sim-key") as api:
        yield api


async def listened(sim: Simulated, count: int = 1) -> None:
    """Wait until so many listen; an answer begins a moment before its server does."""
    end = time.monotonic() + 5
    while sum(map(len, sim.service.broadcast._listeners.values())) != count:
        assert time.monotonic() < end, f"never {count} listeners"
        await asyncio.sleep(0.01)


async def test_a_workflows_stream_goes_on_when_a_run_ends(sim: Simulated) -> None:
    """Every run of the workflow is heard, those of others are not, and no end closes the stream."""
    async with client_of(sim) as api, asyncio.timeout(5), api.progress.of_workflow(PORTRAIT_WORKFLOW) as events:
        await listened(sim)
        heard: list[tuple[str, str | None]] = []
        first = await sim.submit()
        await sim.submit(FLUX)
        second = await sim.submit()
        for run_id, status in ((first, "success"), (second, "failed")):
            await sim.client.post("/api/update-run", json={"run_id": run_id, "status": status})
        async for event in events:
            heard.append((event.run_id, event.status))
            if len(heard) == 4:
                break
    assert heard == [(first, "input"), (second, "input"), (first, "success"), (second, "failed")]


async def test_leaving_closes_the_connection(sim: Simulated) -> None:
    """Who has left a stream is no longer told anything."""
    async with client_of(sim) as api:
        async with api.progress.of_workflow(PORTRAIT_WORKFLOW):
            await listened(sim)
        await listened(sim, 0)


async def test_a_refused_stream_is_an_error(sim: Simulated) -> None:
    """503 says later, a wrong key says tell an operator; both before any event."""
    await sim.configure(faults={"stream_off": 1})
    async with client_of(sim) as api:
        with pytest.raises(Unavailable, match="503"):
            await opened(api)
    async with ComfyDeploy(str(sim.client.base_url), KEY) as api:
        with pytest.raises(Unauthorized) as caught:
            await opened(api)
    assert KEY not in str(caught.value)


async def opened(api: ComfyDeploy) -> None:
    """Open a stream and leave it."""
    async with asyncio.timeout(5), api.progress.of_workflow(PORTRAIT_WORKFLOW):
        pass


async def hear(api: ComfyDeploy, heard: list[str], *, silence_seconds: float = 5.0) -> None:
    """Note whose events come, until the stream ends."""
    async with api.progress.of_workflow("w", silence_seconds=silence_seconds) as events:
        async for event in events:
            heard.append(event.run_id)  # noqa: PERF401 - what came before an error counts


# --------------------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(404, json={"detail": "Workflow not found"}), WorkflowNotFound),
        (httpx.Response(403, json={"detail": "Not authorized to access this progress"}), Unauthorized),
        (httpx.Response(429, headers={"retry-after": "7"}), RateLimited),
        (httpx.Response(503, headers={"retry-after": "7"}), RateLimited),
        (httpx.Response(200, html=f"<html>{KEY}</html>"), UnexpectedAnswer),
        (httpx.Response(500, text=f"trouble with {KEY}"), Unavailable),
    ],
)
async def test_every_refusal_has_its_error(answer: httpx.Response, error: type[ConveyorError]) -> None:
    """What the caller should do is the error's type; no message shows the key."""
    transport = httpx.MockTransport(lambda _: answer)
    async with ComfyDeploy("http://api.test", KEY, transport=transport) as api:
        with pytest.raises(error) as caught:
            await opened(api)
    assert type(caught.value) is error
    assert KEY not in str(caught.value)


async def test_the_question_is_one_workflow_and_uncompressed() -> None:
    """Exactly one kind of id is named, and nothing on the way is invited to collect the events."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=EVENT)

    told: list[Any] = []
    transport = httpx.MockTransport(answer)
    async with ComfyDeploy("http://api.test", KEY, transport=transport, observe=lambda *one: told.append(one)) as api:
        async with api.progress.of_workflow("w1") as events:
            assert [event.run_id async for event in events] == ["r1"]
        await api.aclose()
        with pytest.raises(Stopping):
            await opened(api)
    assert asked[0].url.path == "/api/v2/stream-progress"
    assert dict(asked[0].url.params) == {"workflow_id": "w1"}
    assert asked[0].headers["accept-encoding"] == "identity"
    assert asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert [one[:2] for one in told] == [("GET /v2/stream-progress", 200)]


# --------------------------------------------------------------------------- connections

Script = Callable[[asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(script: Script, **timeouts: float) -> AsyncIterator[ComfyDeploy]:
    """A server that reads one request and does what the script says, until it is closed; gives a client of it."""
    tasks: set[asyncio.Task[Any] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            await reader.readuntil(b"\r\n\r\n")
            await script(writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        async with ComfyDeploy(address, KEY, timeouts=Timeouts(**timeouts)) as api:
            yield api
    finally:
        server.close()
        for task in tasks:
            assert task is not None
            task.cancel()
        await asyncio.gather(*(task for task in tasks if task), return_exceptions=True)
        await server.wait_closed()


async def silent(_writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def one_event_then_silent(writer: asyncio.StreamWriter) -> None:
    writer.write(STREAM_HEAD + EVENT)
    await silent(writer)


async def test_no_answer_is_not_waited_for_longer_than_for_a_read() -> None:
    """A server that takes the request and says nothing."""
    async with serving(silent, read_seconds=0.1) as api:
        with pytest.raises(Unavailable, match="got no answer"):
            await opened(api)


async def test_silence_ends_a_stream() -> None:
    """There are no keep-alives, so silence is all that a dead connection shows; what came before it was heard."""
    heard: list[str] = []
    async with serving(one_event_then_silent, read_seconds=2.0) as api:
        with pytest.raises(Unavailable, match="broke off") as caught:
            await hear(api, heard, silence_seconds=0.1)
    assert heard == ["r1"]
    assert KEY not in str(caught.value)


async def test_a_lost_connection_is_an_error_not_an_end() -> None:
    """The server dies in the middle of a chunk."""

    async def dies(writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD.replace(b"\r\n\r\n", b"\r\ntransfer-encoding: chunked\r\n\r\n") + b"ff\r\ndata: ")
        await writer.drain()

    async with serving(dies) as api:
        with pytest.raises(Unavailable, match="broke off"):
            await hear(api, [])


async def test_what_the_caller_raises_is_not_taken_for_the_apis() -> None:
    """An OSError of the body passes through as itself."""
    async with serving(one_event_then_silent) as api:
        with pytest.raises(FileNotFoundError):
            async with api.progress.of_workflow("w"):
                raise FileNotFoundError("the caller's own")
