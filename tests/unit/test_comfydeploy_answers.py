"""The table of refusals, line by line: what may the caller do next?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.comfydeploy.answers import Answer, problems, refused, submit_refused
from shared.errors import (
    ConveyorError,
    GiveUp,
    InsufficientCredit,
    InvalidInput,
    Problem,
    RateLimited,
    RunNotFound,
    Unauthorized,
    Unavailable,
    Undecided,
    UnexpectedAnswer,
    WorkflowNotFound,
)

PAGE = "<html><body>" + "x" * 5000


def answer(status, body="", wait=None):
    return Answer("R /r", status, body, is_json=not isinstance(body, str), retry_after_seconds=wait)


SUBMITS = [
    (answer(401, {"detail": "Revoked token"}), Unauthorized),
    (answer(402, {"detail": "Payment required"}), InsufficientCredit),
    (answer(403, {"detail": "Insufficient your GPU credits to create run"}), InsufficientCredit),
    (answer(403, {"detail": "Insufficient deployment owner's GPU credits to create run"}), InsufficientCredit),
    (answer(403, {"detail": "Your account has been suspended. Sorry"}), Unauthorized),
    (answer(403, PAGE), Unauthorized),
    (answer(404, {"detail": "Deployment not found"}), WorkflowNotFound),
    (answer(404, {"detail": "Machine not found for this deployment"}), WorkflowNotFound),
    (answer(404, {"detail": "Not Found"}), UnexpectedAnswer),
    (answer(404, PAGE), UnexpectedAnswer),
    (answer(307, ""), UnexpectedAnswer),
    (answer(400, {"error": "bad"}), UnexpectedAnswer),
    (answer(418, ""), UnexpectedAnswer),
    (answer(413, PAGE), InvalidInput),
    (answer(429, "", 3.0), RateLimited),
    (answer(429, PAGE), RateLimited),
    (answer(408, PAGE), Undecided),
    (answer(500, "Internal Server Error"), Undecided),
    (answer(502, PAGE), Undecided),
    (answer(503, PAGE, 9.0), Undecided),
    (answer(504, PAGE), Undecided),
    (answer(599, {"detail": "?"}), Undecided),
    (answer(200, PAGE), Undecided),
    (answer(200, {"batch_id": "b"}), Undecided),
    (answer(200, []), Undecided),
]


@pytest.mark.parametrize(("given_answer", "expected"), SUBMITS)
def test_a_submit_is_refused_or_undecided(given_answer, expected):
    """Only an answer that certainly came before the run's row was stored may be repeated or given up on."""
    assert type(submit_refused(given_answer)) is expected


READS = [
    (answer(401, {"detail": "Invalid or missing token"}), Unauthorized),
    (answer(403, {"detail": "You are not authorized to access this resource"}), RunNotFound),
    (answer(403, {"detail": "Access denied. "}), RunNotFound),
    (answer(403, {"detail": "Access denied for requested operation"}), Unauthorized),
    (answer(404, {"detail": "Run not found"}), RunNotFound),
    (answer(404, {"detail": "Not Found"}), UnexpectedAnswer),
    (answer(422, {"detail": [{"loc": ["path", "run_id"], "msg": "Input should be a valid UUID"}]}), RunNotFound),
    (answer(422, {"detail": [{"loc": ["query", "limit"], "msg": "no"}]}), InvalidInput),
    (answer(422, "?"), UnexpectedAnswer),
    (answer(429, ""), RateLimited),
    (answer(503, PAGE, 5.0), RateLimited),
    (answer(503, PAGE), Unavailable),
    (answer(500, {"detail": "Internal server error"}), Unavailable),
    (answer(408, ""), Unavailable),
    (answer(405, {"detail": "Method Not Allowed"}), UnexpectedAnswer),
]


@pytest.mark.parametrize(("given_answer", "expected"), READS)
def test_a_read_is_refused_or_tried_later(given_answer, expected):
    """Trouble on the way to a read is TryLater; a wrong URL is never reported as a missing run."""
    assert type(refused(given_answer, not_found=RunNotFound)) is expected


@given(
    st.integers(100, 599),
    st.none()
    | st.text()
    | st.dictionaries(st.sampled_from(["detail", "error"]), st.none() | st.text() | st.lists(st.text())),
    st.none() | st.floats(0, 100),
)
def test_every_answer_has_its_error(status, body, wait):
    """No status and no body falls through the table, messages stay short, and a 5xx never allows a second submit."""
    one = answer(status, body, wait)
    for error in (refused(one), submit_refused(one)):
        assert isinstance(error, ConveyorError)
        assert len(str(error)) < 700
    assert not (status >= 500 or 200 <= status < 300) or isinstance(submit_refused(one), Undecided)


def test_the_wait_travels_with_the_error():
    """Whoever closes the bucket needs to know for how long, also after an undecided submit."""
    assert refused(answer(429, "", 3.0)).retry_after_seconds == 3.0
    assert submit_refused(answer(503, PAGE, 9.0)).retry_after_seconds == 9.0
    assert submit_refused(answer(503, PAGE, 9.0)).upstream_status == 503


def test_a_page_of_html_is_not_quoted():
    """A proxy's page helps nobody in a log line."""
    assert str(refused(answer(502, PAGE))) == "R /r answered 502: an HTML page"


def test_one_problem_for_each_field():
    """A value tried as five types is one problem; different fields stay apart; what was sent is not repeated."""
    kinds = ["string", "integer", "number"]
    detail = [
        {"loc": ["body", "inputs", "prompt", kind], "msg": f"Input should be a valid {kind}", "input": "SECRET"}
        for kind in kinds
    ]
    detail += [
        {"loc": ["body", "gpu"], "msg": "Input should be 'CPU' or 'T4'"},
        {"loc": ["body", 18], "msg": "JSON decode error"},
        {"loc": ["body"], "msg": "Field required"},
        {},
    ]
    assert problems(detail) == [
        Problem("inputs.prompt", "Input should be a valid string, integer or number"),
        Problem("gpu", "Input should be 'CPU' or 'T4'"),
        Problem("body", "JSON decode error; or Field required; or is not valid"),
    ]


def test_a_missing_machine_is_a_plain_give_up():
    """Routes without an error of their own say GiveUp with the API's status."""
    error = refused(answer(404, {"detail": "Machine not found"}), not_found=GiveUp)
    assert type(error) is GiveUp
    assert error.upstream_status == 404
