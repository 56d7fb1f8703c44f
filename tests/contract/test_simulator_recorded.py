"""Does the simulator answer as the real server was seen to? Every recorded exchange, replayed in order.

The exchanges in `recorded/captures.json` come from the real back end. They are replayed, in their order and as one
story, against a simulator that starts with the same fixtures; what the recording's GPU workers did in between is in
`WORKER` below. Ids, times, addresses and durations are reduced to their *spelling*; everything else must be equal:
status, content type, keys, nulls, types, texts.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from simulator.app import create_app
from simulator.hooks import hook_body
from simulator.rows import Run
from simulator.settings import Settings

RECORDED = json.loads((Path(__file__).parent / "recorded" / "captures.json").read_text())
CAPTURES: dict[str, dict[str, Any]] = {capture["name"]: capture for capture in RECORDED["captures"]}
EXCHANGES = [name for name, capture in CAPTURES.items() if "request" in capture]
MADE_UP_URL = "http://simulator"

#: The recording's tokens, by label, as keys of the simulator.
KEYS = {
    "<owner_apikey token>": "sim-key",
    "<other token>": "sim-key-other",
    "<org token>": "sim-key-org",
    "<free token>": "sim-key-free",
    "<machine token>": "sim-key-machine",
    "<revoked token>": "sim-key-revoked",
    "<badsig token>": "never-issued",
    "<expired token>": "no-longer-issued",
}

#: Exchanges that are not replayed here, each with its reason.
SKIPPED = {
    "machine.serverless_create": "records that the billing service was unreachable, which the simulator does not have",
    "sse.stream_progress_run": "a stream: test_simulator_streams.py",
    "sse.stream_progress_run_ended_by_another_run": "a stream: test_simulator_streams.py",
    "sse.stream_progress_workflow_return_run": "a stream: test_simulator_streams.py",
    "sse.stream_logs_live": "a stream: test_simulator_streams.py",
    "sse.stream_logs_archived": "a stream: test_simulator_streams.py",
    "sse.run_deployment_stream": "a stream: test_simulator_streams.py",
    "logs.clickhouse_run_logs": "the archive's own lines depend on the recording's webhooks: test_simulator_streams.py",
}

#: Exchanges compared up to a known difference: the pattern is cut out on both sides, for the reason beside it.
LOOSE: dict[str, tuple[str, str]] = {
    "deployment.create_bad_env_500": (r"\\n\[SQL: .*dbapi\)", "the database driver goes on with the SQL statement"),
    "runs.count": (r'"count": \d+', "the story here makes another number of runs"),
    "runs.count_deployment_and_time": (r'"count": \d+', "the story here makes another number of runs"),
    "runs.count_by_stranger": (r'"count": \d+', "the story here makes another number of runs"),
}


def _outputs_seen() -> list[dict[str, Any]]:
    """Give the raw outputs the recording's worker stored, from the webhook that carried them all."""
    hooks = CAPTURES["webhook.bodies_for_that_run_with_intermediate_true"]["callback_received"]
    final = next(hook["body"] for hook in hooks if hook["body"]["status"] == "success")
    return [{"output_data": output["data"], "node_meta": output["node_meta"]} for output in final["outputs"]]


def _status(status: str, **more: Any) -> dict[str, Any]:
    return {"status": status, **more}


def _live(text: str, progress: float) -> dict[str, Any]:
    return {"live_status": text, "progress": progress}


_ERROR = {
    "node_id": "22",
    "node_type": "KSampler",
    "prompt_id": "7ef2cce8-5c50-4295-b7fd-91ee8b0ffa4e",
    "traceback": ["..."],
    "exception_type": "torch.OutOfMemoryError",
    "exception_message": "CUDA out of memory",
}
_PRIVATE = {
    "url": f"{MADE_UP_URL}/sim-bucket/outputs/runs/25543cec/p.png",
    "type": "output",
    "filename": "p.png",
    "is_public": False,
    "subfolder": "",
}
#: What the recording's workers posted about the run of an exchange, before it.
WORKER: dict[str, list[dict[str, Any]]] = {
    "get_run.queued": [_status("queued", modal_function_call_id="fc-1")],
    "get_run.started": [_status("started")],
    "get_run.running": [_status("running")],
    "get_run.running_with_progress": [_live("Executing KSampler", 0.43)],
    "get_run.uploading": [_status("uploading")],
    "get_run.uploading_with_outputs": [
        *_outputs_seen(),
        # Two that must vanish whole: a preview without an address, and timings that are not an object of lists.
        {"output_data": {"images": [{"filename": "t.png", "type": "temp"}]}, "node_meta": {"node_id": "40"}},
        {"output_data": [{"id": "1", "time": 3}], "node_meta": None},
    ],
    "get_run.success": [_status("success")],
    "get_run.success_then_late_failed_update": [_status("failed")],
    "get_run.success_then_late_progress": [_live("Executing VAEDecode", 0.9)],
    "get_run.failed": [
        _status("queued"),
        _status("started"),
        _status("running"),
        _live("Executing KSampler", 0.2),
        {"output_data": _ERROR, "node_meta": None},
        _status("failed"),
    ],
    "get_run.timeout": [_status("queued"), _status("started"), _status("timeout")],
    "get_run.timeout_then_success_ignored": [_status("success")],
    "get_run.cancelled_then_success_ignored": [_status("success")],
    "get_run.success_private_output": [
        {"output_data": {"images": [_PRIVATE]}, "node_meta": {"node_id": "23", "node_class": "SaveImage"}},
        _status("success"),
    ],
}

