"""How does a run look? Differently at every endpoint.

One function per shape. Keys are written in upstream's order; what is absent from a shape is absent there.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from simulator import outputs
from simulator.bucket import Bucket
from simulator.rows import Run, Version, Workflow
from simulator.timestamps import DAY_SECONDS, millis, model, naive, now, seconds_between, seconds_text


def reported_status(run: Run, speed: float) -> str:
    """Tell the status reads report. A live run untouched for 24 h is *reported* as `timeout`; its row stays as it is.

    The 24 hours are hours of the simulator's clock, so they pass `speed` times faster.
    """
    if run.final:
        return run.status
    touched: datetime = {
        "not-started": run.created_at,
        "queued": run.queued_at or run.created_at,
        "started": run.started_at or run.created_at,
    }.get(run.status, run.updated_at)
    if (now() - touched).total_seconds() * speed > DAY_SECONDS:
        return "timeout"
    return run.odd_status or run.status


def full(run: Run, bucket: Bucket, speed: float, queue_position: int | None) -> dict[str, Any]:
    """Shape a run for `GET /run/{id}`: exactly 32 keys."""
    return {
        "id": run.id,
        "workflow_version_id": run.workflow_version_id,
        "workflow_inputs": run.workflow_inputs,
        "workflow_id": run.workflow_id,
        "machine_id": run.machine_id,
        "origin": run.origin,
        "status": reported_status(run, speed),
        "ended_at": model(run.ended_at),
        "created_at": model(run.created_at),
        "updated_at": model(run.updated_at),
        "queued_at": model(run.queued_at),
        "started_at": model(run.started_at),
        "gpu_event_id": run.gpu_event_id,
        "gpu": run.gpu,
        "machine_version": None,
        "machine_type": run.machine_type,
        "modal_function_call_id": run.modal_function_call_id,
        "user_id": run.user_id,
        "org_id": run.org_id,
        "live_status": run.live_status,
        "progress": run.progress,
        "is_realtime": False,
        "webhook": run.webhook,
        "webhook_status": None,
        "webhook_intermediate_status": run.webhook_intermediate_status,
        "outputs": [outputs.for_read(output, bucket) for output in run.outputs if outputs.fits(output.data)],
        "number": 0,
        "duration": seconds_between(run.created_at, run.ended_at),
        "cold_start_duration": seconds_between(run.queued_at, run.started_at),
        "cold_start_duration_total": seconds_between(run.created_at, run.started_at),
        "run_duration": seconds_between(run.started_at, run.ended_at),
        "queue_position": queue_position,
    }


def light(run: Run, speed: float) -> dict[str, Any]:
    """Shape a run for `GET /v2/workflow/{id}/runs`: 25 columns, without webhook, inputs, machine, progress, outputs."""
    return {
        "id": run.id,
        "status": reported_status(run, speed),
        "created_at": millis(run.created_at),
        "updated_at": millis(run.updated_at),
        "ended_at": millis(run.ended_at),
        "queued_at": millis(run.queued_at),
        "started_at": millis(run.started_at),
        "workflow_id": run.workflow_id,
        "user_id": run.user_id,
        "org_id": run.org_id,
        "origin": run.origin,
        "gpu": run.gpu,
        "machine_version": None,
        "machine_type": run.machine_type,
        "modal_function_call_id": run.modal_function_call_id,
        "webhook_status": None,
        "webhook_intermediate_status": run.webhook_intermediate_status,
        "batch_id": run.batch_id,
        "workflow_version_id": run.workflow_version_id,
        "deployment_id": run.deployment_id,
        **_durations(run),
    }


def row(run: Run, speed: float) -> dict[str, Any]:
    """Shape a run as its whole database row, as the first listing and the progress stream give it."""
    return {
        **bare_row(run, speed),
        **_durations(run),
    }


def bare_row(run: Run, speed: float) -> dict[str, Any]:
    """Shape a run as its row without the computed durations."""
    return {
        "user_id": run.user_id,
        "webhook_intermediate_status": run.webhook_intermediate_status,
        "workflow_inputs": run.workflow_inputs,
        "started_at": millis(run.started_at),
        "org_id": run.org_id,
        "batch_id": run.batch_id,
        "workflow_api": {},
        "status": reported_status(run, speed),
        "gpu_event_id": run.gpu_event_id,
        "model_id": None,
        "origin": run.origin,
        "gpu": run.gpu,
        "live_status": run.live_status,
        "deployment_id": run.deployment_id,
        "workflow_version_id": run.workflow_version_id,
        "ended_at": millis(run.ended_at),
        "machine_version": None,
        "progress": run.progress,
        "created_at": millis(run.created_at),
        "machine_type": run.machine_type,
        "is_realtime": False,
        "workflow_id": run.workflow_id,
        "updated_at": millis(run.updated_at),
        "modal_function_call_id": run.modal_function_call_id,
        "webhook": run.webhook,
        "id": run.id,
        "machine_id": run.machine_id,
        "queued_at": millis(run.queued_at),
        "webhook_status": None,
    }


def of_deployment(run: Run, speed: float) -> dict[str, Any]:
    """Shape a run for `GET /deployment/{id}/runs`: 13 fields, times without a zone, duration since the start."""
    return {
        "id": run.id,
        "status": reported_status(run, speed),
        "created_at": naive(run.created_at),
        "started_at": naive(run.started_at),
        "ended_at": naive(run.ended_at),
        "workflow_id": run.workflow_id,
        "workflow_version_id": run.workflow_version_id,
        "machine_id": run.machine_id,
        "gpu": run.gpu,
        "origin": run.origin,
        "user_id": run.user_id,
        "deployment_id": run.deployment_id,
        "duration": seconds_text(run.started_at, run.ended_at),
    }


def version_row(version: Version) -> dict[str, Any]:
    """Shape a workflow version as its whole row, graphs included."""
    return {
        "workflow_id": version.workflow_id,
        "workflow": version.workflow,
        "user_id": version.user_id,
        "snapshot": None,
        "updated_at": millis(version.updated_at),
        "machine_id": version.machine_id,
        "id": version.id,
        "workflow_api": version.workflow_api,
        "comment": version.comment,
        "version": version.version,
        "dependencies": None,
        "created_at": millis(version.created_at),
        "machine_version_id": version.machine_version_id,
        "comfyui_snapshot": version.comfyui_snapshot,
    }


def workflow_row(workflow: Workflow) -> dict[str, Any]:
    """Shape a workflow as it is nested in a run of the first listing."""
    return {
        "id": workflow.id,
        "user_id": workflow.user_id,
        "org_id": workflow.org_id,
        "selected_machine_id": workflow.selected_machine_id,
        "cover_image": workflow.cover_image,
        "updated_at": millis(workflow.updated_at),
        "deleted": workflow.deleted,
        "name": workflow.name,
        "description": workflow.description,
        "created_at": millis(workflow.created_at),
        "pinned": workflow.pinned,
    }


def _durations(run: Run) -> dict[str, str | None]:
    return {
        "duration": seconds_text(run.created_at, run.ended_at),
        "comfy_deploy_cold_start": seconds_text(run.created_at, run.queued_at),
        "cold_start_duration": seconds_text(run.queued_at, run.started_at),
        "cold_start_duration_total": seconds_text(run.created_at, run.started_at),
        "run_duration": seconds_text(run.started_at, run.ended_at),
    }
