"""Do the official clients work against the simulator, unchanged? The Python SDK 0.7.0 and the JavaScript client.

They were written against the hosted service by its makers, so they are a third reading of the API.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from comfydeploy import ComfyDeploy
from comfydeploy.models import errors
from pydantic import ValidationError

from tests.contract.simulator_fixtures.served import PORTRAIT, process

CLIENTS = Path(__file__).parent / "official_clients"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with process("--speed", "100", "--legacy-workflow-api") as url:
        yield f"{url}/api"


@pytest.fixture
def sdk(url: str) -> Iterator[ComfyDeploy]:
    with ComfyDeploy(bearer="sim-key", server_url=url) as made:
        yield made


def _queued(sdk: ComfyDeploy) -> str:
    answer = sdk.run.deployment.queue(request={"deployment_id": PORTRAIT, "inputs": {"prompt": "x", "seed": 3}})
    assert answer.create_run_response is not None
    return str(answer.create_run_response.run_id)


def test_python_sdk_follows_a_run(sdk: ComfyDeploy) -> None:
    """Queue, then read until the end: every field of the SDK's model parses, outputs included."""
    run_id = _queued(sdk)
    end = time.monotonic() + 10
    while True:
        run = sdk.run.get(run_id=run_id).workflow_run_model
        assert run is not None
        if run.status == "success":
            break
        assert time.monotonic() < end
        time.sleep(0.02)
    assert run.outputs
    assert run.outputs[0].data["images"][0].url.endswith(".png")
    assert run.run_duration


def test_python_sdk_cancels(sdk: ComfyDeploy) -> None:
    """A cancelled run reads as cancelled."""
    run_id = _queued(sdk)
    sdk.run.cancel(run_id=run_id)
    run = sdk.run.get(run_id=run_id).workflow_run_model
    assert run is not None
    assert run.status == "cancelled"


def test_python_sdk_meets_the_refusals_of_the_real_server(sdk: ComfyDeploy) -> None:
    """Unknown run: SDKError 404; bad id: HTTPValidationError; cancel of an unknown run: SDKError 500."""
    unknown = "00000000-0000-4000-8000-00000000dead"
    with pytest.raises(errors.SDKError) as refused:
        sdk.run.get(run_id=unknown)
    assert refused.value.status_code == 404
    with pytest.raises(errors.HTTPValidationError):
        sdk.run.get(run_id="abc")
    with pytest.raises(errors.SDKError) as refused:
        sdk.run.cancel(run_id=unknown)
    assert refused.value.status_code == 500


def test_python_sdk_breaks_without_the_switch() -> None:
    """As on the real server of today: run.get fails, because `workflow_api` is no longer sent."""
    with (
        process("--speed", "100") as url,
        ComfyDeploy(bearer="sim-key", server_url=f"{url}/api") as sdk,
        pytest.raises(ValidationError, match="workflow_api"),
    ):
        sdk.run.get(run_id=_queued(sdk))


@pytest.fixture(scope="module")
def node() -> str:
    """The node program, with the client installed beside the script by npm."""
    found, npm = shutil.which("node"), shutil.which("npm")
    if found is None or npm is None:
        if os.environ.get("CI"):
            pytest.fail("node and npm are needed to run the official JavaScript client")
        pytest.skip("node or npm is missing: the official JavaScript client was not run")
    wanted = json.loads((CLIENTS / "package.json").read_text())["dependencies"]
    installed = {
        name: json.loads(path.read_text())["version"]
        for name in wanted
        if (path := CLIENTS / "node_modules" / name / "package.json").exists()
    }
    if installed != wanted:
        ended = subprocess.run([npm, "install"], cwd=CLIENTS, capture_output=True, text=True, check=False, timeout=120)
        if ended.returncode and not os.environ.get("CI"):
            pytest.skip(f"npm could not install the official JavaScript client: {ended.stderr.strip()[-200:]}")
        assert ended.returncode == 0, ended.stderr
    return found


def test_javascript_client_follows_a_run(url: str, node: str) -> None:
    """List, upload, queue, read, stream and validate webhooks: the client parses every answer."""
    ended = subprocess.run(
        [node, "journey.mjs", url, "sim-key", PORTRAIT],
        cwd=CLIENTS,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert "SDXL Portrait" in told["deployments"]
    assert told["inputs"][:2] == ["prompt", "negative_prompt"]
    assert told["uploaded"] == "me.png"
    assert (told["status"], told["createdAt"], told["kinds"]) == ("success", True, ["images"])
    assert told["runDuration"] > 0
    assert told["stream"] == ["queuing", "function_call_id"]
    assert told["unknown"] == 404
    assert told["hooks"] == ["queued", "running", "started", "success"]
