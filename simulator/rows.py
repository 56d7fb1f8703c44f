"""What does the service remember?

One dataclass per table. Rows are plain and mutable; who may change them is decided elsewhere: runs only by `updates.py`,
the catalogue only by its routes. Fields carry upstream's column names, so a serialiser can be read beside the contract.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from simulator.timestamps import now

TERMINAL = frozenset({"success", "failed", "timeout", "cancelled"})
SHARE_ENVIRONMENTS = frozenset({"public-share", "private-share", "community-share"})
PUBLIC_ENVIRONMENTS = frozenset({"public-share", "community-share"})
#: Machines that are called over HTTP by the API itself: their runs have no call id and so cannot be cancelled.
UNCANCELLABLE_MACHINES = frozenset({"classic", "runpod-serverless"})


@dataclass(frozen=True)
class Tenant:
    """Who a key speaks for. With an organisation only its objects are visible, without one only personal ones."""

    user_id: str
    org_id: str | None = None

    def owns(self, row: Machine | Workflow | Deployment | Run | Asset) -> bool:
        if self.org_id is not None:
            return row.org_id == self.org_id
        return row.user_id == self.user_id and row.org_id is None


@dataclass
class Machine:
    id: str
    user_id: str
    name: str
    org_id: str | None = None
    type: str = "comfy-deploy-serverless"
    gpu: str | None = "A10G"
    status: str = "ready"
    endpoint: str = "not-ready"
    auth_token: str | None = None
    concurrency_limit: int = 2
    run_timeout: int = 300
    idle_timeout: int = 60
    keep_warm: int = 0
    allow_concurrent_inputs: int = 1
    machine_builder_version: str = "2"
    deleted: bool = False
    created_at: datetime = field(default_factory=now)
    updated_at: datetime = field(default_factory=now)
    #: Columns the simulator only stores and hands back.
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass
class Workflow:
    id: str
    user_id: str
    name: str
    org_id: str | None = None
    selected_machine_id: str | None = None
    pinned: bool = False
    deleted: bool = False
    description: str | None = None
    cover_image: str | None = None
    created_at: datetime = field(default_factory=now)
    updated_at: datetime = field(default_factory=now)


@dataclass
class Version:
    id: str
    workflow_id: str
    user_id: str
    version: int
    workflow: dict[str, Any]
    workflow_api: dict[str, Any] | None
    comment: str | None = None
    machine_id: str | None = None
    machine_version_id: str | None = None
    comfyui_snapshot: Any = None
    created_at: datetime = field(default_factory=now)
    updated_at: datetime = field(default_factory=now)


@dataclass
class Deployment:
    id: str
    user_id: str
    workflow_id: str
    workflow_version_id: str
    machine_id: str
    environment: str
    org_id: str | None = None
    description: str | None = None
    share_slug: str | None = None
    gpu: str | None = None
    machine_version_id: str | None = None
    #: Set when the deployment has its own image ("fluid"): then it also has its own containers and its own limits.
    modal_image_id: str | None = None
    modal_app_id: str | None = None
    concurrency_limit: int = 2
    run_timeout: int = 300
    idle_timeout: int = 0
    keep_warm: int = 0
    created_at: datetime = field(default_factory=now)
    updated_at: datetime = field(default_factory=now)


@dataclass
class Output:
    """What one node of a run left behind, as the worker posted it: unfiltered, unsigned."""

    run_id: str
    data: Any
    node_meta: dict[str, Any] | None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    created_at: datetime = field(default_factory=now)
    updated_at: datetime = field(default_factory=now)


@dataclass
class Run:
    id: str
    user_id: str
    org_id: str | None
    workflow_id: str | None
    workflow_version_id: str | None
    machine_id: str | None
    deployment_id: str | None
    workflow_inputs: dict[str, Any]
    origin: str = "api"
    gpu: str | None = None
    machine_type: str | None = None
    webhook: str | None = None
    webhook_intermediate_status: bool = False
    batch_id: str | None = None
    modal_function_call_id: str | None = None
    gpu_event_id: str | None = None
    status: str = "not-started"
    live_status: str | None = None
    progress: float = 0.0
    created_at: datetime = field(default_factory=now)
    updated_at: datetime = field(default_factory=now)
    queued_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    outputs: list[Output] = field(default_factory=list)
    #: Lines of the log stream: (time, level, text).
    log: list[tuple[datetime, str, str]] = field(default_factory=list)
    #: A status word GET /run reports instead of the stored one. Only the fault `unknown_status` sets it.
    odd_status: str | None = None
    #: The order of submission, which also seeds what the run will look like.
    sequence: int = 0

    @property
    def final(self) -> bool:
        return self.status in TERMINAL

    @property
    def dropped_updates(self) -> bool:
        """Whether later reports of a worker vanish without a trace."""
        return self.status in {"cancelled", "timeout"}


@dataclass
class Asset:
    id: str
    user_id: str
    org_id: str | None
    name: str
    path: str
    is_folder: bool = False
    file_size: int | None = None
    url: str | None = None
    mime_type: str | None = None
    deleted: bool = False
    created_at: datetime = field(default_factory=now)
    updated_at: datetime = field(default_factory=now)
