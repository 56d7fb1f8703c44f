"""Do these inputs suit the workflow? Every problem at once, and the values as they will be sent."""

from typing import Any

from shared.errors import Problem
from shared.inputs.coercion import Refusal, coerced
from shared.inputs.signature import Signature
from shared.names import did_you_mean, tolerant


def check(signature: Signature | None, inputs: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """The inputs as they are sent, and what is wrong with them. A second check of what the first gave changes nothing.

    Unknown names are wrong only when the signature is complete. Without a signature nothing is wrong.
    """
    if signature is None:
        return inputs, []
    sent: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, value in inputs.items():
        one = signature.by_name.get(name)
        if one is None:
            sent[name] = value
            if signature.complete:
                problems.append(Problem(f"inputs.{name}", _unknown(name, signature, inputs)))
            continue
        try:
            sent[name] = coerced(one, value)
        except Refusal as refusal:
            problems.append(Problem(f"inputs.{name}", str(refusal)))
    problems += [
        Problem(f"inputs.{one.name}", "is required: the workflow has nothing to use instead")
        for one in signature.inputs
        if one.required and one.name not in inputs
    ]
    return sent, problems


def _unknown(name: str, signature: Signature, inputs: dict[str, Any]) -> str:
    free = [one.name for one in signature.inputs if one.name not in inputs]
    if not signature.inputs:
        return "is not an input of this workflow, which takes none."
    near = did_you_mean(name, free)
    # By its label is how people know it.
    near = near or next(
        (f" Did you mean {o.name!r}?" for o in signature.inputs if tolerant(o.label) == tolerant(name)), ""
    )
    names = [one.name for one in signature.inputs]
    known = "" if near else f" It takes: {', '.join(names[:20])}{', …' if len(names) > 20 else ''}."
    return f"is not an input of this workflow.{near}{known}"
