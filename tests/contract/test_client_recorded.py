"""Yesterday's answers of the real server, through today's client.

Every recorded exchange on a route the client covers is in `EXPECTED`, with what the client must make of its answer;
a recording that is in no table fails the test that counts them. Where the client can make the recorded request, what
it sends is compared with what was recorded.
"""

import contextlib
import json
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.comfydeploy import CancelAnswer, ComfyDeploy, MediaItem, RunStatus
from shared.errors import (
    GiveUp,
    InvalidInput,
    NotFound,
    Problem,
    RunNotFound,
    Unauthorized,
    Unavailable,
    Undecided,
    WorkflowNotFound,
)

KEY = "key-that-must-not-leak"
RECORDED = json.loads((Path(__file__).parent / "recorded" / "captures.json").read_text())
CAPTURES = {one["name"]: one for one in RECORDED["captures"] if "request" in one}

Call = Callable[[ComfyDeploy, dict[str, Any], re.Match[str]], Awaitable[Any]]


# --------------------------------------------------------------------------- from a recorded request to a call


async def workflows_list(api, request, _):
    query = request["query"] or {}
    return await api.workflows.list(query.get("search"), limit=query.get("limit", 100), offset=query.get("offset", 0))


async def submit(api, request, _):
    body = request["json"] or {}
    return await api.runs.submit(
        body.get("deployment_id", "d"), body.get("inputs") or {}, webhook=body.get("webhook"), gpu=body.get("gpu")
    )


async def get(api, request, path):
    return await api.runs.get(path[1], queue_position=bool((request["query"] or {}).get("queue_position")))


async def cancel(api, _, path):
    return await api.runs.cancel(path[1])


async def list_by_workflow(api, request, path):
    query = request["query"] or {}
    return await api.runs.list_by_workflow(
        path[1],
        limit=query.get("limit", 100),
        deployment_id=query.get("deployment_id"),
        status=query.get("status"),
        created_after=query.get("rf"),
    )


async def list_by_deployment(api, request, path):
    query = request["query"] or {}
    return await api.runs.list_by_deployment(path[1], limit=query.get("limit", 60), offset=query.get("offset", 0))


async def deployments_list(api, request, _):
    return await api.deployments.list((request["query"] or {}).get("environment"))


async def deployment_get(api, _, path):
    return await api.deployments.get(path[1])


async def machines_list(api, request, _):
    query = request["query"] or {}
    return await api.machines.list(query.get("search"), limit=query.get("limit", 100))


async def machine_get(api, _, path):
    return await api.machines.get(path[1])


ROUTES: list[tuple[str, str, Call]] = [
    ("GET", r"/api/workflows", workflows_list),
    ("POST", r"/api/run/deployment/queue", submit),
    ("GET", r"/api/run/([^/]+)", get),
    ("POST", r"/api/run/([^/]+)/cancel", cancel),
    ("GET", r"/api/v2/workflow/([^/]+)/runs", list_by_workflow),
    ("GET", r"/api/deployment/([^/]+)/runs", list_by_deployment),
    ("GET", r"/api/deployments", deployments_list),
    ("GET", r"/api/deployment/([^/]+)", deployment_get),
    ("GET", r"/api/machines", machines_list),
    ("GET", r"/api/machine/([^/]+)", machine_get),
]


def call_for(request) -> tuple[Call, re.Match[str]] | None:
    for method, pattern, call in ROUTES:
        if method == request["method"] and (path := re.fullmatch(pattern, request["path"])):
            return call, path
    return None


# --------------------------------------------------------------------------- what must come out

#: A submit that worked gives the run's id; the others below say their class.
RUN_ID = object()


def has(**expected):
    """Expect these attributes, and no opinion about others."""
    return expected


def ids(*endings):
    """Expect a list of these, by the last two characters of their ids."""
    return endings


MAIN_RUN = "50ba1c97-8eb1-472f-9e7a-7adbe0985647"

