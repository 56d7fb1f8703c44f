"""Is this value what the input takes, perhaps in other clothes? `"12"` is a number, `"yes"` a truth.

`coerced` gives the value that is sent, and gives it back unchanged when it is asked again. It raises `Refusal`, whose text
never repeats the value, as that may be a secret.
"""

import json
import math
import re
from typing import Any

from shared.inputs.signature import FILES, Input
from shared.jobs.request import MAX_EXACT_INTEGER
from shared.names import did_you_mean, tolerant

_NUMBER = re.compile(r"[+-]?(\d{1,400}\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")
_URL = re.compile(r"https?://[^\s/?#]+\S*", re.IGNORECASE)
#: Other pictures inside the text would be taken for an address upstream (CONTRACT section 4).
_DATA = re.compile(r"data:image/(png|jpeg|jpg);base64,", re.IGNORECASE)
_TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}

_UPLOAD = "upload the file first and give the address you get"


class Refusal(Exception):
    """Why a value cannot be what the input takes, as a sentence."""


def coerced(one: Input, value: Any) -> Any:
    """The value as it is sent. Raises `Refusal`."""
    if value == one.default and type(value) is type(one.default):
        # The author's own value is good, also beyond the author's own bounds: forms send it back.
        return value
    match one.kind:
        case "text" | "model":
            return _text(value)
        case "number" | "integer":
            return _number(one, value)
        case "boolean":
            return _truth(value)
        case "choice":
            return _choice(one.choices or (), value)
        case "images":
            return _addresses(one, value)
        case kind if kind in FILES:
            return _address(one, value)
        case _:
            return value


def _text(value: Any) -> str:
    """Who types `7` into a command line where a text is wanted means the text."""
    if isinstance(value, list):
        raise Refusal("takes a text, not a list")
    return value if isinstance(value, str) else json.dumps(value)


def _number(one: Input, value: Any) -> Any:
    found = _read(value, whole=one.kind == "integer")
    low, high = one.minimum, one.maximum
    if (low is not None and found < low) or (high is not None and found > high):
        if low is not None and high is not None:
            raise Refusal(f"has to be {low} to {high}")
        raise Refusal(f"has to be at least {low}" if low is not None else f"may be at most {high}")
    # Beyond this no JSON reader is sure of a number; as text it survives, and the node reads it.
    return value if isinstance(found, int) and abs(found) > MAX_EXACT_INTEGER else found


def _read(value: Any, *, whole: bool) -> int | float:
    what = "a whole number" if whole else "a number"
    if isinstance(value, str):
        text = value.strip()
        if not _NUMBER.fullmatch(text):
            raise Refusal(f"is not {what}" if text else f"is empty; leave it out, or give {what}")
        value = int(text) if text.lstrip("+-").isdecimal() else float(text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refusal(f"is not {what}")
    if isinstance(value, float) and not math.isfinite(value):
        raise Refusal(f"is not {what}")
    if whole and isinstance(value, float):
        if not value.is_integer():
            raise Refusal("has to be a whole number")
        return int(value)
    return value


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = value.strip().casefold() if isinstance(value, str) else repr(value) if value in (0, 1) else ""
    if word in _TRUTHS:
        return _TRUTHS[word]
    raise Refusal("has to be true or false")


def _choice(choices: tuple[str, ...], value: Any) -> str:
    if isinstance(value, list):
        raise Refusal("takes one of its choices, not a list")
    given = value if isinstance(value, str) else json.dumps(value)
    if given in choices:
        return given
    alike = [choice for choice in choices if tolerant(choice) == tolerant(given) and tolerant(given)]
    if len(alike) == 1:
        return alike[0]
    shown = ", ".join(choices[:20]) + (", …" if len(choices) > 20 else "")
    raise Refusal(f"has to be one of: {shown}.{did_you_mean(given, choices)}")


def _address(one: Input, value: Any) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, list):
        raise Refusal("takes one file, not a list")
    if not isinstance(value, str):
        raise Refusal(f"takes the address of a file; {_UPLOAD}")
    text = value.strip()
    if not text and not one.required:
        # Nodes take an empty address for none, and many forms send it.
        return text
    if _URL.fullmatch(text) or (one.kind in ("image", "images") and _DATA.match(text)):
        return text
    raise Refusal(f"has to be an http or https address; {_UPLOAD}" if text else f"is empty; {_UPLOAD}")


def _addresses(one: Input, value: Any) -> list[str]:
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise Refusal("has to be a list of addresses") from None
    given = value if isinstance(value, list) else [value]
    found = [_address(one, item) for item in given]
    if one.required and not found:
        raise Refusal(f"is an empty list; {_UPLOAD}")
    return [address for address in found if address]
