"""A real Prometheus scrapes a worker, a gateway and a frontend: the dashboard's and the alerts' queries all resolve."""

import re
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import yaml
from prometheus_client import start_http_server

from ops.questions import ROWS
from producers.local.processes import ROOT, Supervised
from producers.local.redis_server import free_port
from producers.results import ResultConsumer
from tests.e2e.site import FRONTENDS, Site, until

PROMETHEUS = shutil.which("prometheus")
ALERTS = ROOT / "ops/prometheus/alerts.yml"

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        PROMETHEUS is None,
        reason="no prometheus on the path (Debian's package of that name; .ci/run installs it where it may)",
    ),
]

#: Panels that stay empty when nothing goes wrong, nobody sends hints and too few runs are known; their metrics are known.
QUIET = {
    "Do hints announce the ends?",
    "What became of the hints?",
    "Do jobs end within the ETA of their submit?",
    "How many event streams are open, and why do they end?",
    "What goes wrong?",
    "Why do jobs end without a result?",
}


class Prometheus:
    """The server, asked by HTTP."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """What an expression is now; fails when Prometheus refuses it."""
        answer = await self._http.post("/api/v1/query", data={"query": expression})
        assert answer.status_code == 200, (expression, answer.text)
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return found

    async def known(self) -> set[str]:
        """Every metric that a scrape has told of, also those without samples."""
        return set((await self._http.get("/api/v1/metadata", params={"limit": "10000"})).json()["data"])

    async def ready(self) -> bool:
        """It answers."""
        try:
            return (await self._http.get("/-/ready")).status_code == 200
        except httpx.TransportError:
            return False


@pytest_asyncio.fixture(loop_scope="session")
async def prometheus(site: Site, tmp_path: Path) -> AsyncIterator[Prometheus]:
    """Scrapes the worker, a gateway of its own and this process, each second."""
    ports = {"worker": site.settings.metrics_port, "gateway": free_port()}
    ours, _ = start_http_server(0, "127.0.0.1")
    ports["frontend"] = ours.server_port
    scrapes = [
        {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for name, port in ports.items()
    ]
    often = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config = tmp_path / "prometheus.yml"
    config.write_text(yaml.safe_dump({"global": often, "rule_files": [str(ALERTS)], "scrape_configs": scrapes}))
    port, log = free_port(), tmp_path / "log"
    gateway = [sys.executable, "-m", "producers.gateway"]
    assert PROMETHEUS
    server = [PROMETHEUS, f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    programs = [
        Supervised(
            "gateway-metrics", gateway, site.stack.env | {"PORT": str(ports["gateway"])}, log.with_name("gateway")
        ),
        Supervised("prometheus", [*server, f"--web.listen-address=127.0.0.1:{port}"], site.stack.env, log),
    ]
    try:
        for program in programs:
            await program.start()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10) as http:
            asked = Prometheus(http)
            await until(asked.ready, what="Prometheus answers")
            yield asked
    finally:
        for program in programs:
            await program.stop()
        ours.shutdown()
        ours.server_close()


async def test_every_query_resolves(site: Site, prometheus: Prometheus) -> None:
    """After a few jobs every panel has something to draw, every metric that is asked for is known, the numbers of the whole
    are the same from every process, and no alert rings."""

    async def scraped() -> bool:
        return len(await prometheus.query("up == 1")) == 3

    async def told() -> bool:
        """Two jobs more, whose events a frontend takes, are in the metrics; only one of the two workers is scraped."""
        handles = [await site.enqueue(workflow, n=0) for workflow in ("SDXL Portrait", "Flux Dev")]
        await site.final(handles)
        left = {handle.id for handle in handles}
        async with ResultConsumer(FRONTENDS[0], "metrics", "one", settings=site.settings) as results:
            async for delivery in results:
                await delivery.ack()
                left -= {delivery.event.job_id} if delivery.event.final else set()
                if not left:
                    break
        facts = (
            "rate(conveyor_deliveries_total[30s]) > 0",
            "rate(conveyor_detection_delay_seconds_count[30s]) > 0",
            "conveyor_group_oldest_seconds",  # counted at most every 4 s
        )
        return all([await prometheus.query(f"sum({fact})") for fact in facts])

    await until(scraped, what="three processes are scraped")
    await until(told, seconds=40, what="the jobs are in the metrics")

    questions = {
        one.question: [query.replace("$__rate_interval", "30s") for _, query in one.lines]
        for asked in ROWS.values()
        for one in asked
    }
    rules = [rule["expr"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    known = await prometheus.known()
    empty = set()
    for question, queries in questions.items():
        if not [sample for query in queries for sample in await prometheus.query(query)]:
            empty.add(question)
    for query in [*rules, *(query for queries in questions.values() for query in queries)]:
        await prometheus.query(query)
        for name in re.findall(r"\bconveyor_\w+", re.sub(r'"[^"]*"', "", query)):
            assert {name, re.sub(r"_(bucket|sum|count)$", "", name)} & known, name

    assert empty <= QUIET
    assert await prometheus.query("count by (tier) (conveyor_lane_jobs) != 2") == []
    # This process, which plays the frontend, may have played a worker in other tests.
    slots = await prometheus.query('conveyor_worker_slots{job!="frontend"} > 0')
    assert {one["metric"]["job"] for one in slots} == {"worker"}
    assert await prometheus.query('ALERTS{alertstate="firing"}') == []
