"""The same for the routes by which workflows, deployments, machines and files are read and changed.

Each recording is in `EXPECTED` once: the call that makes the recorded request, and what its answer becomes.
"""

import contextlib
import json
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from shared.comfydeploy import ComfyDeploy, PresignedUpload, Serverless
from shared.errors import (
    ConveyorError,
    InUse,
    InvalidInput,
    NotFound,
    Unauthorized,
    Unavailable,
    Undecided,
    WorkflowNotFound,
)
from tests.contract.test_client_recorded import CAPTURES, KEY, has, ids, replayed

Call = Callable[[ComfyDeploy], Awaitable[Any]]

W1, MADE = "00000000-0000-0000-0000-0000000000b1", "9697ea83-2429-4602-a19b-a22d7eeb15c7"
VERSION = "713b5398-4345-49e0-be37-620b99770572"
STAGED = "92b69476-8d7c-46ec-8732-6b4554bdcdf3"
M1, M2 = "00000000-0000-0000-0000-0000000000a1", "00000000-0000-0000-0000-0000000000a2"
CUSTOM = "752984f8-9b68-44a9-a2ef-fca97d61619a"
IMAGE = "img_huFT2XnFhK72G7tV"


def text_node(default: str) -> dict[str, Any]:
    """The graph of the recording."""
    return {"1": {"class_type": "ComfyUIDeployExternalText", "inputs": {"input_id": "p", "default_value": default}}}


def last(name: str) -> str:
    """The id a recorded path ends with, or the segment before its last word."""
    found = re.search(
        r"/([\w-]+)(?:/(?:version|deactivate|versions|runs|deployments))?$", CAPTURES[name]["request"]["path"]
    )
    assert found
    return found[1]


NOTHING = object()

