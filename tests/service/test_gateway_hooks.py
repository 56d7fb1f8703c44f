"""Webhooks by HTTP: signed ones have the run looked at now, everything else is a 404 and changes nothing."""

import json

import pytest

from shared.hooks import signature
from tests.redis.stage import look_at
from tests.service.gateway_fixtures import RUN, Gateway, Open, walk

pytestmark = pytest.mark.redis

SECRET = "a-long-random-text"
UNKNOWN = "01a1fb52-f096-76b3-915b-49e82266f9cd"
RUN_ID = "fbb74f92-5b12-4c4e-9d0e-0d0f2f6f0a11"


@pytest.fixture
async def hooked(open_gateway: Open) -> Gateway:
    """A gateway that knows the secret."""
    return await open_gateway(CONVEYOR_SECRET=SECRET)


def path(job_id: str, sig: str | None = None) -> str:
    """The address a run is given."""
    return f"/hooks/comfydeploy/{job_id}?sig={signature(SECRET, job_id) if sig is None else sig}"


async def running(gateway: Gateway) -> str:
    """A job whose run is not worth a look for a while."""
    job_id = await gateway.enqueue()
    await walk(gateway.database, job_id, *RUN[:3])
    redis, keys = gateway.database.redis, gateway.database.keys
    for key in (keys.due, keys.inflight("w")):
        for member in await redis.zrange(key, 0, -1):
            await redis.zincrby(key, 60_000_000, member)
    return job_id


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_signed_hook_moves_the_look_forward(hooked: Gateway, method: str) -> None:
    """By POST or GET, once or three times; it comes under any name, since only a tunnel's is known outside."""
    job_id = await running(hooked)
    now = await hooked.database.now_ms()
    body = (
        json.dumps({"event_type": "run.updated", "run_id": RUN_ID, "status": "success"}) if method == "POST" else None
    )
    for _ in range(3):
        answer = await hooked.http.request(method, path(job_id), content=body, headers={"host": "tunnel.example"})
        assert answer.status_code == 200
    assert await hooked.database.redis.zscore(hooked.database.keys.due, "w") <= now + 1000


async def test_a_forged_or_unknown_hook_is_a_404_and_changes_nothing(hooked: Gateway) -> None:
    """Another job's signature, none, an odd one, or a job that is not kept: Redis holds what it held."""
    job_id = await running(hooked)
    before = await look_at(hooked.database)
    for address in (
        path(job_id, signature(SECRET, UNKNOWN)),
        path(job_id, signature("another secret", job_id)),
        path(job_id, ""),
        path(job_id, "é%00"),
        f"/hooks/comfydeploy/{job_id}",
        path(UNKNOWN),
    ):
        for method in ("POST", "GET"):
            assert (await hooked.http.request(method, address)).status_code == 404, address
    assert await look_at(hooked.database) == before


async def test_a_hook_about_an_ended_job_changes_nothing(hooked: Gateway) -> None:
    """The last of three may come when the look has been quicker."""
    job_id = await hooked.enqueue()
    await walk(hooked.database, job_id, *RUN)
    before = await look_at(hooked.database)
    assert (await hooked.http.post(path(job_id))).status_code == 200
    assert await look_at(hooked.database) == before


@pytest.mark.parametrize("body", [b"", b"[" * 60_000, b'{"run_id": 7}', b"\xff\x00", b'{"run_id": "../../x"}'])
async def test_whatever_a_signed_hook_brings_is_harmless(hooked: Gateway, body: bytes) -> None:
    """The body can name a run to look at, and nothing more."""
    job_id = await running(hooked)
    assert (await hooked.http.post(path(job_id), content=body)).status_code == 200
    assert not await hooked.database.redis.zcard(hooked.database.keys.strays)


async def test_a_large_hook_is_refused(hooked: Gateway) -> None:
    """64 KiB are more than any run has to say."""
    job_id = await running(hooked)
    assert (await hooked.http.post(path(job_id), content=b" " * 65_537)).status_code == 413


async def test_without_a_secret_no_hook_is_taken(gateway: Gateway) -> None:
    """A signature made with nothing is no signature."""
    job_id = await running(gateway)
    assert (await gateway.http.post(path(job_id, signature("", job_id)))).status_code == 404
