"""Any JSON becomes a run, or the error that names the route; odd outputs lose nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.comfydeploy import FINAL, MediaItem, RunStatus, run_outputs
from shared.comfydeploy.answers import Answer
from shared.comfydeploy.run import read_listed_run, read_run
from shared.errors import UnexpectedAnswer

ROUTE = "GET /run/{run_id}"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["url", "data", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
RUN_KEYS = ["workflow_inputs", "progress", "outputs", "created_at", "duration", "queue_position", "gpu", "surprise"]


def answer(body):
    return Answer(ROUTE, 200, body, is_json=True)


@given(st.dictionaries(st.sampled_from(RUN_KEYS), json_values))
def test_only_id_and_status_are_needed(fields):
    """Missing, null, unknown and wrongly typed fields never stop a run from being read."""
    body = {**fields, "id": "r", "status": "success"}
    assert read_run(answer(body)).is_final
    assert read_listed_run(answer([body]), body).is_final


@pytest.mark.parametrize(
    "body",
    [None, [], "text", {}, {"id": "r"}, {"status": "running"}, {"id": "", "status": "running"}, {"id": 1, "status": 2}],
)
def test_a_body_without_id_or_status_names_the_route(body):
    """What we cannot work with is the operator's business, and the message says where it came from."""
    with pytest.raises(UnexpectedAnswer, match="GET /run/"):
        read_run(answer(body))


def test_an_unknown_status_word_is_kept_and_not_final():
    """A tenth word means "look again": it must neither raise nor end the job."""
    run = read_run(answer({"id": "r", "status": "hibernating"}))
    assert (run.status, run.known_status, run.is_final) == ("hibernating", None, False)


def test_the_four_final_words_are_final_and_no_others():
    """CONTRACT section 6, checked over all nine words."""
    final = {status for status in RunStatus if read_run(answer({"id": "r", "status": status})).is_final}
    assert final == FINAL == {"success", "failed", "timeout", "cancelled"}


@given(json_values)
def test_no_outputs_value_raises(value):
    """Webhooks are parsed by the same code and carry whatever a custom node reported."""
    assert isinstance(run_outputs(value), tuple)
    assert isinstance(run_outputs([{"data": value}]), tuple)


def test_every_shape_of_output_is_kept():
    """Files become MediaItem, texts and booleans stay, error objects, bare lists and texts are not lost, nulls are."""
    outputs = run_outputs(
        [
            {"id": "1", "node_meta": {"node_id": 9, "node_class": "Save"}, "output_id": "o", "data": {
                "images": [{"url": "http://x/a.png", "filename": "a.png", "is_public": False, "upload_duration": 1, "new": 2}],
                "text": ["hello", None, ""], "animated": [True], "error": {"message": "boom"}}},
            {"data": [{"node": 1}, "timing"]},
            "not an output",
        ]
    )  # fmt: skip
    first, second, third = outputs
    assert (first.node_id, first.node_class, first.output_id) == ("9", "Save", "o")
    assert first.data == {
        "images": [MediaItem(url="http://x/a.png", filename="a.png", is_public=False)],
        "text": ["hello", ""],
        "animated": [True],
        "error": [{"message": "boom"}],
    }
    assert second.data == {"data": [{"node": 1}, "timing"]}
    assert third.data == {"data": ["not an output"]}


def test_the_listing_of_a_deployment_calls_the_run_time_duration():
    """There `duration` is ended - started (CONTRACT section 11), elsewhere ended - created."""
    row = {"id": "r", "status": "success", "duration": "3.5", "run_duration": "2"}
    there = read_listed_run(answer([row]), row, duration_is_run=True)
    elsewhere = read_listed_run(answer([row]), row)
    assert (there.run_seconds, there.duration_seconds) == (3.5, None)
    assert (elsewhere.run_seconds, elsewhere.duration_seconds) == (2.0, 3.5)
