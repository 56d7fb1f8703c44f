"""Does the simulator keep to the service's own OpenAPI document, where the service itself does?

Where the real server departs from its document, the document says so in `x-contract-note`; those answers are compared with
recordings in `test_simulator_recorded.py` instead.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from simulator.routes import API_ROUTERS
from tests.contract.simulator_fixtures.served import PACK, PORTRAIT, PORTRAIT_WORKFLOW, Simulated, in_process

DOCUMENT = json.loads((Path(__file__).parent / "recorded" / "openapi.json").read_text())
OPERATIONS = [
    (method.upper(), path, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if method in {"get", "post", "put", "patch", "delete"}
]

MACHINE, VERSION = "a0000000-0000-4000-8000-000000000001", "c0000000-0000-4000-8000-000000000001"
SUBMIT = {"deployment_id": PORTRAIT, "inputs": {"prompt": "x"}}
DEPLOY = {
    "workflow_id": PORTRAIT_WORKFLOW,
    "workflow_version_id": VERSION,
    "machine_id": MACHINE,
    "environment": "private-share",
}
ASSET = {"file_id": "img_1", "file_name": "a", "file_size": 1, "db_path": "a", "url": "u", "mime_type": "image/png"}
#: Requests for the operations whose answers follow their schema.
REQUESTS: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/run/deployment/queue"): {"json": SUBMIT},
    ("POST", "/run/deployment/sync"): {"json": SUBMIT},
    ("POST", "/run/queue"): {"json": SUBMIT},
    ("POST", "/run"): {"json": SUBMIT},
    ("GET", "/run/{run_id}"): {},
    ("GET", "/run"): {"params": {"run_id": "RUN"}},
    ("GET", "/runs/count"): {},
    ("GET", "/workflows/all"): {},
    ("GET", "/workflow/{workflow_id}/deployments"): {},
    ("GET", "/workflow/{workflow_id}/version/{version}"): {},
    ("GET", "/workflow-version/{version}"): {},
    ("PATCH", "/workflow/{workflow_id}"): {"json": {"name": "renamed"}},
    ("GET", "/deployments"): {},
    ("GET", "/deployment/{deployment_id}"): {},
    ("POST", "/deployment"): {"json": DEPLOY},
    ("PATCH", "/deployment/{deployment_id}"): {"json": {"run_timeout": 60}},
    ("POST", "/machine/custom"): {"json": {"name": "m", "type": "classic", "endpoint": "http://x", "auth_token": None}},
    ("PATCH", "/machine/custom/{machine_id}"): {"json": {"name": "m"}},
    ("PATCH", "/machine/serverless/{machine_id}"): {"json": {"gpu": "L4"}},
    ("POST", "/machine/serverless"): {"json": {"name": "m", "gpu": "L4"}},
    ("POST", "/file/upload"): {"files": {"file": ("a.png", b"x")}},
    ("POST", "/assets/register"): {"json": ASSET},
    ("POST", "/assets/upload"): {"files": {"file": ("a.png", b"x")}},
    ("GET", "/assets"): {},
    ("GET", "/assets/{asset_id}"): {},
}


@pytest.fixture
async def sim() -> AsyncIterator[Simulated]:
    async with in_process(speed=5000) as simulated:
        yield simulated


def _routes() -> set[tuple[str, str]]:
    known = set()
    for router in API_ROUTERS:
        for route in router.routes:
            path = re.sub(r"{[^}]*}", "{}", getattr(route, "path", ""))
            known.update((method, path) for method in getattr(route, "methods", None) or ())
    return known


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in OPERATIONS])
def test_every_documented_operation_has_a_route(method: str, path: str) -> None:
    """The simulator has each operation of the document."""
    assert (method, re.sub(r"{[^}]*}", "{}", path)) in _routes()


@pytest.mark.parametrize(("method", "path"), list(REQUESTS))
async def test_answers_fit_the_document(sim: Simulated, method: str, path: str) -> None:
    """The answer of this operation validates against its schema, with a finished run of every output kind in place."""
    run = await sim.until(await sim.submit(PACK), "success")
    await sim.client.post("/api/assets/register", json=ASSET)
    operation = DOCUMENT["paths"][path][method.lower()]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema, "nothing to compare with"
    request = json.loads(json.dumps(REQUESTS[method, path], default=str).replace("RUN", run["id"]))
    if "files" in REQUESTS[method, path]:
        request = REQUESTS[method, path]
    ids = {
        "{run_id}": run["id"],
        "{workflow_id}": PORTRAIT_WORKFLOW,
        "{deployment_id}": PORTRAIT,
        "{machine_id}": MACHINE,
        "/version/{version}": "/version/1",
        "-version/{version}": f"-version/{VERSION}",
        "{asset_id}": "img_1",
    }
    url = path
    for name, value in ids.items():
        url = url.replace(name, value)
    answer = await sim.client.request(method, f"/api{url}", **request)
    assert answer.status_code == 200, answer.text
    validator = Draft202012Validator({**schema, "components": DOCUMENT["components"]})
    faults = [
        f"{'/'.join(map(str, error.path))}: {error.message[:200]}" for error in validator.iter_errors(answer.json())
    ]
    assert faults == []
