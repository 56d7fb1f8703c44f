"""The routes about workflows, deployments, machines and files against the simulator: what is written can be read again."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from shared.comfydeploy import ComfyDeploy, Serverless
from shared.errors import InUse, InvalidInput, NotFound, Unauthorized, Unavailable, UnexpectedAnswer, WorkflowNotFound
from tests.contract.simulator_fixtures.served import PORTRAIT, PORTRAIT_WORKFLOW, Simulated, in_process, served
from tests.contract.test_client_wire import always, reply, serving

GRAPH = {"1": {"class_type": "ComfyUIDeployExternalText", "inputs": {"input_id": "p", "default_value": "a cat"}}}
UNKNOWN = "99999999-9999-4999-8999-999999999999"


@pytest.fixture
async def sim() -> AsyncIterator[Simulated]:
    async with in_process() as simulated:
        yield simulated


@pytest.fixture
async def api(sim: Simulated) -> AsyncIterator[ComfyDeploy]:
    async with client_of(sim) as client:
        yield client


@asynccontextmanager
async def client_of(sim: Simulated, key: str = "sim-key") -> AsyncIterator[ComfyDeploy]:
    """Our client, by way of the simulator's own transport."""
    transport = sim.client._transport if isinstance(sim.client._transport, httpx.ASGITransport) else None
    async with ComfyDeploy(str(sim.client.base_url), key, transport=transport) as client:
        yield client


async def machine_of(api: ComfyDeploy, **more: Any) -> str:
    """Make a machine and give its id."""
    return (await api.machines.create_serverless(Serverless(name="mine", gpu="L4", **more))).id


# --------------------------------------------------------------------------- workflows and versions


async def test_a_workflow_lives(api: ComfyDeploy) -> None:
    """Uploaded, found by a part of its name, read with both graphs, renamed, pinned to the head, deleted, gone."""
    workflow_id = await api.workflows.create("Night scenes", {"nodes": []}, GRAPH)

    (found,) = await api.workflows.list("night")
    whole = await api.workflows.get(workflow_id)
    assert (found.id, found.latest) == (workflow_id, None)
    assert whole.latest is not None
    assert (whole.latest.number, whole.latest.workflow, whole.latest.workflow_api) == (1, {"nodes": []}, GRAPH)

    renamed = await api.workflows.update(workflow_id, name="Day scenes", description="bright")
    assert (renamed.name, renamed.description, renamed.pinned) == ("Day scenes", "bright", False)
    assert (await api.workflows.pin(workflow_id)).pinned
    assert (await api.workflows.list(limit=1))[0].id == workflow_id

    await api.workflows.delete(workflow_id)
    assert await api.workflows.list("Day scenes") == ()
    for gone in (api.workflows.get(workflow_id), api.workflows.delete(workflow_id)):
        with pytest.raises(WorkflowNotFound):
            await gone


async def test_versions_are_added_and_read_in_three_ways(api: ComfyDeploy) -> None:
    """A new version has the next number; it is found in the list, by number and by id, and by words of its comment."""
    workflow_id = await api.workflows.create("Versions", {"nodes": []}, GRAPH)
    made = await api.versions.create(workflow_id, {"nodes": [1]}, GRAPH, comment="warmer light")

    assert made.number == 2
    assert [one.number for one in await api.versions.list(workflow_id)] == [2, 1]
    assert [one.id for one in await api.versions.list(workflow_id, "warmer")] == [made.id]
    assert (await api.versions.get(made.id)).workflow == {"nodes": [1]}
    assert (await api.versions.get_by_number(workflow_id, 2)).id == made.id
    with pytest.raises(NotFound):
        await api.versions.get_by_number(workflow_id, 3)
    with pytest.raises(WorkflowNotFound):
        await api.versions.create(UNKNOWN, {}, {})


async def test_a_workflow_without_versions_can_be_read(sim: Simulated, api: ComfyDeploy) -> None:
    """The API puts one null in place of the versions."""
    workflow_id = await api.workflows.create("Empty", {"nodes": []})
    versions = sim.service.tables.versions
    for version_id in [one.id for one in versions.values() if one.workflow_id == workflow_id]:
        del versions[version_id]

    assert (await api.workflows.get(workflow_id)).latest is None


async def test_ids_that_are_none_are_not_found(api: ComfyDeploy) -> None:
    """The API crashes over them with a plain 500, which must not be taken for trouble and repeated."""
    for asked in (
        api.workflows.get("abc"),
        api.workflows.delete("abc"),
        api.workflows.update("abc", name="x"),
        api.versions.list("abc"),
        api.deployments.list_by_workflow("abc"),
        api.runs.failure_reason("abc", "r"),
    ):
        with pytest.raises(WorkflowNotFound):
            await asked


