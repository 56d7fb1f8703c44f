"""Fixtures of the service tests: a real Redis (see `tests/conftest.py`), and for the worker side a real simulator."""

from tests.service.cli_stage import stage
from tests.service.gateway_fixtures import gateway, open_gateway
from tests.service.worker_fixtures import api, bench, known_catalog, simulator

__all__ = ["api", "bench", "gateway", "known_catalog", "open_gateway", "simulator", "stage"]
