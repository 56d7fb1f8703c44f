"""What is a run doing, and how is it stopped? `GET /run/{id}` and `POST /run/{id}/cancel`.

Reading is generous (same organisation, or same user, or owner of the workflow), cancelling is strict. Cancelling says
200 for runs that had already ended, and 500 for everything that went wrong, an unknown run included.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from simulator import run_rows
from simulator.answers import refuse, service_of, tenant_of
from simulator.rows import Run, Tenant
from simulator.service import Service

router = APIRouter()

_BAD_ID = (
    "Error cancel function (sqlalchemy.dialects.postgresql.asyncpg.Error) <class 'asyncpg.exceptions.DataError'>: "
    "invalid input for query argument $1: '{id}' (invalid UUID '{id}': length must be between 32..36 characters, "
    "got {length})\n[SQL: \n                SELECT modal_function_call_id, status, id\n                FROM "
    '"comfyui_deploy"."workflow_runs"\n                WHERE id = $1\n             AND (workflow_runs.user_id = $2 '
    "AND workflow_runs.org_id IS NULL)]\n[parameters: ('{id}', '{user}')]\n"
    "(Background on this error at: https://sqlalche.me/e/20/dbapi)"
)


@router.get("/run/{run_id}")
async def read_run(request: Request, run_id: UUID, queue_position: bool = False) -> JSONResponse:
    return JSONResponse(_read(request, str(run_id), queue_position))


@router.get("/run")
async def read_run_by_query(request: Request, run_id: UUID, queue_position: bool = False) -> JSONResponse:
    return JSONResponse(_read(request, str(run_id), queue_position))


@router.post("/run/{run_id}/cancel")
async def cancel_run(request: Request, run_id: str) -> JSONResponse:
    service, tenant = service_of(request), tenant_of(request)
    try:
        run = service.tables.runs.get(str(UUID(run_id)))
    except ValueError:
        raise refuse(500, _BAD_ID.format(id=run_id, length=len(run_id), user=tenant.user_id)) from None
    if run is None or not tenant.owns(run) or run.modal_function_call_id is None:
        raise refuse(500, "Error cancel function 404: Run not found or has no modal function call ID")
    if not run.final:
        # The row first: a container that comes free must not take this run up again.
        service.updates.cancelled(run)
        service.engine.cancel(run)
    return JSONResponse({"status": "success", "message": "Function cancelled"})


def readable(service: Service, tenant: Tenant, run: Run) -> bool:
    """Tell whether a tenant may read a run."""
    if tenant.org_id is not None and run.org_id == tenant.org_id:
        return True
    workflow = service.tables.workflows.get(run.workflow_id or "")
    return run.user_id == tenant.user_id or (workflow is not None and workflow.user_id == tenant.user_id)


def _read(request: Request, run_id: str, queue_position: bool) -> dict[str, Any]:
    service, tenant = service_of(request), tenant_of(request)
    run = service.tables.runs.get(run_id)
    if run is None:
        raise refuse(404, "Run not found")
    if not readable(service, tenant, run):
        workflow = service.tables.workflows.get(run.workflow_id or "")
        gone = workflow is None or workflow.deleted
        raise refuse(403, "Access denied. " if gone else "You are not authorized to access this resource")
    position = service.tables.position(run) if queue_position else None
    answer = run_rows.full(run, service.bucket, service.settings.speed, position)
    if service.settings.legacy_workflow_api:
        version = service.tables.versions.get(run.workflow_version_id or "")
        answer["workflow_api"] = version.workflow_api if version is not None else {}
    return answer