EXPECTED: dict[str, tuple[Call, Any]] = {
    # workflows
    "workflow.get": (lambda api: api.workflows.get(W1), has(name="SDXL txt2img", machine_id=M1, pinned=False)),
    "workflow.get_unknown_404": (lambda api: api.workflows.get(last("workflow.get_unknown_404")), WorkflowNotFound),
    "workflow.get_not_uuid_500": (lambda api: api.workflows.get("abc"), WorkflowNotFound),
    "workflow.get_deleted_404": (lambda api: api.workflows.get(last("workflow.get_deleted_404")), WorkflowNotFound),
    "workflow.create": (lambda api: api.workflows.create("created", {"nodes": []}, text_node("d")), MADE),
    "workflow.create_bad_json_400": (lambda api: api.workflows.create("x", {}), InvalidInput),
    "workflow.create_422": (lambda api: api.workflows.create("x", {}), InvalidInput),
    "workflow.patch": (
        lambda api: api.workflows.update(MADE, name="renamed"),
        has(name="renamed", updated_at=datetime(2026, 11, 20, 22, 14, 10, 318475, UTC)),
    ),
    "workflow.patch_unknown_404": (
        lambda api: api.workflows.update(last("workflow.patch_unknown_404"), name="x"),
        WorkflowNotFound,
    ),
    "workflow.delete": (lambda api: api.workflows.delete(MADE), None),
    "workflow.delete_again_404": (lambda api: api.workflows.delete(MADE), WorkflowNotFound),
    # versions
    "workflow.versions": (lambda api: api.versions.list(W1, limit=1), ids("c2")),
    "workflow.version": (lambda api: api.versions.get_by_number(W1, 2), has(number=2, comment="v2", workflow_id=W1)),
    "workflow.version_unknown_404": (lambda api: api.versions.get_by_number(W1, 99), NotFound),
    "workflow_version.get": (
        lambda api: api.versions.get("00000000-0000-0000-0000-0000000000c1"),
        has(number=1, comment="v1", machine_id=None),
    ),
    "workflow_version.unknown_404": (lambda api: api.versions.get(last("workflow_version.unknown_404")), NotFound),
    "workflow_version.not_uuid_422": (lambda api: api.versions.get("abc"), NotFound),
    "workflow.version_create": (
        lambda api: api.versions.create(MADE, {"nodes": []}, text_node("d2"), comment="two"),
        # The time is in the spelling no parser of ISO takes.
        has(id=VERSION, number=2, created_at=datetime(2026, 11, 20, 22, 14, 10, 298557, UTC)),
    ),
    "workflow.version_create_unknown_500": (
        lambda api: api.versions.create(last("workflow.version_create_unknown_500"), {}, {}),
        WorkflowNotFound,
    ),
    # deployments
    "workflow.deployments": (lambda api: api.deployments.list_by_workflow(W1), NOTHING),
    "workflow.deployments_none_404": (
        lambda api: api.deployments.list_by_workflow(last("workflow.deployments_none_404")),
        ids(),
    ),
    "deployment.create": (
        lambda api: api.deployments.put(MADE, VERSION, "staging", machine_id=M1),
        has(id=STAGED, environment="staging", machine_id=M1, input_types=None, concurrency_limit=2),
    ),
    "deployment.create_again_same_env_updates": (
        lambda api: api.deployments.put(MADE, VERSION, "staging", machine_id=M2),
        has(id=STAGED, machine_id=M2),
    ),
    "deployment.create_bad_env_500": (
        lambda api: api.deployments.put(MADE, VERSION, "prod", machine_id=M1),
        InvalidInput,
    ),
    "deployment.create_unknown_machine_500": (
        lambda api: api.deployments.put(
            MADE,
            VERSION,
            "production",
            machine_id=CAPTURES["deployment.create_unknown_machine_500"]["request"]["json"]["machine_id"],
        ),
        NotFound,
    ),
    "deployment.update": (
        lambda api: api.deployments.update(
            STAGED, workflow_version_id=VERSION, run_timeout_seconds=120, concurrency_limit=3, gpu="L4"
        ),
        has(run_timeout_seconds=120, concurrency_limit=3, gpu="L4", has_app=False),
    ),
    "deployment.update_unknown_500": (
        lambda api: api.deployments.update(last("deployment.update_unknown_500"), run_timeout_seconds=1),
        WorkflowNotFound,
    ),
    "deployment.delete_staging_500": (lambda api: api.deployments.delete(STAGED), NotFound),
    "deployment.delete_share_ok": (lambda api: api.deployments.delete(last("deployment.delete_share_ok")), None),
    "deployment.deactivate_500_when_not_fluid": (lambda api: api.deployments.deactivate(STAGED), NotFound),
    # machines
    "machine.custom_create": (
        lambda api: api.machines.create_custom("mine", "http://127.0.0.1:8188"),
        has(id=CUSTOM, name="mine", type="classic", endpoint="http://127.0.0.1:8188", status="ready", gpu=None),
    ),
    "machine.custom_create_422": (lambda api: api.machines.create_custom("x", ""), InvalidInput),
    "machine.custom_patch": (lambda api: api.machines.update_custom(CUSTOM, name="mine2"), has(name="mine2")),
    # It was made, or not: the recorded server crashed behind the row.
    "machine.serverless_create": (
        lambda api: api.machines.create_serverless(Serverless(name="sl", gpu="A10G")),
        Undecided,
    ),
    "machine.delete": (lambda api: api.machines.delete(CUSTOM), None),
    "machine.delete_unknown_404": (lambda api: api.machines.delete(last("machine.delete_unknown_404")), NotFound),
    "machine.delete_in_use_402": (lambda api: api.machines.delete(M1), InUse),
    # files and assets
    "assets.presigned_url": (
        lambda api: api.files.presign("cat.png", "image/png"),
        has(file_id=IMAGE, path=f"{IMAGE}.png", headers={"content-type": "image/png", "x-amz-acl": "public-read"}),
    ),
    "assets.register": (lambda api: api.assets.register(PUT, "cat.png", 69), has(id=IMAGE, name="cat.png", size=69)),
    "assets.list": (lambda api: api.assets.list(), NOTHING),
    "assets.search": (lambda api: api.assets.search("cat"), NOTHING),
    "assets.get": (lambda api: api.assets.get(IMAGE), has(content_type="image/png", is_folder=False)),
    "assets.get_unknown_404": (lambda api: api.assets.get("img_x"), NotFound),
    "assets.delete": (lambda api: api.assets.delete(IMAGE), None),
    "file.upload": (
        lambda api: api.files.upload("cat.png", b"x", "image/png"),
        has(file_id="img_cHjk7KyW3j64kHHq", file_name="cat.png"),
    ),
    "file.upload_video": (lambda api: api.files.upload("v.mp4", b"x", "video/mp4"), has(file_name="v.mp4")),
    "file.upload_zip": (lambda api: api.files.upload("a.zip", b"x", "application/zip"), has(file_name="a.zip")),
    "file.upload_unknown_ext": (lambda api: api.files.upload("noext", b"x", "x/y"), has(file_name="noext")),
    "file.upload_text_400": (lambda api: api.files.upload("a.txt", b"x", "text/plain"), InvalidInput),
    "file.upload_missing_auth": (lambda api: api.files.upload("a.png", b"x", "image/png"), Unauthorized),
    # why a run failed
    "list_runs_v1.error_details_visible": (
        lambda api: api.runs.failure_reason(W1, "7ef2cce8-5c50-4295-b7fd-91ee8b0ffa4e"),
        "KSampler (node 22): torch.OutOfMemoryError: CUDA out of memory",
    ),
    "list_runs_v1.unknown_workflow_empty": (
        lambda api: api.runs.failure_reason(last("list_runs_v1.unknown_workflow_empty"), "r"),
        None,
    ),
    "list_runs_v1.not_uuid_500": (lambda api: api.runs.failure_reason("abc", "r"), WorkflowNotFound),
}

#: Recordings of these routes that say nothing about the client, and why.
LEFT_OUT = {
    "deployment.create_422": "the client always sends all that is required",
    "deployment.create_no_machine_400": "refused before it is sent: test_client_catalog.py",
    "machine.serverless_create_422": "refused before it is sent: test_client_catalog.py",
    "assets.presigned_url_422": "the client always sends the type",
    "file.upload_missing_422": "the client always sends a file",
    "file.upload_wrong_field_422": "the client always uses the right field",
    "list_runs_v1.no_outputs": "asked for outputs only",
    "list_runs_v1.with_inputs_false": "asked for outputs only",
}

