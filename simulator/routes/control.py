"""How is the simulator steered and read? `/_sim/`: no key, no faults, not counted.

`config` sets faults and knobs, `stats` and `runs` tell what clients did, `reset` begins anew. Times here are real seconds.
"""

from __future__ import annotations

import time
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from simulator.answers import refuse, service_of
from simulator.rows import Run
from simulator.scenarios import SCENARIOS
from simulator.settings import UnknownScenario

router = APIRouter(prefix="/_sim")


@router.get("/config")
async def read_config(request: Request) -> JSONResponse:
    return JSONResponse(service_of(request).settings.model_dump())


@router.post("/config")
async def change_config(request: Request) -> JSONResponse:
    """Change settings: objects are merged key by key, `faults` is replaced, `scenario` starts from a preset."""
    service = service_of(request)
    try:
        patch = await request.json()
        settings = service.settings.changed(patch)
    except ValidationError as error:
        raise refuse(422, str(error)) from None
    except (UnknownScenario, ValueError, TypeError) as error:
        raise refuse(422, str(error)) from None
    service.configure(settings)
    return JSONResponse(settings.model_dump())


@router.get("/scenarios")
async def list_scenarios() -> JSONResponse:
    return JSONResponse({name: preset._asdict() for name, preset in SCENARIOS.items()})


@router.get("/stats")
async def read_stats(request: Request, calls: bool = False) -> JSONResponse:
    service = service_of(request)
    runs = service.tables.runs.values()
    job_ids = Counter(str(run.workflow_inputs["_job_id"]) for run in runs if "_job_id" in run.workflow_inputs)
    doubles = {job_id: count for job_id, count in job_ids.items() if count > 1}
    report: dict[str, Any] = {
        **service.meter.report(),
        "runs_total": len(service.tables.runs),
        "runs": dict(Counter(run.status for run in runs)),
        "double_submits": doubles,
        "double_submits_count": len(doubles),
        "job_ids": len(job_ids),
        "webhooks": service.hooks.counts,
        "pools": service.engine.pools(),
        "monotonic": time.monotonic(),
        "unix": time.time(),
    }
    if calls:
        report["call_log"] = list(service.meter.calls)
    return JSONResponse(report)


@router.get("/runs")
async def list_runs(request: Request) -> JSONResponse:
    return JSONResponse([_told(run) for run in service_of(request).tables.runs.values()])


@router.post("/runs/{run_id}/age")
async def age_run(request: Request, run_id: str, hours: float) -> JSONResponse:
    """Move a run's times into the past, for the rule about runs nobody touched for 24 hours."""
    run = service_of(request).tables.runs.get(run_id)
    if run is None:
        raise refuse(404, "no such run")
    for name in ("created_at", "updated_at", "queued_at", "started_at"):
        at: datetime | None = getattr(run, name)
        if at is not None:
            setattr(run, name, at - timedelta(hours=hours))
    return JSONResponse(_told(run))


@router.post("/reset")
async def reset(request: Request, seed: int | None = None) -> JSONResponse:
    """Forget runs, uploads and counters; settings stay. With `seed`, dice and pictures start from it."""
    service = service_of(request)
    if seed is not None:
        service.settings = service.settings.changed({"seed": seed})
    service.reset()
    return JSONResponse({"status": "reset", "seed": service.settings.seed})


def _told(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "status": run.status,
        "_job_id": run.workflow_inputs.get("_job_id"),
        "created_at": _unix(run.created_at),
        "queued_at": _unix(run.queued_at),
        "started_at": _unix(run.started_at),
        "ended_at": _unix(run.ended_at),
        "machine_id": run.machine_id,
        "deployment_id": run.deployment_id,
        "outputs": len(run.outputs),
    }


def _unix(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()
