"""The HTTP reference is the gateway's OpenAPI, and is whole."""

from typing import Any

import pytest

from producers.gateway import reference
from producers.gateway.app import make_app
from shared.settings import Settings


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """The gateway's OpenAPI."""
    return make_app(Settings()).openapi()


def test_the_reference_is_fresh(schema: dict[str, Any]) -> None:
    """`make schemas` has been run since the routes or models changed."""
    assert reference.FILE.read_text() == reference.markdown(schema)


def test_every_reference_within_the_openapi_leads_somewhere(schema: dict[str, Any]) -> None:
    """No model is named that is not described."""

    def refs(part: Any) -> set[str]:
        if isinstance(part, dict):
            own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
            return own.union(*(refs(value) for value in part.values()))
        return set().union(*(refs(value) for value in part)) if isinstance(part, list) else set()

    known = {f"#/components/schemas/{name}" for name in schema["components"]["schemas"]}

    assert refs(schema) <= known


def test_the_frontend_follows_from_the_key(schema: dict[str, Any]) -> None:
    """`frontend` need not be sent by HTTP."""
    assert "frontend" not in schema["components"]["schemas"]["JobRequest"]["required"]


def test_the_page_has_no_program_and_nothing_of_another_site(schema: dict[str, Any]) -> None:
    """`/docs` works offline and under the strictest policy."""
    page = reference.page(schema)

    assert "<script" not in page
    assert "src=" not in page
    assert "POST /v1/jobs" in page
