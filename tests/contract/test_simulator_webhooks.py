"""Do webhooks come as the service sends them? Against a real receiver that can refuse, dawdle and count."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.contract.simulator_fixtures.served import PACK, Simulated, in_process

SIX_KEYS = {"event_type", "status", "live_status", "progress", "run_id", "outputs"}


class Receiver:
    """Takes hooks; answers with the statuses it is given, then with 200."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str, dict[str, Any]]] = []
        self.agents: set[str] = set()
        self.answers: list[int] = []
        self.delay = 0.0

    async def take(self, request: web.Request) -> web.Response:
        self.got.append((request.method, request.path_qs, json.loads(await request.text())))
        self.agents.add(request.headers["User-Agent"])
        if self.delay:
            await asyncio.sleep(self.delay)
        return web.Response(status=self.answers.pop(0) if self.answers else 200)

    async def statuses(self, count: int) -> list[str]:
        for _ in range(500):
            if len(self.got) >= count:
                break
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        return [body["status"] for _, _, body in self.got]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    taken = Receiver()
    app = web.Application()
    app.router.add_route("*", "/hook", taken.take)
    server = TestServer(app)
    await server.start_server()
    taken.url = str(server.make_url("/hook"))  # type: ignore[attr-defined]
    yield taken
    await server.close()


@pytest.fixture
async def sim() -> AsyncIterator[Simulated]:
    async with in_process(webhooks={"wait_seconds": [0.05, 0.1]}, speed=300) as simulated:
        yield simulated


async def test_every_status_is_told_without_asking(sim: Simulated, receiver: Receiver) -> None:
    """Status hooks come although webhook_intermediate_status is false; success carries the outputs."""
    await sim.submit(webhook=f"{receiver.url}?job=1&sig=x%20y")
    assert sorted(await receiver.statuses(4)) == ["queued", "running", "started", "success"]
    assert all((method, path) == ("POST", "/hook?job=1&sig=x%20y") for method, path, _ in receiver.got)
    assert all(set(body) == SIX_KEYS and body["event_type"] == "run.updated" for _, _, body in receiver.got)
    success = next(body for _, _, body in receiver.got if body["status"] == "success")
    assert success["outputs"][0]["data"]["images"][0]["output_id"] == "portrait"
    assert all(agent.startswith("Python/3") and "aiohttp/" in agent for agent in receiver.agents)


async def test_intermediate_status_adds_progress(sim: Simulated, receiver: Receiver) -> None:
    """With the flag there is one more hook per progress update, always without outputs."""
    await sim.submit(webhook=receiver.url, webhook_intermediate_status=True)
    await receiver.statuses(14)
    live = [body for _, _, body in receiver.got if body["status"] == "running" and body["live_status"]]
    assert len(live) >= 8
    assert all(body["outputs"] == [] for body in live)


async def test_output_events_on_request(sim: Simulated, receiver: Receiver) -> None:
    """target_events=run.output adds one hook per output, with the bare address; run.updated still comes."""
    await sim.submit(PACK, webhook=f"{receiver.url}?target_events=run.output,more")
    await receiver.statuses(8)
    outputs = [body for _, _, body in receiver.got if body["event_type"] == "run.output"]
    assert [len(body["outputs"]) for body in outputs] == [1, 1, 1, 1]
    first = next(body for body in outputs if "gifs" in body["outputs"][0]["data"])["outputs"][0]["data"]["gifs"][0]
    assert "?" not in first["url"]
    assert first["format"] == "image/gif"
    success = next(body for _, _, body in receiver.got if body["status"] == "success")
    signed = next(output for output in success["outputs"] if "gifs" in output["data"])["data"]["gifs"][0]
    assert "X-Amz-Signature=" in signed["url"]


