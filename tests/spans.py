"""A collector for tests: takes spans over loopback as OTLP over HTTP says, and says how they hang together."""

import threading
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan

from tests.hunt import HUNT


@dataclass(frozen=True)
class Seen:
    """One span, as it came in."""

    name: str
    trace_id: str
    span_id: str
    #: "" is a root.
    parent_id: str
    service: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    events: tuple[str, ...] = ()

    @classmethod
    def of(cls, span: ReadableSpan) -> Self:
        """A span of the SDK in this process."""
        assert span.context is not None
        parent = f"{span.parent.span_id:016x}" if span.parent else ""
        events = tuple(event.name for event in span.events)
        ids = f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"
        return cls(span.name, *ids, parent, attributes=dict(span.attributes or {}), events=events)


def connected(spans: list[Seen], root: str = "") -> bool:
    """Whether they are one trace: one id, one root (or all below the span `root`), and no parent is missing."""
    ids = {span.span_id for span in spans}
    tops = [span for span in spans if span.parent_id == root]
    return (
        len({span.trace_id for span in spans}) == 1
        and len(tops) == 1
        and all(span.parent_id in ids for span in spans if span is not tops[0])
    )


class Sink:
    """The collector. Use as `with`."""

    def __init__(self) -> None:
        self._bodies: list[bytes] = []
        self._spans: list[Seen] = []
        sink = self

        class Taking(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sink.take(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Taking)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def take(self, body: bytes) -> None:
        """Take in one export. Read it later: the test that waits meanwhile is in this process, too."""
        HUNT.text("spans", body.decode(errors="replace"))
        self._bodies.append(body)

    @property
    def spans(self) -> list[Seen]:
        """Everything that came in so far."""
        while self._bodies:
            self._spans += _read(self._bodies.pop(0))
        return self._spans

    def of(self, job_id: str) -> list[Seen]:
        """The spans of a job's trace: those that name it, and those below them."""
        traces = {span.trace_id for span in self.spans if span.attributes.get("conveyor.job_id") == job_id}
        return [span for span in self.spans if span.trace_id in traces]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _read(body: bytes) -> Iterator[Seen]:
    told = MessageToDict(ExportTraceServiceRequest.FromString(body))
    for resource in told.get("resourceSpans", []):
        service = _plain(resource["resource"]["attributes"]).get("service.name", "")
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                yield Seen(
                    span["name"],
                    _hex(span["traceId"]),
                    _hex(span["spanId"]),
                    _hex(span.get("parentSpanId", "")),
                    str(service),
                    _plain(span.get("attributes", [])),
                    tuple(event["name"] for event in span.get("events", [])),
                )


def _hex(text: str) -> str:

    return b64decode(text).hex()


def _plain(attributes: list[dict[str, Any]]) -> dict[str, Any]:
    return {one["key"]: next(iter(one["value"].values())) for one in attributes}
