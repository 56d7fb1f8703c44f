"""Are the oddities noted while the real server was watched there too? One test per observation in the recording."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from simulator import timestamps
from tests.contract.simulator_fixtures.served import (
    FLUX,
    PORTRAIT,
    PORTRAIT_WORKFLOW,
    Simulated,
    in_process,
)

OBSERVATIONS = [
    note["name"]
    for note in json.loads((Path(__file__).parent / "recorded" / "captures.json").read_text())["observations"]
]
#: Where each observation is tested: here under its name, or elsewhere.
ELSEWHERE = {
    "client_closes_socket_before_the_reply": "test_simulator_faults: lost_answer, reset_before, slow_answer",
    "keepalive_after_unhandled_500": "test_simulator_faults: after_a_plain_500_the_connection_is_closed",
    "official_python_sdk_0.7.0_against_this_server": "test_simulator_official_clients",
    "worker_cancelled_after_api_cancel": "test_simulator_webhooks: the_hook_of_a_cancel_is_unfiltered",
    "cancel_hook_outputs_unfiltered": "test_simulator_webhooks: the_hook_of_a_cancel_is_unfiltered",
    "private_output_in_hooks": "test_simulator_webhooks: output_events_on_request",
    "gpu_side_receives": "the simulator's workers are inside it: nothing is sent to a GPU side",
}


@pytest.fixture
async def sim() -> AsyncIterator[Simulated]:
    async with in_process(autopilot=False) as simulated:
        yield simulated


async def _post(sim: Simulated, run_id: str, **body: Any) -> None:
    answer = await sim.client.post("/api/update-run", json={"run_id": run_id, **body})
    assert answer.json() == {"status": "success"}


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_every_observation_is_covered(name: str) -> None:
    """An observation has a test of its name here, or a word about where it is."""
    assert (f"test_{name}" in globals()) != (name in ELSEWHERE)


async def test_burst_of_60_get_run(sim: Simulated) -> None:
    """60 quick reads are all 200: the service limits nobody."""
    run_id = await sim.submit()
    answers = [await sim.client.get(f"/api/run/{run_id}") for _ in range(60)]
    assert {answer.status_code for answer in answers} == {200}
    assert not any("retry-after" in answer.headers for answer in answers)


async def test_limit_edge_cases(sim: Simulated) -> None:
    """Limits have no cap, 0 is empty, and a negative one is a crash."""
    await sim.submit()
    runs = f"/api/v2/workflow/{PORTRAIT_WORKFLOW}/runs"
    assert (await sim.client.get(runs, params={"limit": 0})).json() == []
    assert (await sim.client.get(runs, params={"limit": -1})).text == "Internal Server Error"
    assert len((await sim.client.get(runs, params={"limit": 100000})).json()) == 1
    assert (await sim.client.get("/api/workflows", params={"limit": -1})).text == "Internal Server Error"
    assert (await sim.client.get("/api/deployments", params={"page_size": 0})).json() == []


async def test_gpu_precedence(sim: Simulated) -> None:
    """The deployment's GPU beats the one asked for, which beats the machine's."""
    assert (await sim.run(await sim.submit(FLUX, gpu="H100")))["gpu"] == "L40S"
    assert (await sim.run(await sim.submit(PORTRAIT, gpu="H100")))["gpu"] == "H100"
    assert (await sim.run(await sim.submit(PORTRAIT)))["gpu"] == "A10G"


async def test_status_can_go_back(sim: Simulated) -> None:
    """No order is checked before the end."""
    run_id = await sim.submit()
    for status in ("running", "queued"):
        await _post(sim, run_id, status=status)
    assert (await sim.run(run_id))["status"] == "queued"


async def test_late_started_on_finished_run(sim: Simulated) -> None:
    """The status stays, started_at moves, run_duration is negative."""
    run_id = await sim.submit()
    for status in ("started", "success", "started"):
        await _post(sim, run_id, status=status)
    run = await sim.run(run_id)
    assert run["status"] == "success"
    assert run["run_duration"] < 0


async def test_output_after_success(sim: Simulated) -> None:
    """Outputs that come late are appended."""
    run_id = await sim.submit()
    await _post(sim, run_id, status="success")
    await _post(sim, run_id, output_data={"text": ["late"]}, node_meta={"node_id": "1"})
    assert (await sim.run(run_id))["outputs"][0]["data"] == {"text": ["late"]}


async def test_enum_with_non_json_options(sim: Simulated) -> None:
    """One enum with bad options spoils its deployment and the whole list."""
    enum = {"class_type": "ComfyUIDeployExternalEnum", "inputs": {"input_id": "e", "options": "a,b"}}
    version = await sim.client.post(
        f"/api/workflow/{PORTRAIT_WORKFLOW}/version", json={"workflow": {}, "workflow_api": {"1": enum}}
    )
    await sim.client.patch(f"/api/deployment/{PORTRAIT}", json={"workflow_version_id": version.json()["id"]})
    for path in (f"/api/deployment/{PORTRAIT}", "/api/deployments"):
        answer = await sim.client.get(path)
        assert (answer.status_code, answer.text) == (500, "Internal Server Error")


async def test_workflow_without_versions(sim: Simulated) -> None:
    """Such a workflow has one null in place of versions."""
    sim.service.tables.versions.clear()
    assert (await sim.client.get(f"/api/workflow/{PORTRAIT_WORKFLOW}")).json()["versions"] == [None]


def test_timestamp_with_zero_microseconds() -> None:
    """When the microseconds are exactly 0 the seconds are lost."""
    at = datetime(2026, 11, 20, 10, 11, 12, tzinfo=UTC)
    assert timestamps.model(at) == "2026-11-20T10:11:00Z"
    assert timestamps.millis(at) == "2026-11-20T10:11Z"
    assert timestamps.millis(at.replace(microsecond=165999)) == "2026-11-20T10:11:12.165Z"
    assert timestamps.model(at.replace(microsecond=165999)) == "2026-11-20T10:11:12.165000Z"
