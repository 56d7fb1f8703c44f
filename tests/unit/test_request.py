"""A request is checked at the door: every problem at once, by field, and no value is repeated."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.errors import InvalidInput
from shared.jobs import request as module
from shared.jobs.request import JobRequest

DEPLOYMENT = "0190b7a0-0000-7000-8000-000000000000"


def asked(**parts: Any) -> dict[str, Any]:
    """The smallest request that is accepted, with these parts changed."""
    return {"workflow": "Portrait", "frontend": "telegram", "user": {"id": "42"}} | parts


def problems(data: Any) -> dict[str, str]:
    """Why the request is refused, by field."""
    with pytest.raises(InvalidInput) as refused:
        JobRequest.read(data)
    return {problem.field: problem.reason for problem in refused.value.problems}


def nested(levels: int) -> Any:
    """A list in a list in a list."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def test_the_smallest_request_gets_the_documented_defaults() -> None:
    """A workflow, a frontend and a user are enough."""
    request = JobRequest.read(asked())

    assert (request.priority, request.queue_timeout_seconds, request.run_timeout_seconds) == (5, 86_400, 600)
    assert request.inputs == {}
    assert request.context == {}
    assert not request.progress


def test_reads_what_comes_as_object_text_bytes_or_request() -> None:
    """The HTTP gateway has bytes, the CLI a dict, Python code a request: all mean the same."""
    request = JobRequest.read(asked())
    text = json.dumps(asked())

    assert JobRequest.read(text) == JobRequest.read(text.encode()) == request
    assert JobRequest.read(request) is request


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        # Unknown fields: a misspelling must not be silently ignored.
        ("run_timout_seconds", {"run_timout_seconds": 5}),
        ("user.nickname", {"user": {"id": "1", "nickname": "x"}}),
        ("request", {"\ud800": 1}),
        # Wrong types: nothing is converted.
        ("user.id", {"user": {"id": 42}}),
        ("user", {"user": "42"}),
        ("priority", {"priority": "5"}),
        ("priority", {"priority": True}),
        ("priority", {"priority": 10}),
        ("priority", {"priority": -1}),
        ("progress", {"progress": 1}),
        ("inputs", {"inputs": []}),
        ("context", {"context": "chat"}),
        ("meta", {"meta": None}),
        ("workflow", {"workflow": 7}),
        ("queue_timeout_seconds", {"queue_timeout_seconds": 0}),
        ("queue_timeout_seconds", {"queue_timeout_seconds": 7 * 86_400 + 1}),
        ("run_timeout_seconds", {"run_timeout_seconds": 1.5}),
        ("run_timeout_seconds", {"run_timeout_seconds": 86_401}),
        ("gpu", {"gpu": "RTX"}),
        ("environment", {"environment": "prod"}),
        # Names.
        ("frontend", {"frontend": "Telegram"}),
        ("frontend", {"frontend": ""}),
        ("frontend", {"frontend": "a:b"}),
        ("frontend", {"frontend": "web\n"}),
        ("frontend", {"frontend": "f" * 33}),
        ("user.id", {"user": {"id": ""}}),
        ("user.id", {"user": {"id": "a\nb"}}),
        ("user.id", {"user": {"id": "x" * 129}}),
        ("user.name", {"user": {"id": "1", "name": "x\x00"}}),
        ("workflow", {"workflow": ""}),
        ("workflow", {"workflow": "w" * 201}),
        ("workflow", {"workflow": "two\u2028lines"}),
        ("idempotency_key", {"idempotency_key": "tab\tbed"}),
        # Which workflow.
        ("workflow", {"workflow": None}),
        ("workflow", {"deployment_id": DEPLOYMENT}),
        ("deployment_id", {"workflow": None, "deployment_id": "portrait"}),
        # Inputs: what the API takes.
        ("inputs.seed", {"inputs": {"seed": None}}),
        ("inputs.seed", {"inputs": {"seed": {"value": 1}}}),
        ("inputs.seed", {"inputs": {"seed": 2**53}}),
        ("inputs.seed", {"inputs": {"seed": [1, -(2**53)]}}),
        ("inputs.seed", {"inputs": {"seed": float("nan")}}),
        ("inputs.seed", {"inputs": {"seed": float("inf")}}),
        ("inputs.seed", {"inputs": {"seed": b"bytes"}}),
        ("inputs.seed", {"inputs": {"seed": (1, 2)}}),
        ("inputs.seed", {"inputs": {"seed": "half a pair: \ud83d"}}),
        ("inputs.seed", {"inputs": {"seed": nested(module.MAX_DEPTH + 1)}}),
        ("inputs.seed", {"inputs": {"seed": nested(3_000)}}),
        ("inputs._job_id", {"inputs": {"_job_id": "x"}}),
        ("inputs.", {"inputs": {"": 1}}),
        ("inputs.two\\nlines: a", {"inputs": {"two\nlines: a": 1}}),
        ("inputs.half \\ud800", {"inputs": {"half \ud800": 1}}),
        ("inputs." + "n" * 80, {"inputs": {"n" * 201: 1}}),
        ("inputs.size: width", {"inputs": {"size: width": None}}),
        ("inputs", {"inputs": {"prompt": "x" * module.MAX_INPUTS_BYTES}}),
        # Echoes.
        ("context", {"context": {"chat_id": 2**53}}),
        ("context", {"context": {"a": "x" * module.MAX_CONTEXT_BYTES}}),
        ("context", {"context": {"a": "\udc00"}}),
        ("meta", {"meta": {"a": "é" * (module.MAX_META_BYTES // 2)}}),
        ("meta", {"meta": {"\ud800": 1}}),
        ("meta", {"meta": {"a": nested(module.MAX_DEPTH + 1)}}),
    ],
)
def test_is_refused_by_the_name_of_the_field(field: str, changed: dict[str, Any]) -> None:
    """Each rule of the door refuses, and names the field by its path into the request."""
    assert field in problems(asked(**changed))


@pytest.mark.parametrize(
    "address",
    [
        "https://user:hunter2@example.com/picture.png",
        "HTTP://user:hunter2@example.com",
        "see https://api.telegram.org/file/bot123456:hunter2/photos/1.jpg",
        "https://API.telegram.org/bot123456:hunter2/getFile",
    ],
)
def test_an_address_with_a_secret_in_it_is_refused_wherever_it_stands(address: str) -> None:
    """Inputs are stored upstream and shown in dashboards, so an address that holds a secret does not get that far."""
    for value in (address, [address], ["x", [address]], [{"url": address}]):
        told = problems(asked(inputs={"image": value}))

        assert "secret" in told["inputs.image"]
        assert "hunter2" not in str(told)


@pytest.mark.parametrize(
    "address", ["https://example.com/a.png", "http://127.0.0.1:3011/files/a@b.png", "mail a@b.example: hello"]
)
def test_an_ordinary_address_is_an_ordinary_text(address: str) -> None:
    """A port or an @ in a path is no secret."""
    assert JobRequest.read(asked(inputs={"image": address})).inputs["image"] == address


def test_all_problems_are_told_at_once() -> None:
    """Whoever writes a frontend fixes a request once, not problem by problem."""
    told = problems(
        {
            "workflow": None,
            "inputs": {"seed": None, "image": {"url": "x"}, "fine": 1},
            "user": {"id": 42},
            "priority": 11,
            "colour": "red",
        }
    )

    assert set(told) == {"workflow", "inputs.seed", "inputs.image", "frontend", "user.id", "priority", "colour"}


def test_what_is_told_repeats_no_value() -> None:
    """A value may be a secret in the wrong field: problems, message and chat sentence hold none."""
    wrong = asked(
        workflow="hunter2\n",
        deployment_id="hunter2",
        environment="hunter2",
        inputs={"a": {"hunter2": "hunter2"}, "b": ["hunter2\ud800"]},
        frontend="HUNTER2",
        gpu="hunter2",
        priority="hunter2",
        context={"a": "hunter2" * 2_000},
        extra="hunter2",
    )
    with pytest.raises(InvalidInput) as refused:
        JobRequest.read(wrong)

    assert len(refused.value.problems) == 11
    assert "hunter2" not in f"{refused.value} {refused.value.problems} {refused.value.user_message}".lower()
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


@pytest.mark.parametrize("text", ["", "{", "nul", b"\xff", "[" * 3_000, '{"inputs": NaN}', '"text"', "[]", "7"])
def test_what_is_not_a_json_object_is_refused_as_a_request(text: str | bytes) -> None:
    """Broken JSON and JSON that is no object are one problem, of the request as a whole."""
    assert set(problems(text)) <= {"request", "inputs", "frontend", "user", "workflow"}


def test_names_may_hold_what_people_put_into_names() -> None:
    """Joined emoji, wide spaces and right-to-left marks are letters of a name, not control characters."""
    for name in ("\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}", "山田\u3000花子", "\u200fשרה", "İstanbul"):
        request = JobRequest.read(asked(user={"id": "1", "name": name}, inputs={name: 1}, workflow=name))

        assert request.user.name == name


def test_a_deployment_id_is_kept_in_its_usual_spelling() -> None:
    """Upper case and missing dashes are the same deployment."""
    spelled = JobRequest.read(asked(workflow=None, deployment_id=DEPLOYMENT.upper().replace("-", "")))

    assert spelled.deployment_id == DEPLOYMENT
    assert spelled.label == DEPLOYMENT


def test_the_same_user_id_on_two_platforms_is_two_people() -> None:
    """Lanes and windows belong to the user of a frontend."""
    assert JobRequest.read(asked(frontend="discord")).lane != JobRequest.read(asked()).lane


def test_a_request_does_not_change() -> None:
    """What was checked is what is stored."""
    with pytest.raises(ValidationError, match="frozen"):
        JobRequest.read(asked()).priority = 9  # type: ignore[misc]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
lines = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=20)
integers = st.integers(-module.MAX_EXACT_INTEGER, module.MAX_EXACT_INTEGER)
scalars = st.booleans() | integers | st.floats(allow_nan=False, allow_infinity=False) | texts
json_values = st.recursive(
    st.none() | scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)
requests = st.fixed_dictionaries(
    {"frontend": st.from_regex(r"\A[a-z0-9][a-z0-9_-]{0,31}\Z"), "user": st.fixed_dictionaries({"id": lines})},
    optional={
        "environment": st.sampled_from(["production", "staging"]),
        "inputs": st.dictionaries(lines, scalars | st.lists(json_values, max_size=3), max_size=4),
        "context": st.dictionaries(texts, json_values, max_size=3),
        "meta": st.dictionaries(texts, json_values, max_size=3),
        "idempotency_key": lines,
        "priority": st.integers(0, 9),
        "queue_timeout_seconds": st.integers(1, 7 * 86_400),
        "run_timeout_seconds": st.integers(1, 86_400),
        "gpu": st.sampled_from(["T4", "A100-80GB"]),
        "progress": st.booleans(),
    },
)
things = st.fixed_dictionaries({"workflow": lines}) | st.fixed_dictionaries({"deployment_id": st.uuids().map(str)})


@given(requests, things)
def test_an_accepted_request_survives_json_unchanged(request: dict[str, Any], thing: dict[str, Any]) -> None:
    """What Redis keeps of a request reads back as the same request, in the short form and in the long one."""
    accepted = JobRequest.read(request | thing)

    for short in (True, False):
        text = accepted.model_dump_json(exclude_defaults=short)

        assert JobRequest.model_validate_json(text) == accepted
        assert json.loads(text)["inputs"] == accepted.inputs if "inputs" in json.loads(text) else not accepted.inputs


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
)


fields = st.sampled_from(sorted(JobRequest.model_fields)) | st.text(st.characters(), max_size=3)


@given(st.dictionaries(fields, anything), anything, anything)
def test_whatever_is_asked_is_accepted_or_refused(parts: dict[str, Any], value: Any, other: Any) -> None:
    """Nothing else than `InvalidInput` comes out of the door, and what passes can be stored and read back."""
    for data in (asked() | parts, asked(inputs={"x": value}, context={"y": other}, meta={"z": value}), value):
        if not isinstance(data, dict | str | bytes):
            continue
        try:
            accepted = JobRequest.read(data)
        except InvalidInput as refused:
            assert refused.problems  # noqa: PT017 - both answers are right here
        else:
            assert JobRequest.model_validate_json(accepted.model_dump_json(exclude_defaults=True)) == accepted