EXPECTED: dict[str, Any] = {
    "auth.missing": Unauthorized,
    "auth.wrong_scheme": Unauthorized,
    "auth.garbage_token": Unauthorized,
    "auth.bad_signature": Unauthorized,
    "auth.expired": Unauthorized,
    "auth.revoked": Unauthorized,
    "auth.machine_token_out_of_scope": Unauthorized,
    "auth.x_api_key_header_ok": ids("b2"),
    "auth.cd_token_query_ok": ids("b2"),
    "auth.missing_on_queue": Unauthorized,
    "spelling.GET /run/cancel": RunNotFound,
    # submit
    "queue.ok": RUN_ID,
    "queue.ok_minimal_no_inputs": RUN_ID,
    "queue.ok_unknown_top_level_key_ignored": RUN_ID,
    "queue.same_idempotency_key_again_creates_another_run": RUN_ID,
    "queue.ok_fluid_deployment": RUN_ID,
    "queue.ok_public_share_by_other_user": RUN_ID,
    "queue.gpu_override": RUN_ID,
    "queue.webhook_not_a_url_accepted": RUN_ID,
    "queue.classic_machine_ok": RUN_ID,
    "queue.unknown_deployment_404": WorkflowNotFound,
    "queue.other_users_deployment_404": WorkflowNotFound,
    "queue.org_token_on_personal_deployment_404": WorkflowNotFound,
    "queue.deleted_workflow_404": WorkflowNotFound,
    "queue.no_workflow_api_404": WorkflowNotFound,
    "queue.deployment_id_not_uuid_422": ["deployment_id"],
    "queue.missing_deployment_id_422": ["deployment_id"],
    "queue.null_input_value_422": ["inputs.prompt"],
    "queue.object_input_value_422": ["inputs.meta"],
    "queue.inputs_null_422": ["inputs"],
    "queue.bad_gpu_422": ["gpu"],
    "queue.malformed_json_422": ["body"],
    "queue.wrong_content_type_422": ["body"],
    "queue.empty_body_422": ["body"],
    "queue.bad_origin_500": Undecided,
    "queue.batch_number_2_on_deployment_queue": Undecided,  # the runs were made
    "queue.remote_spawn_fails_500": Undecided,  # the run was made, and is failed
    # read
    "get_run.not_started": has(status="not-started", is_final=False, queue_position=None, outputs=()),
    "get_run.not_started_with_queue_position": has(status="not-started", queue_position=0),
    "get_run.queued": has(known_status=RunStatus.QUEUED, queue_position=0, started_at=None),
    "get_run.started": has(known_status=RunStatus.STARTED, is_final=False),
    "get_run.running": has(known_status=RunStatus.RUNNING, is_final=False),
    "get_run.running_with_progress": has(progress=0.43, live_status="Executing KSampler", run_seconds=None),
    "get_run.uploading": has(known_status=RunStatus.UPLOADING, is_final=False),
    "get_run.uploading_with_outputs": has(known_status=RunStatus.UPLOADING, is_final=False),
    "get_run.success": has(
        id=MAIN_RUN,
        is_final=True,
        progress=0.43,
        gpu="A10G",
        created_at=datetime(2026, 11, 20, 22, 13, 27, 798000, UTC),
        ended_at=datetime(2026, 11, 20, 22, 13, 29, 730000, UTC),
        duration_seconds=1.931927,
        run_seconds=0.826604,
        cold_start_seconds=0.045247,
    ),
    "get_run.success_then_late_failed_update": has(status="success", is_final=True),
    "get_run.success_then_late_progress": has(status="success", is_final=True),
    "get_run.success_after_cancel": has(status="success", is_final=True),
    "get_run.success_private_output": has(status="success", is_final=True),
    "get_run.failed": has(known_status=RunStatus.FAILED, is_final=True, outputs=()),
    "get_run.timeout": has(known_status=RunStatus.TIMEOUT, is_final=True),
    "get_run.timeout_then_success_ignored": has(status="timeout", is_final=True),
    "get_run.virtual_timeout_after_24h": has(status="timeout", is_final=True, ended_at=None, run_seconds=None),
    "get_run.cancelled": has(known_status=RunStatus.CANCELLED, is_final=True),
    "get_run.cancelled_then_success_ignored": has(status="cancelled", is_final=True),
    "get_run.org_token_same_user_200": has(id=MAIN_RUN, status="success"),
    "get_run.base64_input_was_replaced_by_url": has(
        workflow_inputs={
            "_tag": "keep",
            "input_image": "http://127.0.0.1:8078/oracle-bucket/inputs/img_Ej4pVHSqcmeeb7eg.png",
        }
    ),
    "get_run.input_types_round_trip": has(
        workflow_inputs={"b": True, "e": "", "f": 1.0, "l": [1, {"a": None}], "s": "1", "seed": 12345678901234567890}
    ),
    "get_run.unknown_404": RunNotFound,
    "get_run.not_a_uuid_422": RunNotFound,
    "get_run.other_users_run_403": RunNotFound,
    "get_run.missing_auth_401": Unauthorized,
    # cancel
    "cancel.ok_not_started": CancelAnswer.ACCEPTED,
    "cancel.again_on_cancelled": CancelAnswer.ACCEPTED,
    "cancel.on_success_run_200_but_unchanged": CancelAnswer.ACCEPTED,
    "cancel.unknown_500_wrapping_404": CancelAnswer.UNKNOWN_OR_TOO_FRESH,
    "cancel.other_users_run_500": CancelAnswer.UNKNOWN_OR_TOO_FRESH,
    "cancel.run_without_function_call_500": CancelAnswer.UNKNOWN_OR_TOO_FRESH,
    "cancel.not_a_uuid_500": RunNotFound,
    "cancel.missing_auth_401": Unauthorized,
    # listings
    "list_runs_v2": ids("a1", "c1"),
    "list_runs_v2.status": ids("48", "97"),
    "list_runs_v2.deployment_and_rf": ids("a1"),
    "list_runs_v2.bad_status_500": Unavailable,
    "list_runs_v2.unknown_workflow_404": WorkflowNotFound,
    "deployment.runs": ids("c1", "48"),
    "deployment.runs_status_filter_ignored": ids("a1", "c1"),
    "deployment.runs_other_users_200_empty": ids(),
    "deployment.runs_unknown_500": WorkflowNotFound,
    "deployments.list": ids("d7", "d6", "d3", "d1"),
    "deployments.list_page": ids("d6"),
    "deployments.list_env": ids("d7", "d1"),
    "deployments.list_fluid": ids("d2"),
    "deployments.list_bad_env_422": ["environment"],
    "deployment.get": has(
        workflow_name="SDXL txt2img",
        environment="production",
        version=2,
        concurrency_limit=2,
        run_timeout_seconds=300,
        is_fluid=False,
        updated_at=datetime(2026, 11, 20, 22, 13, 27, 267000, UTC),
    ),
    "deployment.get_unknown_500": WorkflowNotFound,
    "deployment.get_not_uuid_500": WorkflowNotFound,
    "deployment.get_other_users_500": WorkflowNotFound,
    "workflows.list": ids("b2", "b1"),
    "workflows.list_search": ids("b1"),
    "workflows.list_machine": ids("b1"),
    "workflows.list_limit_bad_422": ["limit"],
    "machines.list": ids("a4", "a2", "a1"),
    "machines.list_not_deleted": ids("a1"),
    "machines.list_empty": ids(),
    "machine.get": has(name="SDXL machine", gpu="A10G", concurrency_limit=2, run_timeout_seconds=300, deleted=False),
    "machine.get_unknown_404": NotFound,
    "machine.get_not_uuid_422": NotFound,
}

