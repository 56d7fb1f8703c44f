"""Which runs are there? Six listings, no two with the same columns, filters or errors.

This is where a client looks for a run whose id it never received, so the columns matter: only the first listing shows
`workflow_inputs` and `webhook`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import Enum
from itertools import islice
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from simulator import outputs, run_rows
from simulator.answers import Crash, refuse, service_of, tenant_of, told_error, uuid_or_crash
from simulator.rows import Run
from simulator.timestamps import DAY_SECONDS, millis, now

router = APIRouter()


class Status(Enum):
    """The nine words, in the order in which upstream's refusal lists them."""

    NOT_STARTED = "not-started"
    RUNNING = "running"
    UPLOADING = "uploading"
    SUCCESS = "success"
    FAILED = "failed"
    STARTED = "started"
    QUEUED = "queued"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"


_NO_WORKFLOW = "Workflow not found or you don't have access to it"
#: What the latest run shows of its outputs.
_PICTURE_KINDS = ("images", "gifs", "mesh")


@router.get("/workflow/{workflow_id}/runs")
async def list_runs(
    request: Request,
    *,
    workflow_id: str,
    limit: int = 100,
    offset: int = 0,
    with_outputs: bool = True,
    with_inputs: bool = True,
) -> JSONResponse:
    """List whole rows, each with its workflow and version: heavy, unfiltered, the only place a failure's reason shows."""
    service, tenant = service_of(request), tenant_of(request)
    workflow_id = uuid_or_crash(workflow_id)
    rows = []
    for run in _page(service.tables.runs_of_workflow(workflow_id, tenant), limit, offset):
        row = run_rows.row(run, service.settings.speed)
        if not with_inputs:
            del row["workflow_inputs"]
        workflow = service.tables.workflows.get(workflow_id)
        row["workflow"] = None if workflow is None else run_rows.workflow_row(workflow)
        if with_outputs:
            row["outputs"] = [outputs.for_row(output) for output in run.outputs]
        version = service.tables.versions.get(run.workflow_version_id or "")
        row["version"] = None if version is None else run_rows.version_row(version)
        rows.append(row)
    return JSONResponse(rows)


@router.get("/v2/workflow/{workflow_id}/runs")
async def list_runs_light(
    request: Request,
    *,
    workflow_id: str,
    limit: int = 100,
    offset: int = 0,
    status: str | None = None,
    deployment_id: UUID | None = None,
    rf: float | None = None,
) -> JSONResponse:
    """List 25 light columns; `rf` is unix seconds: created at or after."""
    service, tenant = service_of(request), tenant_of(request)
    if service.tables.workflow(uuid_or_crash(workflow_id), tenant) is None:
        raise refuse(404, _NO_WORKFLOW)
    if status is not None and status not in {word.value for word in Status}:
        raise Crash(f"invalid input value for enum workflow_run_status: {status}")
    speed = service.settings.speed
    runs = service.tables.runs_of_workflow(str(UUID(workflow_id)), tenant)
    if rf is not None:
        since = datetime.fromtimestamp(rf, UTC)
        runs = [run for run in runs if run.created_at >= since]
    if deployment_id is not None:
        runs = [run for run in runs if run.deployment_id == str(deployment_id)]
    if status is not None:
        runs = [run for run in runs if run.status == status]
    return JSONResponse([run_rows.light(run, speed) for run in _page(runs, limit, offset)])


@router.get("/workflow/{workflow_id}/runs/day")
async def list_runs_of_a_day(request: Request, workflow_id: str, deployment_id: UUID | None = None) -> JSONResponse:
    service, tenant = service_of(request), tenant_of(request)
    since = now() - timedelta(seconds=DAY_SECONDS)
    return JSONResponse(
        [
            {"id": run.id, "created_at": millis(run.created_at), "status": run.status}
            for run in service.tables.runs_of_workflow(uuid_or_crash(workflow_id), tenant)
            if run.created_at >= since and (deployment_id is None or run.deployment_id == str(deployment_id))
        ]
    )


@router.get("/workflow/{workflow_id}/run/latest")
async def latest_run(request: Request, workflow_id: str) -> JSONResponse:
    """Give a list of no or one whole row, with at most one output."""
    service, tenant = service_of(request), tenant_of(request)
    runs = service.tables.runs_of_workflow(uuid_or_crash(workflow_id), tenant)
    if not runs:
        return JSONResponse([])
    shown = [
        outputs.for_row(output)
        for output in runs[0].outputs
        if isinstance(output.data, dict) and any(kind in output.data for kind in _PICTURE_KINDS)
    ]
    return JSONResponse(
        [{**run_rows.bare_row(runs[0], service.settings.speed), "run_log": None, "outputs": shown[-1:]}]
    )


@router.get("/deployment/{deployment_id}/runs")
async def list_runs_of_deployment(
    request: Request, deployment_id: str, limit: int = 60, offset: int = 0
) -> JSONResponse:
    """List a deployment's runs; `status` is ignored, totals are always 0, an unknown id is a 500."""
    service, tenant = service_of(request), tenant_of(request)
    deployment = service.tables.deployments.get(deployment_id.lower())
    if deployment is None:
        raise refuse(500, "Internal server error: 'NoneType' object has no attribute 'environment'")
    runs = service.tables.runs_of_deployment(deployment.id, tenant)
    return JSONResponse(
        {
            "data": [run_rows.of_deployment(run, service.settings.speed) for run in _page(runs, limit, offset)],
            "meta": {"totalRowCount": 0, "filterRowCount": 0, "chartData": []},
        }
    )


@router.get("/runs/count")
async def count_runs(
    request: Request,
    *,
    start_time: str | None = None,
    end_time: str | None = None,
    workflow_id: UUID | None = None,
    machine_id: UUID | None = None,
    deployment_id: UUID | None = None,
    status: Status | None = None,
    gpu: str | None = None,
    origin: str | None = None,
) -> JSONResponse:
    """Count runs of *all* tenants: upstream has no filter for the owner."""
    if status or gpu or origin:
        return told_error(500, "Internal server error")
    try:
        start, end = _moment(start_time), _moment(end_time)
    except ValueError as error:
        explained = "Invalid time format. Please provide UTC time in ISO format (e.g. 2024-03-15T10:00:00Z)"
        return told_error(400, f"{explained}: {error}")
    wanted = {"workflow_id": workflow_id, "machine_id": machine_id, "deployment_id": deployment_id}
    asked = {name: str(value) for name, value in wanted.items() if value is not None}

    def counts(run: Run) -> bool:
        timely = (start is None or run.created_at >= start) and (end is None or run.created_at <= end)
        return timely and all(getattr(run, name) == value for name, value in asked.items())

    filters: dict[str, Any] | None = None
    if asked:
        filters = {"gpu": None, "status": None, "origin": None, **dict.fromkeys(wanted), **asked}
    return JSONResponse(
        {
            "count": sum(map(counts, service_of(request).tables.runs.values())),
            "start_time": None if start is None else start.isoformat(),
            "end_time": None if end is None else end.isoformat(),
            "filters": filters,
        }
    )


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    at = datetime.fromisoformat(text)
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _page(runs: list[Run], limit: int, offset: int) -> list[Run]:
    if limit < 0 or offset < 0:
        raise Crash("LIMIT must not be negative")
    return list(islice(runs, offset, offset + limit))
