"""Who comes in, with how much and how often; and what everybody gets on the way out."""

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from producers.gateway import door
from producers.gateway.door import MAX_BODY_BYTES
from producers.gateway.page_files import POLICY
from producers.gateway.problems import MEDIA_TYPE
from tests.service.gateway_fixtures import API_KEYS, KEYS, Gateway, Open, job, keys_of

pytestmark = pytest.mark.redis

PATHS = ("/v1/jobs?user=ada", "/v1/workflows", "/", "/healthz", "/metrics", "/openapi.json")


@pytest.mark.parametrize("peer", ["10.0.0.7", "192.168.1.4", "2001:db8::1", "::ffff:10.0.0.7"])
async def test_without_keys_only_this_machine_is_served(gateway: Gateway, peer: str) -> None:
    """Another machine's request is refused whatever it asks for, also when it says that it was forwarded from here."""
    async with gateway.client(client=(peer, 4711)) as stranger:
        for path in PATHS:
            answer = await stranger.get(path, headers={"x-forwarded-for": "127.0.0.1"})
            assert (answer.status_code, answer.headers["content-type"]) == (403, MEDIA_TYPE), path
        assert (await stranger.post("/v1/jobs", json=job())).status_code == 403
    assert await keys_of(gateway.database) == set()


@pytest.mark.parametrize("headers", [{"host": "evil.example"}, {"origin": "https://evil.example"}, {"origin": "null"}])
async def test_without_keys_a_page_of_elsewhere_gets_nothing(gateway: Gateway, headers: dict[str, str]) -> None:
    """A browser on this machine is no way in: not by a name that points here, not from another origin's page."""
    for answer in (
        await gateway.http.get("/v1/jobs?user=ada", headers=headers),
        await gateway.http.post("/v1/jobs", json=job(), headers=headers),
        await gateway.http.post("/v1/files", files={"file": ("a.png", b"x")}, headers=headers),
    ):
        assert answer.status_code == 403
    assert await keys_of(gateway.database) == set()


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:8000", "[::1]:8000"])
async def test_without_keys_this_machines_own_names_and_pages_are_served(gateway: Gateway, host: str) -> None:
    """Loopback by any of its names, and the page that came from there."""
    headers = {"host": host, "origin": f"http://{host}"}
    assert (await gateway.http.post("/v1/jobs", json=job(), headers=headers)).status_code == 202