_SPELLINGS = [
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}000Z"), "<time: model>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "<time: model>"),  # a model time whose milliseconds are 0
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"), "<time: listing>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00Z"), "<time: broken>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00"), "<time: offset>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"), "<time: micro Z>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}"), "<time: naive>"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}"), "<time: blank>"),
    (re.compile(r"http://127\.0\.0\.1:8078/oracle-bucket|http://simulator/sim-bucket"), "<bucket>"),
    (re.compile(r"http://127\.0\.0\.1:3011|http://simulator"), "<host>"),
    (re.compile(r"X-Amz-Credential=[a-z]+%2F\d{8}"), "X-Amz-Credential=<who>"),
    (re.compile(r"X-Amz-Date=\w+"), "X-Amz-Date=<when>"),
    (re.compile(r"X-Amz-Signature=\w+"), "X-Amz-Signature=<what>"),
    (re.compile(r"runs/25543cec[0-9a-f-]*/"), "runs/<uuid>/"),
    (re.compile(r"\bfc-[0-9A-F]{24}\b"), "<call id>"),
    # pydantic's wording of what is wrong with a UUID changed since the recording.
    (re.compile(r"invalid (length|character): .*"), r"invalid \1"),
    (re.compile(r"\b(img|vid|audio|zip|file|folder)_[A-Za-z0-9]{16}\b"), r"<\1 id>"),
]
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_FIXTURES = frozenset(RECORDED["fixture_ids"].values())
_DURATIONS = re.compile(r"duration|cold_start")


