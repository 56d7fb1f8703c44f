"""What the dashboard asks: a panel's title is a question, and what it draws is the answer.

Change it here, then `make schemas`: `ops/dashboard.py` makes Grafana's file of it. Numbers of the whole system are exported alike by every process,
so their maximum is drawn; what a process did itself is summed (`docs/reference/metrics.md`).
"""

from dataclasses import dataclass
from typing import Final

from ops.promql import RATE, mean, per_minute, per_second, quantile, quantiles, share, whole


@dataclass(frozen=True)
class Panel:
    """A question, and the queries that answer it: (what a line is called, in Grafana's words, and PromQL)."""

    question: str
    lines: list[tuple[str, str]]
    #: Of Grafana's units: `short`, `s`, `percentunit`, `reqps`, `cpm` (a minute), `bytes`.
    unit: str = "short"
    #: What a reader should know to understand it.
    note: str = ""
    stacked: bool = False


def _hits() -> str:
    asked = per_second("conveyor_catalog_lookups", "part")
    at_hand = per_second("conveyor_catalog_lookups", "part", labels='{answer=~"memory|redis"}')
    return f"{at_hand} / {asked}"


ROWS: Final[dict[str, list[Panel]]] = {
    "Jobs": [
        Panel("How many jobs are there, by state?", [("{{state}}", whole("conveyor_jobs", "state"))], stacked=True),
        Panel(
            "How many jobs come, and how do they end?",
            [
                ("asked for", per_minute("conveyor_jobs_asked", labels='{answer="created"}')),
                ("{{state}}", per_minute("conveyor_jobs_ended", "state")),
            ],
            "cpm",
        ),
        Panel(
            "How long does a job take, from the ask to its end?",
            quantiles("conveyor_job_seconds", '{state="succeeded"}'),
            "s",
            "Of those that succeeded.",
        ),
        Panel(
            "Where is that time spent?",
            [("{{state}}", mean("conveyor_job_state_seconds", "state"))],
            "s",
            "Means. `queued` is the lane, `dispatched` a slot and a token, `submitted` upstream's queue, `running` the GPU.",
            stacked=True,
        ),
        Panel("Why do jobs end without a result?", [("{{code}}", per_minute("conveyor_job_errors", "code"))], "cpm"),
        Panel(
            "Which part of the jobs fails?",
            [("failed or timed out", share("conveyor_jobs_ended", '{state=~"failed|timed_out"}'))],
            "percentunit",
        ),
    ],
    "Waiting": [
        Panel(
            "How many jobs wait in the lanes, by tier?",
            [("{{tier}}", whole("conveyor_lane_jobs", "tier"))],
            stacked=True,
        ),
        Panel(
            "How long has the first of them waited?", [("{{tier}}", whole("conveyor_lane_oldest_seconds", "tier"))], "s"
        ),
        Panel(
            "How long did jobs wait for their turn?",
            [("{{tier}}, 95 %", quantile(0.95, "conveyor_lane_wait_seconds", "tier"))],
            "s",
        ),
        Panel(
            "Is there room past the lanes?",
            [("taken", whole("conveyor_window_jobs")), ("places", whole("conveyor_window_places"))],
        ),
        Panel(
            "How long has the oldest job been past them?",
            [("the oldest", whole("conveyor_window_oldest_seconds"))],
            "s",
        ),
        Panel(
            "Which machine is full?",
            [
                (
                    "{{machine}}",
                    f"{whole('conveyor_machine_jobs', 'machine')} / ({whole('conveyor_machine_places', 'machine')} > 0)",
                )
            ],
            "percentunit",
            "Machines without a limit are left out.",
        ),
        Panel(
            "What is paused, and for how long?",
            [
                ("{{scope}}", whole("conveyor_pauses", "scope")),
                ("hours", f"{whole('conveyor_pause_oldest_seconds')} / 3600"),
            ],
        ),
    ],
    "API and budget": [
        Panel(
            "What do we ask the API?", [("{{route}}", per_second("conveyor_api_calls", "route"))], "reqps", stacked=True
        ),
        Panel(
            "What does the API answer?",
            [("{{status}}", per_second("conveyor_api_calls", "status"))],
            "reqps",
            stacked=True,
        ),
        Panel(
            "How long does the API take to answer?",
            [("{{route}}, 95 %", quantile(0.95, "conveyor_api_call_seconds", "route"))],
            "s",
        ),
        Panel(
            "How much of the budget is used?",
            [
                ("{{class}}", per_second("conveyor_tokens", "class", labels='{answer="granted"}')),
                ("may be used", whole("conveyor_budget_rate")),
            ],
            "reqps",
        ),
        Panel(
            "How long do calls wait for their token?",
            [("{{class}}, 95 %", quantile(0.95, "conveyor_token_wait_seconds", "class"))],
            "s",
        ),
        Panel(
            "Is the API in trouble?",
            [
                ("breaker open", whole("conveyor_breaker_open")),
                ("part of the rate left by 429s", whole("conveyor_budget_factor")),
                ("seconds until calls may go", whole("conveyor_budget_closed_seconds")),
                ("calls that could go at once", whole("conveyor_budget_tokens")),
            ],
        ),
        Panel("What became of the submits?", [("{{outcome}}", per_minute("conveyor_submits", "outcome"))], "cpm"),
        Panel(
            "How were lost answers settled?",
            [
                ("{{how}}", per_minute("conveyor_undecided_settled", "how")),
                ("strays cancelled", per_minute("conveyor_strays_cancelled")),
                ("jobs rescued", per_minute("conveyor_jobs_rescued")),
            ],
            "cpm",
        ),
        Panel(
            "How often is what we know of the API at hand?",
            [("{{part}}", _hits())],
            "percentunit",
            "In memory or in Redis, fresh enough.",
        ),
        Panel(
            "What became of renewals of the catalog?",
            [("{{part}}: {{outcome}}", per_minute("conveyor_catalog_refreshes", "part", "outcome"))],
            "cpm",
        ),
    ],
    "Following": [
        Panel("How soon do we know of a run's end?", quantiles("conveyor_detection_delay_seconds"), "s"),
        Panel(
            "How many calls does a job cost?",
            [("calls", f"{per_second('conveyor_api_calls')} / {per_second('conveyor_jobs_ended')}")],
        ),
        Panel(
            "Why do we look, and is there news?",
            [("{{reason}}: {{outcome}}", per_second("conveyor_looks", "reason", "outcome"))],
            "reqps",
            stacked=True,
        ),
        Panel(
            "Do hints announce the ends?",
            [("announced", share("conveyor_ends_hinted", '{hinted="yes"}'))],
            "percentunit",
            "Empty without webhooks and progress streams.",
        ),
        Panel("What became of the hints?", [("{{answer}}", per_minute("conveyor_hints", "answer"))], "cpm"),
        Panel(
            "Do jobs end within the ETA of their submit?",
            [("kept", share("conveyor_etas", '{kept="yes"}'))],
            "percentunit",
            "Four of five should.",
        ),
    ],
    "Gateway": [
        Panel("What is the gateway asked?", [("{{route}}", per_second("conveyor_http_requests", "route"))], "reqps"),
        Panel(
            "What does the gateway answer?", [("{{status}}", per_second("conveyor_http_requests", "status"))], "reqps"
        ),
        Panel(
            "How long does the gateway take to answer?",
            [("{{route}}, 95 %", quantile(0.95, "conveyor_http_request_seconds", "route"))],
            "s",
            "For event streams, how long they were open.",
        ),
        Panel(
            "How many event streams are open, and why do they end?",
            [
                ("open", "sum (conveyor_streams)"),
                ("{{why}}, a minute", per_minute("conveyor_streams_ended", "why")),
                ("events read, a second", per_second("conveyor_stream_events")),
            ],
        ),
    ],
    "Consumers": [
        Panel(
            "How long has the oldest event waited for each group?",
            [("{{frontend}}/{{group}}", whole("conveyor_group_oldest_seconds", "frontend", "group"))],
            "s",
        ),
        Panel(
            "What has each group still to do?",
            [
                ("{{frontend}}/{{group}} to read", whole("conveyor_group_lag", "frontend", "group")),
                ("{{frontend}}/{{group}} to acknowledge", whole("conveyor_group_pending", "frontend", "group")),
            ],
        ),
        Panel(
            "How many events does Redis keep?",
            [
                ("{{frontend}}", whole("conveyor_result_stream_length", "frontend")),
                ("{{frontend}}, dead letters", whole("conveyor_dead_letters", "frontend")),
            ],
        ),
        Panel(
            "What do consumers do with their events?",
            [("{{frontend}}/{{group}} {{outcome}}", per_minute("conveyor_deliveries", "frontend", "group", "outcome"))],
            "cpm",
            "From frontends that serve the metrics of their own process.",
        ),
        Panel(
            "How soon has the user got it?",
            [("{{frontend}}/{{group}}, 95 %", quantile(0.95, "conveyor_delivery_seconds", "frontend", "group"))],
            "s",
            "From the event to its acknowledgement; from frontends that serve the metrics of their own process.",
        ),
        Panel("What do runs make?", [("{{kind}}", per_minute("conveyor_outputs", "kind"))], "cpm"),
        Panel(
            "What comes of archiving?",
            [
                ("{{outcome}}", per_minute("conveyor_archived", "outcome")),
                ("megabytes", f"{per_minute('conveyor_archived_bytes')} / 1e6"),
            ],
            "cpm",
        ),
        Panel("What became of callbacks?", [("{{outcome}}", per_minute("conveyor_callbacks", "outcome"))], "cpm"),
    ],
    "Health": [
        Panel("Which process reaches Redis?", [("{{instance}}", "min by (instance) (conveyor_redis_reached)")]),
        Panel(
            "What should somebody have done by now?",
            [("{{set}}", whole("conveyor_overdue_seconds", "set"))],
            "s",
            "How late the first of each set is; 0 is well.",
        ),
        Panel(
            "What is there for workers to do?",
            [("{{set}}", whole("conveyor_backlog", "set")), ("messages", whole("conveyor_broker_messages"))],
        ),
        Panel(
            "How busy are the workers?",
            [
                (
                    "{{instance}} busy",
                    "max by (instance) (conveyor_worker_slots_busy) and on (instance) conveyor_worker_slots > 0",
                ),
                ("{{instance}} slots", "max by (instance) (conveyor_worker_slots) > 0"),
                ("{{instance}} starved, seconds", "max by (instance) (conveyor_worker_starved_seconds)"),
            ],
        ),
        Panel(
            "Does the event loop keep up?",
            [("{{instance}}, 99 %", quantile(0.99, "conveyor_loop_lag_seconds", "instance"))],
            "s",
        ),
        Panel(
            "What goes wrong?",
            [
                ("chore {{chore}}", per_minute("conveyor_chores_failed", "chore")),
                ("foreign message, {{reason}}", per_minute("conveyor_rejected_messages", "reason")),
            ],
            "cpm",
        ),
        Panel(
            "How much memory do the processes take?",
            [("{{instance}}", "process_resident_memory_bytes and on (instance) conveyor_redis_reached")],
            "bytes",
        ),
        Panel(
            "How much CPU do they use?",
            [("{{instance}}", f"rate(process_cpu_seconds_total{RATE}) and on (instance) conveyor_redis_reached")],
            "percentunit",
        ),
    ],
}
