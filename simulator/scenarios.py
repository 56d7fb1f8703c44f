"""Which bad days are worth rehearsing? Named presets, chosen with `--scenario` or `POST /_sim/config {"scenario": …}`.

A scenario is only settings: everything in it can be had by hand, and `GET /_sim/config` shows what it set.
"""

from __future__ import annotations

from typing import Any, NamedTuple

SUBMIT = "POST /run/deployment/queue"


class Scenario(NamedTuple):
    summary: str
    settings: dict[str, Any]


SCENARIOS: dict[str, Scenario] = {
    "calm": Scenario("nothing goes wrong; short cold starts", {}),
    "cold-starts": Scenario("every container boots for about a minute", {"cold_start_seconds": 60}),
    "slow": Scenario(
        "the API answers in 0.3 s, sometimes in 4 s",
        {
            "faults": [
                {"kind": "latency", "seconds": 4, "probability": 0.02},
                {"kind": "latency", "seconds": 0.3},
            ]
        },
    ),
    "flaky": Scenario(
        "one call in ten fails on the way: 500, 502, 503, resets; one run in twenty fails",
        {
            "faults": [
                {"kind": "error_500_text", "probability": 0.02},
                {"kind": "bad_gateway", "probability": 0.03},
                {"kind": "unavailable", "probability": 0.02, "retry_after": 1},
                {"kind": "reset_before", "probability": 0.02},
                {"kind": "reset_after", "probability": 0.01},
                {"kind": "failed", "probability": 0.05},
            ]
        },
    ),
    "lost-answers": Scenario(
        "one submit in five makes a run and loses the answer",
        {
            "faults": [
                {"kind": "lost_answer", "probability": 0.2, "route": SUBMIT},
                {"kind": "reset_before", "probability": 0.05, "route": SUBMIT},
            ]
        },
    ),
    "storm-429": Scenario(
        "5 calls a second, burst 10, then 429 with Retry-After",
        {"rate_limit": {"per_second": 5, "burst": 10}},
    ),
    "outage": Scenario(
        "everything answers 503 from the proxy",
        {"faults": [{"kind": "unavailable", "retry_after": 5}]},
    ),
    "webhook-chaos": Scenario(
        "hooks are lost, doubled, late and out of order",
        {
            "faults": [
                {"kind": "hook_lost", "probability": 0.3},
                {"kind": "hook_doubled", "probability": 0.3},
                {"kind": "hook_late", "probability": 0.2, "seconds": 5},
                {"kind": "hook_reordered", "probability": 0.5, "seconds": 1},
            ]
        },
    ),
    "no-webhooks": Scenario(
        "no hook is ever sent and streams are refused",
        {"faults": [{"kind": "hook_lost"}, {"kind": "stream_off"}]},
    ),
    "odd-runs": Scenario(
        "runs go backwards, say unknown words, get late updates, end empty, hang, fail or time out",
        {
            "faults": [
                {"kind": "backwards", "probability": 0.1},
                {"kind": "unknown_status", "probability": 0.1},
                {"kind": "late_updates", "probability": 0.1},
                {"kind": "late_outputs", "probability": 0.1, "seconds": 3},
                {"kind": "no_outputs", "probability": 0.03},
                {"kind": "failed", "probability": 0.05},
                {"kind": "timeout", "probability": 0.03},
                {"kind": "stuck", "probability": 0.03},
                {"kind": "spawn_refused", "probability": 0.03},
            ]
        },
    ),
}
