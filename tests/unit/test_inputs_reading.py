"""A signature from a workflow's graphs: every class of input nodes, in both forms, and nothing that cannot be known."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.inputs import Input, Signature, signature_of
from shared.inputs.graphs import MOST_NOTES, NOTE_CHARACTERS
from shared.inputs.nodes import CLASSES


def node(class_type: str, input_id: str = "x", **values: Any) -> dict[str, Any]:
    """A node of the API's form; `class_type` without what the family shares."""
    return {"class_type": f"ComfyUIDeployExternal{class_type}", "inputs": {"input_id": input_id, **values}}


def read(*nodes: dict[str, Any]) -> Signature:
    """The signature of these nodes, numbered from 1."""
    signature = signature_of(None, {str(place): one for place, one in enumerate(nodes, 1)})
    assert signature is not None
    return signature


def read_one(*nodes: dict[str, Any]) -> Input:
    """The only input of these nodes."""
    [found] = read(*nodes).inputs
    return found


def drawn(class_type: str, widgets_values: Any, **more: Any) -> dict[str, Any]:
    """An editor's graph of one node."""
    kind = f"ComfyUIDeployExternal{class_type}" if class_type[0].isupper() else class_type
    return {"nodes": [{"id": 1, "type": kind, "widgets_values": widgets_values} | more]}


TAKEN = {"class_type": "VAEEncode", "inputs": {"pixels": ["1", 0]}}


def test_a_slider_has_bounds_and_a_default() -> None:
    """Name, label, description, kind, default, bounds and step."""
    slider = node("NumberSlider", "cfg", default_value=7.0, min_value=1, max_value=20, step=0.5)
    slider["inputs"] |= {"display_name": "Guidance", "description": "How strictly"}
    found = read_one(slider)
    assert (found.name, found.kind, found.label) == ("cfg", "number", "Guidance")
    assert (found.description, found.default, found.required) == ("How strictly", 7.0, False)
    assert (found.minimum, found.maximum, found.step) == (1, 20, 0.5)


def test_a_seed_may_be_anything() -> None:
    """-1 and what is out of its range mean random, so it has no bounds; it is there though the API leaves it out."""
    seed = read_one(node("Seed", "seed", default_value=-1, min_value=1, max_value=4294967295))
    assert (seed.kind, seed.default, seed.minimum, seed.maximum) == ("integer", -1, None, None)


@pytest.mark.parametrize("class_type", sorted(CLASSES))
def test_every_class_of_the_contract_is_read_in_both_forms(class_type: str) -> None:
    """The editor's values in the order of the widgets are the API form's fields."""
    values: dict[str, Any] = dict.fromkeys(CLASSES[class_type].widgets, "")
    values |= {"input_id": "x", "options": '["a", "b"]', "min_value": 1, "max_value": 9}
    values = {name: values[name] for name in CLASSES[class_type].widgets}
    [one] = read({"class_type": class_type, "inputs": values}).inputs
    old = signature_of(None, None, {"nodes": [{"id": 3, "type": class_type, "widgets_values": list(values.values())}]})
    slots = [{"name": name, "widget": {"name": name}, "link": None} for name in reversed(values)]
    newer = {"id": 3, "type": class_type, "widgets_values": list(values.values())[::-1], "inputs": slots}
    by_name = {"id": 3, "type": class_type, "widgets_values": values}
    for graph in (old, signature_of(None, None, {"nodes": [newer]}), signature_of(None, None, {"nodes": [by_name]})):
        assert graph is not None
        assert (graph.inputs, graph.complete) == ((one,), False)


def test_only_the_graph_that_runs_is_complete() -> None:
    """Without it there may be inputs nobody told us of; with nothing at all nothing is known."""
    assert signature_of(None, None, None) is None
    assert signature_of((), None, None) == Signature()
    assert read() == Signature(complete=True)


@pytest.mark.parametrize(
    ("nodes", "required"),
    [
        ((node("Image", default_value_url=""), TAKEN), True),
        ((node("Image"), TAKEN), True),
        ((node("ImageBatch", images="[]"), TAKEN), True),
        ((node("Audio", audio_file=""), TAKEN), True),
        ((node("Image", default_value_url=""),), False),  # nobody takes it
        ((node("Image", default_value_url="https://pictures.test/a.png"), TAKEN), False),
        ((node("Image", default_value=["7", 0]), TAKEN), False),
        ((node("Image", display_name="First frame (optional)"), TAKEN), False),
        ((node("Text", default_value=""), TAKEN), False),
        ((node("Video", force_rate=0), TAKEN), False),  # not all of its fields are known to us
        ((node("Lora", lora_url=""), TAKEN), False),
    ],
)
def test_required_is_what_has_nothing_to_use_instead(nodes: tuple[dict[str, Any], ...], required: bool) -> None:
    """A default of any sort makes it not required, and so does the author's word."""
    assert read_one(*nodes).required is required