async def test_graphs_that_are_no_json_are_refused_before_they_are_sent(sim: Simulated, api: ComfyDeploy) -> None:
    """Numbers without an end, objects of ours and half characters cost no call."""
    before = (await sim.stats())["calls"]
    for graph in ({"a": float("nan")}, {"a": object()}, {"a": "\ud800"}):
        with pytest.raises(InvalidInput):
            await api.workflows.create("x", graph)
        with pytest.raises(InvalidInput):
            await api.versions.create(UNKNOWN, graph, {})
    assert (await sim.stats())["calls"] == before


# --------------------------------------------------------------------------- deployments


async def test_a_deployment_is_put_changed_and_stays(api: ComfyDeploy) -> None:
    """The same workflow and environment is the same deployment; it can be changed, not deleted, since it is no share."""
    workflow_id = await api.workflows.create("Deployed", {"nodes": []}, GRAPH)
    (version,) = await api.versions.list(workflow_id)
    machine_id, other_id = await machine_of(api), await machine_of(api)

    made = await api.deployments.put(workflow_id, version.id, "production", machine_id=machine_id)
    again = await api.deployments.put(workflow_id, version.id, "production", machine_id=other_id)
    assert (again.id, again.machine_id) == (made.id, other_id)

    changed = await api.deployments.update(made.id, run_timeout_seconds=90, gpu="H100")
    assert (changed.run_timeout_seconds, changed.gpu) == (90, "H100")
    (listed,) = await api.deployments.list_by_workflow(workflow_id)
    whole = await api.deployments.get(made.id)
    assert (listed.id, listed.workflow_name) == (whole.id, whole.workflow_name) == (made.id, "Deployed")
    assert whole.input_types is not None
    assert [one.input_id for one in whole.input_types] == ["p"]

    with pytest.raises(NotFound):
        await api.deployments.delete(made.id)
    with pytest.raises(NotFound):
        await api.deployments.deactivate(made.id)


async def test_a_share_can_be_deleted(api: ComfyDeploy) -> None:
    """Shares are the deployments the API deletes."""
    workflow_id = await api.workflows.create("Shared", {"nodes": []}, GRAPH)
    (version,) = await api.versions.list(workflow_id)
    share = await api.deployments.put(workflow_id, version.id, "public-share", machine_id=await machine_of(api))

    await api.deployments.delete(share.id)

    assert await api.deployments.list_by_workflow(workflow_id) == ()
    with pytest.raises(WorkflowNotFound):
        await api.deployments.get(share.id)


async def test_a_deployment_with_an_app_can_be_deactivated(sim: Simulated, api: ComfyDeploy) -> None:
    """Its app is gone afterwards, and a second time there is none."""
    sim.service.tables.deployments[PORTRAIT].modal_app_id = "ap-1"
    assert (await api.deployments.get(PORTRAIT)).has_app

    assert not (await api.deployments.deactivate(PORTRAIT)).has_app

    with pytest.raises(NotFound):
        await api.deployments.deactivate(PORTRAIT)
    with pytest.raises(WorkflowNotFound):
        await api.deployments.deactivate(UNKNOWN)


async def test_what_a_deployment_lacks_is_named(api: ComfyDeploy) -> None:
    """The API says 500 to all of it; we say which is wrong."""
    (version,) = await api.versions.list(PORTRAIT_WORKFLOW, limit=1)
    machine_id = await machine_of(api)
    with pytest.raises(InvalidInput, match="environment"):
        await api.deployments.put(PORTRAIT_WORKFLOW, version.id, "prod", machine_id=machine_id)
    with pytest.raises(InvalidInput, match="machine_id"):
        await api.deployments.put(PORTRAIT_WORKFLOW, version.id, "staging")
    with pytest.raises(NotFound, match="Machine"):
        await api.deployments.put(PORTRAIT_WORKFLOW, version.id, "staging", machine_id=UNKNOWN)
    with pytest.raises(WorkflowNotFound, match="version"):
        await api.deployments.put(PORTRAIT_WORKFLOW, UNKNOWN, "staging", machine_id=machine_id)
    with pytest.raises(WorkflowNotFound):
        await api.deployments.put(UNKNOWN, version.id, "staging", machine_id=machine_id)
    with pytest.raises(WorkflowNotFound):
        await api.deployments.update(UNKNOWN, gpu="L4")


# --------------------------------------------------------------------------- machines