#: What the client cannot or will not send as recorded; only its reading of the answer is checked.
SENT_DIFFERENTLY = {
    "auth.cd_token_query_ok": "the key travels in a header",
    "queue.ok": "webhook_intermediate_status is left at its default",
    "queue.ok_unknown_top_level_key_ignored": "no unknown keys",
    "queue.same_idempotency_key_again_creates_another_run": "no unknown keys",
    "queue.missing_deployment_id_422": "always there",
    "queue.inputs_null_422": "always an object",
    "queue.malformed_json_422": "always JSON",
    "queue.wrong_content_type_422": "always JSON",
    "queue.empty_body_422": "always JSON",
    "queue.bad_origin_500": "never sent",
    "queue.batch_number_2_on_deployment_queue": "never sent",
    "deployment.runs_status_filter_ignored": "the filter does nothing",
    "deployments.list_page": "all are read at once",
    "workflows.list_machine": "not offered",
    "machines.list": "always without deleted ones",
    "machines.list_empty": "always without deleted ones",
}

#: What we say where the recorded request left the server's default.
ALWAYS_SAID = {"limit", "is_deleted", "is_fluid"}


def replayed(name):
    """Give a client whose server answers as recorded, and the list of what it sends."""
    recorded = CAPTURES[name]["response"]
    sent: list[httpx.Request] = []

    def answer(request):
        sent.append(request)
        body = recorded["body"]
        if request.url.path == "/api/deployments" and len(sent) == 2:
            body = []  # the other half of the listing
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        return httpx.Response(recorded["status"], headers=recorded["headers"], content=content)

    return ComfyDeploy("http://api.test", KEY, transport=httpx.MockTransport(answer)), sent


