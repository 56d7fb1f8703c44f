"""Thousands of requests made from the gateway's own description: every answer is as described, none is a 5xx, and what is
refused leaves nothing.

schemathesis makes the cases: right ones, and ones that are wrong in every way the schemas know. They go to a real process, so
that what its server makes of odd bytes is seen, too.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from producers.gateway.app import make_app
from producers.local.redis_server import RedisServer
from shared.settings import Settings
from tests.exploring import examples
from tests.service.gateway_streams import Process

pytestmark = pytest.mark.redis

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
#: Cases for each operation and way of making them; a route with more to get wrong gets more, one that mostly repeats another less.
EXAMPLES = 30
MORE = {"POST /v1/jobs": 200, "GET /v1/jobs": 70, "POST /v1/jobs/{job_id}/rerun": 20}
#: Ends only when the client goes: read to its headers.
ENDLESS = "/v1/users/{user}/events"
#: 503 by design here: there is no catalog and no API behind this gateway.
WITHOUT_CATALOG = ("/v1/workflows", "/v1/files", "/readyz")

SCHEMA = schemathesis.openapi.from_dict(make_app(Settings()).openapi())
OPERATIONS = {f"{one.ok().method.upper()} {one.ok().path}": one.ok() for one in SCHEMA.get_all_operations()}
#: Each operation in each way; where there is nothing to send there is nothing to send wrong.
WAYS = [
    (name, mode)
    for name, one in OPERATIONS.items()
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or one.body or one.query or one.path_parameters
]


@dataclass
class Target:
    """A gateway that is asked odd things, and the database behind it."""

    url: str
    redis: Any
    http: requests.Session = field(default_factory=requests.Session)
    statuses: dict[int, int] = field(default_factory=dict)

    def ask(self, case: Case) -> None:
        """Send one case and judge the answer."""
        before = self.redis.dbsize()
        if case.operation.path == ENDLESS:
            status = self.ask_endless(case)
        else:
            answer = case.call(base_url=self.url, session=self.http, timeout=3)
            status = answer.status_code
            without = status == 503 and case.operation.path.startswith(WITHOUT_CATALOG)
            case.validate_response(answer, checks=CHECKS[1:] if without else CHECKS)
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status >= 400:
            assert self.redis.dbsize() == before, "a refused request left something"

    def ask_endless(self, case: Case) -> int:
        """The same for a stream without an end."""
        with self.http.request(**case.as_transport_kwargs(base_url=self.url), stream=True, timeout=3) as answer:
            assert answer.status_code in (200, 404, 405, 422), answer.text
            expected = "text/event-stream" if answer.status_code == 200 else "application/problem+json"
            assert answer.headers["content-type"].startswith(expected)
            return answer.status_code


@pytest.fixture(scope="module")
def target(redis_server: RedisServer) -> Iterator[Target]:
    """A gateway of its own, with a database of its own."""
    url = redis_server.url.replace("/0", "/8")
    process = Process(
        url,
        CONVEYOR_SECRET="a-long-random-text",
        CONVEYOR_REQUESTS_PER_MINUTE="1000000",
        CONVEYOR_USER_JOBS="20",
    ).start()
    with redis.Redis.from_url(url) as client:
        yield Target(process.url, client)
        client.flushdb()
    process.close()


@pytest.mark.parametrize(("name", "mode"), WAYS, ids=lambda part: getattr(part, "value", part))
def test_every_answer_is_as_described(target: Target, name: str, mode: GenerationMode) -> None:
    """Whatever is sent: a status, a type and a body that the OpenAPI names, and no 5xx."""

    @settings(
        max_examples=examples(MORE.get(name, EXAMPLES)),
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data())
    def run(data: st.DataObject) -> None:
        target.ask(data.draw(OPERATIONS[name].as_strategy(generation_mode=mode)))

    run()


def test_the_cases_were_worth_asking(target: Target) -> None:
    """Both right and wrong ones came, in thousands: the test above is not empty."""
    if len(target.statuses) > 1:  # a single case was asked for by hand
        assert sum(target.statuses.values()) >= 1000
        assert target.statuses[202] >= 10
        assert target.statuses[422] >= 150
