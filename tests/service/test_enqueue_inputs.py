"""Inputs are checked at every front door before anything is written, as far as the catalog knows them."""

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from typer.testing import CliRunner

from producers import Producer
from producers.cli.app import app
from producers.local.redis_server import RedisServer
from shared.catalog import Catalog
from shared.database import Database
from shared.errors import InvalidInput
from shared.limits.bucket import TokenBucket
from shared.settings import Settings
from tests.service.gateway_fixtures import Gateway, Published, catalog_of, job, keys_of
from tests.service.worker_fixtures import Api, Bench

pytestmark = pytest.mark.redis

SIGNATURE: dict[str, Any] = {
    "complete": True,
    "inputs": [
        {"name": "prompt", "kind": "text", "label": "Prompt", "multiline": True, "default": "a [b]"},
        {"name": "steps", "kind": "integer", "label": "Steps", "minimum": 1, "maximum": 50, "default": 20},
        {"name": "picture", "kind": "image", "label": "Picture", "required": True},
        {"name": "style", "kind": "choice", "label": "Style", "choices": ["photo", "anime"]},
    ],
    "outputs": ["image"],
    "notes": ["Square pictures work best."],
}
URL = "https://pictures.test/fox.png"
GOOD = {"steps": "12", "picture": URL}
BAD = {"steps": 99, "promt": "a fox"}
WRONG = ["inputs.steps", "inputs.promt", "inputs.picture"]


@pytest.fixture
async def producer(settings: Settings, database: Database) -> AsyncIterator[Producer]:
    """A producer whose catalog knows one workflow."""
    await catalog_of(database, "portrait", signature=SIGNATURE)
    async with Producer(settings, database, publisher=Published()) as producer:
        yield producer


def request(**fields: Any) -> dict[str, Any]:
    """A request for it."""
    return job() | {"frontend": "web"} | fields


async def test_refused_inputs_write_nothing(producer: Producer, database: Database) -> None:
    """Every problem is told, of several requests with the place, and the good ones beside are not written either."""
    before = await keys_of(database)
    with pytest.raises(InvalidInput) as refusal:
        await producer.enqueue(request(inputs=BAD))
    assert [problem.field for problem in refusal.value.problems] == WRONG
    with pytest.raises(InvalidInput) as refusal:
        await producer.enqueue_many([request(inputs=GOOD), request(inputs=BAD), request(inputs={"picture": "x"})])
    fields = [problem.field for problem in refusal.value.problems]
    assert fields == [f"1.{field}" for field in WRONG] + ["2.inputs.picture"]
    assert await keys_of(database) == before


async def test_inputs_are_stored_as_they_are_sent(producer: Producer) -> None:
    """`"12"` is 12 where a number is wanted, from the record on."""
    one = await producer.enqueue(request(inputs=GOOD))
    assert (await one.status()).job.request.inputs == {"steps": 12, "picture": URL}


async def test_who_knows_better_is_believed(producer: Producer) -> None:
    """`validate=False` leaves the inputs as they are."""
    one = await producer.enqueue(request(inputs=BAD), validate=False)
    assert (await one.status()).job.request.inputs == BAD


async def test_nothing_is_refused_by_an_old_copy(producer: Producer, database: Database) -> None:
    """The API is down or no worker runs: the workflow may have changed since."""
    await catalog_of(database, "portrait", signature=SIGNATURE, age=3600)
    assert (await producer.enqueue(request(inputs=BAD))).created
    await catalog_of(database, "portrait")


async def test_nothing_is_refused_when_the_inputs_are_not_known(settings: Settings, database: Database) -> None:
    """No signature, or no catalog at all."""
    await catalog_of(database, "portrait")
    async with Producer(settings, database, publisher=Published()) as producer:
        assert (await producer.enqueue(request(inputs=BAD))).created
    await database.redis.delete(database.keys.catalog)
    async with Producer(settings, database, publisher=Published()) as producer:
        assert (await producer.enqueue(request(inputs=BAD))).created


