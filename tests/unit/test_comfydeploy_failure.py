"""A reason is one short line whatever a node or a worker wrote, and nothing in it opens anything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.comfydeploy.failure import REASON_CHARACTERS, reason_of, trimmed
from tests.unit.test_comfydeploy_models import json_values


def failed(data: object) -> list[object]:
    """The outputs of a run whose worker stored this."""
    return [{"data": {"images": []}}, None, {"data": [{"node": 1}]}, {"data": data}]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (
            {"node_id": "22", "node_type": "KSampler", "exception_type": "OOM", "exception_message": "too big\n"},
            "KSampler (node 22): OOM: too big",
        ),
        ({"exception_message": "boom", "traceback": ["secret path"]}, "boom"),
        ({"node_id": 3, "exception_type": "E"}, "(node 3): E"),
        ({"error": "the worker crashed"}, "the worker crashed"),
        ({"error": {"error_type": "ValueError", "stack_trace": "..."}}, "ValueError"),
        (
            {"error": {"error": {"type": "invalid_prompt", "message": "Cannot run"}, "node_errors": {"1": {}}}},
            "invalid_prompt: Cannot run",
        ),
        ({"error": ""}, None),
        ({"text": ["hello"]}, None),
    ],
)
def test_every_known_form_of_an_error_is_read(data: object, reason: str | None) -> None:
    """A node's exception, a refused graph and a worker's crash, among outputs that are none."""
    assert reason_of(failed(data)) == reason


@given(json_values)
def test_no_output_breaks_the_reading(value: object) -> None:
    """Workers store whatever custom nodes report."""
    for outputs in (value, [value], failed(value), failed({"error": value}), failed({"exception_message": value})):
        reason = reason_of(outputs)
        assert reason is None or len(reason) <= REASON_CHARACTERS


@given(st.text())
def test_a_reason_is_one_line_that_can_be_shown(text: str) -> None:
    """No control characters, no line breaks, bounded, and trimming it again changes nothing."""
    line = trimmed(text * 50)
    assert line.isprintable()
    assert len(line) <= REASON_CHARACTERS
    assert trimmed(line) == line


def test_addresses_lose_what_opens_them() -> None:
    """A node that cannot fetch its input says the whole address, signature and all."""
    told = trimmed(
        "404 for https://s3.test/in/a.png?X-Amz-Signature=abc&token=t, then 'http://me:pw@host.test/x#key=1' "
        "and data:image/png;base64,aGVsbG8= (see https://docs.test/page)"
    )
    assert told == (
        "404 for https://s3.test/in/a.png?… then 'http://host.test/x?…' and data:… (see https://docs.test/page)"
    )


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("401 with {'Authorization': 'Bearer abc.def'}", "401 with {'Authorization': '…'}"),
        ("sent Bearer abc.def, refused", "sent Bearer …, refused"),
        ("HF_TOKEN=hf_abc is not valid", "HF_TOKEN=… is not valid"),
        ('{"api_key": "abc", "x": 1}', '{"api_key": "…", "x": 1}'),
        ("Missing key: lora_name", "Missing key: lora_name"),
        ("tokenizer not found", "tokenizer not found"),
    ],
)
def test_what_calls_itself_a_secret_is_not_shown(told: str, shown: str) -> None:
    """A node that logs its request logs its header, too."""
    assert trimmed(told) == shown
    assert trimmed(shown) == shown


def test_a_cut_leaves_no_half_of_a_secret() -> None:
    """An address at the very end of what is looked at is cut there like any other."""
    assert "secret" not in trimmed("x" * (REASON_CHARACTERS - 30) + " https://a.test/?token=secret" + "y" * 10_000)
