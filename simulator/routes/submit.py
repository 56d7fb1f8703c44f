"""How does a run begin? `POST /run/deployment/queue`, and the older spellings of it.

The row is stored before the GPU side is asked, so an answer that never arrives leaves a run behind. Nothing is ever
deduplicated. Unknown input keys are stored as they are and can be read again, which is what a client's `_job_id` lives on.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import re
import uuid
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from simulator.answers import Crash, refuse, service_of, tenant_of
from simulator.bucket import StoredObject
from simulator.engine import SpawnRefusedError
from simulator.graphs import jsonb_order
from simulator.keys import NO_CREDIT_KEY
from simulator.routes.files import new_file_id
from simulator.rows import PUBLIC_ENVIRONMENTS, Deployment, Machine, Run, Tenant, Version, Workflow
from simulator.service import Service

router = APIRouter()

_ORIGINS = frozenset({"manual", "api", "public-share", "public-template", "workspace", "workspace-v2"})
_PICTURE = re.compile(r"data:image/(png|jpeg|jpg);base64,")


class GPU(Enum):
    CPU = "CPU"
    T4 = "T4"
    L4 = "L4"
    A10G = "A10G"
    L40S = "L40S"
    A100 = "A100"
    A100_80GB = "A100-80GB"
    H100 = "H100"
    H200 = "H200"
    B200 = "B200"


class _RunRequest(BaseModel):
    """What all forms of a submit have in common. Unknown fields are ignored, as everywhere in this API."""

    inputs: dict[str, str | int | float | bool | list[Any]] = Field(default_factory=dict)
    webhook: str | None = None
    webhook_intermediate_status: bool = False
    gpu: GPU | None = None
    flags: list[str] | None = None
    origin: str = "api"
    batch_number: int | None = None
    batch_input_params: dict[str, list[Any]] | None = None


class WorkflowRunVersionRequest(_RunRequest):
    workflow_version_id: UUID
    machine_id: UUID | None = None


class WorkflowRunRequest(_RunRequest):
    workflow_id: UUID
    workflow_api_json: dict[str, Any]
    machine_id: UUID | None = None


class DeploymentRunRequest(_RunRequest):
    deployment_id: UUID


class ModelRunRequest(_RunRequest):
    model_id: str


AnyRunRequest = WorkflowRunVersionRequest | WorkflowRunRequest | DeploymentRunRequest | ModelRunRequest


class Target:
    """Where a run is to go: everything a submit must find before it may store a row."""

    def __init__(
        self,
        workflow: Workflow,
        version: Version,
        machine: Machine,
        deployment: Deployment | None,
        graph: dict[str, Any],
    ) -> None:
        self.workflow, self.version, self.machine = workflow, version, machine
        self.deployment, self.graph = deployment, graph


@router.post("/run/deployment/queue")
async def queue_deployment_run(request: Request, body: DeploymentRunRequest) -> JSONResponse:
    runs = _submit(request, body)
    if _is_batch(body):
        # The runs exist; upstream's answer does not fit its own response model.
        raise Crash("a batch does not fit the answer of this route")
    return JSONResponse({"run_id": runs[0].id})


@router.post("/run")
@router.post("/run/queue")
async def create_run(request: Request, body: Annotated[AnyRunRequest, Body()]) -> JSONResponse:
    runs = _submit(request, body)
    if _is_batch(body):
        return JSONResponse({"batch_id": runs[0].batch_id})
    return JSONResponse({"run_id": runs[0].id})


@router.post("/run/workflow/queue")
async def queue_workflow_run(request: Request, body: WorkflowRunRequest) -> JSONResponse:
    return JSONResponse({"run_id": _submit(request, body)[0].id})


def _is_batch(body: _RunRequest) -> bool:
    return (body.batch_number or 1) > 1 or bool(body.batch_input_params)


def _submit(request: Request, body: _RunRequest) -> list[Run]:
    service, tenant = service_of(request), tenant_of(request)
    target = find_target(service, tenant, body)
    if request.scope["simulator.identity"].key == NO_CREDIT_KEY:
        raise refuse(403, "Insufficient your GPU credits to create run")
    if body.origin not in _ORIGINS:
        raise Crash("invalid input value for enum workflow_run_origin")
    batch_id = str(uuid.uuid4()) if _is_batch(body) else None
    runs = []
    for inputs in _batch_inputs(body):
        run = new_run(service, tenant, body, target, inputs)
        run.batch_id = batch_id
        try:
            service.engine.spawn(run, target.machine, target.deployment)
        except SpawnRefusedError:
            raise Crash("the GPU side refused the spawn") from None
        runs.append(run)
    return runs


def _batch_inputs(body: _RunRequest) -> list[dict[str, Any]]:
    if body.batch_input_params:
        names = list(body.batch_input_params)
        return [
            {**body.inputs, **dict(zip(names, values, strict=True))}
            for values in itertools.product(*body.batch_input_params.values())
        ]
    return [dict(body.inputs) for _ in range(body.batch_number or 1)]


def new_run(service: Service, tenant: Tenant, body: _RunRequest, target: Target, inputs: dict[str, Any]) -> Run:
    """Store the row of a run. From here on it exists, whatever happens to the answer."""
    deployment, machine = target.deployment, target.machine
    asked = None if body.gpu is None else str(body.gpu.value)
    # A deployment's own GPU wins over the one asked for.
    gpu = (deployment.gpu if deployment is not None else None) or asked or machine.gpu
    run = Run(
        id=str(uuid.uuid4()),
        user_id=tenant.user_id,
        org_id=tenant.org_id,
        workflow_id=target.workflow.id,
        workflow_version_id=target.version.id,
        machine_id=machine.id,
        deployment_id=None if deployment is None else deployment.id,
        workflow_inputs=jsonb_order(
            {key: _stored(service, value) if isinstance(value, str) else value for key, value in inputs.items()}
        ),
        origin=body.origin,
        gpu=gpu,
        machine_type=machine.type,
        webhook=body.webhook,
        webhook_intermediate_status=body.webhook_intermediate_status,
    )
    service.tables.add_run(run)
    service.broadcast.tell(run, "input", "input")
    return run


def _stored(service: Service, value: str) -> str:
    """Give an input as it is stored: pictures in base64 become files, private addresses get a signature."""
    if (picture := _PICTURE.match(value)) is not None:
        kind = picture.group(1)
        try:
            content = base64.b64decode(value[picture.end() :], validate=True)
        except binascii.Error:
            raise Crash("a picture that is not base64") from None
        key = f"inputs/{new_file_id('img')}.{kind}"
        service.bucket.put(key, StoredObject(f"image/{kind}", content))
        return service.bucket.url(key)
    return service.bucket.presigned(service.bucket.key_of(value) or "") if service.bucket.is_private(value) else value


def find_target(service: Service, tenant: Tenant, body: _RunRequest) -> Target:
    """Find what a run needs, refusing with the 404 of the first thing that is missing."""
    tables = service.tables
    if isinstance(body, DeploymentRunRequest):
        deployment = tables.deployments.get(str(body.deployment_id))
        if deployment is None or not (tenant.owns(deployment) or deployment.environment in PUBLIC_ENVIRONMENTS):
            raise refuse(404, "Deployment not found")
        workflow = tables.workflows.get(deployment.workflow_id)
        if workflow is None or workflow.deleted:
            raise refuse(404, "Workflow not found")
        version = tables.versions.get(deployment.workflow_version_id)
        if version is None:
            raise refuse(404, "Workflow version not found for this deployment")
        if not version.workflow_api:
            raise refuse(404, "Workflow API not found")
        machine = tables.machines.get(deployment.machine_id)
        if machine is None or machine.deleted:
            raise refuse(404, "Machine not found for this deployment")
        return Target(workflow, version, machine, deployment, version.workflow_api)
    if isinstance(body, WorkflowRunVersionRequest):
        version = tables.versions.get(str(body.workflow_version_id))
        if version is None or tables.workflow(version.workflow_id, tenant) is None:
            raise refuse(404, "Workflow version not found")
        return _without_deployment(service, tenant, version, version.workflow_api or {}, body.machine_id)
    if isinstance(body, WorkflowRunRequest):
        versions = tables.versions_of(str(body.workflow_id))
        if tables.workflow(str(body.workflow_id), tenant) is None or not versions:
            raise refuse(404, "Workflow not found")
        return _without_deployment(service, tenant, versions[0], body.workflow_api_json, body.machine_id)
    raise refuse(404, "Model not found")


def _without_deployment(
    service: Service, tenant: Tenant, version: Version, graph: dict[str, Any], machine_id: UUID | None
) -> Target:
    workflow = service.tables.workflows[version.workflow_id]
    chosen = str(machine_id) if machine_id is not None else workflow.selected_machine_id
    machine = None if chosen is None else service.tables.machine(chosen, tenant)
    if machine is None or machine.deleted:
        raise refuse(404, "Machine not found")
    return Target(workflow, version, machine, None, graph)
