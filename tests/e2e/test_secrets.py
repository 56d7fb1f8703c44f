"""A job through every door, and nothing secret is left of it anywhere; its trace and its line in the log are whole.

What is searched, and for what, is in `tests/hunt.py`, and happens for every test; here is a job that passes all places.
"""

import json
from collections.abc import AsyncIterator

import httpx
import pytest_asyncio

from producers.local.processes import procfile, wait_for_words
from producers.local.redis_server import free_port
from tests.e2e.site import Flower, Site, until
from tests.hunt import GATEWAY_KEY, HUNT, PRIVATE
from tests.service.receiver import receiving
from tests.spans import connected

CALLBACK_SECRET = "whsec_" + "aHVudGVk" * 4
#: Of the program that asks.
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest_asyncio.fixture(loop_scope="session")
async def door(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway that asks for a key."""
    env, port = dict(site.stack.env), free_port()
    site.stack.env |= {"PORT": str(port), "CONVEYOR_API_KEYS": f"web:{GATEWAY_KEY}"}
    program = await site.stack.start("gateway", procfile()["gateway"])
    site.stack.env = env
    await wait_for_words(program, "gateway listens")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10, trust_env=False) as http:
        yield http
    await program.stop()


async def test_a_job_through_every_door_leaves_no_secret(site: Site, flower: Flower, door: httpx.AsyncClient) -> None:
    """By HTTP with a key, a traceparent and a callback; then everything there is to read of it is read."""
    named = {"authorization": f"Bearer {GATEWAY_KEY}", "traceparent": f"00-{TRACE}-{SPAN}-01"}
    ask = {
        "workflow": "SDXL Portrait",
        "user": {"id": "ada", "name": PRIVATE},
        "inputs": {"prompt": f"a fox, api_key={PRIVATE}"},
        "meta": {"bearer_token": PRIVATE},
        "progress": True,
    }
    for wrong in ({}, {"authorization": f"Bearer {GATEWAY_KEY[:-1]}"}, {"authorization": f"Basic {GATEWAY_KEY}"}):
        assert (await door.post("/v1/jobs", json=ask, headers=wrong)).status_code == 401
    # In the wrong place: addresses end up in logs.
    assert (await door.get("/v1/jobs", params={"user": "ada", "api_key": GATEWAY_KEY})).status_code == 401
    assert (await door.post("/v1/jobs", json=ask | {"secret": PRIVATE}, headers=named)).status_code == 422
    async with receiving() as receiver:
        callback = {"url": f"{receiver.url}?token={PRIVATE}", "secret": CALLBACK_SECRET}
        answer = await door.post("/v1/jobs", json=ask | {"callback": callback}, headers=named)
        assert answer.status_code == 202, answer.text
        job_id = answer.json()["job_id"]

        async def called() -> bool:
            return bool(receiver.received)

        await until(called, what="the callback")
    await site.celery_result(job_id)

    async def told() -> bool:
        return {"publish", "callback"} <= {span.name for span in site.sink.of(job_id)}

    await until(told, what="the whole trace")
    spans = site.sink.of(job_id)
    assert connected(spans, root=SPAN)
    assert {span.trace_id for span in spans} == {TRACE}
    assert {span.service for span in spans if span.name == "enqueue"} == {"conveyor-gateway"}
    assert {span.service for span in spans if span.name != "enqueue"} == {"conveyor-worker"}

    lines = [
        json.loads(line)
        for program in site.stack.processes
        for line in program.log_path.read_text(errors="replace").splitlines()
        if job_id in line and line.startswith("{")
    ]
    assert len([line for line in lines if line["event"] == "job ended"]) == 1

    (row,) = [name for name in await flower.rows() if name == job_id]
    alive = {worker.name for worker in site.workers}
    workers = [f"/worker/{name}" for name in await flower.workers() if name.split("@")[0] in alive]

    async def asked() -> bool:
        """Flower has a page of a worker once it has asked it."""
        await flower.http.get("/workers", params={"refresh": "1"})
        return {(await flower.http.get(page)).status_code for page in workers} == {200}

    await until(asked, what="a page of each worker")
    for page in ("/", "/workers", "/tasks", "/broker", "/metrics", f"/task/{row}", f"/api/task/info/{row}", *workers):
        answer = await flower.http.get(page)
        assert answer.status_code == 200, page
    HUNT.redis(site.settings.redis_url)
    HUNT.text("gateway /metrics", (await door.get("/metrics")).text)
    HUNT.search()
    assert HUNT.allowed > 0, "the search saw the user's data where it may be"