async def test_retries_are_get_with_the_same_body(sim: Simulated, receiver: Receiver) -> None:
    """POST, then GET, then GET, then nothing; the body and the query stay."""
    await sim.configure(autopilot=False)
    run_id = await sim.submit(webhook=f"{receiver.url}?k=v")
    receiver.answers = [500, 404, 503, 200]
    await sim.client.post("/api/update-run", json={"run_id": run_id, "status": "queued"})
    await receiver.statuses(3)
    assert [method for method, _, _ in receiver.got] == ["POST", "GET", "GET"]
    assert len({json.dumps(body) for _, _, body in receiver.got}) == 1
    assert (await sim.stats())["webhooks"] == {"sent": 1, "attempts": 3, "delivered": 0, "failed": 1, "lost": 0}


async def test_a_slow_receiver_gets_it_twice(sim: Simulated, receiver: Receiver) -> None:
    """After the sender's timeout the hook is sent again, though the first was taken."""
    await sim.configure(autopilot=False, webhooks={"timeout_seconds": 0.2})
    run_id = await sim.submit(webhook=receiver.url)
    receiver.delay = 0.4
    await sim.client.post("/api/update-run", json={"run_id": run_id, "status": "queued"})
    await receiver.statuses(2)
    assert [method for method, _, _ in receiver.got][:2] == ["POST", "GET"]


async def test_the_hook_of_a_cancel_is_unfiltered(sim: Simulated, receiver: Receiver) -> None:
    """A cancel sends one hook with every stored row, even those no read shows; the worker's later word is swallowed."""
    await sim.configure(autopilot=False)
    run_id = await sim.submit(webhook=receiver.url)
    timings = [{"id": "1", "time": 3}]
    await sim.client.post("/api/update-run", json={"run_id": run_id, "output_data": timings})
    await sim.client.post(f"/api/run/{run_id}/cancel")
    await sim.client.post("/api/update-run", json={"run_id": run_id, "status": "cancelled"})
    assert await receiver.statuses(1) == ["cancelled"]
    assert receiver.got[0][2]["outputs"][0]["data"] == timings
    assert (await sim.run(run_id))["outputs"] == []


async def test_no_hook_for_submission_or_a_refused_spawn(sim: Simulated, receiver: Receiver) -> None:
    """Nobody is told of not-started, nor of a run that failed at the spawn."""
    await sim.configure(faults=[{"kind": "spawn_refused"}])
    body = {"deployment_id": PACK, "webhook": receiver.url}
    await sim.client.post("/api/run/deployment/queue", json=body)
    await asyncio.sleep(0.1)
    assert receiver.got == []


async def test_a_webhook_that_is_no_address_harms_nobody(sim: Simulated) -> None:
    """Anything is accepted as a webhook; the task dies in the background."""
    await sim.until(await sim.submit(webhook="not a url"), "success")
    assert (await sim.stats())["webhooks"]["delivered"] == 0


async def test_hooks_can_be_lost_or_doubled(sim: Simulated, receiver: Receiver) -> None:
    """`hook_lost` sends nothing, `hook_doubled` sends each twice."""
    await sim.configure(faults={"hook_lost": 1})
    await sim.until(await sim.submit(webhook=receiver.url), "success")
    await asyncio.sleep(0.05)
    assert receiver.got == []
    await sim.configure(faults={"hook_doubled": 1})
    await sim.submit(webhook=receiver.url)
    statuses = await receiver.statuses(8)
    assert sorted(statuses) == sorted(["queued", "started", "running", "success"] * 2)


async def test_hooks_can_come_in_any_order(sim: Simulated, receiver: Receiver) -> None:
    """`hook_reordered` delays each hook by its own chance."""
    await sim.configure(faults=[{"kind": "hook_reordered", "seconds": 0.5}])
    orders = set()
    for _ in range(4):
        receiver.got.clear()
        await sim.submit(webhook=receiver.url)
        orders.add(tuple(await receiver.statuses(4)))
    assert orders != {("queued", "started", "running", "success")}