async def test_before_somebody_is_refused_the_workflow_is_read_again(bench: Bench, api: Api) -> None:
    """Its author has just added the input; a second refusal right after asks the API nothing."""
    await catalog_of(bench.database, "SDXL Portrait", signature={"inputs": [], "complete": True}, age=60)
    catalog = Catalog(bench.database, bench.settings, TokenBucket(bench.database, bench.settings), bench.engine.client)
    async with Producer(bench.settings, bench.database, publisher=Published(), catalog=catalog) as producer:
        asked = request(workflow="SDXL Portrait", inputs={"prompt": "a fox"})
        assert (await producer.enqueue(asked)).created
        listings = await api.calls("GET /deployments")
        for _ in range(3):
            with pytest.raises(InvalidInput, match="Did you mean 'prompt'"):
                await producer.enqueue(asked | {"inputs": {"promt": "a fox"}})
        assert await api.calls("GET /deployments") == listings


async def test_by_http_every_field_is_named(gateway: Gateway) -> None:
    """A problem document with the fields a form can show; nothing is written, and `validate` is not part of a request."""
    await catalog_of(gateway.database, "portrait", signature=SIGNATURE)
    before = await keys_of(gateway.database)
    answer = await gateway.http.post("/v1/jobs", json=job(inputs=BAD))
    assert answer.status_code == 422
    assert [problem["field"] for problem in answer.json()["problems"]] == WRONG
    answer = await gateway.http.post("/v1/jobs", json=job(inputs=BAD, validate=False))
    assert answer.status_code == 422
    assert await keys_of(gateway.database) == before


async def test_a_workflow_is_told_with_its_form(gateway: Gateway) -> None:
    """Inputs, schema, outputs and the author's notes."""
    await catalog_of(gateway.database, "portrait", signature=SIGNATURE)
    [one] = (await gateway.http.get("/v1/workflows/portrait")).json()["workflows"]
    assert [entry["name"] for entry in one["inputs"]] == ["prompt", "steps", "picture", "style"]
    assert one["schema"]["required"] == ["picture"]
    assert one["schema"]["additionalProperties"] is False
    assert (one["outputs"], one["notes"]) == (["image"], SIGNATURE["notes"])
    [listed] = (await gateway.http.get("/v1/workflows")).json()["workflows"]
    assert "schema" not in listed


# -- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
async def redis_url(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database of its own, with the catalog."""
    url = redis_server.url.replace("/0", "/7")
    monkeypatch.setenv("REDIS_URL", url)
    monkeypatch.setenv("COLUMNS", "200")
    return url


def test_the_command_line_refuses_and_can_be_told_not_to(redis_url: str) -> None:
    """One line for each problem and code 2; `--no-validate` puts the job in."""
    _fill(redis_url)
    asked = ["enqueue", "--workflow", "portrait", "--user", "ada", "--input", "steps=99"]
    refused = CliRunner().invoke(app, asked)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.splitlines() == [
        "inputs.steps: has to be 1 to 50",
        "inputs.picture: is required: the workflow has nothing to use instead",
    ]
    assert CliRunner().invoke(app, [*asked, "--no-validate"]).exit_code == 0


def test_the_command_line_shows_what_a_workflow_takes(redis_url: str) -> None:
    """A table for people, all of it for programs; an unknown name is answered with what it may have meant."""
    _fill(redis_url)
    shown = CliRunner().invoke(app, ["workflows", "Portrait"]).stdout
    assert [word in shown for word in ("steps", "1 to 50", "required", "photo, anime", '"a [b]"')] == [True] * 5
    assert "gives: image" in shown
    assert "note: Square pictures work best." in shown
    told = json.loads(CliRunner().invoke(app, ["workflows", "portrait", "--json"]).stdout)
    assert told["schema"]["properties"]["steps"]["maximum"] == 50
    assert [one["name"] for one in told["inputs"]] == ["prompt", "steps", "picture", "style"]
    unknown = CliRunner().invoke(app, ["workflows", "portrit"])
    assert (unknown.exit_code, "Did you mean 'portrait'?" in unknown.stderr) == (2, True)


def _fill(url: str) -> None:
    import redis  # noqa: PLC0415

    entry = {"deployment_id": "d", "workflow_id": "w", "name": "portrait", "environment": "production"}
    entry |= {"pool": "m", "concurrency": 2, "signature": SIGNATURE}
    with redis.Redis.from_url(url) as client:
        client.flushdb()
        client.set("conveyor:catalog", json.dumps({"read_at": time.time(), "entries": [entry]}))
