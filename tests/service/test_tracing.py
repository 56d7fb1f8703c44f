"""One trace for each job, as the SDK of OpenTelemetry sees it, in a worker's engine and a real Producer."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

from producers.producer import Producer
from shared import tracing
from shared.otel import JobIds, OtelTracer
from shared.settings import Settings
from shared.tracing import Silence
from tasks.submit import submit_job
from tests.service.gateway_fixtures import Gateway
from tests.service.worker_fixtures import LIST, PORTRAIT, SUBMIT, Api, Bench
from tests.spans import Seen, connected
from workers.upkeep import Upkeep

CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{CALLER[0]}-{CALLER[1]}-01"


class Told:
    """What was exported in this process."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(id_generator=JobIds(), shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def spans(self) -> list[Seen]:
        """Those so far, in the order in which they ended."""
        return [Seen.of(span) for span in self.exporter.get_finished_spans()]

    def names(self) -> list[str]:
        """Their names, sorted."""
        return sorted(span.name for span in self.spans())


@pytest.fixture
def told() -> Iterator[Told]:
    """Traces are told, to memory."""
    told = Told()
    before = tracing.install(OtelTracer(told.provider, api_url="https://api.example/api"))
    yield told
    tracing.install(before)


async def ended(bench: Bench, api: Api, job_id: str, *, looks: int = 0) -> None:
    """Carry a job from its lane to its end, with so many looks that find nothing."""
    await bench.dispatch()
    await submit_job(bench.engine, job_id)
    job = await bench.job(job_id)
    await api.update(str(job.run_id), status="running")
    for _ in range(looks):
        await bench.look_at_all()
    await api.finish(str(job.run_id))
    await bench.look_at_all()
    await Upkeep(bench.engine).close_rows()
    assert (await bench.job(job_id)).state == "succeeded"


@pytest.fixture
def observed(bench: Bench) -> Bench:
    """A bench whose client tells of its calls, as a worker's does."""
    bench.engine.client._observe = tracing.called
    return bench


async def test_a_job_is_one_trace(observed: Bench, api: Api, told: Told) -> None:
    """From the caller's span over enqueue, submit and looks to the final event; no input and no address in it."""
    bench = observed
    async with Producer(
        bench.settings, bench.database, publisher=bench.published, catalog=bench.engine.catalog
    ) as door:
        inputs = {"prompt": "a fox of my own"}
        request = {"deployment_id": PORTRAIT, "frontend": "web", "user": {"id": "ada"}, "inputs": inputs}
        job = await door.enqueue(request, traceparent=TRACEPARENT)
        bench.published.take()
        await submit_job(bench.engine, job.id)
        run_id = str((await bench.job(job.id)).run_id)
        await api.update(run_id, status="running")
        await bench.look_at_all()
        await api.finish(run_id)
        await bench.look_at_all()
        await Upkeep(bench.engine).close_rows()

    spans = told.spans()
    assert told.names() == ["POST /run/deployment/queue", "enqueue", "look", "look", "publish", "run", "submit", "wait"]
    assert {span.trace_id for span in spans} == {CALLER[0]}
    assert connected(spans, root=CALLER[1])
    named = {span.name: span for span in spans}
    assert all(span.attributes["conveyor.job_id"] == job.id for span in spans if span.name != SUBMIT)
    assert named["run"].attributes["conveyor.run_id"] == named["submit"].attributes["conveyor.run_id"] == run_id
    assert named["run"].events[0] == "running"
    assert named[SUBMIT].parent_id == named["submit"].span_id
    assert named[SUBMIT].attributes == {
        "http.request.method": "POST",
        "url.template": "/run/deployment/queue",
        "server.address": "api.example",
        "http.response.status_code": 200,
    }
    assert "fox" not in str(spans)
    assert "ada" not in str(spans)
    assert "http://" not in str(spans)


async def test_a_job_of_a_producer_without_traces_is_one_trace(observed: Bench, api: Api, told: Told) -> None:
    """Its trace has the job's id, so that every worker continues the same without being told, and a root all the same."""
    bench = observed
    job_id = await bench.enqueue()
    await ended(bench, api, job_id)
    spans = told.spans()
    assert "enqueue" in told.names()
    assert connected(spans)
    assert {span.trace_id for span in spans} == {job_id.replace("-", "")}


async def test_looks_that_bring_no_news_tell_nothing(observed: Bench, api: Api, told: Told) -> None:
    """A run of hours is looked at thousands of times; its trace is as short as that of a quick one."""
    await ended(observed, api, await observed.enqueue(), looks=12)
    assert told.names().count("look") == 2


