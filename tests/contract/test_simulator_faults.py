"""Can the simulator misbehave on order, at the socket where it must? One test per dish of the fault menu."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest

from simulator.scenarios import SCENARIOS
from simulator.settings import scenario
from tests.contract.simulator_fixtures.served import (
    CAPTION,
    PORTRAIT,
    PORTRAIT_WORKFLOW,
    Simulated,
    in_process,
    served,
)

SUBMIT = "/api/run/deployment/queue"


@pytest.fixture
async def sim() -> AsyncIterator[Simulated]:
    """A simulator behind a real socket: connections can be cut."""
    async with served() as simulated:
        yield simulated


@pytest.fixture
async def near() -> AsyncIterator[Simulated]:
    """A simulator without sockets: quicker."""
    async with in_process() as simulated:
        yield simulated


@pytest.mark.parametrize(
    ("kind", "status", "content_type"),
    [
        ("rate_limited", 429, "application/json"),
        ("error_500", 500, "application/json"),
        ("error_500_text", 500, "text/plain; charset=utf-8"),
        ("bad_gateway", 502, "text/html; charset=utf-8"),
        ("unavailable", 503, "text/html; charset=utf-8"),
        ("gateway_timeout", 504, "text/html; charset=utf-8"),
        ("forbidden", 403, "application/json"),
    ],
)
async def test_refusals_on_the_way(near: Simulated, kind: str, status: int, content_type: str) -> None:
    """Each kind answers in the place of the handler, once when count is 1, and then all is well again."""
    await near.configure(faults=[{"kind": kind, "count": 1}])
    answer = await near.client.get("/api/deployments")
    assert (answer.status_code, answer.headers["content-type"]) == (status, content_type)
    assert (await near.client.get("/api/deployments")).status_code == 200
    assert (await near.stats())["faults"] == {kind: 1}


async def test_retry_after_in_both_spellings(near: Simulated) -> None:
    """Retry-After is seconds or an HTTP date, as configured."""
    await near.configure(
        faults=[
            {"kind": "rate_limited", "count": 1, "retry_after": 7},
            {"kind": "rate_limited", "count": 1, "retry_after": 60, "retry_after_date": True},
        ]
    )
    assert (await near.client.get("/api/machines")).headers["retry-after"] == "7"
    date = parsedate_to_datetime((await near.client.get("/api/machines")).headers["retry-after"])
    assert 50 < date.timestamp() - time.time() < 70


async def test_a_fault_can_be_for_one_route(near: Simulated) -> None:
    """`route` is a pattern over the route's name; others are untouched."""
    await near.configure(faults=[{"kind": "bad_gateway", "route": "GET /run/*"}])
    run_id = await near.submit()
    assert (await near.client.get(f"/api/run/{run_id}")).status_code == 502
    assert (await near.client.get("/api/machines")).status_code == 200


@pytest.mark.parametrize("kind", ["reset_before", "reset_after"])
async def test_the_connection_is_reset(sim: Simulated, kind: str) -> None:
    """The socket is cut: before the handler nothing happened, after it the work was done."""
    await sim.configure(faults=[{"kind": kind, "count": 1}])
    with pytest.raises(httpx.ReadError):
        await sim.client.post(SUBMIT, json={"deployment_id": PORTRAIT})
    assert (await sim.stats())["runs_total"] == (0 if kind == "reset_before" else 1)
    await sim.submit()


async def test_a_lost_answer_leaves_a_run(sim: Simulated) -> None:
    """`lost_answer` is only for submits: the run exists and runs, its id never arrived."""
    await sim.configure(faults=[{"kind": "lost_answer", "count": 1}])
    await sim.client.get("/api/deployments")
    with pytest.raises(httpx.ReadError):
        await sim.client.post(SUBMIT, json={"deployment_id": PORTRAIT, "inputs": {"_job_id": "lost"}})
    listed = (await sim.client.get(f"/api/v2/workflow/{PORTRAIT_WORKFLOW}/runs")).json()
    run = await sim.run(listed[0]["id"])
    assert run["workflow_inputs"]["_job_id"] == "lost"
    await sim.until(run["id"], "success")