async def test_a_serverless_machine_lives(api: ComfyDeploy) -> None:
    """Made, building, changed, deleted; afterwards it is out of the list, and can still be read."""
    made = await api.machines.create_serverless(Serverless(name="Fast", gpu="H100", concurrency_limit=4))
    assert (made.status, made.gpu, made.concurrency_limit) == ("building", "H100", 4)

    changed = await api.machines.update_serverless(made.id, Serverless(gpu="L4", run_timeout_seconds=60))
    assert (changed.name, changed.gpu, changed.run_timeout_seconds) == ("Fast", "L4", 60)

    await api.machines.delete(made.id)
    assert made.id not in [one.id for one in await api.machines.list()]


async def test_a_custom_machine_lives(api: ComfyDeploy) -> None:
    """Made with an address and no token, which the API wants to hear as null; moved; deleted."""
    made = await api.machines.create_custom("Mine", "http://gpu.example:8188")
    assert (made.type, made.endpoint) == ("classic", "http://gpu.example:8188")

    moved = await api.machines.update_custom(made.id, endpoint="http://gpu.example:8189")
    assert (moved.name, moved.endpoint) == ("Mine", "http://gpu.example:8189")

    await api.machines.delete(made.id)
    with pytest.raises(NotFound):
        await api.machines.delete(UNKNOWN)


async def test_a_machine_in_use_is_deleted_only_by_force(api: ComfyDeploy) -> None:
    """402: the error names the workflows; `force` deletes it all the same."""
    machine_id = (await api.deployments.get(PORTRAIT)).machine_id
    assert machine_id
    with pytest.raises(InUse, match="related to this machine"):
        await api.machines.delete(machine_id)

    await api.machines.update_serverless(machine_id, Serverless(keep_warm=0))
    await api.machines.delete(machine_id, force=True)

    assert machine_id not in [one.id for one in await api.machines.list()]


async def test_a_warm_machine_is_not_deleted(api: ComfyDeploy) -> None:
    """Containers that are kept warm have to be given up first."""
    machine_id = await machine_of(api, keep_warm=1)
    with pytest.raises(InvalidInput, match="keep warm"):
        await api.machines.delete(machine_id, force=True)


async def test_a_machine_lacking_its_needs_is_refused(sim: Simulated, api: ComfyDeploy) -> None:
    """Without a name or a GPU no call is made; a GPU the API does not have is named by its field."""
    before = (await sim.stats())["calls"]
    with pytest.raises(InvalidInput, match=r"name: is needed; gpu: is needed"):
        await api.machines.create_serverless(Serverless())
    assert (await sim.stats())["calls"] == before
    with pytest.raises(InvalidInput, match="gpu"):
        await api.machines.create_serverless(Serverless(name="x", gpu="RTX"))


# --------------------------------------------------------------------------- files and prices