def test_what_may_hold_a_secret_is_not_kept() -> None:
    """A token, and addresses that stand in."""
    lora = node("Lora", default_lora_name="", lora_url="https://models.test/x?token=hunter2", bearer_token="hunter2")
    image = node("Image", "image", default_value_url="https://u:hunter2@pictures.test/a.png")
    assert "hunter2" not in json.dumps(read(lora, image).stored())


def test_a_linked_default_is_not_shown() -> None:
    """It is another node's value."""
    assert read_one(node("NumberInt", default_value=["12", 0])).default is None


@pytest.mark.parametrize("options", ["a,b", "", None, "{}", "[" * 5000, []])
def test_an_enum_without_readable_options_is_a_text(options: Any) -> None:
    """Upstream does not look at the options of a run, and neither do we when there are none."""
    assert read_one(node("Enum", options=options)).kind == "text"


def test_two_nodes_of_one_name_have_to_suit_both() -> None:
    """Both get the value: bounds are narrowed, and what contradicts itself is not looked at."""
    slider = node("NumberSliderInt", min_value=1, max_value=10)
    narrow = read_one(slider, node("NumberSliderInt", min_value=5, max_value=20))
    assert (narrow.minimum, narrow.maximum) == (5, 10)
    apart = read_one(slider, node("NumberSliderInt", min_value=50, max_value=60))
    assert (apart.kind, apart.minimum, apart.maximum) == ("integer", None, None)
    assert read_one(slider, node("Text")).kind == "any"
    assert read_one(node("Enum", options='["a","b"]'), node("Enum", options='["b","c"]')).choices == ("b",)
    assert read_one(node("Enum", options='["a"]'), node("Enum", options='["c"]')).kind == "any"


def test_a_class_we_do_not_know_is_an_input_as_well() -> None:
    """Any node with an `input_id` gets the value."""
    assert read_one(node("Colour")).kind == "any"


def test_nodes_that_sleep_are_left_out_and_those_in_subgraphs_are_not() -> None:
    """Muted and bypassed nodes do not run."""
    assert signature_of(None, None, drawn("Text", ["x"], mode=4)) == Signature()
    inside = {"nodes": [], "definitions": {"subgraphs": [drawn("Text", ["x"])]}}
    found = signature_of(None, None, inside)
    assert found is not None
    assert [one.name for one in found.inputs] == ["x"]


def test_outputs_are_foretold() -> None:
    """By the class of the node; the video combiner makes what its format says."""
    classes = ["SaveImage", "PreviewImage", "ComfyDeployOutputVideo", "ShowText|pysssss", "SomebodysOwn"]
    nodes = [{"class_type": one, "inputs": {}} for one in classes]
    gif = {"class_type": "VHS_VideoCombine", "inputs": {"format": "image/gif"}}
    assert read(*nodes, gif).outputs == ("image", "video", "text", "animation")


def test_notes_are_kept_short() -> None:
    """Each once, cut, and not too many."""
    notes = ["Give a square picture.", "Give a square picture.", " ", "x" * 999, *(f"note {n}" for n in range(9))]
    graph = {"nodes": [drawn("Note", [note], type="MarkdownNote")["nodes"][0] for note in notes]}
    found = signature_of((), None, graph)
    assert found is not None
    assert found.notes[0] == "Give a square picture."
    assert (len(found.notes), len(found.notes[1])) == (MOST_NOTES, NOTE_CHARACTERS)


FIELDS = [
    "class_type",
    "type",
    "inputs",
    "input_id",
    "nodes",
    "widgets_values",
    "definitions",
    "subgraphs",
    "mode",
    "default_value",
    "options",
    "min_value",
    "max_value",
    "widget",
    "name",
    "link",
    "id",
    "format",
]
odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["x", '["a"]']),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(FIELDS),
            inner | st.sampled_from([*CLASSES, "Note", "VHS_VideoCombine"]),
            max_size=5,
        )
    ),
    max_leaves=25,
)


@given(st.dictionaries(st.text(max_size=2), odd, max_size=4), odd)
def test_no_graph_is_too_odd(api: dict[str, Any], editor: Any) -> None:
    """Graphs are written by people and many programs: reading one never fails, and the result can be stored."""
    workflow = editor if isinstance(editor, dict) else {"nodes": editor}
    for found in (signature_of(None, api, workflow), signature_of(None, None, workflow)):
        assert found is not None
        assert Signature.of(json.loads(json.dumps(found.stored()))) == found
