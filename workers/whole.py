"""How does a worker's metrics page come to the numbers of the whole system? By asking Redis on the worker's loop.

prometheus-client serves the page from threads of its own; what talks to Redis lives on the loop. A loop that is stuck, or
stops, costs a scrape these numbers and a few seconds, not the rest of the page.
"""

from collections.abc import Iterator
from concurrent.futures import CancelledError

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from shared.census import PATIENCE_SECONDS, Census
from shared.errors import Stopping
from shared.system_gauges import SYSTEM_GAUGES
from tasks.engine import Process

#: Beyond what Redis is given: what the loop may need to come round.
LOOP_SECONDS = 1.0


class SystemCollector(Collector):
    """The numbers of the whole, for prometheus-client's registry."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def describe(self) -> Iterator[Metric]:
        """The names, so that registering need not count."""
        return (gauge.family() for gauge in SYSTEM_GAUGES.values())

    def collect(self) -> Iterator[Metric]:
        """Count, from a thread that serves a scrape."""
        engine = self._process.engine
        if engine is None:
            return
        reading = None
        try:
            reading = self._process.spawn(Census(engine.database, engine.settings).read())
            yield from reading.result(PATIENCE_SECONDS + LOOP_SECONDS)
        except (TimeoutError, CancelledError, Stopping):
            if reading is not None:
                reading.cancel()