async def test_downloads_fail_only_when_named(near: Simulated) -> None:
    """A fault for any route leaves downloads alone; one whose route names the bucket does not."""
    run = await near.until(await near.submit(), "success")
    url = run["outputs"][0]["data"]["images"][0]["url"]
    await near.configure(faults=[{"kind": "unavailable"}])
    assert (await near.client.get(url)).status_code == 200
    await near.configure(faults=[{"kind": "unavailable", "route": "GET /sim-bucket/*", "count": 1}])
    assert (await near.client.get(url)).status_code == 503
    assert (await near.client.get(url)).status_code == 200


async def test_a_slow_answer_comes_after_the_work(sim: Simulated) -> None:
    """The row is stored first and the answer waits: a client that gives up has made a run."""
    await sim.configure(faults=[{"kind": "slow_answer", "seconds": 5, "route": "POST *"}])
    with pytest.raises(httpx.ReadTimeout):
        await sim.client.post(SUBMIT, json={"deployment_id": PORTRAIT}, timeout=0.3)
    assert (await sim.stats())["runs_total"] == 1


async def test_a_hang_never_answers(sim: Simulated) -> None:
    """No byte comes back; other calls are served meanwhile."""
    await sim.configure(faults=[{"kind": "hang", "count": 1}])
    hanging = asyncio.create_task(sim.client.get("/api/machines", timeout=0.4))
    await asyncio.sleep(0.05)
    assert (await sim.client.get("/api/machines")).status_code == 200
    with pytest.raises(httpx.ReadTimeout):
        await hanging


async def test_latency_delays_every_call(near: Simulated) -> None:
    """`latency` waits before the handler."""
    await near.configure(faults=[{"kind": "latency", "seconds": 0.2}])
    began = time.monotonic()
    await near.client.get("/api/machines")
    assert time.monotonic() - began >= 0.2


async def test_after_a_plain_500_the_connection_is_closed(sim: Simulated) -> None:
    """An unhandled exception upstream ends the connection after its answer; pooled clients open a new one."""
    answer = await sim.client.get("/api/workflow/not-a-uuid")
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")
    pool: Any = sim.client._transport
    await asyncio.sleep(0.05)
    assert all(connection.is_closed() or connection.has_expired() for connection in pool._pool.connections)


async def test_a_refused_spawn_leaves_a_failed_row(near: Simulated) -> None:
    """The submit says 500 without an id, the row is there and failed."""
    await near.configure(faults=[{"kind": "spawn_refused", "count": 1}])
    answer = await near.client.post(SUBMIT, json={"deployment_id": PORTRAIT})
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")
    assert (await near.stats())["runs"] == {"failed": 1}


@pytest.mark.parametrize("status", ["not-started", "queued", "running", "uploading"])
async def test_a_stuck_run_never_ends(near: Simulated, status: str) -> None:
    """A hard container death: the run stays in its last status and nobody says so."""
    await near.configure(faults=[{"kind": "stuck", "status": status}])
    run_id = await near.submit()
    await near.until(run_id, status)
    await asyncio.sleep(0.2)
    assert (await near.run(run_id))["status"] == status


async def test_a_run_can_go_backwards(near: Simulated) -> None:
    """`running` may be followed by `queued`, then again by `running`."""
    await near.configure(speed=60, faults=[{"kind": "backwards"}])
    run_id = await near.submit()
    await near.until(run_id, "running")
    await near.until(run_id, "queued")
    await near.until(run_id, "success")


async def test_a_status_word_nobody_knows(near: Simulated) -> None:
    """For a while the run reports a word that is not in the list, then it ends as usual."""
    await near.configure(speed=60, faults=[{"kind": "unknown_status"}])
    run_id = await near.submit()
    await near.until(run_id, "processing")
    await near.until(run_id, "success")