async def test_searches_that_find_nothing_tell_nothing(observed: Bench, api: Api, told: Told) -> None:
    """The submit whose answer was lost is told, and the search that settles it, but not each one in between."""
    bench = observed
    await api.fault("lost_answer", SUBMIT, count=1)
    job_id = await bench.enqueue()
    await bench.dispatch()
    await submit_job(bench.engine, job_id)
    await api.configure(faults=[])
    await bench.open_bucket()
    job = await bench.settled(job_id)
    assert job.run_id
    spans = [span for span in told.spans() if span.name == "submit"]
    assert len(spans) == 2
    calls = [span for span in told.spans() if span.parent_id == spans[-1].span_id]
    assert LIST in {span.name for span in calls}
    assert job.adopted == "found"


async def test_a_sampler_decides_for_the_whole_trace(bench: Bench, api: Api) -> None:
    """What the sampler does not want is told by nobody, also when every worker makes the context up by itself."""
    told = Told()
    told.provider.sampler = ParentBased(ALWAYS_OFF)
    before = tracing.install(OtelTracer(told.provider))
    try:
        await ended(bench, api, await bench.enqueue())
    finally:
        tracing.install(before)
    assert told.names() == []


async def test_a_program_that_traces_finds_its_jobs_below_its_own_spans(
    bench: Bench, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bot that has set up OpenTelemetry need not do more than that."""
    tracing.install(Silence())
    monkeypatch.setattr(tracing, "_host", OtelTracer(told.provider))
    async with Producer(
        bench.settings, bench.database, publisher=bench.published, catalog=bench.engine.catalog
    ) as door:
        with told.provider.get_tracer("bot").start_as_current_span("message from telegram"):
            job = await door.enqueue({"deployment_id": PORTRAIT, "frontend": "web", "user": {"id": "ada"}})
    enqueue, message = told.spans()
    assert enqueue.parent_id == message.span_id
    assert (await bench.job(job.id)).traceparent.startswith(f"00-{message.trace_id}-{enqueue.span_id}-")


async def test_a_repeat_begins_no_second_trace(bench: Bench, told: Told) -> None:
    """An idempotency key that stands for a job already finds that job's trace as it is."""
    request = {"deployment_id": PORTRAIT, "frontend": "web", "user": {"id": "ada"}, "idempotency_key": "once"}
    async with Producer(
        bench.settings, bench.database, publisher=bench.published, catalog=bench.engine.catalog
    ) as door:
        first, again = [await door.enqueue(request) for _ in range(2)]
    assert first.id == again.id
    assert told.names() == ["enqueue"]


@pytest.mark.parametrize(
    ("given", "kept"), [(TRACEPARENT, TRACEPARENT), ("00-zz-1-01", ""), (f"00-{'0' * 32}-{CALLER[1]}-01", "")]
)
async def test_a_gateway_that_does_not_trace_passes_the_context_on(gateway: Gateway, given: str, kept: str) -> None:
    """Workers may trace where the gateway does not; what is no context is left out, and the job is taken."""
    answer = await gateway.http.post(
        "/v1/jobs", json={"workflow": "portrait", "user": {"id": "ada"}}, headers={"traceparent": given}
    )
    assert answer.status_code == 202
    job = await gateway.app.state.inside.store.get(answer.json()["job_id"])
    assert job.traceparent == kept


OFF = """
import sys, producers, producers.gateway.app, workers.celery
from shared import tracing
tracing.configure(workers.celery.settings, "test", {})
with tracing.begin("01a1fb52-f096-76b3-915b-49e82266f9cd"), tracing.span("submit", "x", ""):
    tracing.called("GET /run", 200, 0.1)
tracing.close()
print([name for name in sys.modules if name == "shared.otel" or name.startswith(("opentelemetry.sdk.trace", "opentelemetry.exporter"))])
"""


def test_without_an_endpoint_nothing_is_loaded() -> None:
    """Who does not ask for traces does not pay for them."""
    done = subprocess.run([sys.executable, "-c", OFF], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, False),
    ],
)
def test_opentelemetrys_own_variables_decide(environ: dict[str, str], wanted: bool) -> None:
    """As any program's that knows them."""
    assert tracing.is_wanted(environ) is wanted


@pytest.mark.parametrize("missing", [True, False])
def test_what_cannot_be_is_said_and_the_process_goes_on(
    missing: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The extra is not installed, or the collector wants another protocol: one line, and no traces."""
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    if missing:
        monkeypatch.setitem(sys.modules, "shared.otel", None)
    tracing.configure(Settings(), "test", environ)
    assert isinstance(tracing._tracer, Silence)
    (record,) = caplog.records
    assert record.message == "traces are off"
    assert ("conveyor[otel]" if missing else "grpc") in record.__dict__["error"]
