"""What does the gateway count? Read at `/metrics`, in Prometheus's text."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

#: Seconds; the gateway answers in milliseconds or waits for somebody.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """The counters of one gateway, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "conveyor_gateway_requests", "Requests answered.", ["method", "route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "conveyor_gateway_request_seconds",
            "Time to the end of the answer; for event streams, how long they were open.",
            ["route"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self.streams = Gauge("conveyor_gateway_streams", "Event streams open now.", registry=self._registry)
        self._ended = Counter(
            "conveyor_gateway_streams_ended",
            "Event streams that ended: `final`, `gone` (the client), `slow` (cut off), `stopping`, `trouble`.",
            ["why"],
            registry=self._registry,
        )
        self.events = Counter(
            "conveyor_gateway_events", "Events read from the result streams.", registry=self._registry
        )
        self._hooks = Counter(
            "conveyor_gateway_hooks", "Webhooks by what became of them.", ["reply"], registry=self._registry
        )
        self._jobs = Counter(
            "conveyor_gateway_jobs", "Jobs accepted.", ["frontend", "created"], registry=self._registry
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request is over; `route` is the template, so that ids make no new series."""
        self._requests.labels(method if method in _METHODS else "other", route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def stream_ended(self, why: str) -> None:
        """An event stream is over."""
        self._ended.labels(why).inc()

    def hook(self, reply: str) -> None:
        """A webhook came."""
        self._hooks.labels(reply).inc()

    def job(self, frontend: str, *, created: bool) -> None:
        """A job was accepted, or found by its idempotency key."""
        self._jobs.labels(frontend, str(created).lower()).inc()

    def text(self) -> bytes:
        """All of them, for Prometheus."""
        return generate_latest(self._registry)


_METHODS = frozenset({"GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"})
