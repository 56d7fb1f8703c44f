"""Every metric Conveyor exports, and the question each answers.

Declared here and in `shared/system_gauges.py`, and nowhere else. The two differ in how they are added up:

* **Of a process**, here: on prometheus-client's default registry. A process exports what it did itself, so the sum over all
  processes is the whole.
* **Of the system**, there: what Redis holds, read at a scrape. Every process exports the same, so the whole is the maximum.

Labels are bounded: routes, classes, states, words of ours and names operators gave, never an id of a job, a run or a user.
What a counter can count is there from the start with 0, as far as it is known here: the first failure, too, is then a rise.
Workers serve them on `CONVEYOR_METRICS_PORT`, the gateway on `/metrics`; `docs/reference/metrics.md` is made from this page.
"""

from itertools import product
from typing import Final, get_args

from prometheus_client import Counter, Gauge, Histogram

from shared.jobs.event import ErrorCode
from shared.jobs.states import FINAL

#: Seconds: from the fastest answer to the longest wait worth telling apart.
_QUICK: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_DELAY: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 300.0)
_LIFE: Final = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 21600.0)


def _from_zero(counter: Counter, *values: tuple[str, ...]) -> None:
    """Have a counter export these values of its labels from the start."""
    for labels in product(*values):
        counter.labels(*labels)


# -- the API ----------------------------------------------------------------------------------------------------

API_CALLS = Counter(
    "conveyor_api_calls",
    "What do we ask the API, and what does it answer? By route and status (an HTTP status, or `lost` for no answer).",
    ["route", "status"],
)
API_SECONDS = Histogram(
    "conveyor_api_call_seconds", "How long does the API take to answer? By route.", ["route"], buckets=_QUICK
)

# -- the budget -------------------------------------------------------------------------------------------------

TOKENS = Counter(
    "conveyor_tokens",
    "How often was a token asked for, and was it granted? By class and answer (granted, refused: asked again later).",
    ["class", "answer"],
)
TOKEN_WAIT = Histogram(
    "conveyor_token_wait_seconds", "How long do calls wait for their token? By class.", ["class"], buckets=_QUICK
)

# -- the catalog ------------------------------------------------------------------------------------------------

CATALOG_LOOKUPS = Counter(
    "conveyor_catalog_lookups",
    "Was what we know of the API at hand? By part (deployments, machines, versions) and answer (memory and redis: a hit; "
    "stale: given though it was too old; miss: there was none; negative: a name known to be unknown, so nobody was asked).",
    ["part", "answer"],
)
CATALOG_REFRESHES = Counter(
    "conveyor_catalog_refreshes",
    "What became of the readings of the API that renew the catalog? By part and outcome (kept, failed, freed: given up, "
    "lost: another was quicker).",
    ["part", "outcome"],
)

# -- following --------------------------------------------------------------------------------------------------

LOOKS = Counter(
    "conveyor_looks",
    "Why did we look at a workflow's runs, and was there news? By reason (schedule, hint, cancel, deadline, progress: the "
    "strongest of them) and outcome (news, nothing, failed).",
    ["reason", "outcome"],
)
DETECTION_DELAY = Histogram(
    "conveyor_detection_delay_seconds",
    "How long after a run's end did we know of it? By source (hint, look). Without the time the submit's answer took: "
    "both ends are measured from the submit, ours on Redis's clock, the run's on the API's.",
    ["source"],
    buckets=_DELAY,
)
HINTS = Counter(
    "conveyor_hints",
    "What became of the hints that came in? By answer (nudged, noted, final, missing, forged).",
    ["answer"],
)
ENDS_HINTED = Counter(
    "conveyor_ends_hinted",
    "Of the ends we found, how many had a hint announced? By hinted (yes, no); the hit rate is yes over all.",
    ["hinted"],
)
ETAS = Counter(
    "conveyor_etas",
    "Did jobs end within the ETA they were given at their submit? By kept (yes, no); four of five should.",
    ["kept"],
)

_from_zero(LOOKS, ("schedule", "hint", "cancel", "deadline", "progress"), ("news", "nothing", "failed"))
_from_zero(HINTS, ("nudged", "noted", "final", "missing", "forged"))
_from_zero(ENDS_HINTED, ("yes", "no"))
_from_zero(ETAS, ("yes", "no"))

# -- jobs -------------------------------------------------------------------------------------------------------

JOBS_ASKED = Counter(
    "conveyor_jobs_asked",
    "How many jobs are we asked for? By answer (created, exists: its idempotency key was known, full: the user has too many).",
    ["answer"],
)
JOBS_ENDED = Counter("conveyor_jobs_ended", "How do jobs end? By final state.", ["state"])
JOB_ERRORS = Counter("conveyor_job_errors", "Why do jobs end without a result? By the code of their error.", ["code"])
STATE_SECONDS = Histogram(
    "conveyor_job_state_seconds",
    "How long were jobs in a state when they left it? By state: queued (in its lane), dispatched (waits for a slot and a "
    "token), submitting, submitted, running.",
    ["state"],
    buckets=_LIFE,
)
LANE_WAIT = Histogram(
    "conveyor_lane_wait_seconds",
    "How long did jobs wait for their turn? By tier: one of CONVEYOR_TIER_WEIGHTS, none or other.",
    ["tier"],
    buckets=_LIFE,
)
JOB_SECONDS = Histogram(
    "conveyor_job_seconds",
    "How long does a job take, from the ask to its end? By final state.",
    ["state"],
    buckets=_LIFE,
)

