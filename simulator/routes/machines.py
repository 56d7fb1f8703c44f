"""On what do runs execute? Machines: 15 columns in lists, 36 alone, the whole row after a write."""

from __future__ import annotations

import uuid
from enum import Enum
from typing import Any, Literal
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from simulator.answers import Crash, refuse, service_of, tenant_of
from simulator.rows import Machine
from simulator.timestamps import millis, naive, now

router = APIRouter()

#: Columns that only ever have their default here, in `GET /machine/{id}` ...
_SETTLED: dict[str, Any] = {
    "docker_command_steps": None,
    "base_docker_image": None,
    "python_version": None,
    "extra_args": None,
    "prestart_command": None,
    "install_custom_node_with_gpu": False,
    "optimized_runner": False,
    "disable_metadata": True,
    "cpu_request": None,
    "cpu_limit": None,
    "memory_request": None,
    "memory_limit": None,
    "models_to_cache": [],
    "enable_gpu_memory_snapshot": False,
}
#: ... and in the whole row.
_ROW: dict[str, Any] = {
    **_SETTLED,
    "disabled": False,
    "pod_id": None,
    "allow_background_volume_commits": False,
    "machine_version_id": None,
    "is_workspace": False,
    "legacy_mode": False,
    "gpu_workspace": False,
    "ws_timeout": 2,
    "retrieve_static_assets": False,
    "build_machine_instance_id": None,
    "static_assets_status": "not-started",
    "object_info": None,
    "comfyui_version": None,
    "extra_docker_commands": None,
    "build_log": None,
    "machine_version": None,
    "modal_app_id": None,
    "object_info_str": None,
    "machine_hash": None,
    "snapshot": None,
    "target_workflow_id": None,
    "filename_list_cache": None,
    "models": None,
    "dependencies": None,
    "extensions": None,
    "ws_gpu": None,
    "import_failed_logs": None,
}


class MachineType(Enum):
    CLASSIC = "classic"
    RUNPOD_SERVERLESS = "runpod-serverless"
    MODAL_SERVERLESS = "modal-serverless"
    COMFY_DEPLOY_SERVERLESS = "comfy-deploy-serverless"
    WORKSPACE = "workspace"
    WORKSPACE_V2 = "workspace-v2"


class CustomMachineModel(BaseModel):
    name: str
    type: MachineType
    endpoint: str
    auth_token: str | None


class UpdateCustomMachineModel(BaseModel):
    name: str | None = None
    type: MachineType | None = None
    endpoint: str | None = None
    auth_token: str | None = None


class UpdateServerlessMachineModel(BaseModel):
    name: str | None = None
    gpu: Literal["CPU", "T4", "L4", "A10G", "L40S", "A100", "A100-80GB", "H100", "H200", "B200"] | None = None
    concurrency_limit: int | None = None
    run_timeout: int | None = None
    idle_timeout: int | None = None
    keep_warm: int | None = None
    allow_concurrent_inputs: int | None = None


class ServerlessMachineModel(UpdateServerlessMachineModel):
    name: str
    gpu: Literal["CPU", "T4", "L4", "A10G", "L40S", "A100", "A100-80GB", "H100", "H200", "B200"]


@router.get("/machines")
async def list_machines(
    request: Request,
    *,
    search: str | None = None,
    limit: int = 100,
    offset: int = 0,
    is_deleted: bool | None = None,
    include_has_workflows: bool = False,
    is_self_hosted: bool | None = None,
    include_docker_command_steps: bool = False,
) -> JSONResponse:
    """List machines, deleted ones included unless `is_deleted=false`."""
    if limit < 0 or offset < 0:
        raise Crash("LIMIT must not be negative")
    found = [
        machine
        for machine in _matching(request, search)
        if (is_deleted is None or machine.deleted == is_deleted)
        and (is_self_hosted is None or (machine.type == "classic") == is_self_hosted)
    ]
    rows = []
    for machine in found[offset : offset + limit]:
        row = _short(machine)
        if include_has_workflows:
            workflows = service_of(request).tables.workflows.values()
            row["has_workflows"] = any(workflow.selected_machine_id == machine.id for workflow in workflows)
        if include_docker_command_steps:
            row["docker_command_steps"] = None
        rows.append(row)
    return JSONResponse(rows)


@router.get("/machines/all")
async def list_all_machines(request: Request, search: str | None = None, limit: int | None = None) -> JSONResponse:
    found = [machine for machine in _matching(request, search) if not machine.deleted]
    return JSONResponse([_short(machine) for machine in found[:limit]])