def spelled(value: Any, key: str = "") -> Any:
    """Reduce a body to what must be equal: changing values become the names of their spelling."""
    if isinstance(value, dict):
        return {name: spelled(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [spelled(item) for item in value]
    if _DURATIONS.search(key) and key != "upload_duration" and value is not None:
        return f"<seconds as {type(value).__name__}>"
    if not isinstance(value, str):
        return value
    if value == "<fixture workflow_api>":
        return RECORDED["fixture_workflow_api"]
    value = _UUID.sub(lambda found: found[0] if found[0] in _FIXTURES else "<uuid>", value)
    for pattern, name in _SPELLINGS:
        value = pattern.sub(name, value)
    return value


class Story:
    """The recorded exchanges told again: requests with mapped ids and keys, answers by name."""

    def __init__(self, client: httpx.AsyncClient, hooks: dict[str, list[dict[str, Any]]]) -> None:
        self.client = client
        #: The simulator's run id -> the webhooks about it, in order.
        self.hooks = hooks
        self.answers: dict[str, httpx.Response] = {}
        #: Recorded id -> the simulator's id, learned from answers.
        self.ids: dict[str, str] = {}

    async def tell(self) -> None:
        for name in EXCHANGES:
            if name in SKIPPED:
                continue
            capture = CAPTURES[name]
            await self._make_what_it_needs(name, capture)
            for post in WORKER.get(name, []):
                run_id = self.ids[capture["request"]["path"].split("/")[3]]
                await self._post("/api/update-run", {"run_id": run_id, **post})
            self.answers[name] = answer = await self._send(capture["request"])
            self._learn(capture["response"].get("body"), answer)

    async def _make_what_it_needs(self, name: str, capture: dict[str, Any]) -> None:
        """Make what the recording made without showing it: a run that is read, a share that is deleted."""
        path, body = capture["request"]["path"], capture["response"].get("body")
        for run_id in _UUID.findall(path):
            read = name.startswith("get_run.") and isinstance(body, dict) and "workflow_inputs" in body
            if run_id in self.ids or not (read or name.startswith("cancel.ok")):
                continue
            if not read:
                body = CAPTURES["get_run.cancelled"]["response"]["body"]
            inputs = dict(body["workflow_inputs"])
            if "base64" in name:
                inputs["input_image"] = "data:image/png;base64,iVBORw0KGgo="
            copied = {key: body[key] for key in ("webhook", "webhook_intermediate_status")}
            sent = {"deployment_id": RECORDED["fixture_ids"]["dep_prod"], "inputs": inputs, **copied}
            made = await self._post("/api/run/deployment/queue", sent)
            self.ids[run_id] = made.json()["run_id"]
            if "24h" in name:
                await self.client.post(f"/_sim/runs/{self.ids[run_id]}/age", params={"hours": 25})
        if name == "deployment.delete_share_ok":
            fixture = RECORDED["fixture_ids"]
            sent = {
                "workflow_id": fixture["workflow"],
                "workflow_version_id": fixture["version1"],
                "machine_id": fixture["machine"],
                "environment": "private-share",
            }
            made = await self._post("/api/deployment", sent)
            self.ids[path.split("/")[3]] = made.json()["id"]
        if name in {"get_run.success_private_output", "sse.stream_progress_other_403"}:
            # Runs of exchanges that are not replayed, but seen by those after them.
            sent = {"deployment_id": RECORDED["fixture_ids"]["dep_prod"]}
            run_id = (await self._post("/api/run/deployment/queue", sent)).json()["run_id"]
            await self._post("/api/update-run", {"run_id": run_id, "status": "success"})
            if "query" in capture["request"] and capture["request"]["query"]:
                self.ids[capture["request"]["query"]["run_id"]] = run_id
        if name == "internal.update_run_any_token":
            sent = {"deployment_id": RECORDED["fixture_ids"]["dep_prod"]}
            made = await self._post("/api/run/deployment/queue", sent)
            self.ids[capture["request"]["json"]["run_id"]] = made.json()["run_id"]
        if name == "queue.remote_spawn_fails_500":
            await self.client.post("/_sim/config", json={"faults": [{"kind": "spawn_refused", "count": 1}]})

    async def _post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        answer = await self.client.post(path, json=body, headers={"Authorization": "Bearer sim-key"})
        assert answer.status_code == 200, answer.text
        return answer

    async def _send(self, request: dict[str, Any]) -> httpx.Response:
        told = json.dumps(request)
        for label, key in KEYS.items():
            told = told.replace(label, key)
        for recorded, own in self.ids.items():
            told = told.replace(recorded, own)
        told = told.replace("http://127.0.0.1:8078/oracle-bucket", f"{MADE_UP_URL}/sim-bucket")
        request = json.loads(told)
        files = {
            field: (file[0], bytes(70), file[1]) for field, file in (request.get("multipart") or {}).items()
        } or None
        return await self.client.request(
            request["method"],
            request["path"],
            params=request.get("query"),
            headers=request.get("headers"),
            json=request.get("json"),
            content=request.get("raw_body"),
            files=files,
        )

    def _learn(self, recorded: Any, answer: httpx.Response) -> None:
        """Remember which id of the simulator stands for which recorded one."""
        if not isinstance(recorded, dict) or "json" not in answer.headers.get("content-type", ""):
            return
        told = answer.json()
        for key in ("run_id", "workflow_id", "id", "file_id"):
            if isinstance(recorded.get(key), str) and isinstance(told.get(key), str) and recorded[key] not in _FIXTURES:
                self.ids.setdefault(recorded[key], told[key])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def story() -> AsyncIterator[Story]:
    """The whole story, told once for all tests of this module."""
    app = create_app(Settings(autopilot=False), world="recorded")
    # The recording's receivers are not there: what would be sent is kept instead.
    sent: dict[str, list[dict[str, Any]]] = {}

    def send(run: Run, *of: Any) -> None:
        if run.webhook:
            sent.setdefault(run.id, []).append(json.loads(json.dumps(hook_body(run, *of))))

    app.state.service.hooks.send = send
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=MADE_UP_URL) as client:
        told = Story(client, sent)
        await told.tell()
        yield told
    await app.state.service.close()


@pytest.mark.parametrize("name", [name for name in EXCHANGES if name not in SKIPPED])
@pytest.mark.asyncio(loop_scope="module")
async def test_answers_as_recorded(story: Story, name: str) -> None:
    """The simulator answers this request as the real server did."""
    recorded, answer = CAPTURES[name]["response"], story.answers[name]
    assert answer.status_code == recorded["status"], answer.text
    expected_type = recorded["headers"].get("content-type")
    if expected_type:
        assert answer.headers.get("content-type") == expected_type
    if "allow" in recorded["headers"]:
        assert answer.headers["allow"] == recorded["headers"]["allow"]
    body = answer.json() if "json" in (expected_type or "") else answer.text
    expected, told = spelled(recorded["body"]), spelled(body)
    if name in LOOSE:
        pattern = LOOSE[name][0]
        expected, told = (re.sub(pattern, "", json.dumps(side)) for side in (expected, told))
    assert told == expected


@pytest.mark.parametrize(
    "names",
    [
        (
            "webhook.bodies_for_that_run_with_intermediate_true",
            "webhook.duplicate_after_late_terminal_update",
            "webhook.late_progress_after_success",
        ),
        ("webhook.bodies_intermediate_false_failed_run",),
        ("webhook.body_on_cancel",),
        ("webhook.private_output",),
    ],
    ids=["success", "failed", "cancelled", "private"],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_webhooks_as_recorded(story: Story, names: tuple[str, ...]) -> None:
    """The same story makes the same webhooks in the same order, with raw outputs and the sent progress."""
    recorded = [hook["body"] for name in names for hook in CAPTURES[name]["callback_received"]]
    sent = story.hooks[story.ids[recorded[0]["run_id"]]]
    assert spelled(sent) == spelled(recorded)