async def test_with_keys_every_machine_is_served(open_gateway: Open) -> None:
    """The key says who it is; pages of origins that are named may read the answer, others may not."""
    gateway = await open_gateway(CONVEYOR_API_KEYS=API_KEYS, CONVEYOR_CORS_ORIGINS="https://chat.example")
    async with gateway.client("web", client=("10.0.0.7", 4711)) as far:
        ours = await far.get("/v1/jobs?user=ada", headers={"origin": "https://chat.example", "host": "api.example"})
        assert (ours.status_code, ours.headers["access-control-allow-origin"]) == (200, "https://chat.example")
        assert "RateLimit" in ours.headers["access-control-expose-headers"]
        theirs = await far.get("/v1/jobs?user=ada", headers={"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in theirs.headers
        asked = {"origin": "https://chat.example", "access-control-request-method": "POST"}
        asked["access-control-request-headers"] = "authorization,idempotency-key"
        assert (await far.options("/v1/jobs", headers=asked)).status_code == 200


async def test_a_body_that_is_too_large_is_refused(gateway: Gateway) -> None:
    """By what it says, and by what comes when it says nothing."""

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 1000 + 2):
            yield b" " * 1000

    headers = {"content-type": "application/json"}
    told = await gateway.http.post("/v1/jobs", content=b" " * (MAX_BODY_BYTES + 1), headers=headers)
    untold = await gateway.http.post("/v1/jobs", content=endless(), headers=headers)

    assert [one.status_code for one in (told, untold)] == [413, 413]
    assert told.headers["content-type"] == untold.headers["content-type"] == MEDIA_TYPE


async def test_a_body_that_does_not_come_is_given_up(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """408 instead of a request that is open for ever."""
    monkeypatch.setattr(door, "BODY_SECONDS", 0.05)
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/v1/jobs",
        "raw_path": b"/v1/jobs",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
        "scheme": "http",
        "root_path": "",
    }

    async def receive() -> dict[str, Any]:
        if sent:
            return {"type": "http.disconnect"}
        raise TimeoutError

    async def send(message: Any) -> None:
        sent.append(message)

    await gateway.app(scope, receive, send)

    assert sent[0]["status"] == 408


async def test_one_key_asks_only_so_often(open_gateway: Open) -> None:
    """429 with the seconds to wait; another frontend is not held up, and what is left is said in every answer."""
    gateway = await open_gateway(CONVEYOR_API_KEYS=API_KEYS, CONVEYOR_REQUESTS_PER_MINUTE="3")
    answers = [await gateway.http.get("/v1/jobs?user=ada") for _ in range(4)]

    assert [one.status_code for one in answers] == [200, 200, 200, 429]
    assert [one.headers["ratelimit"].split(";")[1] for one in answers] == ["r=2", "r=1", "r=0", "r=0"]
    assert answers[0].headers["ratelimit-policy"] == '"requests";q=3;w=60'
    # One comes back every 20 seconds.
    assert 1 <= int(answers[3].headers["retry-after"]) <= 20
    async with gateway.client("telegram") as other:
        assert (await other.get("/v1/jobs?user=ada")).status_code == 200
    assert (await gateway.http.get("/healthz")).status_code == 200


async def test_a_request_has_an_id_that_the_log_knows(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """The client's own if it is a plain word, else a new one; and the log has neither query nor key."""
    with caplog.at_level(logging.INFO):
        ours = await gateway.http.get("/v1/jobs?user=hunter2", headers={"x-request-id": "update-7"})
        odd = await gateway.http.get("/nowhere", headers={"x-request-id": "a b\tc", "authorization": "Bearer hunter2"})

    assert ours.headers["x-request-id"] == "update-7"
    assert len(odd.headers["x-request-id"]) == 32
    assert odd.json()["request_id"] == odd.headers["x-request-id"]
    lines = [vars(record) for record in caplog.records if record.name == "producers.gateway.door"]
    assert [(line["path"], line["status"], line["frontend"]) for line in lines] == [
        ("/v1/jobs", 200, "web"),
        ("/nowhere", 404, None),
    ]
    assert "hunter2" not in str(lines)


async def test_what_nobody_expected_is_a_problem_document(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """500 with the request's id and nothing of the error; the log has the rest."""

    async def broken(*_: object) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr(gateway.app.state.inside.producer, "enqueue", broken)
    answer = await gateway.http.post("/v1/jobs", json=job())

    assert (answer.status_code, answer.headers["content-type"]) == (500, MEDIA_TYPE)
    assert "hunter2" not in answer.text
    assert "request broke" in caplog.text


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/nowhere", 404), ("DELETE", "/v1/jobs", 405)])
async def test_a_wrong_address_is_a_problem_document(gateway: Gateway, method: str, path: str, status: int) -> None:
    """Also what no route of ours answers."""
    answer = await gateway.http.request(method, path)

    assert (answer.status_code, answer.headers["content-type"]) == (status, MEDIA_TYPE)
    assert answer.json()["status"] == status


async def test_the_page_has_a_strict_policy_and_answers_have_none_to_spare(gateway: Gateway) -> None:
    """No inline program or style, nothing of another site; what is no page may load nothing at all."""
    page = await gateway.http.get("/")
    assert page.headers["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY
    assert page.headers["content-type"].startswith("text/html")
    docs = await gateway.http.get("/docs")
    assert "default-src 'none'" in docs.headers["content-security-policy"]
    assert "POST /v1/jobs" in docs.text
    assert docs.headers["x-content-type-options"] == "nosniff"


async def test_health_asks_for_no_key_and_says_what_is_missing(open_gateway: Open) -> None:
    """Alive at once, ready when the catalog is known; the counters count by route, not by id."""
    gateway = await open_gateway(CONVEYOR_API_KEYS=API_KEYS)
    async with gateway.client() as nobody:
        assert (await nobody.get("/healthz")).json()["status"] == "ok"
        ready = await nobody.get("/readyz")
        assert (ready.status_code, ready.json()["checks"]["redis"]) == (503, "ok")
        job_id = await gateway.enqueue()
        await gateway.http.get(f"/v1/jobs/{job_id}")
        counted = (await nobody.get("/metrics")).text
    assert 'conveyor_http_requests_total{method="GET",route="/v1/jobs/{job_id}",status="200"}' in counted
    assert job_id not in counted
    assert KEYS["web"] not in counted
