"""A job's inputs against what the workflow takes: all that is wrong is told, what is meant is understood."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from shared.inputs import Input, Kind, Signature, check, form_of

URL = "https://pictures.test/fox.png"
KINDS: tuple[Kind, ...] = Kind.__args__  # type: ignore[attr-defined]


def one(kind: Kind, **more: Any) -> Input:
    """An input called x."""
    return Input(name="x", label="x", kind=kind, **more)


def sent(of: Input, value: Any) -> Any:
    """What is sent for a value that is taken."""
    found, problems = check(Signature(inputs=(of,), complete=True), {"x": value})
    assert problems == []
    return found["x"]


def reason(of: Input, value: Any) -> str:
    """Why a value is refused."""
    _, problems = check(Signature(inputs=(of,), complete=True), {"x": value})
    assert [problem.field for problem in problems] == ["inputs.x"]
    return problems[0].reason


STYLE = one("choice", choices=("photo", "oil painting", "1"))
SIZE = one("integer", minimum=64, maximum=2048)


@pytest.mark.parametrize(
    ("of", "given_", "expected"),
    [
        (one("text"), 7, "7"),
        (one("text"), True, "true"),
        (one("model"), "sdxl.safetensors", "sdxl.safetensors"),
        (one("number"), "0.5", 0.5),
        (one("number"), " -3e2 ", -300.0),
        (one("number"), 12, 12),
        (SIZE, "512", 512),
        (SIZE, 512.0, 512),
        (SIZE, "512.0", 512),
        (one("integer"), "12345678901234567890", "12345678901234567890"),
        (one("integer", default=-1, minimum=1), -1, -1),
        (one("boolean"), "Yes", True),
        (one("boolean"), 0, False),
        (STYLE, "Oil-Painting", "oil painting"),
        (STYLE, 1, "1"),
        (one("image"), f" {URL}\n", URL),
        (one("image"), [URL], URL),
        (one("image"), "data:image/png;base64,aGVsbG8=", "data:image/png;base64,aGVsbG8="),
        (one("image"), "", ""),
        (one("images"), URL, [URL]),
        (one("images"), f'["{URL}"]', [URL]),
        (one("any"), [1, {"a": None}], [1, {"a": None}]),
    ],
)
def test_what_is_meant_is_understood(of: Input, given_: Any, expected: Any) -> None:
    """The same value in other clothes becomes what the workflow takes."""
    found = sent(of, given_)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("of", "given_", "said"),
    [
        (one("text"), ["a"], "not a list"),
        (one("number"), "many", "is not a number"),
        (one("number"), "", "is empty"),
        (one("number"), True, "is not a number"),
        (one("number"), "1e999", "is not a number"),
        (SIZE, 1.5, "whole number"),
        (SIZE, 8, "has to be 64 to 2048"),
        (SIZE, "4096", "has to be 64 to 2048"),
        (one("number", minimum=1), 0, "at least 1"),
        (one("number", maximum=1), 2, "at most 1"),
        (one("boolean"), "maybe", "true or false"),
        (one("boolean"), 2, "true or false"),
        (STYLE, "photos", "Did you mean 'photo'?"),
        (STYLE, "zzz", "has to be one of: photo, oil painting, 1."),
        (one("image"), "fox.png", "http or https address; upload the file first"),
        (one("image"), [URL, URL], "one file, not a list"),
        (one("audio"), "data:image/png;base64,aGVsbG8=", "http or https address"),
        (one("image", required=True), "", "is empty"),
        (one("images", required=True), [], "is an empty list"),
        (one("images"), [URL, "fox.png"], "http or https address"),
        (one("images"), "[", "list of addresses"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_reason(of: Input, given_: Any, said: str) -> None:
    """The reason says what is taken instead, and does not repeat what was given."""
    assert said in reason(of, given_)


@pytest.mark.parametrize("kind", KINDS)
def test_no_reason_repeats_a_value(kind: Kind) -> None:
    """What was given may be a secret."""
    of = one(kind, choices=("a", "b") if kind == "choice" else None)
    for value in ("hunter2hunter2", ["hunter2hunter2"], [["hunter2hunter2"]]):
        _, problems = check(Signature(inputs=(of,), complete=True), {"x": value})
        assert all("hunter2" not in problem.reason for problem in problems)


PORTRAIT = Signature(
    inputs=(
        Input(name="prompt", label="What to draw", kind="text"),
        Input(name="picture", label="Picture", kind="image", required=True),
        Input(name="steps", label="Steps", kind="integer", minimum=1, maximum=50),
    ),
    complete=True,
)


def test_every_problem_is_told_at_once() -> None:
    """Unknown, wrong, out of bounds and missing, each by its name."""
    _, problems = check(PORTRAIT, {"promt": "a fox", "steps": 99, "zzz": 1})
    assert {problem.field: problem.reason for problem in problems} == {
        "inputs.promt": "is not an input of this workflow. Did you mean 'prompt'?",
        "inputs.steps": "has to be 1 to 50",
        "inputs.zzz": "is not an input of this workflow. It takes: prompt, picture, steps.",
        "inputs.picture": "is required: the workflow has nothing to use instead",
    }


def test_an_input_is_found_by_its_label() -> None:
    """The label is what people see."""
    _, problems = check(PORTRAIT, {"what-to-draw": "a fox", "picture": URL})
    assert "Did you mean 'prompt'?" in problems[0].reason


def test_what_is_not_known_is_not_refused() -> None:
    """Without a signature nothing is wrong; when inputs may be missing from it, no name is unknown."""
    asked = {"seed": -1, "steps": "99"}
    assert check(None, asked) == (asked, [])
    some = Signature(inputs=PORTRAIT.inputs[:1], complete=False)
    assert check(some, asked | {"prompt": 7}) == (asked | {"prompt": "7"}, [])


def test_a_bound_of_zero_is_kept() -> None:
    """Nothing is as easily taken for nothing."""
    signature = Signature(inputs=(one("number", minimum=0, maximum=0, default=False),))
    assert Signature.of(signature.stored()) == signature
    assert signature.stored()["inputs"][0]["minimum"] == 0


# -- of any signature -------------------------------------------------------------------------------------------------

names = st.sampled_from(["prompt", "seed", "Größe", "a b", "x.y"])
numbers = st.integers(-100, 100) | st.floats(-100, 100)


@st.composite
def inputs(draw: st.DrawFn) -> Input:
    """An input as a graph might have it."""
    kind = draw(st.sampled_from(KINDS))
    bounds: dict[str, Any] = {}
    if kind in ("number", "integer"):
        low, high = sorted(draw(st.tuples(numbers, numbers)))
        bounds = {"minimum": draw(st.sampled_from([None, low])), "maximum": draw(st.sampled_from([None, high]))}
    choices = tuple(draw(st.lists(st.text(max_size=4), min_size=1, max_size=4, unique=True)))
    return Input(
        name=draw(names),
        kind=kind,
        label=draw(st.text(max_size=5)),
        default=draw(st.none() | numbers | st.text(max_size=4)),
        required=kind in ("image", "images", "audio", "file") and draw(st.booleans()),
        choices=choices if kind == "choice" else None,
        **bounds,
    )


signatures = st.builds(
    lambda found, complete: Signature(inputs=tuple({one.name: one for one in found}.values()), complete=complete),
    st.lists(inputs(), max_size=5),
    st.booleans(),
)
json_values = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
    | st.sampled_from([URL, "12", " 0.5", "true", "", "[]", f'["{URL}"]', "1e400", "٣"]),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)  # fmt: skip
asked = st.dictionaries(names | st.text(min_size=1, max_size=6), json_values, max_size=5)


@given(signatures, asked)
def test_coercion_is_done_once(signature: Signature, values: dict[str, Any]) -> None:
    """What was sent once is taken again and stays as it is, and the stored signature judges as this one does."""
    found, problems = check(signature, values)
    assert check(Signature.of(signature.stored()), values) == (found, problems)
    if not problems:
        again, none = check(signature, found)
        assert (repr(again), none) == (repr(found), [])


@given(signatures, asked)
def test_problems_are_of_single_inputs(signature: Signature, values: dict[str, Any]) -> None:
    """Whatever is wrong with all of them together is what is wrong with each alone."""
    _, problems = check(signature, values)
    told = {problem.field.removeprefix("inputs.") for problem in problems}
    alone = {
        name
        for name, value in values.items()
        if any(problem.field == f"inputs.{name}" for problem in check(signature, {name: value})[1])
    }
    missing = {one.name for one in signature.inputs if one.required and one.name not in values}
    assert told == alone | missing
    assert len(problems) == len(told)


@given(signatures, asked)
def test_what_the_form_allows_is_never_refused(signature: Signature, values: dict[str, Any]) -> None:
    """A program that follows the schema has nothing to fear."""
    schema = form_of(signature)
    Draft202012Validator.check_schema(schema)
    if Draft202012Validator(schema).is_valid(values):
        assert check(signature, values)[1] == []


@given(st.data(), signatures)
def test_good_values_are_never_refused(data: st.DataObject, signature: Signature) -> None:
    """A value of each kind within its bounds, and any part of what is not required."""
    good: dict[str, Any] = {}
    for of in signature.inputs:
        if not of.required and data.draw(st.booleans()):
            continue
        low = -100 if of.minimum is None else of.minimum
        high = max(low, 100) if of.maximum is None else of.maximum
        low = min(low, high)
        whole = range(int(low // 1 + (low % 1 > 0)), int(high // 1) + 1)
        strategies: dict[str, st.SearchStrategy[Any]] = {
            "text": st.text(),
            "model": st.text(),
            "number": st.floats(low, high),
            "integer": st.sampled_from(whole) if whole else st.none(),
            "boolean": st.booleans(),
            "choice": st.sampled_from(of.choices or ("",)),
            "images": st.lists(st.just(URL), min_size=1, max_size=3),
            "any": json_values,
        }
        value = data.draw(strategies.get(of.kind, st.just(URL)))
        if value is not None:
            good[of.name] = value
    assert check(signature, good) == (good, [])
