"""What can be watched as it happens? Progress and logs as server-sent events, with the defects they have upstream.

The progress stream of one run carries the events of *every* run of the account and ends at the first terminal status of
any of them. Nothing is replayed, progress percentages are not published, and a cancel arrives with a null status.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse

from simulator import outputs, run_rows
from simulator.answers import Crash, refuse, service_of, tenant_of
from simulator.engine import SpawnRefusedError
from simulator.routes.runs import readable
from simulator.routes.submit import DeploymentRunRequest, find_target, new_run
from simulator.rows import TERMINAL, Run, Tenant
from simulator.service import Service
from simulator.timestamps import millis

router = APIRouter()


def _data(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value)}\n\n"


def _whom(tenant: Tenant) -> tuple[str, str | None]:
    """Name the account whose events a tenant hears."""
    return ("" if tenant.org_id is not None else tenant.user_id, tenant.org_id)


def _stream(lines: AsyncIterator[str]) -> StreamingResponse:
    return StreamingResponse(lines, media_type="text/event-stream", headers={"cache-control": "no-cache"})


@router.get("/v2/stream-progress")
async def stream_progress(
    request: Request,
    *,
    run_id: UUID | None = None,
    workflow_id: UUID | None = None,
    machine_id: UUID | None = None,
    return_run: bool = False,
    status: str | None = None,
    deployment_id: UUID | None = None,
) -> Response:
    service, tenant = service_of(request), tenant_of(request)
    if service.menu.draw("stream_off") is not None:
        return HTMLResponse("<html><body><h1>503 Service Temporarily Unavailable</h1></body></html>", status_code=503)
    if sum(one is not None for one in (run_id, workflow_id, machine_id)) != 1:
        raise refuse(400, "Exactly one ID type must be provided")
    if run_id is not None:
        run = service.tables.runs.get(str(run_id))
        if run is None:
            raise refuse(404, "Run not found")
        if not tenant.owns(run):
            raise refuse(403, "Not authorized to access this progress")

    cut = service.menu.draw("stream_cut")
    cut_at = None if cut is None else asyncio.get_running_loop().time() + (1.0 if cut.seconds is None else cut.seconds)

    def passes(run: Run) -> bool:
        # No test for the run's id: upstream has none.
        return all(
            asked is None or getattr(run, name) == str(asked)
            for name, asked in (
                ("workflow_id", workflow_id),
                ("machine_id", machine_id),
                ("deployment_id", deployment_id),
            )
        ) and (status is None or run.status == status)

    async def lines() -> AsyncIterator[str]:
        events: asyncio.Queue[tuple[dict[str, Any], Run]] = asyncio.Queue()

        def listener(event: dict[str, Any], run: Run) -> None:
            events.put_nowait((event, run))

        whom = _whom(tenant)
        channel = f"progress:org:{tenant.org_id}" if tenant.org_id is not None else f"progress:user:{tenant.user_id}"
        service.broadcast.join(whom, listener)
        try:
            yield _data({"type": "connection_established", "channels": [channel]})
            yield _data({"type": "subscribed", "channel": channel})
            while True:
                try:
                    async with asyncio.timeout_at(cut_at):
                        event, run = await events.get()
                except TimeoutError:
                    return
                if not passes(run):
                    continue
                yield _data(_row(service, run) if return_run else event)
                if run_id is not None and event["status"] in TERMINAL:
                    return
        finally:
            service.broadcast.leave(whom, listener)

    return _stream(lines())


def _row(service: Service, run: Run) -> dict[str, Any]:
    shown = [outputs.for_hook(output, service.bucket) for output in run.outputs if outputs.fits(output.data)]
    return {**run_rows.row(run, service.settings.speed), "outputs": shown}


@router.get("/v2/stream-logs")
async def stream_logs(request: Request, run_id: UUID | None = None) -> Response:
    """Stream a run's log from its beginning until the run has ended."""
    service = service_of(request)
    run = None if run_id is None else service.tables.runs.get(str(run_id))
    if run is None:
        raise refuse(404, "Run not found")
    if not readable(service, tenant_of(request), run):
        raise refuse(403, "Not authorized to access this log")
    archived = run.final

    async def lines() -> AsyncIterator[str]:
        told = 0
        while True:
            for at, level, text in run.log[told:]:
                yield _data({"message": text, "level": level, "timestamp": millis(at)})
            told = len(run.log)
            if run.final:
                yield _data({"type": "stream_complete", "source": "archive" if archived else "sentinel"})
                return
            await asyncio.sleep(0.2)

    return _stream(lines())


@router.get("/v2/clickhouse-run-logs/{run_id}")
async def archived_logs(request: Request, run_id: UUID) -> JSONResponse:
    """Give the archived lines of a run, none while it runs."""
    service = service_of(request)
    run = service.tables.runs.get(str(run_id))
    if run is None or not readable(service, tenant_of(request), run) or not run.final:
        return JSONResponse([])
    return JSONResponse(
        [
            {"run_id": run.id, "timestamp": millis(at), "log": text, "user_id": None, "org_id": None, "log_type": None}
            for at, _level, text in run.log
        ]
    )


@router.post("/run/deployment/stream")
async def stream_run(request: Request, body: DeploymentRunRequest) -> Response:
    """Submit a run and stream what happens to it. The run's id is not announced."""
    service, tenant = service_of(request), tenant_of(request)
    target = find_target(service, tenant, body)
    run = new_run(service, tenant, body, target, dict(body.inputs))

    async def lines() -> AsyncIterator[str]:
        yield _event({"event": "queuing"})
        try:
            service.engine.spawn(run, target.machine, target.deployment)
        except SpawnRefusedError:
            return
        yield _event({"event": "function_call_id", "data": run.modal_function_call_id})
        told: tuple[str, str | None, int] = ("not-started", None, 0)
        while True:
            if run.status != told[0] and run.status == "queued":
                yield _event({"event": "gpu_ready"})
            if run.live_status != told[1]:
                live = {"prompt_id": run.id, "live_status": run.live_status, "progress": run.progress}
                yield _event({"event": "live_status", "data": live})
            for output in run.outputs[told[2] :]:
                node = (output.node_meta or {}).get("node_id")
                yield _event({"event": "executed", "data": {"node": node, "output": output.data}})
            told = (run.status, run.live_status, len(run.outputs))
            if run.final:
                return
            await asyncio.sleep(0.05)

    return _stream(lines())


@router.post("/run/deployment/sync")
async def run_and_wait(request: Request, body: DeploymentRunRequest) -> JSONResponse:
    """Submit a run and hold the connection until it ends; the answer is its outputs, none when it failed."""
    service, tenant = service_of(request), tenant_of(request)
    target = find_target(service, tenant, body)
    run = new_run(service, tenant, body, target, dict(body.inputs))
    ended = asyncio.Event()

    def listener(_event: dict[str, Any], told: Run) -> None:
        if told is run and run.final:
            ended.set()

    whom = _whom(tenant)
    service.broadcast.join(whom, listener)
    try:
        service.engine.spawn(run, target.machine, target.deployment)
        await ended.wait()
    except SpawnRefusedError:
        raise Crash("the GPU side refused the spawn") from None
    finally:
        service.broadcast.leave(whom, listener)
    return JSONResponse(
        [outputs.for_read(output, service.bucket) for output in run.outputs if outputs.fits(output.data)]
    )


def _event(value: dict[str, Any]) -> str:
    return f"event: event_update\ndata: {json.dumps(value)}\n\n"
