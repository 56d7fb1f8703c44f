"""Which knobs does the simulator have, and what do they start at?

One model, read by `GET /_sim/config` and changed by `POST /_sim/config`. Unknown keys are refused, so a typo in a test is
an error and not a silently calm server. Durations are simulated seconds: `speed` divides them all.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

RequestFault = Literal[
    "latency",
    "rate_limited",
    "error_500",
    "error_500_text",
    "bad_gateway",
    "unavailable",
    "gateway_timeout",
    "forbidden",
    "reset_before",
    "reset_after",
    "lost_answer",
    "slow_answer",
    "hang",
]
RunFault = Literal[
    "spawn_refused",
    "stuck",
    "backwards",
    "unknown_status",
    "late_updates",
    "no_outputs",
    "late_outputs",
    "failed",
    "timeout",
]
HookFault = Literal["hook_lost", "hook_doubled", "hook_late", "hook_reordered"]
StreamFault = Literal["stream_off", "stream_cut"]
FaultKind = Literal[RequestFault, RunFault, HookFault, StreamFault]

REQUEST_FAULTS: tuple[str, ...] = get_args(RequestFault)
RUN_FAULTS: tuple[str, ...] = get_args(RunFault)


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Fault(Strict):
    """One line of the fault menu. The meaning of `seconds` and `status` depends on the kind: see docs/reference."""

    kind: FaultKind
    #: Chance that an occasion becomes a fault.
    probability: float = Field(1.0, ge=0, le=1)
    #: Shell pattern over "METHOD /route/template", e.g. "GET /run/*" or "POST /run/deployment/queue"; None is any route.
    route: str | None = None
    #: For faults of runs: shell pattern over the workflow's name, e.g. "Wan*"; None is any workflow.
    workflow: str | None = None
    #: Only the next so many times; None is until changed. Counts down as it is used.
    count: int | None = Field(None, ge=0)
    #: A length of time in real seconds: latency, hang, slow answers, late hooks. For `late_outputs` simulated seconds.
    seconds: float | None = Field(None, ge=0)
    #: `stuck`: the status it sticks in. `unknown_status`: the word to report.
    status: str | None = None
    #: `rate_limited`, `unavailable`: the Retry-After header in seconds; None leaves the header out.
    retry_after: float | None = Field(None, ge=0)
    #: Write Retry-After as an HTTP date instead of seconds.
    retry_after_date: bool = False


class Duration(Strict):
    """How long a kind of work takes on the GPU: log-normal around a median, in simulated seconds."""

    median: float = Field(gt=0)
    sigma: float = Field(0.35, ge=0)


class RateLimit(Strict):
    """An enforced limit, as a proxy in front of the service might have. The service itself has none."""

    per_second: float = Field(gt=0)
    burst: int = Field(20, ge=1)
    retry_after_date: bool = False


class Webhooks(Strict):
    """How hooks are sent. Real seconds, not scaled by speed, since the receiver's clock is real."""

    timeout_seconds: float = Field(20.0, gt=0)
    wait_seconds: list[float] = Field(default_factory=lambda: [0.5, 1.0])


def _durations() -> dict[str, Duration]:
    return {
        "image": Duration(median=12),
        "video": Duration(median=150),
        "text": Duration(median=2),
        "training": Duration(median=1500, sigma=0.15),
    }


class Settings(Strict):
    #: How many times faster than the wall runs live. Timestamps in answers stay real.
    speed: float = Field(1.0, gt=0)
    #: Seeds durations, fault dice and pictures.
    seed: int = 0
    #: The name of the scenario these settings came from.
    scenario: str = "calm"
    #: False: no worker ever takes a run; a test plays the worker through POST /api/update-run.
    autopilot: bool = True
    durations: dict[str, Duration] = Field(default_factory=_durations)
    #: Boot of a container plus start of ComfyUI when no warm container is free; median, simulated seconds.
    cold_start_seconds: float = Field(8.0, ge=0)
    warm_start_seconds: float = Field(0.4, ge=0)
    #: Life of a presigned URL in real seconds.
    presigned_seconds: int = Field(3600, ge=1)
    #: GET /run carries `workflow_api` as it did before August 2025; the official Python SDK 0.7.0 needs it.
    legacy_workflow_api: bool = False
    #: The listing routes of runs answer 403 for every key.
    forbid_listing: bool = False
    rate_limit: RateLimit | None = None
    webhooks: Webhooks = Field(default_factory=Webhooks)
    faults: list[Fault] = Field(default_factory=list)

    def changed(self, patch: dict[str, Any]) -> Settings:
        """Give these settings with a patch applied: objects merge key by key, lists and plain values are replaced.

        `scenario` in the patch first goes back to that scenario's settings, keeping speed and seed.
        `faults` may also be an object {kind: probability or {...}}, which is easier to type.
        """
        patch = dict(patch)
        if isinstance(patch.get("faults"), dict):
            patch["faults"] = [_fault_line(kind, value) for kind, value in patch["faults"].items()]
        base = self
        if "scenario" in patch:
            base = scenario(str(patch["scenario"])).model_copy(update={"speed": self.speed, "seed": self.seed})
        return Settings.model_validate(_merged(base.model_dump(), patch))


def _fault_line(kind: str, value: Any) -> dict[str, Any]:
    return {"kind": kind, **value} if isinstance(value, dict) else {"kind": kind, "probability": value}


def _merged(base: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in patch.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both else value
    return result


class UnknownScenario(ValueError):
    """No scenario has that name."""


def scenario(name: str) -> Settings:
    from simulator.scenarios import SCENARIOS  # noqa: PLC0415 - the presets are written in terms of these models

    if name not in SCENARIOS:
        raise UnknownScenario(f"no scenario {name!r}; there are: {', '.join(SCENARIOS)}")
    return Settings.model_validate({**SCENARIOS[name].settings, "scenario": name})