_from_zero(JOBS_ASKED, ("created", "exists", "full"))
_from_zero(JOBS_ENDED, tuple(sorted(FINAL)))
_from_zero(JOB_ERRORS, get_args(ErrorCode))

# -- submitting -------------------------------------------------------------------------------------------------

SUBMITS = Counter(
    "conveyor_submits",
    "What became of the runs we asked for? By outcome (submitted, undecided: the answer was lost, later: refused for now, "
    "failed).",
    ["outcome"],
)
UNDECIDED_SETTLED = Counter(
    "conveyor_undecided_settled",
    "How were submits settled whose answer was lost? By how (hint: a webhook named the run, search: it was found, none: no "
    "run was made, given_up: it cannot be found out).",
    ["how"],
)
STRAYS_CANCELLED = Counter("conveyor_strays_cancelled", "How many runs did we cancel that no job wanted?")
JOBS_RESCUED = Counter(
    "conveyor_jobs_rescued", "How many jobs did rescue start again, whose message or holder had gone silent?"
)

_from_zero(SUBMITS, ("submitted", "undecided", "later", "failed"))
_from_zero(UNDECIDED_SETTLED, ("hint", "search", "none", "given_up"))

# -- callbacks --------------------------------------------------------------------------------------------------

CALLBACKS = Counter(
    "conveyor_callbacks",
    "What became of the attempts to deliver a callback? By outcome (delivered, again: tried later, failed: given up).",
    ["outcome"],
)

_from_zero(CALLBACKS, ("delivered", "again", "failed"))

# -- the process ------------------------------------------------------------------------------------------------

LOOP_LAG = Histogram(
    "conveyor_loop_lag_seconds",
    "How late does the event loop of this process come round to what is due? Measured twice a second.",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)
SLOTS = Gauge("conveyor_worker_slots", "How many submits may this worker carry out at once? 0 of what is no worker.")
SLOTS_BUSY = Gauge("conveyor_worker_slots_busy", "How many of them are in use?")
STARVED = Gauge(
    "conveyor_worker_starved_seconds",
    "How long have messages waited beside a free slot of this worker without one arriving? At 30 it ends itself.",
)
REJECTED = Counter(
    "conveyor_rejected_messages",
    "What came from the broker that was not ours? By reason (not_json, not_an_envelope, undecodable, no_task, unknown_task, "
    "invalid_task, bad_arguments).",
    ["reason"],
)
CHORES_FAILED = Counter("conveyor_chores_failed", "Which chores of the worker's ticker fail? By chore.", ["chore"])

_from_zero(
    REJECTED,
    ("not_json", "not_an_envelope", "undecodable", "no_task", "unknown_task", "invalid_task", "bad_arguments"),
)

# -- consumers --------------------------------------------------------------------------------------------------

DELIVERIES = Counter(
    "conveyor_deliveries",
    "What do consumers do with their events? By frontend, group and outcome (handed_out, acknowledged, put_back: failed, and "
    "tried again, dead: given up).",
    ["frontend", "group", "outcome"],
)
DELIVERY_SECONDS = Histogram(
    "conveyor_delivery_seconds",
    "How long after an event was written did its frontend acknowledge it? By frontend and group; from Redis's clock to the "
    "consumer's.",
    ["frontend", "group"],
    buckets=_LIFE,
)

# -- files ------------------------------------------------------------------------------------------------------

OUTPUTS = Counter(
    "conveyor_outputs",
    "What did runs make? By kind (image, animation, video, audio, text, model, file; left_out: previews nobody can fetch).",
    ["kind"],
)
ARCHIVED = Counter(
    "conveyor_archived",
    "What came of attempts to archive a job? By outcome (kept, again: not all is there yet, failed: given up).",
    ["outcome"],
)
ARCHIVED_BYTES = Counter("conveyor_archived_bytes", "How many bytes were copied into the archive?")

_from_zero(OUTPUTS, ("image", "animation", "video", "audio", "text", "model", "file", "left_out"))
_from_zero(ARCHIVED, ("kept", "again", "failed"))

# -- the gateway ------------------------------------------------------------------------------------------------

HTTP_REQUESTS = Counter(
    "conveyor_http_requests",
    "What is the gateway asked, and what does it answer? By method, route (its template) and status.",
    ["method", "route", "status"],
)
HTTP_SECONDS = Histogram(
    "conveyor_http_request_seconds",
    "How long does an answer take? By route; for event streams, how long they were open.",
    ["route"],
    buckets=_QUICK,
)
STREAMS = Gauge("conveyor_streams", "How many event streams are open now?")
STREAMS_ENDED = Counter(
    "conveyor_streams_ended",
    "Why did event streams end? By why (final, gone: the client, slow: cut off, stopping, trouble).",
    ["why"],
)
STREAM_EVENTS = Counter("conveyor_stream_events", "How many events has the reader behind the event streams read?")


def observe_call(route: str, status: int | None, seconds: float) -> None:
    """Count one call to the API; what `ComfyDeploy(observe=...)` is given."""
    API_CALLS.labels(route, "lost" if status is None else str(status)).inc()
    API_SECONDS.labels(route).observe(seconds)