def test_every_recording_of_a_covered_route_is_expected():
    """A new recording must be given a meaning here; a removed one must leave the tables."""
    covered = {name for name, one in CAPTURES.items() if call_for(one["request"])}
    assert covered == set(EXPECTED)
    assert set(SENT_DIFFERENTLY) <= covered


@pytest.mark.parametrize("name", EXPECTED)
async def test_a_recorded_answer_becomes_what_the_contract_says(name):
    """The result or the error is the one in the table, and no error shows the key or a long text."""
    call, path = call_for(CAPTURES[name]["request"])
    expected = EXPECTED[name]
    api, _sent = replayed(name)
    async with api:
        if isinstance(expected, type):
            with pytest.raises(expected) as caught:
                await call(api, CAPTURES[name]["request"], path)
            assert type(caught.value) is expected
            assert KEY not in str(caught.value)
            assert len(str(caught.value)) < 500
            return
        if isinstance(expected, list):
            with pytest.raises(InvalidInput) as caught:
                await call(api, CAPTURES[name]["request"], path)
            assert [problem.field for problem in caught.value.problems] == expected
            return
        result = await call(api, CAPTURES[name]["request"], path)
    match expected:
        case dict():
            assert {key: getattr(result, key) for key in expected} == expected
        case tuple():
            assert tuple(one.id[-2:] for one in result) == expected
        case CancelAnswer():
            assert result is expected
        case _:
            assert expected is RUN_ID
            assert result == CAPTURES[name]["response"]["body"]["run_id"]


@pytest.mark.parametrize("name", [name for name in EXPECTED if name not in SENT_DIFFERENTLY])
async def test_the_client_asks_as_recorded(name):
    """Method, path, query and JSON are those the real server was asked with, defaults apart; the key is the Bearer."""
    recorded = CAPTURES[name]["request"]
    call, path = call_for(recorded)
    api, sent = replayed(name)
    async with api:
        # What the answer becomes is the other test's business.
        with contextlib.suppress(GiveUp, Unauthorized, Unavailable, Undecided):
            await call(api, recorded, path)
    request = sent[-1] if (recorded["query"] or {}).get("is_fluid") else sent[0]
    assert request.method == recorded["method"]
    assert request.url.path == recorded["path"]
    # An offset of 0 is the default, so we do not say it.
    query = {key: str(value) for key, value in (recorded["query"] or {}).items() if (key, value) != ("offset", 0)}
    assert query.items() <= dict(request.url.params).items()
    assert set(request.url.params) - set(query) <= ALWAYS_SAID
    assert request.headers["authorization"] == f"Bearer {KEY}"
    if recorded["json"] is not None:
        assert json.loads(request.content) == {"inputs": {}, **recorded["json"]}
        assert request.headers["content-type"] == "application/json"
    else:
        assert request.content == b""


