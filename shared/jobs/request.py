"""What may be asked for? Checked at the door: every problem at once, by field, and nothing is written."""

import json
import math
import re
import unicodedata
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from shared.errors import InvalidInput, Problem
from shared.jobs.callback import Callback

#: Bytes of JSON. Pictures are uploaded first and travel as URLs, so a quarter of a megabyte is plenty of prompt.
MAX_INPUTS_BYTES = 256 * 1024
MAX_META_BYTES = 8 * 1024
MAX_CONTEXT_BYTES = 8 * 1024

#: Beyond this a JavaScript frontend would read another number than we sent.
MAX_EXACT_INTEGER = 2**53 - 1

#: Levels of lists and objects; JSON readers stop somewhere beyond, the one that reads the record again at 200.
MAX_DEPTH = 64

#: The key under which the job id travels with the run (CONTRACT section 4: unknown input keys are stored).
REFERENCE_INPUT = "_job_id"

_ONE_THING = "give either `workflow` or `deployment_id`"

_URL_WITH_PASSWORD = re.compile(r"https?://[^/\s:@]+:[^/\s@]+@", re.IGNORECASE)
_TELEGRAM_FILE = re.compile(r"api\.telegram\.org/(file/)?bot\d+:", re.IGNORECASE)

GPU = Literal["CPU", "T4", "L4", "A10G", "L40S", "A100", "A100-80GB", "H100", "H200", "B200"]
Environment = Literal["production", "staging", "preview", "public-share", "private-share", "community-share"]


#: Control characters, surrogates, line and paragraph separators. Not `str.isprintable`: it refuses the joiner inside
#: a family emoji and the wide space of a Japanese name.
_BREAKS = frozenset({"Cc", "Cs", "Zl", "Zp"})


def _is_one_line(text: str) -> bool:
    return text.isprintable() or not any(unicodedata.category(character) in _BREAKS for character in text)


def _one_line(value: Any) -> Any:
    if isinstance(value, str) and not _is_one_line(value):
        raise ValueError("contains control characters or line breaks")
    return value


Label = Annotated[str, BeforeValidator(_one_line), Field(min_length=1, max_length=200)]


class _Closed(BaseModel):
    """Unknown fields are refused: a misspelt `run_timout_seconds` must not be silently ignored."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        # Pydantic would quote what was given, and that may be a secret.
        hide_input_in_errors=True,
    )


class User(_Closed):
    """Who asked. `id` is the platform's, as a string; with the frontend it names the lane. `tier` may weigh more turns."""

    id: Annotated[str, BeforeValidator(_one_line), Field(min_length=1, max_length=128)]
    name: Label | None = None
    tier: Label | None = None


#: What the API takes as an input value (CONTRACT section 4): no nulls, no objects.
InputValue = Annotated[
    Any, WithJsonSchema({"anyOf": [{"type": t} for t in ("string", "integer", "number", "boolean", "array")]})
]


