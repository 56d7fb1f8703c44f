"""Which workflows are there, and which versions do they have?

Reads spell times in three ways and writes in two more. JSON graphs come in as *strings* when a workflow is created, but as
objects when a version is (`versions.py`).
"""

from __future__ import annotations

import json
import re
import uuid
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from simulator.answers import Crash, refuse, service_of, tenant_of, told_error, uuid_or_crash
from simulator.rows import Deployment, Version, Workflow
from simulator.tables import Tables
from simulator.timestamps import blank, naive, now

router = APIRouter()

_NOT_FOUND = "Workflow not found or you don't have access to it"


class WorkflowCreateRequest(BaseModel):
    name: str
    workflow_json: str
    workflow_api: str | None = None
    machine_id: str | None = None
    machine_version_id: str | None = None
    comfyui_snapshot: Any = None


class WorkflowUpdateModel(BaseModel):
    name: str | None = None
    selected_machine_id: UUID | None = None
    pinned: bool | None = None
    deleted: bool | None = None
    description: str | None = None
    cover_image: str | None = None


class CloneWorkflowRequest(BaseModel):
    name: str | None = None


def like(search: str) -> re.Pattern[str]:
    """Read a search text as SQL's ILIKE '%…%' does: `%` and `_` are wildcards."""
    pattern = re.escape(search).replace("%", ".*").replace("_", ".")
    return re.compile(pattern, re.IGNORECASE | re.DOTALL)


@router.get("/workflows")
async def list_workflows(
    request: Request,
    *,
    search: str | None = None,
    limit: int = 100,
    offset: int = 0,
    user_ids: str | None = None,
    machine_id: UUID | None = None,
) -> JSONResponse:
    if limit < 0 or offset < 0:
        raise Crash("LIMIT must not be negative")
    users = None if user_ids is None else set(user_ids.split(","))
    found = [
        workflow
        for workflow in _visible(request)
        if (search is None or like(search).search(workflow.name))
        and (users is None or workflow.user_id in users)
        and (machine_id is None or workflow.selected_machine_id == str(machine_id))
    ]
    found.sort(key=lambda workflow: (workflow.pinned, workflow.updated_at), reverse=True)
    return JSONResponse(
        [
            {
                "id": workflow.id,
                "name": workflow.name,
                "created_at": blank(workflow.created_at),
                "updated_at": blank(workflow.updated_at),
                "pinned": workflow.pinned,
                "cover_image": workflow.cover_image,
                "user_name": workflow.user_id.title(),
                "user_id": workflow.user_id,
                "selected_machine_id": workflow.selected_machine_id,
                "user_icon": None,
            }
            for workflow in found[offset : offset + limit]
        ]
    )


@router.get("/workflows/all")
async def list_all_workflows(request: Request, search: str | None = None, limit: int | None = None) -> JSONResponse:
    found = [
        workflow
        for workflow in _visible(request)
        if search is None or workflow.id == search.lower() or like(search).search(workflow.name)
    ]
    found.sort(key=lambda workflow: workflow.updated_at, reverse=True)
    return JSONResponse([_whole(workflow) for workflow in found[:limit]])


@router.post("/workflow")
async def create_workflow(request: Request, body: WorkflowCreateRequest) -> JSONResponse:
    """Create a workflow with its first version; with a machine also a `preview` deployment."""
    tables, tenant = service_of(request).tables, tenant_of(request)
    try:
        graph = json.loads(body.workflow_json)
        api = json.loads(body.workflow_api) if body.workflow_api else None
    except ValueError:
        return told_error(400, "Invalid JSON format")
    if body.machine_id is not None and tables.machine(body.machine_id, tenant) is None:
        return told_error(404, "Machine not found")
    workflow = Workflow(
        str(uuid.uuid4()), tenant.user_id, body.name, org_id=tenant.org_id, selected_machine_id=body.machine_id
    )
    tables.workflows[workflow.id] = workflow
    version = Version(str(uuid.uuid4()), workflow.id, tenant.user_id, 1, graph, api)
    tables.versions[version.id] = version
    if body.machine_id is not None:
        point_preview_at(tables, workflow, version, body.machine_id)
    return JSONResponse({"workflow_id": workflow.id, "machine_id": body.machine_id})


