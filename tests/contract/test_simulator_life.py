"""Does a run live as it would on ComfyUI Deploy? From submit to its end, and everything a reader sees of it."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.contract.simulator_fixtures.served import (
    CAPTION,
    FLUX,
    PACK,
    PORTRAIT,
    PORTRAIT_WORKFLOW,
    STICKER,
    TRAINING,
    WAN,
    Simulated,
    in_process,
)

ORDER = ["not-started", "queued", "started", "running", "success"]


@pytest.fixture
async def sim() -> AsyncIterator[Simulated]:
    async with in_process() as simulated:
        yield simulated


async def test_a_run_passes_all_states_in_order(sim: Simulated) -> None:
    """A run is not-started, queued, started, running, then success, and never goes back by itself."""
    await sim.configure(speed=40, cold_start_seconds=20)
    run_id = await sim.submit()
    seen: list[str] = []

    def ended(run: dict[str, Any]) -> bool:
        if not seen or seen[-1] != run["status"]:
            seen.append(run["status"])
        return bool(run["status"] == "success")

    await sim.until(run_id, ended)
    assert [word for word in ORDER if word in seen] == seen
    assert seen[0] == "not-started"
    assert "running" in seen


async def test_a_read_has_exactly_the_32_keys(sim: Simulated) -> None:
    """GET /run never shows deployment_id, batch_id, workflow_api or an error."""
    run = await sim.run(await sim.submit())
    assert len(run) == 32
    assert not {"deployment_id", "batch_id", "workflow_api", "error"} & set(run)


async def test_workflow_api_comes_back_with_the_switch(sim: Simulated) -> None:
    """`legacy_workflow_api` adds the field the official SDK 0.7.0 cannot do without."""
    await sim.configure(legacy_workflow_api=True)
    run = await sim.run(await sim.submit())
    assert len(run) == 33
    assert run["workflow_api"]["1"]["class_type"] == "ComfyUIDeployExternalText"


async def test_progress_is_float32_and_ends_below_one(sim: Simulated) -> None:
    """Progress counts executed nodes, reads back as a 32-bit float, and is not set to 1 on success."""
    run = await sim.until(await sim.submit(), "success")
    assert 0 < run["progress"] < 1
    assert struct.unpack("f", struct.pack("f", run["progress"]))[0] == run["progress"]
    assert run["live_status"].startswith("Executing ")


async def test_cached_nodes_jump_on_a_warm_container(sim: Simulated) -> None:
    """On a warm container the loaders are cached, so the first report of progress is above 0."""
    await sim.until(await sim.submit(), "success")
    await sim.configure(speed=20)
    run = await sim.until(await sim.submit(), lambda run: run["live_status"] is not None)
    assert run["progress"] > 0


async def test_runs_wait_for_a_container_in_order(sim: Simulated) -> None:
    """A machine runs at most concurrency_limit runs at once; the others wait in not-started, first come first served."""
    await sim.configure(speed=5)
    runs = [await sim.submit(WAN) for _ in range(5)]
    await sim.until(runs[1], "running")
    assert [(await sim.run(run_id))["status"] for run_id in runs[2:]] == ["not-started"] * 3
    positions = [(await sim.run(run_id, queue_position="true"))["queue_position"] for run_id in runs]
    assert positions == [None, None, 0, 1, 2]
    await sim.configure(speed=2000)
    ended = [await sim.until(run_id, "success") for run_id in runs]
    assert sorted(run["started_at"] for run in ended) == [run["started_at"] for run in ended]


async def test_the_first_run_pays_the_cold_start(sim: Simulated) -> None:
    """A cold container costs boot and start-up; the next run on the warm one does not."""
    await sim.configure(cold_start_seconds=60, speed=300)
    first = await sim.until(await sim.submit(), "success")
    second = await sim.until(await sim.submit(), "success")
    assert first["cold_start_duration_total"] * 300 > 30
    assert second["cold_start_duration_total"] < first["cold_start_duration_total"] / 2


async def test_warm_containers_die_when_idle(sim: Simulated) -> None:
    """After the machine's idle timeout the warm container is gone and the next run is cold again."""
    await sim.until(await sim.submit(), "success")
    machine = (await sim.stats())["pools"]["a0000000-0000-4000-8000-000000000001"]
    assert machine["warm"] == 1
    await sim.configure(speed=5000)
    for _ in range(100):
        machine = (await sim.stats())["pools"]["a0000000-0000-4000-8000-000000000001"]
        if machine["warm"] == 0:
            return
        await asyncio.sleep(0.01)
    pytest.fail("still warm")


async def test_a_fluid_deployment_has_containers_of_its_own(sim: Simulated) -> None:
    """A deployment with its own image does not share the machine's containers, and its own gpu wins."""
    run_id = await sim.submit(FLUX, gpu="H100")
    assert FLUX in (await sim.stats())["pools"]
    assert (await sim.run(run_id))["gpu"] == "L40S"