async def test_late_updates_move_times_but_not_the_status(near: Simulated) -> None:
    """After the end, progress and started_at may still change; run_duration can become negative."""
    await near.configure(faults=[{"kind": "late_updates"}])
    run_id = await near.submit()
    run = await near.until(run_id, lambda run: run["status"] == "success" and run["progress"] == 0.5)
    run = await near.until(run_id, lambda run: run["run_duration"] < 0)
    assert run["status"] == "success"


async def test_success_without_outputs(near: Simulated) -> None:
    """`no_outputs`: success and nothing to show, for ever."""
    await near.configure(faults=[{"kind": "no_outputs"}])
    run_id = await near.submit()
    await near.until(run_id, "success")
    await asyncio.sleep(0.1)
    assert (await near.run(run_id))["outputs"] == []


async def test_outputs_that_come_after_success(near: Simulated) -> None:
    """`late_outputs`: first empty, then filled."""
    await near.configure(faults=[{"kind": "late_outputs", "seconds": 20}])
    run = await near.until(await near.submit(), "success")
    assert run["outputs"] == []
    await near.until(run["id"], lambda run: len(run["outputs"]) == 1)


async def test_a_failed_run_gives_no_reason(near: Simulated) -> None:
    """GET /run shows no outputs and no error; only the heavy listing has the reason."""
    await near.configure(faults=[{"kind": "failed"}])
    run = await near.until(await near.submit(), "failed")
    assert run["outputs"] == []
    rows = (await near.client.get(f"/api/workflow/{PORTRAIT_WORKFLOW}/runs")).json()
    assert rows[0]["outputs"][0]["data"]["exception_message"] == "CUDA out of memory"


async def test_a_fault_can_be_for_one_workflow(near: Simulated) -> None:
    """`workflow` is a pattern over the workflow's name; runs of others live well."""
    await near.configure(faults=[{"kind": "failed", "workflow": "Caption*"}])
    await near.until(await near.submit(CAPTION), "failed")
    await near.until(await near.submit(), "success")


async def test_an_enforced_rate_limit(near: Simulated) -> None:
    """`rate_limit` lets a burst through, then answers 429 with the seconds to wait."""
    await near.configure(rate_limit={"per_second": 5, "burst": 3})
    answers = [await near.client.get("/api/machines") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert int(answers[-1].headers["retry-after"]) >= 1
    await asyncio.sleep(0.25)
    assert (await near.client.get("/api/machines")).status_code == 200


async def test_listing_can_be_forbidden(near: Simulated) -> None:
    """`forbid_listing` refuses the listings of runs with 403, and nothing else."""
    await near.configure(forbid_listing=True)
    for path in (f"/api/v2/workflow/{PORTRAIT_WORKFLOW}/runs", f"/api/deployment/{PORTRAIT}/runs"):
        assert (await near.client.get(path)).status_code == 403
    assert (await near.client.get("/api/deployments")).status_code == 200


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_every_scenario_is_valid(name: str) -> None:
    """Each preset is made of settings that exist."""
    assert scenario(name).scenario == name


async def test_a_misspelt_setting_is_refused(near: Simulated) -> None:
    """A typo in a test must not give a calm server."""
    for patch in ({"fautls": []}, {"faults": {"lots_answer": 1}}, {"scenario": "clam"}):
        assert (await near.client.post("/_sim/config", json=patch)).status_code == 422


async def test_the_dice_follow_the_seed() -> None:
    """The same seed gives the same faults in the same places."""

    async def story() -> list[int]:
        async with in_process(seed=3, faults=[{"kind": "bad_gateway", "probability": 0.5}]) as sim:
            return [(await sim.client.get("/api/machines")).status_code for _ in range(20)]

    first = await story()
    assert first == await story()
    assert set(first) == {200, 502}