@router.get("/machine/{machine_id}")
async def read_machine(request: Request, machine_id: UUID) -> JSONResponse:
    machine = _own(request, machine_id)
    return JSONResponse(
        {
            **{key: value for key, value in _short(machine).items() if key != "is_workspace"},
            "deleted": machine.deleted,
            "is_workspace": False,
            "endpoint": machine.endpoint,
            "concurrency_limit": machine.concurrency_limit,
            "run_timeout": machine.run_timeout,
            "idle_timeout": machine.idle_timeout,
            "keep_warm": machine.keep_warm,
            "allow_concurrent_inputs": machine.allow_concurrent_inputs,
            **_SETTLED,
        }
    )


@router.delete("/machine/{machine_id}")
async def delete_machine(request: Request, machine_id: UUID, force: bool = False) -> JSONResponse:
    machine = _own(request, machine_id)
    tables = service_of(request).tables
    users = [
        tables.workflows[deployment.workflow_id].name
        for deployment in tables.deployments.values()
        if deployment.machine_id == machine.id and not tables.workflows[deployment.workflow_id].deleted
    ]
    if users and not force:
        raise refuse(402, f"You still have these workflows related to this machine: {','.join(users)}")
    if machine.keep_warm > 0:
        raise refuse(400, "Please set keep warm to 0 before deleting the machine.")
    machine.deleted = True
    machine.updated_at = now()
    return JSONResponse({"message": "Machine deleted"})


@router.post("/machine/serverless")
async def create_serverless_machine(request: Request, body: ServerlessMachineModel) -> JSONResponse:
    """Create a machine; upstream then builds an image in the background."""
    machine = _new(request, body.name, status="building", machine_builder_version="4")
    _change(machine, body)
    return JSONResponse(_whole(machine))


@router.patch("/machine/serverless/{machine_id}")
async def change_serverless_machine(
    request: Request, machine_id: UUID, body: UpdateServerlessMachineModel
) -> JSONResponse:
    machine = _own(request, machine_id)
    _change(machine, body)
    return JSONResponse(_whole(machine))


@router.post("/machine/custom")
async def create_custom_machine(request: Request, body: CustomMachineModel) -> JSONResponse:
    machine = _new(request, body.name, gpu=None, machine_builder_version="4")
    _change(machine, body)
    return JSONResponse(_whole(machine))


@router.patch("/machine/custom/{machine_id}")
async def change_custom_machine(request: Request, machine_id: UUID, body: UpdateCustomMachineModel) -> JSONResponse:
    machine = _own(request, machine_id)
    _change(machine, body)
    return JSONResponse(_whole(machine))


def _matching(request: Request, search: str | None) -> list[Machine]:
    """Give the tenant's machines whose name holds the text, latest change first."""
    tenant = tenant_of(request)
    found = [
        machine
        for machine in service_of(request).tables.machines.values()
        if tenant.owns(machine) and (search is None or search.lower() in machine.name.lower())
    ]
    return sorted(found, key=lambda machine: machine.updated_at, reverse=True)


def _own(request: Request, machine_id: UUID) -> Machine:
    machine = service_of(request).tables.machine(str(machine_id), tenant_of(request))
    if machine is None:
        raise refuse(404, "Machine not found")
    return machine


def _new(request: Request, name: str, **more: Any) -> Machine:
    tenant = tenant_of(request)
    machine = Machine(str(uuid.uuid4()), tenant.user_id, name, org_id=tenant.org_id, **more)
    service_of(request).tables.machines[machine.id] = machine
    return machine


def _change(machine: Machine, body: BaseModel) -> None:
    """Take over what was sent; null fields change nothing."""
    for name, value in body.model_dump(exclude_none=True).items():
        setattr(machine, name, value.value if isinstance(value, Enum) else value)
    machine.updated_at = now()


def _short(machine: Machine) -> dict[str, Any]:
    return {
        "id": machine.id,
        "user_id": machine.user_id,
        "name": machine.name,
        "created_at": naive(machine.created_at),
        "updated_at": naive(machine.updated_at),
        "type": machine.type,
        "org_id": machine.org_id,
        "status": machine.status,
        "gpu": machine.gpu,
        "machine_version": None,
        "machine_builder_version": machine.machine_builder_version,
        "comfyui_version": None,
        "import_failed_logs": None,
        "machine_version_id": None,
        "is_workspace": False,
    }


def _whole(machine: Machine) -> dict[str, Any]:
    return {
        **_ROW,
        "id": machine.id,
        "user_id": machine.user_id,
        "org_id": machine.org_id,
        "name": machine.name,
        "type": machine.type,
        "endpoint": machine.endpoint,
        "auth_token": machine.auth_token,
        "status": machine.status,
        "gpu": machine.gpu,
        "machine_builder_version": machine.machine_builder_version,
        "concurrency_limit": machine.concurrency_limit,
        "run_timeout": machine.run_timeout,
        "idle_timeout": machine.idle_timeout,
        "keep_warm": machine.keep_warm,
        "allow_concurrent_inputs": machine.allow_concurrent_inputs,
        "deleted": machine.deleted,
        "created_at": millis(machine.created_at),
        "updated_at": millis(machine.updated_at),
    }
