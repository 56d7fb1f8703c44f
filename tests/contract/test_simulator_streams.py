"""Do the streams have upstream's shapes and defects? Read line by line over a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.contract.simulator_fixtures.served import PORTRAIT, PORTRAIT_WORKFLOW, Simulated, served


@pytest.fixture
async def sim() -> AsyncIterator[Simulated]:
    async with served(autopilot=False) as simulated:
        yield simulated


async def _post(sim: Simulated, run_id: str, **body: Any) -> None:
    await sim.client.post("/api/update-run", json={"run_id": run_id, **body})


async def _events(sim: Simulated, query: dict[str, str], play: Any, enough: int = 99) -> list[dict[str, Any]]:
    """Read a progress stream while `play` posts as the worker; until the server ends it or there are enough events."""
    events: list[dict[str, Any]] = []
    async with asyncio.timeout(5), sim.client.stream("GET", "/api/v2/stream-progress", params=query) as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        async for line in answer.aiter_lines():
            if not line:
                continue
            assert line.startswith("data: ")
            events.append(json.loads(line.removeprefix("data: ")))
            if len(events) == 2:
                await play()
            if len(events) >= enough:
                break
    return events


async def test_progress_of_a_run_until_it_ends(sim: Simulated) -> None:
    """Two greetings, then status and output events with progress -1, closed by the server at the end."""
    run_id = await sim.submit()

    async def play() -> None:
        await _post(sim, run_id, status="queued")
        await _post(sim, run_id, live_status="Executing KSampler", progress=0.5)
        await _post(sim, run_id, output_data={"text": ["x"]}, node_meta={"node_id": "9"})
        await _post(sim, run_id, status="success")

    events = await _events(sim, {"run_id": run_id}, play)
    assert events[:2] == [
        {"type": "connection_established", "channels": ["progress:user:user_owner"]},
        {"type": "subscribed", "channel": "progress:user:user_owner"},
    ]
    assert [(event["status"], event["progress"]) for event in events[2:]] == [
        ("queued", -1),
        ("output", -1),
        ("success", -1),
    ]
    assert list(events[2]) == ["run_id", "workflow_id", "machine_id", "progress", "status", "node_class", "timestamp"]


async def test_another_run_of_the_account_ends_the_stream(sim: Simulated) -> None:
    """Asked for one run, the stream carries all of them and ends at the first terminal status of any."""
    mine, other = await sim.submit(), await sim.submit()

    async def play() -> None:
        await _post(sim, mine, status="queued")
        await _post(sim, other, status="failed")

    events = await _events(sim, {"run_id": mine}, play)
    assert [event["run_id"] for event in events[2:]] == [mine, other]


async def test_whole_rows_on_request(sim: Simulated) -> None:
    """return_run=true sends the run's row with durations as strings; a workflow's stream does not end by itself."""
    run_id = await sim.submit()

    async def play() -> None:
        await _post(sim, run_id, status="queued")
        await _post(sim, run_id, status="success")

    events = await _events(sim, {"workflow_id": PORTRAIT_WORKFLOW, "return_run": "true"}, play, enough=4)
    assert [event["status"] for event in events[2:]] == ["queued", "success"]
    assert isinstance(events[3]["duration"], str)


async def test_a_cancel_arrives_with_a_null_status(sim: Simulated) -> None:
    """The event of a cancel does not say what happened."""
    run_id = await sim.submit()

    async def play() -> None:
        await sim.client.post(f"/api/run/{run_id}/cancel")

    events = await _events(sim, {"run_id": run_id}, play, enough=3)
    assert events[2]["status"] is None


async def test_streams_can_be_off(sim: Simulated) -> None:
    """The fault `stream_off` answers 503."""
    await sim.configure(faults={"stream_off": 1})
    run_id = await sim.submit()
    assert (await sim.client.get("/api/v2/stream-progress", params={"run_id": run_id})).status_code == 503


async def test_a_stream_can_be_cut(sim: Simulated) -> None:
    """The fault `stream_cut` ends a stream after some time although nothing ended."""
    await sim.configure(faults=[{"kind": "stream_cut", "seconds": 0.1}])
    run_id = await sim.submit()

    async def play() -> None:
        await _post(sim, run_id, status="queued")

    events = await _events(sim, {"run_id": run_id}, play)
    assert [event["status"] for event in events[2:]] == ["queued"]


async def test_a_submission_is_told_to_the_workflows_stream(sim: Simulated) -> None:
    """Who watches a workflow hears of a new run as `input`."""

    async def play() -> None:
        await sim.submit()

    events = await _events(sim, {"workflow_id": PORTRAIT_WORKFLOW}, play, enough=3)
    assert events[2]["status"] == "input"


async def test_logs_are_replayed_and_end_with_the_run(sim: Simulated) -> None:
    """The log stream starts from the beginning and ends with a word about its source."""
    run_id = await sim.submit()
    await _post(sim, run_id, logs=[{"logs": "got prompt", "timestamp": 0}])
    await _post(sim, run_id, status="success")
    text = (await sim.client.get("/api/v2/stream-logs", params={"run_id": run_id})).text
    lines = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line]
    assert [line.get("message") for line in lines] == ["got prompt", None]
    assert lines[-1] == {"type": "stream_complete", "source": "archive"}
    archived = (await sim.client.get(f"/api/v2/clickhouse-run-logs/{run_id}")).json()
    assert [line["log"] for line in archived] == ["got prompt"]


async def test_a_run_can_be_submitted_as_a_stream(sim: Simulated) -> None:
    """POST /run/deployment/stream makes a run and tells of it without its id."""
    await sim.configure(autopilot=True)
    body = {"deployment_id": PORTRAIT, "inputs": {"prompt": "x"}}
    text = (await sim.client.post("/api/run/deployment/stream", json=body)).text
    events = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
    assert [event["event"] for event in events][:2] == ["queuing", "function_call_id"]
    assert events[-1]["event"] == "executed"
    assert (await sim.stats())["runs"] == {"success": 1}