async def test_outputs_of_a_finished_run_are_all_there():
    """Every kind the real server reported arrives, with the node it came from."""
    api, _ = replayed("get_run.success")
    async with api:
        run = await api.runs.get(MAIN_RUN)
    first = run.outputs[0]
    assert (first.output_id, first.node_id, first.node_class) == ("output_images", "23", "ComfyDeployOutputImage")
    assert first.data["images"] == [
        MediaItem(
            url=f"http://127.0.0.1:8078/oracle-bucket/outputs/runs/{MAIN_RUN}/ComfyUI_00001_.png",
            type="output",
            filename="ComfyUI_00001_.png",
            is_public=True,
            subfolder=None,
        )
    ]
    assert [list(output.data) for output in run.outputs] == [
        ["images"], ["text"], ["gifs"], ["files"], ["mesh"], ["model_file"], ["images", "animated"],
    ]  # fmt: skip
    assert run.outputs[1].data["text"] == ["hello world"]
    assert run.outputs[6].data["animated"] == [True]
    assert run.workflow_inputs["_job_id"] == "job-123"


async def test_listed_runs_have_times_and_durations():
    """The listings spell times and durations differently from GET /run; the values come out alike."""
    api, _ = replayed("list_runs_v2.status")
    async with api:
        by_workflow = {run.id: run for run in await api.runs.list_by_workflow("w")}
    done = by_workflow["b0249af1-d903-4436-bd1b-398cf4f0a797"]
    assert done.is_final
    assert done.duration_seconds == 0.043428  # recorded as a string
    assert done.run_seconds is None  # it never said that it had started
    assert done.created_at == datetime(2026, 11, 20, 22, 13, 43, 308000, UTC)
    assert done.deployment_id.endswith("d1")


async def test_both_halves_of_the_deployments_are_merged_newest_first():
    """`is_fluid` splits the list; the client asks for both (two calls) and gives each deployment once."""
    asked = []

    def answer(request):
        asked.append(request.url.params["is_fluid"])
        name = "deployments.list_fluid" if asked[-1] == "true" else "deployments.list"
        rows = CAPTURES[name]["response"]["body"]
        return httpx.Response(200, json=rows + CAPTURES["deployments.list"]["response"]["body"][:1])

    async with ComfyDeploy("http://api.test", KEY, transport=httpx.MockTransport(answer)) as api:
        found = await api.deployments.list()
    assert sorted(asked) == ["false", "true"]
    assert sorted(one.id[-2:] for one in found) == ["d1", "d2", "d3", "d6", "d7"]
    assert [one.updated_at for one in found] == sorted((one.updated_at for one in found), reverse=True)
    by_id = {one.id[-2:]: one for one in found}
    assert by_id["d2"].is_fluid
    assert by_id["d2"].gpu == "L4"
    assert by_id["d7"].input_types is None  # its version has no API graph


async def test_input_types_are_read():
    """Kinds, defaults, bounds and choices of a deployment's inputs are there for the catalog."""
    api, _ = replayed("deployment.get")
    async with api:
        deployment = await api.deployments.get("d")
    by_id = {one.input_id: one for one in deployment.input_types}
    assert by_id["prompt"].default_value == "a cat"
    assert by_id["prompt"].display_name == "Prompt"
    slider = by_id["denoise"]
    assert (slider.type, slider.min_value, slider.max_value, slider.default_value) == ("float", 0, 1, 0.5)
    assert any(one.enum_options for one in by_id.values())


async def test_the_union_of_types_is_one_problem():
    """`inputs.prompt = null` is refused five times by the server and once by us."""
    api, _ = replayed("queue.null_input_value_422")
    async with api:
        with pytest.raises(InvalidInput) as caught:
            await api.runs.submit("d", {"prompt": None})
    assert caught.value.problems == [
        Problem("inputs.prompt", "Input should be a valid string, integer, number, boolean or list")
    ]
    assert caught.value.upstream_status == 422
