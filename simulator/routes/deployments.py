"""What can be run? Deployments: a version of a workflow, on a machine, in an environment.

The list comes in two halves: deployments with their own image are left out unless `is_fluid=true`, and then only those
are given. Nearly every failure of these routes is a 500, an unknown id included.
"""

from __future__ import annotations

import uuid
from enum import Enum
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from simulator import graphs, run_rows
from simulator.answers import Crash, refuse, service_of, tenant_of, uuid_or_crash
from simulator.rows import SHARE_ENVIRONMENTS, Deployment, Tenant
from simulator.service import UUID as UUID_FORM
from simulator.tables import Tables
from simulator.timestamps import model, now

router = APIRouter()


class Environment(Enum):
    STAGING = "staging"
    PRODUCTION = "production"
    PUBLIC_SHARE = "public-share"
    PRIVATE_SHARE = "private-share"
    PREVIEW = "preview"
    COMMUNITY_SHARE = "community-share"


class DeploymentCreate(BaseModel):
    workflow_version_id: str
    workflow_id: str
    machine_id: str | None = None
    machine_version_id: str | None = None
    environment: str
    description: str | None = None
    deployment_id: str | None = None


class DeploymentUpdate(BaseModel):
    workflow_version_id: str | None = None
    machine_id: str | None = None
    machine_version_id: str | None = None
    concurrency_limit: int | None = None
    gpu: str | None = None
    run_timeout: int | None = None
    idle_timeout: int | None = None
    keep_warm: int | None = None


def deployment_row(
    tables: Tables, deployment: Deployment, *, bare: bool = False, with_machine: bool = False
) -> dict[str, Any]:
    """Shape a deployment. `bare` is the reply of a write: workflow, version and the types are null."""
    workflow = tables.workflows.get(deployment.workflow_id)
    version = tables.versions.get(deployment.workflow_version_id)
    machine = tables.machines.get(deployment.machine_id) if with_machine else None
    whole = not bare and workflow is not None and version is not None
    return {
        "id": deployment.id,
        "user_id": deployment.user_id,
        "org_id": deployment.org_id,
        "workflow_version_id": deployment.workflow_version_id,
        "workflow_id": deployment.workflow_id,
        "machine_id": deployment.machine_id,
        "share_slug": deployment.share_slug,
        "description": deployment.description,
        "share_options": None,
        "showcase_media": None,
        "environment": deployment.environment,
        "created_at": model(deployment.created_at),
        "updated_at": model(deployment.updated_at),
        "workflow": {"id": workflow.id, "name": workflow.name, "cover_url": workflow.cover_image}
        if whole and workflow is not None
        else None,
        "version": run_rows.version_row(version) if whole and version is not None else None,
        "machine": None if machine is None else {"id": machine.id, "name": machine.name},
        "input_types": graphs.input_types(version.workflow_api) if whole and version is not None else None,
        "output_types": graphs.output_types(version.workflow) if whole and version is not None else None,
        "dub_link": None,
        "gpu": deployment.gpu,
        "machine_version_id": deployment.machine_version_id,
        "modal_image_id": deployment.modal_image_id,
        "concurrency_limit": deployment.concurrency_limit,
        "run_timeout": deployment.run_timeout,
        "idle_timeout": deployment.idle_timeout,
        "keep_warm": deployment.keep_warm,
        "activated_at": None,
        "modal_app_id": deployment.modal_app_id,
    }


@router.get("/deployments")
async def list_deployments(
    request: Request,
    environment: Environment | None = None,
    is_fluid: bool = False,
    page_size: int | None = None,
    offset: int = 0,
) -> JSONResponse:
    tables, tenant = service_of(request).tables, tenant_of(request)
    found = [
        deployment
        for deployment in tables.deployments.values()
        if tenant.owns(deployment)
        and (deployment.modal_image_id is not None) == is_fluid
        and (environment is None or deployment.environment == environment.value)
        and tables.workflow(deployment.workflow_id, tenant) is not None
    ]
    found.sort(key=lambda deployment: deployment.updated_at, reverse=True)
    if page_size is not None:
        if page_size < 0:
            raise Crash("LIMIT must not be negative")
        found = found[offset : offset + page_size]
    return JSONResponse(_rows(tables, found))


@router.get("/workflow/{workflow_id}/deployments")
async def list_deployments_of_workflow(request: Request, workflow_id: str) -> JSONResponse:
    tables, tenant = service_of(request).tables, tenant_of(request)
    workflow_id = uuid_or_crash(workflow_id)
    found = [
        deployment
        for deployment in tables.deployments.values()
        if deployment.workflow_id == workflow_id and tenant.owns(deployment)
    ]
    if not found:
        raise refuse(404, "Deployments not found or you don't have access to it")
    # Not by time: by the environment, in reverse order of its declaration.
    order = [environment.value for environment in Environment]
    found.sort(key=lambda deployment: order.index(deployment.environment), reverse=True)
    return JSONResponse(_rows(tables, found, with_machine=True))


