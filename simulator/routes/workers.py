"""How do GPU workers report? `POST /update-run` and `GET /file-upload`, as the containers call them upstream.

Any valid key may: upstream checks no ownership here. Tests use it to play the worker, with `autopilot` switched off.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from simulator.answers import refuse, service_of
from simulator.routes.listings import Status
from simulator.timestamps import now

router = APIRouter()


class UpdateRunBody(BaseModel):
    run_id: str | None = None
    status: Status | None = None
    time: datetime | None = None
    output_data: Any = None
    node_meta: Any = None
    logs: Any = None
    live_status: str | None = None
    progress: float | None = None
    modal_function_call_id: str | None = None


@router.post("/update-run")
async def update_run(request: Request, body: UpdateRunBody) -> JSONResponse:
    service = service_of(request)
    run = service.tables.runs.get(body.run_id or "")
    if run is None:
        raise refuse(404, "WorkflowRun not found")
    if body.logs is not None:
        lines = body.logs if isinstance(body.logs, list) else [body.logs]
        for line in lines:
            run.log.append((now(), "info", str(line.get("logs", "") if isinstance(line, dict) else line)))
    if body.live_status is not None or body.progress is not None:
        service.updates.live(run, body.live_status, body.progress)
    if body.output_data is not None:
        service.updates.output(run, body.output_data, body.node_meta)
    if body.status is not None:
        service.updates.status(run, body.status.value, call_id=body.modal_function_call_id)
    return JSONResponse({"status": "success"})


@router.get("/file-upload")
async def file_upload_address(
    request: Request,
    file_name: str,
    run_id: UUID,
    _kind: Annotated[str, Query(alias="type")],
    public: bool = True,
) -> JSONResponse:
    """Give a worker the presigned PUT address of one of a run's files."""
    bucket = service_of(request).bucket
    key = f"outputs/runs/{run_id}/{file_name}"
    signed_headers = "content-type;host;x-amz-acl" if public else "content-type;host"
    return JSONResponse(
        {
            "url": bucket.presigned(key, method="PUT", signed_headers=signed_headers),
            "download_url": bucket.url(key),
            "include_acl": public,
            "is_public": public,
        }
    )