@router.get("/workflow/{workflow_id}")
async def read_workflow(request: Request, workflow_id: str, limit: int = 1) -> JSONResponse:
    tables = service_of(request).tables
    workflow = tables.workflow(uuid_or_crash(workflow_id), tenant_of(request))
    if workflow is None:
        raise refuse(404, _NOT_FOUND)
    versions: list[dict[str, Any] | None] = [
        {
            "workflow_id": version.workflow_id,
            "id": version.id,
            "workflow": version.workflow,
            "workflow_api": version.workflow_api,
            "version": version.version,
            "created_at": naive(version.created_at),
            "updated_at": naive(version.updated_at),
            "snapshot": None,
            "dependencies": None,
            "user_id": version.user_id,
            "comment": version.comment,
            "machine_version_id": version.machine_version_id,
            "machine_id": version.machine_id,
            "comfyui_snapshot": version.comfyui_snapshot,
        }
        for version in tables.versions_of(workflow.id)[:limit]
    ]
    row = {
        "id": workflow.id,
        "user_id": workflow.user_id,
        "name": workflow.name,
        "created_at": blank(workflow.created_at),
        "updated_at": blank(workflow.updated_at),
        "org_id": workflow.org_id,
        "selected_machine_id": workflow.selected_machine_id,
        "pinned": workflow.pinned,
        "deleted": workflow.deleted,
        "description": workflow.description,
        "cover_image": workflow.cover_image,
        # A workflow without versions has one null in place of them.
        "versions": versions or [None],
    }
    return JSONResponse(row)


@router.patch("/workflow/{workflow_id}")
async def change_workflow(request: Request, workflow_id: str, body: WorkflowUpdateModel) -> JSONResponse:
    """Change a workflow; when `pinned` is present everything else is ignored."""
    workflow = _own(request, workflow_id)
    if body.pinned is not None:
        workflow.pinned = body.pinned
    else:
        for name, value in body.model_dump(exclude_none=True, exclude={"pinned"}).items():
            setattr(workflow, name, str(value) if isinstance(value, UUID) else value)
        workflow.updated_at = now()
    return JSONResponse({**_whole(workflow), "updated_at": f"{naive(workflow.updated_at)}Z"})


@router.delete("/workflow/{workflow_id}")
async def delete_workflow(request: Request, workflow_id: str) -> JSONResponse:
    _own(request, workflow_id).deleted = True
    return JSONResponse({"message": "Workflow deleted successfully"})


@router.post("/workflow/{workflow_id}/clone")
async def clone_workflow(request: Request, workflow_id: str, body: CloneWorkflowRequest) -> JSONResponse:
    tables, tenant = service_of(request).tables, tenant_of(request)
    source = _own(request, workflow_id)
    copy = Workflow(str(uuid.uuid4()), tenant.user_id, body.name or f"{source.name} (Cloned)", org_id=tenant.org_id)
    tables.workflows[copy.id] = copy
    for latest in tables.versions_of(source.id)[:1]:
        version = Version(str(uuid.uuid4()), copy.id, tenant.user_id, 1, latest.workflow, latest.workflow_api)
        tables.versions[version.id] = version
    return JSONResponse(
        {
            "id": copy.id,
            "name": copy.name,
            "org_id": copy.org_id,
            "user_id": copy.user_id,
            "created_at": copy.created_at.isoformat(),
            "updated_at": copy.updated_at.isoformat(),
            "pinned": False,
            "deleted": False,
        }
    )


def _visible(request: Request) -> list[Workflow]:
    tenant = tenant_of(request)
    workflows = service_of(request).tables.workflows.values()
    return [workflow for workflow in workflows if tenant.owns(workflow) and not workflow.deleted]


def _own(request: Request, workflow_id: str) -> Workflow:
    workflow = service_of(request).tables.workflow(uuid_or_crash(workflow_id), tenant_of(request))
    if workflow is None:
        raise refuse(404, "Workflow not found")
    return workflow


def _whole(workflow: Workflow) -> dict[str, Any]:
    return {
        "id": workflow.id,
        "user_id": workflow.user_id,
        "org_id": workflow.org_id,
        "name": workflow.name,
        "selected_machine_id": workflow.selected_machine_id,
        "created_at": naive(workflow.created_at),
        "updated_at": naive(workflow.updated_at),
        "pinned": workflow.pinned,
        "deleted": workflow.deleted,
        "description": workflow.description,
        "cover_image": workflow.cover_image,
    }


def point_preview_at(tables: Tables, workflow: Workflow, version: Version, machine_id: str) -> None:
    """Point the workflow's preview deployment at a version, making it if there is none."""
    for deployment in tables.deployments.values():
        if deployment.workflow_id == workflow.id and deployment.environment == "preview":
            deployment.workflow_version_id, deployment.machine_id = version.id, machine_id
            deployment.updated_at = now()
            return
    made = Deployment(
        str(uuid.uuid4()), workflow.user_id, workflow.id, version.id, machine_id, "preview", org_id=workflow.org_id
    )
    tables.deployments[made.id] = made
