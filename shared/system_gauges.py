"""Every number of the whole system that Conveyor exports, and the question each answers.

They are what Redis holds, and are read there at a scrape (`shared/census.py`). Every worker and gateway that is scraped
exports the same: so a query takes the maximum over all processes, never the sum, and one process that answers is enough.
What a process did itself is in `shared/metrics.py`.
"""

from dataclasses import dataclass

from prometheus_client.metrics_core import GaugeMetricFamily


@dataclass(frozen=True, slots=True)
class SystemGauge:
    """A number of the whole system; its samples come from `shared/census.py`."""

    name: str
    documentation: str
    labels: tuple[str, ...] = ()

    def family(self) -> GaugeMetricFamily:
        """The metric without samples."""
        return GaugeMetricFamily(self.name, self.documentation, labels=self.labels)


REDIS_REACHED = SystemGauge(
    "conveyor_redis_reached",
    "Did this process reach Redis at this scrape? 1 or 0; with 0 it exports none of the numbers of the system. Of each "
    "process, so take the minimum.",
)
JOBS = SystemGauge(
    "conveyor_jobs",
    "How many jobs are there that have not ended? By state: queued (in its lane), dispatched, submitting, submitted, running.",
    ("state",),
)
LANE_JOBS = SystemGauge(
    "conveyor_lane_jobs",
    "How many jobs wait in the lanes? By tier: one of CONVEYOR_TIER_WEIGHTS, none or other. What to scale workers by.",
    ("tier",),
)
LANE_OLDEST = SystemGauge("conveyor_lane_oldest_seconds", "How long has the first of them waited? By tier.", ("tier",))
WINDOW_JOBS = SystemGauge("conveyor_window_jobs", "How many jobs are past the lanes?")
WINDOW_PLACES = SystemGauge("conveyor_window_places", "How many may be past the lanes at once?")
WINDOW_OLDEST = SystemGauge("conveyor_window_oldest_seconds", "How long has the oldest of them been past the lanes?")
MACHINE_JOBS = SystemGauge(
    "conveyor_machine_jobs", "How many jobs are past the lanes on a machine? The 50 fullest machines.", ("machine",)
)
MACHINE_PLACES = SystemGauge(
    "conveyor_machine_places", "How many may be past the lanes there at once? 0 is no limit.", ("machine",)
)
PAUSES = SystemGauge(
    "conveyor_pauses", "How much have operators paused? By scope: all, frontend, user, workflow.", ("scope",)
)
PAUSE_OLDEST = SystemGauge(
    "conveyor_pause_oldest_seconds", "How long has the longest pause lasted? 0 when there is none."
)
BACKLOG = SystemGauge(
    "conveyor_backlog",
    "What is there for workers to do, now or later? By set: starting and expiring (jobs), due (workflows to look at), closing "
    "(rows), strays (runs), callbacks, archives (jobs).",
    ("set",),
)
OVERDUE = SystemGauge(
    "conveyor_overdue_seconds",
    "How long ago should the first of it have been done? By set; 0 when nothing is late.",
    ("set",),
)
BROKER_MESSAGES = SystemGauge("conveyor_broker_messages", "How many submit messages wait in the broker?")
BUDGET_RATE = SystemGauge("conveyor_budget_rate", "How many calls a second may be made now, all workers together?")
BUDGET_FACTOR = SystemGauge("conveyor_budget_factor", "What part of the set rate have the API's 429s left?")
BUDGET_TOKENS = SystemGauge("conveyor_budget_tokens", "How many calls could be made at once?")
BUDGET_CLOSED = SystemGauge("conveyor_budget_closed_seconds", "For how long may nobody call?")
BREAKER_OPEN = SystemGauge(
    "conveyor_breaker_open", "Has the breaker tripped? 1 from five failed calls in a row to the first answer."
)
STREAM_EVENTS_KEPT = SystemGauge(
    "conveyor_result_stream_length", "How many events are on a frontend's result stream?", ("frontend",)
)
DEAD_LETTERS = SystemGauge("conveyor_dead_letters", "How many events has nobody been able to deliver?", ("frontend",))
GROUP_LAG = SystemGauge(
    "conveyor_group_lag",
    "How many events has a consumer group not read? Missing where Redis cannot tell.",
    ("frontend", "group"),
)
GROUP_PENDING = SystemGauge(
    "conveyor_group_pending", "How many events has a consumer group read and not acknowledged?", ("frontend", "group")
)
GROUP_OLDEST = SystemGauge(
    "conveyor_group_oldest_seconds",
    "How old is the oldest event a consumer group has not acknowledged? 0 when there is none.",
    ("frontend", "group"),
)

#: By name.
SYSTEM_GAUGES = {gauge.name: gauge for gauge in list(vars().values()) if isinstance(gauge, SystemGauge)}