#: Where the recorded request differs from what the client would send: limits, sizes, the JSON of a mistake.
SENT_DIFFERENTLY = {
    "workflow.create_bad_json_400",
    "workflow.create_422",
    "machine.custom_create_422",
    "assets.register",
}

PUT = PresignedUpload(
    put_url="http://store.test/x",
    url="http://store.test/y",
    file_id=IMAGE,
    path=f"{IMAGE}.png",
    content_type="image/png",
    headers={},
)

ROUTES = (
    r"(POST|GET|PATCH|DELETE) /api/workflow(/[^/]+)?",
    r"(GET|POST) /api/workflow/[^/]+/versions?(/\d+)?",
    r"GET /api/workflow-version/[^/]+",
    r"GET /api/workflow/[^/]+/(deployments|runs)",
    r"POST /api/deployment",
    r"(PATCH|DELETE) /api/deployment/[^/]+",
    r"POST /api/deployment/[^/]+/deactivate",
    r"(POST|PATCH|DELETE) /api/machine/.+",
    r"GET /api/assets(/.+)?",
    r"POST /api/assets/register",
    r"DELETE /api/assets/[^/]+",
    r"POST /api/file/upload",
)


def test_every_recording_of_these_routes_is_expected() -> None:
    """A new recording must be given a meaning here; a removed one must leave the tables."""
    covered = {
        name
        for name, one in CAPTURES.items()
        if any(re.fullmatch(route, f"{one['request']['method']} {one['request']['path']}") for route in ROUTES)
        and not name.startswith("spelling.")
    }
    assert covered == set(EXPECTED) | set(LEFT_OUT)


@pytest.mark.parametrize("name", EXPECTED)
async def test_a_recorded_answer_becomes_what_the_contract_says(name: str) -> None:
    """The result or the error is the one in the table, and no error shows the key or a long text."""
    call, expected = EXPECTED[name]
    api, _ = replayed(name)
    async with api:
        if isinstance(expected, type) and issubclass(expected, ConveyorError):
            with pytest.raises(expected) as caught:
                await call(api)
            assert type(caught.value) is expected
            assert KEY not in str(caught.value)
            assert len(str(caught.value)) < 500
            return
        result = await call(api)
    if expected is NOTHING:
        assert [one.id for one in result] == [row["id"] for row in CAPTURES[name]["response"]["body"]]
    elif isinstance(expected, dict):
        assert {key: getattr(result, key) for key in expected} == expected
    elif isinstance(expected, tuple):
        assert tuple(one.id[-2:] for one in result) == expected
    else:
        assert result == expected


@pytest.mark.parametrize("name", [name for name in EXPECTED if name not in SENT_DIFFERENTLY])
async def test_the_client_asks_as_recorded(name: str) -> None:
    """Method, path and JSON are those the real server was asked with, and the recorded query is part of ours."""
    recorded = CAPTURES[name]["request"]
    api, sent = replayed(name)
    async with api:
        with contextlib.suppress(ConveyorError):  # what the answer becomes is the other test's business
            await EXPECTED[name][0](api)
    (request,) = sent
    assert (request.method, request.url.path) == (recorded["method"], recorded["path"])
    query = {key: str(value) for key, value in (recorded["query"] or {}).items() if key not in ("limit", "size")}
    assert query.items() <= dict(request.url.params).items()
    if recorded["json"] is not None:
        assert _parsed(json.loads(request.content)) == _parsed(recorded["json"])
    elif recorded["multipart"] is None:
        assert request.content == b""


def _parsed(body: dict[str, Any]) -> dict[str, Any]:
    """A body with its graphs read, which may be spaced differently."""
    return {
        key: json.loads(value) if key in ("workflow_json", "workflow_api") and isinstance(value, str) else value
        for key, value in body.items()
    }


async def test_a_machine_in_use_says_by_what() -> None:
    """The error a person sees names the workflows."""
    api, _ = replayed("machine.delete_in_use_402")
    async with api:
        with pytest.raises(InUse) as caught:
            await api.machines.delete(M1)
    assert caught.value.upstream_status == 402
    assert "SDXL txt2img" in caught.value.user_message


@pytest.mark.parametrize("status", [200, 502])
async def test_a_creation_whose_answer_says_nothing_is_undecided(status: int) -> None:
    """A page in place of an answer may stand before a thing that was made; the upsert of a deployment may be repeated."""
    transport = httpx.MockTransport(lambda _: httpx.Response(status, text="<html>"))
    async with ComfyDeploy("http://api.test", KEY, transport=transport) as api:
        with pytest.raises(Undecided):
            await api.workflows.create("x", {})
        if status == 502:
            with pytest.raises(Undecided):
                await api.versions.create(W1, {}, {})
            with pytest.raises(Undecided):
                await api.machines.create_custom("x", "http://x")
            with pytest.raises(Unavailable):
                await api.deployments.put(W1, VERSION, "staging", machine_id=M1)
