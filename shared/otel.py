"""The traces of `tracing.py`, told by OpenTelemetry's SDK. The only file that imports it.

The provider is ours alone and not the process's global one: FastAPI and others that find a global one would begin to tell
of their own, addresses with their queries among it.
"""

import logging
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import structlog
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from shared.settings import Settings
from shared.tracing import Attributes, Kind, Past
from shared.tracing import Span as OpenSpan

#: Sending what is left may not hold up the end of a process.
CLOSE_SECONDS = 2.0
#: API calls told below one span: more come only of a search that goes on and on.
MOST_CALLS = 16

#: The ids of the next root; None leaves them to chance.
_root_ids: ContextVar[tuple[int, int] | None] = ContextVar("conveyor_root_ids", default=None)


class Unsupported(Exception):
    """The environment asks for what this exporter cannot do."""


class JobIds(RandomIdGenerator):
    """A trace that begins with us has the job's id, so that either finds the other: a UUIDv7 is as long, and as random
    where samplers look."""

    def generate_trace_id(self) -> int:
        """The job's, when there is one."""
        ids = _root_ids.get()
        return ids[0] if ids else super().generate_trace_id()

    def generate_span_id(self) -> int:
        """The one others already hang below, when there is one."""
        ids = _root_ids.get()
        return ids[1] if ids and ids[1] else super().generate_span_id()


@dataclass
class _Call:
    route: str
    status: int | None
    start_ns: int
    end_ns: int


@dataclass
class _Open:
    """A live span, and the calls made for it."""

    span: trace.Span
    calls: list[_Call] = field(default_factory=list)
    dropped: bool = False

    @property
    def traceparent(self) -> str:
        context = self.span.get_span_context()
        if not context.is_valid:
            return ""  # the program has loaded the SDK and set up nothing
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"

    def note(self, attributes: Attributes) -> None:
        self.span.set_attributes(dict(attributes))

    def fail(self, why: str) -> None:
        self.span.set_attribute("error.type", why)
        self.span.set_status(Status(StatusCode.ERROR))

    def drop(self) -> None:
        self.dropped = True


_open: ContextVar[_Open | None] = ContextVar("conveyor_span", default=None)


