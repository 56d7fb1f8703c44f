"""Which versions does a workflow have? Whole rows, graphs included.

`POST` answers with times no ISO parser takes, and with 500 for everything that is wrong.
"""

from __future__ import annotations

import uuid
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from simulator import run_rows
from simulator.answers import refuse, service_of, tenant_of, uuid_or_crash
from simulator.routes.workflows import like, point_preview_at
from simulator.rows import Version
from simulator.timestamps import broken, now

router = APIRouter()

_NO_VERSION = "Workflow version not found or you don't have access to it"


class WorkflowVersionCreate(BaseModel):
    workflow: dict[str, Any]
    workflow_api: dict[str, Any]
    comment: str | None = None
    machine_id: str | None = None
    machine_version_id: str | None = None
    comfyui_snapshot: Any = None


@router.get("/workflow/{workflow_id}/versions")
async def list_versions(
    request: Request, workflow_id: str, search: str | None = None, limit: int = 100, offset: int = 0
) -> JSONResponse:
    tables = service_of(request).tables
    workflow = tables.workflow(uuid_or_crash(workflow_id), tenant_of(request))
    found = [] if workflow is None else tables.versions_of(workflow.id)
    if search is not None:
        found = [version for version in found if like(search).search(version.comment or "")]
    return JSONResponse(
        [{**run_rows.version_row(version), "user_icon": None} for version in found[offset : offset + limit]]
    )


@router.get("/workflow/{workflow_id}/version/{version}")
async def read_version_by_number(request: Request, workflow_id: str, version: int) -> JSONResponse:
    tables = service_of(request).tables
    workflow = tables.workflow(uuid_or_crash(workflow_id), tenant_of(request))
    for found in [] if workflow is None else tables.versions_of(workflow.id):
        if found.version == version:
            return JSONResponse(run_rows.version_row(found))
    raise refuse(404, _NO_VERSION)


@router.get("/workflow-version/{version}")
async def read_version(request: Request, version: UUID) -> JSONResponse:
    tables = service_of(request).tables
    found = tables.versions.get(str(version))
    if found is None or tables.workflow(found.workflow_id, tenant_of(request)) is None:
        raise refuse(404, _NO_VERSION)
    return JSONResponse(run_rows.version_row(found))


@router.post("/workflow/{workflow_id}/version")
async def create_version(request: Request, workflow_id: str, body: WorkflowVersionCreate) -> JSONResponse:
    """Add a version; with a machine the `preview` deployment follows it. Every failure is a 500."""
    tables, tenant = service_of(request).tables, tenant_of(request)
    workflow = tables.workflow(workflow_id, tenant)
    if workflow is None:
        raise refuse(500, "404: Workflow not found")
    number = max((version.version for version in tables.versions_of(workflow.id)), default=0) + 1
    version = Version(
        str(uuid.uuid4()),
        workflow.id,
        tenant.user_id,
        number,
        body.workflow,
        body.workflow_api,
        body.comment,
        body.machine_id,
        body.machine_version_id,
        body.comfyui_snapshot,
    )
    tables.versions[version.id] = version
    workflow.updated_at = now()
    if body.machine_id is not None:
        point_preview_at(tables, workflow, version, body.machine_id)
    return JSONResponse(
        {
            "id": version.id,
            "created_at": broken(version.created_at),
            "updated_at": broken(version.updated_at),
            "workflow_id": workflow.id,
            "version": number,
            "user_id": version.user_id,
            "workflow": version.workflow,
            "workflow_api": version.workflow_api,
            "comment": version.comment,
            "machine_version_id": version.machine_version_id,
            "machine_id": version.machine_id,
            "comfyui_snapshot": version.comfyui_snapshot,
        }
    )