@pytest.mark.parametrize(
    ("deployment", "kinds"),
    [
        (PORTRAIT, [("images", 1)]),
        (FLUX, [("images", 4)]),
        (WAN, [("files", 1)]),
        (CAPTION, [("text", 1)]),
        (PACK, [("images", 2), ("gifs", 1), ("files", 1), ("text", 1)]),
        (TRAINING, [("files", 1)]),
        (STICKER, [("gifs", 1)]),
    ],
    ids=["portrait", "flux", "wan", "caption", "pack", "training", "sticker"],
)
async def test_every_kind_of_output(sim: Simulated, deployment: str, kinds: list[tuple[str, int]]) -> None:
    """Each fixture gives its kinds of output; previews without an address have vanished."""
    await sim.configure(speed=20000)
    run = await sim.until(await sim.submit(deployment, inputs={"prompt": "a boat"}), "success")
    found = [(kind, len(items)) for output in run["outputs"] for kind, items in output["data"].items()]
    assert found == kinds


async def test_a_run_longer_than_its_limit_times_out(sim: Simulated) -> None:
    """run_timeout counts from `queued`; after it the worker reports `timeout`."""
    await sim.configure(speed=5000, faults={"timeout": 1})
    run = await sim.until(await sim.submit(CAPTION), "timeout")
    assert run["ended_at"] is not None
    assert run["outputs"] == []
    assert run["duration"] * 5000 >= 115


async def test_a_run_nobody_touched_for_a_day_reads_as_timeout(sim: Simulated) -> None:
    """The rule of 24 hours only changes what reads say: ended_at stays null and the stored status stays."""
    await sim.configure(autopilot=False)
    run_id = await sim.submit()
    await sim.client.post(f"/_sim/runs/{run_id}/age", params={"hours": 25})
    run = await sim.run(run_id)
    assert (run["status"], run["ended_at"]) == ("timeout", None)
    assert (await sim.client.get("/_sim/runs")).json()[0]["status"] == "not-started"


async def test_cancel_ends_a_run_and_frees_its_container(sim: Simulated) -> None:
    """Cancelling a running run ends it at once and lets the next one in."""
    await sim.configure(speed=5)
    runs = [await sim.submit(WAN) for _ in range(3)]
    await sim.until(runs[0], "running")
    answer = await sim.client.post(f"/api/run/{runs[0]}/cancel")
    assert answer.json() == {"status": "success", "message": "Function cancelled"}
    assert (await sim.run(runs[0]))["status"] == "cancelled"
    await sim.until(runs[2], "running")
    await sim.configure(speed=2000)
    await sim.until(runs[2], "success")
    assert (await sim.run(runs[0]))["status"] == "cancelled"


async def test_cancelling_a_waiting_run_never_starts_it(sim: Simulated) -> None:
    """A run cancelled in the queue is never taken by a worker."""
    await sim.configure(speed=5)
    runs = [await sim.submit(WAN) for _ in range(3)]
    await sim.client.post(f"/api/run/{runs[2]}/cancel")
    await sim.configure(speed=3000)
    await sim.until(runs[1], "success")
    run = await sim.run(runs[2])
    assert (run["status"], run["queued_at"]) == ("cancelled", None)


async def test_runs_on_a_classic_machine_cannot_be_cancelled(sim: Simulated) -> None:
    """They have no call id, and the refusal is a 500 that reads like an unknown run."""
    run_id = await sim.submit("d0000000-0000-4000-8000-000000000017")
    answer = await sim.client.post(f"/api/run/{run_id}/cancel")
    assert answer.status_code == 500
    assert answer.json()["detail"].endswith("Run not found or has no modal function call ID")


async def test_a_client_reference_can_be_found_again(sim: Simulated) -> None:
    """`_job_id` in the inputs is stored, readable, and found through the light listing."""
    run_id = await sim.submit(inputs={"prompt": "x", "_job_id": "job-7"})
    query = {"deployment_id": PORTRAIT, "rf": 0}
    listed = (await sim.client.get(f"/api/v2/workflow/{PORTRAIT_WORKFLOW}/runs", params=query)).json()
    assert [row["id"] for row in listed] == [run_id]
    assert (await sim.run(run_id))["workflow_inputs"]["_job_id"] == "job-7"


async def test_the_list_of_deployments_comes_in_two_halves(sim: Simulated) -> None:
    """Flux Dev in production has its own image: only is_fluid=true shows it, and then nothing else."""
    plain = (await sim.client.get("/api/deployments")).json()
    fluid = (await sim.client.get("/api/deployments", params={"is_fluid": "true"})).json()
    assert FLUX not in {deployment["id"] for deployment in plain}
    assert [deployment["id"] for deployment in fluid] == [FLUX]


async def test_tenants_do_not_see_each_other(sim: Simulated) -> None:
    """Another user gets 403 for a run and 500 for a deployment; an organisation's key cannot run personal ones."""
    run_id = await sim.submit()
    other, organisation = {"x-api-key": "sim-key-other"}, {"x-api-key": "sim-key-org"}
    sim.client.headers.pop("Authorization")
    assert (await sim.client.get(f"/api/run/{run_id}", headers=other)).status_code == 403
    assert (await sim.client.get(f"/api/run/{run_id}", headers=organisation)).status_code == 200
    assert (await sim.client.get(f"/api/deployment/{PORTRAIT}", headers=other)).status_code == 500
    refused = await sim.client.post("/api/run/deployment/queue", headers=organisation, json={"deployment_id": PORTRAIT})
    assert refused.json() == {"detail": "Deployment not found"}


async def test_a_speed_change_moves_runs_under_way(sim: Simulated) -> None:
    """The clock's speed may change at any time; a slow run becomes a fast one."""
    await sim.configure(speed=0.01)
    run_id = await sim.submit()
    await sim.configure(speed=2000)
    await sim.until(run_id, "success")