class OtelTracer:
    """Tells spans to a provider."""

    def __init__(self, provider: trace.TracerProvider, *, api_url: str = "") -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("conveyor")
        self._api = urlsplit(api_url).hostname or ""

    @contextmanager
    def begin(self, name: str, job_id: str, traceparent: str, attributes: Attributes) -> Iterator[OpenSpan]:
        """The first span of a job: below the caller's, the program's current one, or nothing."""
        parent = _remote(traceparent) if traceparent else contexts.get_current()
        is_root = not trace.get_current_span(parent).get_span_context().is_valid
        token = _root_ids.set((uuid.UUID(job_id).int, 0)) if is_root else None
        try:
            span = self._tracer.start_span(name, parent, SpanKind.PRODUCER, dict(attributes))
        finally:
            if token is not None:
                _root_ids.reset(token)
        with self._opened(span) as one:
            yield one

    @contextmanager
    def span(self, name: str, job_id: str, traceparent: str, kind: Kind, attributes: Attributes) -> Iterator[OpenSpan]:
        """A span of a job's trace."""
        parent = self._context(job_id, traceparent)
        span = self._tracer.start_span(name, parent, SpanKind[kind.value], dict(attributes))
        with self._opened(span) as one:
            yield one

    @contextmanager
    def _opened(self, span: trace.Span) -> Iterator[_Open]:
        one = _Open(span)
        here = _open.set(one)
        trace_id = f"{span.get_span_context().trace_id:032x}"
        try:
            with structlog.contextvars.bound_contextvars(trace_id=trace_id):
                yield one
        except Exception as error:
            one.fail(type(error).__name__)
            raise
        finally:
            _open.reset(here)
            if not one.dropped:
                self._tell_calls(one)
                span.end()

    def _tell_calls(self, one: _Open) -> None:
        below = trace.set_span_in_context(one.span)
        for call in one.calls:
            method, _, template = call.route.partition(" ")
            facts: dict[str, Any] = {"http.request.method": method, "url.template": template}
            if self._api:
                facts["server.address"] = self._api
            if call.status is not None:
                facts["http.response.status_code"] = call.status
            span = self._tracer.start_span(call.route, below, SpanKind.CLIENT, facts, start_time=call.start_ns)
            if call.status is None or call.status >= 400:
                span.set_attribute("error.type", "no_answer" if call.status is None else str(call.status))
                span.set_status(Status(StatusCode.ERROR))
            span.end(call.end_ns)

    def tell(self, job_id: str, traceparent: str, spans: Sequence[Past]) -> None:
        """Spans that are over, at the times they had."""
        parent = self._context(job_id, traceparent)
        for past in spans:
            token = _root_ids.set(_ids(job_id)) if past.root else None
            try:
                span = self._tracer.start_span(
                    past.name,
                    Context() if past.root else parent,
                    SpanKind[past.kind.value],
                    dict(past.attributes),
                    start_time=past.start * 1_000_000,
                )
            finally:
                if token is not None:
                    _root_ids.reset(token)
            for moment in past.moments:
                span.add_event(moment.name, timestamp=moment.at * 1_000_000)
            if past.error:
                span.set_attribute("error.type", past.error)
                span.set_status(Status(StatusCode.ERROR))
            span.end(max(past.start, past.end) * 1_000_000)

    def note(self, attributes: Attributes) -> None:
        """On the span that is open here."""
        one = _open.get()
        if one is not None:
            one.note(attributes)

    def called(self, route: str, status: int | None, seconds: float) -> None:
        """One API call, below the span that is open here."""
        one = _open.get()
        if one is not None and len(one.calls) < MOST_CALLS:
            now = time.time_ns()
            one.calls.append(_Call(route, status, now - round(seconds * 1e9), now))

    def close(self) -> None:
        """Send what is left. A collector that does not answer is not waited for."""
        if isinstance(self._provider, TracerProvider):
            closing = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
            closing.start()
            closing.join(CLOSE_SECONDS)

    def _context(self, job_id: str, traceparent: str) -> Context:
        """What a job's spans hang below: the context it carries, else one that every worker makes up alike."""
        if traceparent:
            return _remote(traceparent)
        trace_id, span_id = _ids(job_id)
        sampled = True
        if isinstance(self._provider, TracerProvider):
            # A remote parent's word is taken as it is, so what a sampler would say of the root is asked here.
            sampled = self._provider.sampler.should_sample(None, trace_id, "enqueue").decision is not Decision.DROP
        return _below(trace_id, span_id, TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)


def _ids(job_id: str) -> tuple[int, int]:
    number = uuid.UUID(job_id).int
    return number, number & (2**64 - 1)


def _remote(traceparent: str) -> Context:
    _, trace_id, span_id, flags = traceparent.split("-")
    return _below(int(trace_id, 16), int(span_id, 16), int(flags, 16))


def _below(trace_id: int, span_id: int, flags: int) -> Context:
    parent = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return trace.set_span_in_context(NonRecordingSpan(parent), Context())


def host_tracer() -> OtelTracer:
    """The tracer of a program that set up OpenTelemetry itself."""
    return OtelTracer(trace.get_tracer_provider())


def exporting(settings: Settings, service: str, environ: Mapping[str, str]) -> OtelTracer:
    """A tracer that sends to the endpoint of the environment. Raises `Unsupported`."""
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if environ.get(name, "http/protobuf") != "http/protobuf":
            raise Unsupported(f"{name} is {environ[name]!r}; only http/protobuf is spoken here (port 4318 as a rule).")
    # Only here: a program that traces by itself may have another exporter, and we do without this one.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

    # A collector that is away would fill the log with each try; what was given up is still said.
    logging.getLogger("opentelemetry.exporter").setLevel(logging.ERROR)
    facts = {"service.instance.id": uuid.uuid4().hex[:12]}
    if not environ.get("OTEL_SERVICE_NAME") and "service.name=" not in environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        facts["service.name"] = service
    provider = TracerProvider(resource=Resource.create(facts), id_generator=JobIds(), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return OtelTracer(provider, api_url=settings.api_url)
