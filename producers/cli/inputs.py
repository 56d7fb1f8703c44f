"""What do people type for inputs? `NAME=VALUE`, the value as JSON if it is JSON, else as the text it is."""

import json
from typing import Any, NoReturn

from shared.errors import InvalidInput, Problem


def _not_json(word: str) -> NoReturn:
    raise ValueError(word)


def value(text: str) -> Any:
    """`4` is a number, `true` a truth, `["a"]` a list, `"4"` and `a cat` are texts (as are NaN and Infinity)."""
    try:
        return json.loads(text, parse_constant=_not_json)
    except ValueError:
        return text


def read_inputs(texts: list[str]) -> dict[str, Any]:
    """Read every `NAME=VALUE`. Raises `InvalidInput` with all that are none, and names given twice."""
    inputs: dict[str, Any] = {}
    problems = []
    for text in texts:
        name, equals, rest = text.partition("=")
        if not equals or not name:
            problems.append(Problem(f"--input {name}".rstrip(), "write it as NAME=VALUE"))
        elif name in inputs:
            problems.append(Problem(f"inputs.{name}", "is given twice"))
        else:
            inputs[name] = value(rest)
    if problems:
        raise InvalidInput(problems)
    return inputs