class JobRequest(_Closed):
    """One job, as a frontend asks for it. Published as `docs/schemas/job-request.json`."""

    workflow: Label | None = Field(None, description="Name of a workflow; case, spaces and punctuation do not matter.")
    deployment_id: str | None = Field(None, description="A deployment's id, instead of `workflow`.")
    environment: Environment | None = Field(None, description="Which deployment of `workflow`; production first.")
    inputs: dict[str, InputValue] = Field(default_factory=dict, description="Values by input id.")
    frontend: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$", description="Whose result stream gets the events.")
    user: User
    context: dict[str, JsonValue] = Field(default_factory=dict, description="Echoed in every event; ids as strings.")
    idempotency_key: Label | None = Field(None, description="The same key answers the same job for 24 h.")
    priority: int = Field(5, ge=0, le=9, description="Among the same user's jobs; higher goes first.")
    queue_timeout_seconds: int = Field(86_400, ge=1, le=7 * 86_400, description="Give up when not submitted by then.")
    run_timeout_seconds: int = Field(600, ge=1, le=86_400, description="Cancel the run when it takes longer.")
    gpu: GPU | None = Field(None, description="Override the machine's GPU.")
    progress: bool = Field(False, description="Ask for `job.progress` events.")
    callback: Callback | None = Field(None, description="Also send the final event to this address, signed.")
    meta: dict[str, JsonValue] = Field(default_factory=dict, description="Echoed in every event; at most 8 KiB.")

    @field_validator("deployment_id")
    @classmethod
    def _is_uuid(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            return str(UUID(value))
        except ValueError:
            raise ValueError("is not a UUID") from None

    @field_validator("inputs")
    @classmethod
    def _sendable(cls, inputs: dict[str, Any]) -> dict[str, Any]:
        reasons = [
            f"{ascii(name)[1:-1][:80] if _is_bad_name(name) else name}: {reason}"
            for name, value in inputs.items()
            if (reason := _refuse_input(name, value))
        ]
        if reasons:
            raise ValueError("\n".join(reasons))
        _refuse_large("inputs", inputs, MAX_INPUTS_BYTES)
        return inputs

    @field_validator("context", "meta")
    @classmethod
    def _echoable(cls, value: dict[str, JsonValue], info: Any) -> dict[str, JsonValue]:
        if reason := _refuse_json(value):
            raise ValueError(reason)
        _refuse_large(info.field_name, value, MAX_META_BYTES if info.field_name == "meta" else MAX_CONTEXT_BYTES)
        return value

    @model_validator(mode="after")
    def _names_one_thing(self) -> Self:
        if (self.workflow is None) == (self.deployment_id is None):
            raise ValueError(f"workflow: {_ONE_THING}")
        return self

    @classmethod
    def read(cls, data: "JobRequest | dict[str, Any] | str | bytes") -> "JobRequest":
        """Check one request. Raises `InvalidInput` with every problem; repeats no value, as it may be a secret."""
        if isinstance(data, JobRequest):
            return data
        try:
            return cls.model_validate_json(data) if isinstance(data, str | bytes) else cls.model_validate(data)
        except ValidationError as error:
            problems = [p for e in error.errors() for p in _problems(e["loc"], e["msg"])]
            # Pydantic looks at the whole only when every part is right.
            if all(e["loc"] for e in error.errors()) and not _names_one_thing(data):
                problems.append(Problem("workflow", _ONE_THING))
            raise InvalidInput(problems) from None

    @classmethod
    def stored(cls, text: str) -> "JobRequest":
        """A request as a record keeps it, without its callback. Fields we do not know are left out: a newer producer
        accepted them."""
        data = json.loads(text)
        known = {name: value for name, value in data.items() if name in cls.model_fields}
        if isinstance(known.get("user"), dict):
            known["user"] = {name: value for name, value in known["user"].items() if name in User.model_fields}
        return cls.model_validate(known)

    @property
    def lane(self) -> str:
        """The user as lanes and windows know them: the same id on two platforms is two people."""
        return f"{self.frontend}:{self.user.id}"

    @property
    def label(self) -> str:
        """What operators call it: the workflow's name, or the deployment's id."""
        return self.workflow or self.deployment_id or ""


def _names_one_thing(data: dict[str, Any] | str | bytes) -> bool:
    """The same question as the validator's, about data that is not a request."""
    given = json.loads(data) if isinstance(data, str | bytes) else data
    return (given.get("workflow") is None) != (given.get("deployment_id") is None)


def _problems(location: tuple[int | str, ...], message: str) -> list[Problem]:
    """One pydantic error as problems: our own validators put several lines `name: reason` into one message."""
    field = ".".join(str(part) for part in location)
    message = message.removeprefix("Value error, ")
    if not field or field == "inputs":
        named = [line.rpartition(": ") for line in message.splitlines()]
        if all(colon for _, colon, _ in named) and not message.startswith("Invalid JSON"):
            return [Problem(f"{field}.{name}".lstrip("."), reason) for name, _, reason in named]
    return [Problem(field or "request", message)]


def _is_bad_name(name: str) -> bool:
    return not name or len(name) > 200 or not _is_one_line(name)


def _refuse_input(name: str, value: Any) -> str | None:
    """Why this input cannot be sent, or None."""
    if name == REFERENCE_INPUT:
        return "is reserved"
    if _is_bad_name(name):
        return "is not a usable input name"
    match value:
        case None:
            return "null is not an input value; leave the input out to get its default"
        case dict():
            return "an object is not an input value; the API takes strings, numbers, booleans and lists"
        case _ if reason := _refuse_json(value):
            return reason
        case _ if any(_URL_WITH_PASSWORD.search(text) or _TELEGRAM_FILE.search(text) for text in texts_in(value)):
            return "looks like an address with a secret in it; upload the file first"
        case _:
            return None


def texts_in(value: Any) -> Iterator[str]:
    """Every text in a value, however deep."""
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from texts_in(item)
        case dict():
            for item in value.values():
                yield from texts_in(item)


def _refuse_json(value: Any, levels: int = MAX_DEPTH) -> str | None:
    """Why this value would not survive JSON on its way to a frontend in another language, or None."""
    if levels < 0:
        return f"is nested more than {MAX_DEPTH} levels deep"
    match value:
        case None | bool():
            return None
        case str():
            return None if _is_unicode(value) else "holds half a surrogate pair, which no JSON can carry"
        case int():
            return (
                "an integer beyond 2^53 is not exact everywhere; send it as a string"
                if (abs(value) > MAX_EXACT_INTEGER)
                else None
            )
        case float():
            return None if math.isfinite(value) else "NaN and infinity are not JSON"
        case list():
            return next((reason for item in value if (reason := _refuse_json(item, levels - 1))), None)
        case dict():
            if not all(isinstance(key, str) and _is_unicode(key) for key in value):
                return "object keys must be strings"
            return next((reason for item in value.values() if (reason := _refuse_json(item, levels - 1))), None)
        case _:
            return f"{type(value).__name__} is not JSON"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_large(what: str, value: Any, limit: int) -> None:
    size = len(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    if size > limit:
        raise ValueError(f"{what} are {size} bytes of JSON; at most {limit} are taken")