async def parts(content: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    """A file read piece by piece."""
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def test_a_presigned_upload_is_streamed_listed_and_deleted() -> None:
    """The bytes arrive whole, the download address gives them back, and the library lists them once registered."""
    content = bytes(range(256)) * 400
    async with served() as sim, client_of(sim) as api:
        there = await api.files.presign("cat.png", "image/png")
        await api.files.put(there, parts(content), size=len(content))
        fetched = await sim.client.get(there.url)
        assert (fetched.content, fetched.headers["content-type"]) == (content, "image/png")

        assert await api.assets.list() == ()
        asset = await api.assets.register(there, "cat.png", len(content))
        assert (asset.name, asset.size, asset.url) == ("cat.png", len(content), there.url)
        assert [one.id for one in await api.assets.list()] == [there.file_id]
        assert [one.id for one in await api.assets.search("cat")] == [there.file_id]
        assert await api.assets.get(asset.id) == asset

        await api.assets.delete(asset.id)
        assert await api.assets.list() == ()
        with pytest.raises(NotFound):
            await api.assets.delete(asset.id)


async def test_bytes_can_be_put_and_a_wrong_signature_is_the_operators_business() -> None:
    """Bytes need no size; what the store refuses names neither the address nor its signature."""
    async with served() as sim, client_of(sim) as api:
        there = await api.files.presign("cat.png", "image/png")
        await api.files.put(there, b"picture")
        assert (await sim.client.get(there.url)).content == b"picture"

        sim.service.bucket._secret = b"another"
        with pytest.raises(UnexpectedAnswer) as caught:
            await api.files.put(there, b"picture")
    assert "Signature" not in str(caught.value)
    assert "X-Amz" not in f"{caught.value} {there!r}"


async def test_the_store_gets_the_signed_headers_and_the_size_and_not_our_key() -> None:
    """S3 takes no chunked PUT, and is not whom the key is for."""
    answer = {"url": "", "download_url": "http://x", "file_id": "img_1", "db_path": "x", "is_public": True}
    signed = "X-Amz-SignedHeaders=content-type%3Bhost&X-Amz-Security-Token=a%2Fb%2Bc%3D%3D"
    async with serving(always(reply(200))) as (server, api):
        answer["url"] = f"{api.base_url.removesuffix('/api')}/store/x%20y.png?{signed}"
        server.script = always(reply(200, answer))
        there = await api.files.presign("cat.png", "image/png")
        server.script = always(reply(200))
        await api.files.put(there, parts(b"x" * 2500), size=2500)
    head, body = server.requests[-1]
    lines = head.decode().lower().split("\r\n")
    target = urlsplit(head.split(b" ")[1].decode())
    # The store reads the query before it checks the signature, so the same values in another spelling are the same.
    assert (target.path, parse_qs(target.query)) == ("/store/x%20y.png", parse_qs(signed))
    assert {"content-length: 2500", "content-type: image/png", "x-amz-acl: public-read"} <= set(lines)
    assert not any(line.startswith(("authorization", "transfer-encoding", "cookie")) for line in lines)
    assert body == b"x" * 2500


@pytest.mark.parametrize("size", [999, 1001])
async def test_a_stream_of_another_size_is_refused(size: int) -> None:
    """A file that grew or shrank while it was sent is the caller's to know, not a lost connection."""
    async with served() as sim, client_of(sim) as api:
        there = await api.files.presign("cat.png", "image/png")
        with pytest.raises(InvalidInput, match="size"):
            await api.files.put(there, parts(b"x" * 1000), size=size)
        with pytest.raises(InvalidInput, match="size"):
            await api.files.put(there, parts(b""))


async def test_what_the_stream_raises_comes_out() -> None:
    """A disk that cannot be read is not the API's silence."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise EOFError("the disk went away")

    async with served() as sim, client_of(sim) as api:
        there = await api.files.presign("cat.png", "image/png")
        with pytest.raises(EOFError, match="disk"):
            await api.files.put(there, broken(), size=1000)


async def test_prices_are_decimal_numbers(api: ComfyDeploy) -> None:
    """As written, not as the nearest float."""
    prices = await api.prices.list()
    assert prices["A10G"] == Decimal("0.000337")
    assert len(prices) == 10


# --------------------------------------------------------------------------- why a run failed


async def failed(sim: Simulated) -> str:
    """Have a run fail, and give its id."""
    await sim.configure(faults=[{"kind": "failed", "count": 1}])
    run_id = await sim.submit()
    await sim.until(run_id, "failed")
    return run_id


async def test_a_failed_run_has_a_reason(sim: Simulated, api: ComfyDeploy) -> None:
    """`GET /run` shows none; the heavy listing does, also with newer runs before it. One call."""
    run_id = await failed(sim)
    newer = await sim.submit()
    before = sum((await sim.stats())["calls"].values())

    reason = await api.runs.failure_reason(PORTRAIT_WORKFLOW, run_id)

    assert reason == "KSampler (node 22): torch.OutOfMemoryError: CUDA out of memory"
    assert sum((await sim.stats())["calls"].values()) == before + 1
    assert await api.runs.failure_reason(PORTRAIT_WORKFLOW, newer) is None
    assert await api.runs.failure_reason(UNKNOWN, run_id) is None


async def test_a_listing_that_never_ends_is_read_as_far_as_it_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a listing too large the first rows are used, and no more of it is kept."""
    monkeypatch.setattr("shared.comfydeploy.runs.REASON_BYTES", 100_000)
    error = {"data": {"exception_type": "E", "exception_message": "m"}}
    first, second = ({"id": name, "status": "failed"} for name in ("first", "second"))
    rows = [first | {"outputs": [error]}, second | {"version": "x" * 10_000_000, "outputs": [error]}]
    async with serving(always(reply(200, json.dumps(rows).encode()))) as (_, api):
        assert await api.runs.failure_reason(UNKNOWN, "first") == "E: m"
        assert await api.runs.failure_reason(UNKNOWN, "second") is None


async def test_trouble_is_trouble_on_every_route(sim: Simulated, api: ComfyDeploy) -> None:
    """A crash over a good id is Unavailable, and a key that is refused is the operator's business."""
    await sim.configure(faults=[{"kind": "error_500_text"}])
    for asked in (
        api.workflows.get(PORTRAIT_WORKFLOW),
        api.versions.list(PORTRAIT_WORKFLOW),
        api.deployments.list_by_workflow(PORTRAIT_WORKFLOW),
        api.assets.list(),
        api.prices.list(),
    ):
        with pytest.raises(Unavailable):
            await asked
    await sim.configure(faults=[])
    async with client_of(sim, key="nobody") as stranger:
        with pytest.raises(Unauthorized):
            await stranger.workflows.get(PORTRAIT_WORKFLOW)
