"""How does a worker process start and stop?

Start: the event loop and the engine before the first message is read. Stop (SIGTERM, Ctrl-C): whoever waits for a token
gives its job back at once, posts under way are finished, looks too; after 8 s what is left is cancelled, and rescue in
another worker finds it. Nothing is lost either way: every job is in Redis.
"""

import logging
import os
import sys
from typing import Any
from wsgiref.simple_server import WSGIServer

from celery import bootsteps
from celery.signals import worker_shutting_down
from prometheus_client import REGISTRY, disable_created_metrics, start_http_server

from shared import tracing
from shared.errors import TellOperator, Unavailable
from shared.settings import Settings
from tasks.engine import process
from tasks.fault_points import arm_from
from workers.ticker import Ticker
from workers.whole import SystemCollector

log = logging.getLogger(__name__)


class EngineStep(bootsteps.StartStopStep):
    """Runs the engine and the ticker for as long as the worker runs."""

    _metrics: WSGIServer | None = None
    _whole: SystemCollector | None = None

    #: After the pool and before the consumer: no message arrives without an engine, and no slot outlives it.
    requires = ("celery.worker.components:Pool",)

    def start(self, worker: Any) -> None:
        """Start the loop, the engine and the ticker; a worker that could not work says why and ends."""
        try:
            arm_from(os.environ.get("FAULT_POINTS", ""))
            settings = Settings.from_env()
            tracing.configure(settings, "conveyor-worker")
            engine = process.start(settings, worker.app, worker.hostname)
            try:
                process.run(engine.database.refuse_eviction())
            except Unavailable as error:
                log.warning("Redis could not be checked", extra={"error": str(error)})
        except TellOperator as error:
            log.error("cannot start", extra={"error": str(error)})  # noqa: TRY400 - the sentence says all
            process.stop()
            sys.exit(2)
        process.spawn(Ticker(engine, worker.app).run())
        self._serve_metrics(engine.settings)

    def _serve_metrics(self, settings: Settings) -> None:
        if not settings.metrics_port:
            return
        try:
            disable_created_metrics()  # type: ignore[no-untyped-call]  # half as many series, none is missed
            self._metrics, _ = start_http_server(settings.metrics_port, settings.metrics_address)
            self._whole = SystemCollector(process)
            REGISTRY.register(self._whole)
        except OSError as error:  # two workers on one host: the jobs matter more
            log.error("metrics are not served", extra={"port": settings.metrics_port, "error": str(error)})  # noqa: TRY400

    def stop(self, parent: Any) -> None:
        """Drain and close; stopping twice, or without a start, is fine."""
        del parent
        process.stop()
        tracing.close()
        server, self._metrics = self._metrics, None
        whole, self._whole = self._whole, None
        if whole is not None:
            REGISTRY.unregister(whole)
        if server is not None:
            server.shutdown()
            server.server_close()

    def terminate(self, parent: Any) -> None:
        """The same on a cold shutdown: the drain has an end of its own."""
        self.stop(parent)


@worker_shutting_down.connect
def _tell(**_: Any) -> None:
    process.tell_to_stop()
