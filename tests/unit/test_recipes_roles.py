"""Which input is the prompt, which the seed, whatever the author has called them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.recipes.roles import draw_seed, find, is_drawn, part_of, seed_of, spelled
from shared.errors import InvalidInput
from shared.inputs import Input, Signature


def takes(*names: str, complete: bool = True, **labels: str) -> Signature:
    """A workflow with these inputs; `labels` are inputs with a label."""
    plain = [Input(name=name, kind="text", label=name) for name in names]
    return Signature(
        inputs=(*plain, *(Input(name=n, kind="text", label=label) for n, label in labels.items())), complete=complete
    )


@pytest.mark.parametrize(
    ("asked", "signature", "meant"),
    [
        ("input_prompt", takes("prompt"), "prompt"),
        ("input_prompt", takes("input_prompt", "prompt"), "input_prompt"),
        ("input_prompt", takes("negative_prompt", "Positive Prompt"), "Positive Prompt"),
        ("input_prompt", takes("text", "caption"), "text"),
        ("input_prompt", takes(p1="Prompt", p2="Negative prompt"), "p1"),
        ("input_negative_prompt", takes("prompt", "negative"), "negative"),
        ("input_negative_prompt", takes(p1="Prompt", p2="Negative prompt"), "p2"),
        ("input_negative_prompt", takes("prompt"), None),
        ("input_seed", takes("noise_seed"), "noise_seed"),
        ("Prompt!", takes("input prompt"), "input prompt"),
        ("input_images", takes("dataset"), "dataset"),
        ("cfg", takes("CFG"), "CFG"),
        ("プロンプト", takes("プロンプト"), "プロンプト"),
    ],
)
def test_a_part_is_found_by_exact_name_then_tolerantly_then_by_usage(
    asked: str, signature: Signature, meant: str | None
) -> None:
    """The author's word goes before ours, names before labels."""
    found = find(signature, asked)
    assert (found.name if found else None) == meant


@given(st.text(), st.lists(st.text(), max_size=4))
def test_an_exact_name_always_means_itself(name: str, others: list[str]) -> None:
    """Whatever else there is."""
    found = find(takes(*others, name), name)
    assert found is not None
    assert found.name == name


def test_an_input_called_input_is_no_empty_part() -> None:
    """The prefix is taken off only when something is left."""
    assert (part_of("input"), part_of("Input Prompt"), part_of("inputs")) == ("input", "prompt", "s")


def test_inputs_are_spelled_as_the_workflow_spells_them() -> None:
    """What means nothing stays for the check to refuse; without a signature all of it stays."""
    given_inputs = {"input_prompt": "a fox", "CFG": 7, "strength": 1}
    assert spelled(takes("text", "cfg"), given_inputs) == {"text": "a fox", "cfg": 7, "strength": 1}
    assert spelled(None, given_inputs) == given_inputs


def test_two_names_of_one_input_are_refused() -> None:
    """One of them would win in silence."""
    with pytest.raises(InvalidInput) as refusal:
        spelled(takes("prompt"), {"input_prompt": "a fox", "prompt": "a cat"})
    assert [problem.field for problem in refusal.value.problems] == ["inputs.prompt"]


def test_a_seed_is_known_by_the_workflow_or_by_what_was_sent() -> None:
    """A complete signature without one is believed."""
    assert seed_of(takes("prompt", "noise_seed"), {}) == "noise_seed"
    assert seed_of(takes("prompt"), {"seed": 1}) is None
    assert seed_of(takes("prompt", complete=False), {"input_seed": 1}) == "input_seed"
    assert seed_of(None, {"prompt": "a fox"}) is None


@given(st.integers(-1, 10**6), st.integers(0, 2**53))
def test_a_drawn_seed_is_one_the_workflow_takes(low: int, width: int) -> None:
    """Within its bounds, and never one that has the GPU draw another."""
    one = Input(name="seed", kind="integer", label="Seed", minimum=low, maximum=low + width)
    seed = draw_seed(Signature(inputs=(one,), complete=True), "seed")
    assert max(1, low) <= seed <= max(1, low, min(low + width, 2**32 - 1))
    assert not is_drawn(seed)


@pytest.mark.parametrize(
    ("value", "drawn"), [(7, False), (0, False), (-1, True), (None, True), ("7", True), (True, True)]
)
def test_whose_dice_were_thrown(value: object, drawn: bool) -> None:
    """-1 and no seed have the GPU draw."""
    assert is_drawn(value) is drawn
