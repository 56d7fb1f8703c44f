"""Where did the time of one job go, across all processes? One trace a job, in OpenTelemetry's terms.

    enqueue ──┬── wait       in its lane, until the submit that made the run
    (root)    ├── submit     one worker's try; below it the API's calls, as POST /run/deployment/queue
              ├── run        upstream, from the submit to the end; what looks found out stands in it as events
              ├── look       a read or listing that brought news
              ├── publish    the final event
              └── callback   one delivery

A trace lives in no process: a worker that is killed must not leave a hole. So `enqueue`, `submit` and `callback` are told
by whoever does them, `wait`, `run` and `publish` after the job's end from its record (`tasks/timeline.py`), and the context
(W3C traceparent) is in the record, where every worker finds it. Of a job without one the trace's id is the job's id.

Nothing is told, and nothing of OpenTelemetry imported, until `configure` finds the extra `otel` installed and an endpoint in
the environment; then `shared/otel.py` stands behind these functions. Callers never ask whether it does.
A program that uses our `Producer` and has set up OpenTelemetry itself finds `enqueue` among its own spans.
"""

import logging
import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from shared.settings import Settings

log = logging.getLogger(__name__)

Attributes = Mapping[str, str | int | float | bool]

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class Kind(Enum):
    """What a span is to its neighbours, by OpenTelemetry's names."""

    INTERNAL = "INTERNAL"
    PRODUCER = "PRODUCER"
    CONSUMER = "CONSUMER"
    CLIENT = "CLIENT"


class Span(Protocol):
    """A span that is open."""

    @property
    def traceparent(self) -> str:
        """What others continue; empty when nothing is known of a trace."""

    def note(self, attributes: Attributes) -> None:
        """Add what has become known."""

    def fail(self, why: str) -> None:
        """It did not work; `why` is one word of few."""

    def drop(self) -> None:
        """Nothing came of it: it shall not be told, nor the calls below it."""


@dataclass(frozen=True, slots=True)
class Moment:
    """An event in a span."""

    name: str
    #: Milliseconds since 1970.
    at: int


@dataclass(frozen=True, slots=True)
class Past:
    """A span that is over. Times are milliseconds since 1970."""

    name: str
    start: int
    end: int
    kind: Kind = Kind.INTERNAL
    attributes: Attributes = field(default_factory=dict)
    moments: Sequence[Moment] = ()
    #: One word of few when it ended badly.
    error: str = ""
    #: It is what all others hang below: told for a job whose producer does not trace.
    root: bool = False


class Tracer(Protocol):
    """What stands behind the functions of this module."""

    def begin(
        self, name: str, job_id: str, traceparent: str, attributes: Attributes, /
    ) -> AbstractContextManager[Span]: ...
    def span(
        self, name: str, job_id: str, traceparent: str, kind: Kind, attributes: Attributes, /
    ) -> AbstractContextManager[Span]: ...
    def tell(self, job_id: str, traceparent: str, spans: Sequence[Past], /) -> None: ...
    def note(self, attributes: Attributes, /) -> None: ...
    def called(self, route: str, status: int | None, seconds: float, /) -> None: ...
    def close(self) -> None: ...


def begin(job_id: str, traceparent: str = "", attributes: Attributes | None = None) -> AbstractContextManager[Span]:
    """The span `enqueue`, with which a job's trace begins.

    Its parent is the caller's `traceparent` (what is not one is left out), else the current span of this program.
    """
    known = traceparent if _TRACEPARENT.fullmatch(traceparent) else ""
    return _tracer_here().begin("enqueue", job_id, known, attributes or {})


def span(
    name: str, job_id: str, traceparent: str, kind: Kind = Kind.INTERNAL, attributes: Attributes | None = None
) -> AbstractContextManager[Span]:
    """Something that is done for a job, now. API calls made within are told below it; an error that leaves it marks it."""
    return _tracer.span(name, job_id, traceparent, kind, attributes or {})


def tell(job_id: str, traceparent: str, spans: Sequence[Past]) -> None:
    """Tell what is over."""
    _tracer.tell(job_id, traceparent, spans)


def note(attributes: Attributes) -> None:
    """Add what has become known to the span that is open here, if any."""
    _tracer.note(attributes)


def called(route: str, status: int | None, seconds: float) -> None:
    """The API was just called, for the job whose span is open here, if any; the parameters of `comfydeploy.Observe`."""
    _tracer.called(route, status, seconds)


@dataclass(frozen=True, slots=True)
class _Silent:
    """A span of nobody. It passes a caller's context on, for a worker may trace where we do not."""

    traceparent: str = ""

    def note(self, attributes: Attributes) -> None:
        pass

    def fail(self, why: str) -> None:
        pass

    def drop(self) -> None:
        pass

    def __enter__(self) -> Span:
        return self

    def __exit__(self, *_: object) -> None:
        pass


_SILENT = _Silent()


class Silence:
    """The tracer that tells nothing."""

    def begin(self, _name: str, _job_id: str, traceparent: str, _: Attributes) -> AbstractContextManager[Span]:
        """A span of nobody, with the caller's context."""
        return _Silent(traceparent) if traceparent else _SILENT

    def span(self, *_: Any) -> AbstractContextManager[Span]:
        """A span of nobody."""
        return _SILENT

    def tell(self, *_: Any) -> None:
        """Nothing."""

    def note(self, *_: Any) -> None:
        """Nothing."""

    def called(self, *_: Any) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


_tracer: Tracer = Silence()
#: Of a program that set OpenTelemetry up itself.
_host: Tracer | None = None


def _tracer_here() -> Tracer:
    """Ours, else that of the program we are a library of."""
    global _host
    if isinstance(_tracer, Silence) and "opentelemetry.sdk.trace" in sys.modules:
        if _host is None:
            from shared.otel import host_tracer  # noqa: PLC0415 - whoever traces has loaded it already

            _host = host_tracer()
        return _host
    return _tracer


def install(tracer: Tracer) -> Tracer:
    """Put a tracer behind this module; answers the one before it, for tests to put back."""
    global _tracer
    before, _tracer = _tracer, tracer
    return before


def is_wanted(environ: Mapping[str, str]) -> bool:
    """Whether the environment asks for traces, in OpenTelemetry's own variables."""
    asked = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or asked == "none":
        return False
    endpoints = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return asked == "otlp" or any(environ.get(name) for name in endpoints)


def configure(settings: Settings, service: str, environ: Mapping[str, str] | None = None) -> None:
    """Begin to trace in this process if the environment asks for it; `service` is its name unless that says another.

    What is asked for and cannot be is logged, and the process works without.
    """
    environ = os.environ if environ is None else environ
    if not is_wanted(environ):
        return
    try:
        from shared.otel import Unsupported, exporting  # noqa: PLC0415 - an optional extra, and slow to load
    except ImportError:
        log.error("traces are off", extra={"error": "install the extra: pip install 'conveyor[otel]'"})  # noqa: TRY400
        return
    try:
        install(exporting(settings, service, environ))
    except Unsupported as error:
        log.error("traces are off", extra={"error": str(error)})  # noqa: TRY400 - the sentence says all


def close() -> None:
    """Send what is left, for two seconds at most, and tell nothing more."""
    install(Silence()).close()


def job_attributes(job_id: str, workflow: str, frontend: str, **more: Any) -> dict[str, Any]:
    """What every span of a job says; more becomes `conveyor.<name>`, and what is empty is left out."""
    told = {"job_id": job_id, "workflow": workflow, "frontend": frontend, **more}
    return {f"conveyor.{name}": value for name, value in told.items() if value not in (None, "")}
