"""Which of a workflow's inputs is its prompt, which its seed? Authors call them as they like, recipes by their part.

The design documents say `input_prompt` and `input_negative_prompt`; a workflow may take `prompt`, `Positive Prompt` or
`text`. A name means, in this order: the input of exactly this name; the one of this name or label but for case, spaces,
punctuation and a leading `input`; one of the names usual for this part. Pure.
"""

import secrets
from collections.abc import Mapping
from typing import Any

from shared.errors import InvalidInput, Problem
from shared.inputs import Input, Signature
from shared.names import tolerant

#: What authors call a part, the usual name first; tolerant names. Of two that fit, the one that stands first here is meant.
USUAL: dict[str, tuple[str, ...]] = {
    "prompt": ("prompt", "positiveprompt", "positive", "textprompt", "text", "caption"),
    "negativeprompt": ("negativeprompt", "negative", "negprompt", "negativetext"),
    "seed": ("seed", "noiseseed", "randomseed"),
    "images": ("images", "trainingimages", "trainingpictures", "pictures", "dataset"),
    "name": ("name", "modelname", "loraname", "outputname", "filename"),
    "steps": ("steps", "trainingsteps", "maxtrainsteps", "totalsteps"),
}

#: Drawn seeds stay below this: every node and every JSON reader can hold them.
SEEDS = 2**32


def part_of(name: str) -> str:
    """The part a name stands for: `input_negative_prompt` is `negativeprompt`."""
    short = tolerant(name)
    return short.removeprefix("input") or short


def find(signature: Signature, name: str) -> Input | None:
    """The input that is meant by a name; None when there is none."""
    if (exact := signature.by_name.get(name)) is not None:
        return exact
    part = part_of(name)
    spelled: dict[str, Input] = {}
    for one in signature.inputs:
        spelled.setdefault(part_of(one.name), one)
    for one in signature.inputs:
        spelled.setdefault(part_of(one.label), one)
    return next((spelled[usual] for usual in (part, *USUAL.get(part, ())) if usual in spelled), None)


def spelled(signature: Signature | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs under the workflow's own names; what means nothing to it stays, for `enqueue` to refuse or to pass.

    Raises `InvalidInput` with every input that two names mean.
    """
    if signature is None:
        return dict(given)
    sent: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, value in given.items():
        one = find(signature, name)
        own = one.name if one else name
        if own in sent:
            problems.append(Problem(f"inputs.{name}", f"means {own!r}, which is given already"))
        sent[own] = value
    if problems:
        raise InvalidInput(problems)
    return sent


def seed_of(signature: Signature | None, inputs: Mapping[str, Any]) -> str | None:
    """What the workflow calls its seed; guessed from the inputs of a job when it is not known."""
    if signature is not None and (one := find(signature, "seed")) is not None:
        return one.name
    if signature is not None and signature.complete:
        return None
    return next((name for name in inputs if part_of(name) in USUAL["seed"]), None)


def draw_seed(signature: Signature | None, name: str) -> int:
    """A random seed that the workflow takes. Never one that would have the GPU draw another."""
    one = signature.by_name.get(name) if signature else None
    low = max(1, round(one.minimum)) if one and one.minimum is not None else 1
    high = min(SEEDS - 1, round(one.maximum)) if one and one.maximum is not None else SEEDS - 1
    return low + secrets.randbelow(max(1, high - low + 1))


def is_drawn(value: object) -> bool:
    """Whether a seed has the GPU draw another one, which nobody is told."""
    return isinstance(value, bool) or not isinstance(value, int) or value < 0
