"""Inputs as the API tells them: the recorded deployments without their graphs, and the simulator's with them."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from jsonschema import Draft202012Validator

from shared.inputs import Signature, check, form_of, signature_of
from simulator.worlds.recorded import API_GRAPH, EDITOR
from tests.contract.simulator_fixtures.served import in_process
from tests.contract.test_client_catalog import client_of
from tests.contract.test_client_recorded import replayed

KINDS = {
    "prompt": "text",
    "any_text": "text",
    "one_line": "text",
    "input_image": "image",
    "mask": "image",
    "cfg": "number",
    "steps": "integer",
    "lora": "model",
    "ckpt": "model",
    "images": "images",
    "video": "video",
    "hires": "boolean",
    "denoise": "number",
    "count": "integer",
    "style": "choice",
    "exr": "file",
    "audio": "audio",
    "file": "file",
    "ws_image": "any",
}


@pytest.fixture
async def signatures() -> AsyncIterator[dict[str, Signature]]:
    """What the simulator's deployments take, by workflow and environment."""
    async with in_process() as sim, client_of(sim) as api:
        found = {
            f"{one.workflow_name}/{one.environment}": signature_of(one.input_types, one.workflow_api, one.workflow)
            for one in await api.deployments.list()
        }
        assert None not in found.values()
        yield {name: signature for name, signature in found.items() if signature}


async def test_recorded_inputs_have_their_kinds() -> None:
    """Every class the API lists; without the graph a seed is not known, so no name is refused."""
    api, _ = replayed("deployment.get")
    async with api:
        one = await api.deployments.get("d")
    assert (one.workflow_api, one.workflow) == (None, EDITOR)  # the recording has a word in place of the API graph
    signature = signature_of(one.input_types, one.workflow_api, one.workflow)
    assert signature is not None
    assert {one.name: one.kind for one in signature.inputs} == KINDS
    assert not signature.complete
    assert check(signature, {"seed": 7, "count": "3"}) == ({"seed": 7, "count": 3}, [])
    assert [problem.field for problem in check(signature, {"count": 11})[1]] == ["inputs.count"]
    assert signature.by_name["prompt"].multiline
    assert not signature.by_name["one_line"].multiline


async def test_the_graph_tells_what_the_listing_tells_and_more() -> None:
    """The same inputs as `input_types`, and besides the seed and the face model, which it leaves out."""
    api, _ = replayed("deployment.get")
    async with api:
        one = await api.deployments.get("d")
    told, whole = signature_of(one.input_types), signature_of(one.input_types, API_GRAPH, EDITOR)
    assert told is not None
    assert whole is not None
    assert whole.complete
    assert set(whole.by_name) == {*told.by_name, "seed", "face"}
    for name, known in told.by_name.items():
        of = whole.by_name[name]
        assert (of.kind, of.label, of.description) == (known.kind, known.label, known.description)
        assert (of.minimum, of.maximum, of.choices) == (known.minimum, known.maximum, known.choices)
    assert whole.by_name["lora"].default == "a.safetensors"  # the listing does not say


async def test_every_workflow_of_the_simulator_has_a_form(signatures: dict[str, Signature]) -> None:
    """Complete, with a valid schema, and the author's own defaults are good."""
    for signature in signatures.values():
        assert signature.complete
        Draft202012Validator.check_schema(form_of(signature))
        defaults = {one.name: one.default for one in signature.inputs if one.default is not None}
        needed = {one.name: ["https://x.test/a.png"] if one.kind == "images" else "https://x.test/a.png"
                  for one in signature.inputs if one.required}  # fmt: skip
        assert check(signature, defaults | needed) == (defaults | needed, [])
    portrait = signatures["SDXL Portrait/production"]
    assert set(portrait.by_name) == {"prompt", "negative_prompt", "steps", "cfg", "seed", "style", "lora"}
    assert portrait.outputs == ("image",)
    assert signatures["Image and Video Pack/production"].outputs == ("image", "animation", "video", "text")


async def test_only_inputs_without_anything_instead_are_required(signatures: dict[str, Signature]) -> None:
    """A caption needs its picture; the first frame of a film is optional, as its author says."""
    required = {
        name.partition("/")[0]: sorted(one.name for one in signature.inputs if one.required)
        for name, signature in signatures.items()
        if any(one.required for one in signature.inputs)
    }
    assert required == {"Caption Image": ["image"], "LoRA Training": ["images"]}


async def test_the_editors_graph_alone_is_read(signatures: dict[str, Signature]) -> None:
    """The simulator writes `widgets_values` as the editor does; the inputs are the same, but none is known to be needed."""
    async with in_process() as sim, client_of(sim) as api:
        deployments = await api.deployments.list()
    for one in deployments:
        drawn, whole = signature_of(None, None, one.workflow), signatures[f"{one.workflow_name}/{one.environment}"]
        assert drawn is not None
        assert drawn.inputs == tuple(replace(known, required=False) for known in whole.inputs)
