"""A callback is checked at the door, and its secret is never shown."""

import base64
import json
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.errors import InvalidInput
from shared.jobs.callback import Callback, signing_key
from shared.jobs.request import JobRequest

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()


def asked(**callback: Any) -> dict[str, Any]:
    """A request with this callback."""
    given = {"url": "https://receiver.test/hook?a=b", "secret": SECRET} | callback
    return {"workflow": "Portrait", "frontend": "web", "user": {"id": "1"}, "callback": given}


def refused(**callback: Any) -> dict[str, str]:
    """Every problem with a callback, by field."""
    with pytest.raises(InvalidInput) as told:
        JobRequest.read(asked(**callback))
    return {problem.field: problem.reason for problem in told.value.problems}


@pytest.mark.parametrize(
    "url",
    [
        "http://receiver.test",
        "https://receiver.test:8443/a/b?c=d#e",
        "http://93.184.216.34/",
        "http://[2606:4700::1111]:81/",
        "http://[::ffff:1.2.3.4]/",
        "http://127.0.0.1:9000/",  # whether it may be called is decided when it is called
        "https://4chan.test/",
        "https://xn--bcher-kva.test/",
    ],
)
def test_takes_what_can_be_called(url: str) -> None:
    """http and https, names and numbers, ports and queries."""
    request = JobRequest.read(asked(url=url))

    assert request.callback
    assert request.callback.url == url


@pytest.mark.parametrize(
    "url",
    [
        *["", "receiver.test", "ftp://receiver.test/", "file:///etc/passwd", "https://", "https:///path", "//x.test"],
        *[
            "http://[::1",
            "http://x.test:0/",
            "http://x.test:99999/",
            "http://x.test/ a",
            "http://x.test/\n",
            "http://ü.test",
        ],
        *["http://x.test\\@y.test/", "https://x.test/" + "a" * 2048],
        *["http://hunter2@x.test/", "http://ada:hunter2@x.test/", "http://:@x.test/"],
        *["http://127.1/", "http://2130706433/", "http://0x7f000001/", "http://127.0.0.0x1/", "http://0177.0.0.1/"],
        *["http://127.1./"],
    ],
)
def test_refuses_what_cannot(url: str) -> None:
    """The problem is told under `callback.url`, and the address is not repeated: people paste secrets into it."""
    problems = refused(url=url)

    assert list(problems) == ["callback.url"]
    assert "hunter2" not in str(problems)


@pytest.mark.parametrize(
    "secret", ["", "hunter2hunter2", "whsec_", "whsec_hunter2", "whsec_" + "A" * 28, "whsec_" + "A" * 100, SECRET[6:]]
)
def test_refuses_a_secret_that_cannot_sign(secret: str) -> None:
    """Of the wrong form or length; told under `callback.secret`, without the secret."""
    problems = refused(secret=secret)

    assert list(problems) == ["callback.secret"]
    assert "hunter2" not in str(problems)
    assert "AAAA" not in str(problems)


def test_every_problem_is_told_at_once() -> None:
    """Unknown fields are refused here, too, and a callback needs both of its own."""
    with pytest.raises(InvalidInput) as told:
        JobRequest.read(asked() | {"callback": {"urll": "x"}})

    assert {problem.field for problem in told.value.problems} == {"callback.url", "callback.secret", "callback.urll"}


def test_the_secret_is_not_shown() -> None:
    """Not by the request's text, its JSON, or pydantic's own error about it."""
    request = JobRequest.read(asked())
    bad = f"hunter2{SECRET}"

    shown = [repr(request), str(request), request.model_dump_json(), repr(request.callback), str(request.model_dump())]
    for make in (
        lambda: JobRequest(**asked(secret=bad)),
        lambda: Callback(url="https://x.test", secret=bad),  # type: ignore[arg-type]  # as a caller would
        lambda: JobRequest.model_validate_json(json.dumps(asked(secret=bad))),
    ):
        with pytest.raises(ValidationError) as told:
            make()
        shown.append(str(told.value))

    assert not any(SECRET in text or bad in text for text in shown)


@given(st.binary(min_size=24, max_size=64))
def test_a_secret_stands_for_its_bytes(key: bytes) -> None:
    """Any 24 to 64 bytes make a secret, and come back as they were."""
    assert signing_key("whsec_" + base64.b64encode(key).decode()) == key


def test_the_command_of_the_guide_makes_a_secret() -> None:
    """`whsec_` and the base64 of 32 random bytes."""
    assert len(signing_key("whsec_" + base64.b64encode(os.urandom(32)).decode())) == 32