def _rows(tables: Tables, found: list[Deployment], *, with_machine: bool = False) -> list[dict[str, Any]]:
    try:
        return [deployment_row(tables, deployment, with_machine=with_machine) for deployment in found]
    except graphs.MalformedOptions:
        # One such node spoils the whole list.
        raise Crash("an enum whose options are not JSON") from None


@router.post("/deployment")
async def put_deployment(request: Request, body: DeploymentCreate) -> JSONResponse:
    """Create a deployment, or change the one with this id, or the one of this workflow and environment."""
    tables, tenant = service_of(request).tables, tenant_of(request)
    if body.machine_id is None and body.machine_version_id is None:
        raise refuse(400, "Machine ID or Machine Version ID is required")
    if body.environment not in {environment.value for environment in Environment}:
        raise _broken(
            "(sqlalchemy.dialects.postgresql.asyncpg.Error) "
            "<class 'asyncpg.exceptions.InvalidTextRepresentationError'>: "
            f'invalid input value for enum deployment_environment: "{body.environment}"'
        )
    workflow = tables.workflow(body.workflow_id, tenant)
    if workflow is None:
        raise _broken("404: Workflow not found")
    if body.workflow_version_id not in tables.versions:
        raise _broken("404: Workflow version not found")
    machine = tables.machine(body.machine_id or "", tenant)
    if machine is None:
        raise _broken("404: Machine not found")
    deployment = _existing(tables, tenant, body)
    if deployment is None:
        deployment = Deployment(
            str(uuid.uuid4()),
            tenant.user_id,
            workflow.id,
            body.workflow_version_id,
            machine.id,
            body.environment,
            org_id=tenant.org_id,
        )
        tables.deployments[deployment.id] = deployment
    else:
        deployment.updated_at = now()
    deployment.workflow_version_id = body.workflow_version_id
    deployment.machine_id = machine.id
    deployment.machine_version_id = body.machine_version_id
    deployment.environment = body.environment
    # Not the description sent: upstream overwrites it with the workflow's.
    deployment.description = workflow.description
    return JSONResponse(deployment_row(tables, deployment, bare=True))


def _existing(tables: Tables, tenant: Tenant, body: DeploymentCreate) -> Deployment | None:
    if body.deployment_id is not None:
        found = tables.deployments.get(body.deployment_id)
        return found if found is not None and tenant.owns(found) else None
    for deployment in tables.deployments.values():
        same = (deployment.workflow_id, deployment.environment) == (body.workflow_id, body.environment)
        if same and tenant.owns(deployment):
            return deployment
    return None


@router.patch("/deployment/{deployment_id}")
async def change_deployment(request: Request, deployment_id: str, body: DeploymentUpdate) -> JSONResponse:
    tables = service_of(request).tables
    deployment = _own(request, deployment_id)
    for name, value in body.model_dump(exclude_none=True).items():
        setattr(deployment, name, value)
    deployment.updated_at = now()
    return JSONResponse(deployment_row(tables, deployment, bare=True))


@router.get("/deployment/{deployment_id}")
async def read_deployment(request: Request, deployment_id: str) -> JSONResponse:
    tables = service_of(request).tables
    deployment = _own(request, deployment_id)
    if tables.workflow(deployment.workflow_id, tenant_of(request)) is None:
        raise refuse(500, "Internal server error")
    return JSONResponse(_rows(tables, [deployment])[0])


@router.delete("/deployment/{deployment_id}")
async def delete_deployment(request: Request, deployment_id: str) -> JSONResponse:
    """Delete a share; production, staging and preview cannot be deleted."""
    deployment = _own(request, deployment_id)
    if deployment.environment not in SHARE_ENVIRONMENTS:
        raise refuse(500, "Internal server error")
    del service_of(request).tables.deployments[deployment.id]
    return JSONResponse({"message": "Share deployment deleted successfully"})


@router.post("/deployment/{deployment_id}/deactivate")
async def deactivate_deployment(request: Request, deployment_id: UUID) -> JSONResponse:
    deployment = _own(request, str(deployment_id))
    if deployment.modal_app_id is None:
        raise Crash("no modal app")
    deployment.modal_app_id = None
    deployment.updated_at = now()
    return JSONResponse(deployment_row(service_of(request).tables, deployment, bare=True))


def _own(request: Request, deployment_id: str) -> Deployment:
    """Find a deployment of this tenant; unknown, foreign and malformed ids are all the same 500."""
    found = None
    if UUID_FORM.fullmatch(deployment_id):
        found = service_of(request).tables.deployments.get(deployment_id.lower())
    if found is None or not tenant_of(request).owns(found):
        raise refuse(500, "Internal server error")
    return found


def _broken(reason: str) -> Exception:
    return refuse(500, f"Internal server error: {reason}")
