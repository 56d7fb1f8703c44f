"""Every metric Conveyor exports, and the question each answers.

Declared here and nowhere else, on prometheus-client's default registry: a process exports what it does itself, so sums over
all processes are the whole. Labels are bounded: routes, classes, states and words of ours, never an id of a job or a user.
Workers serve them on `CONVEYOR_METRICS_PORT`, the gateway on `/metrics`; `docs/reference/metrics.md` is made from this page.
"""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

#: Seconds: from the fastest answer to the longest wait worth telling apart.
_QUICK: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_DELAY: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 300.0)

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

# -- jobs -------------------------------------------------------------------------------------------------------

JOBS_ENDED = Counter("conveyor_jobs_ended", "How do jobs end? By final state.", ["state"])

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
