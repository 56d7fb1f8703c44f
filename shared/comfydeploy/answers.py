"""What does this answer allow us to do next?

One table of the API's refusals and the only place that knows its four body shapes (CONTRACT section 2). Three readings:

* `refused`: the call may be repeated (reads, cancel). Trouble is `TryLater`.
* `submit_refused`: the call starts a run that is paid for, and the API commits the run *before* it answers (CONTRACT
  section 4). A refusal counts only when it certainly came before that; everything else is `Undecided`.
* `creation_refused`: a repeat would make a second thing. As with a submit, an answer that does not say is `Undecided`.

A 500 is often a wrapped 404 here. What a route's 500 means is that route's knowledge, kept beside the route; what several
routes share is in `wrapped_not_found`.
No message carries more than 200 characters of what the API said, and none carries the key (`client` cuts it out first).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from shared.comfydeploy.values import mapping
from shared.errors import (
    ConveyorError,
    GiveUp,
    InsufficientCredit,
    InvalidInput,
    NotFound,
    Problem,
    RateLimited,
    RunNotFound,
    Unauthorized,
    Unavailable,
    Undecided,
    UnexpectedAnswer,
    WorkflowNotFound,
)

#: So much of what the API said goes into a message.
QUOTED_CHARACTERS = 200

_CHECK_KEY = "COMFY_DEPLOY_API_KEY (revoked? another account? may it do this?)."
_CHECK_URL = "COMFY_DEPLOY_API_URL: it should end where routes such as /workflows begin."
_CHECK_CONTRACT = "whether the API changed, or something in front of it answered in its place."

#: A proxy says these when the request was cut off, perhaps after the API had read it.
_CUT_OFF = frozenset({408, 499})

_NOT_OURS = frozenset({"You are not authorized to access this resource", "Access denied."})


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, read to its end."""

    #: The method and the route's template: `GET /run/{run_id}`.
    route: str
    status: int
    #: What the JSON held; the text when it was not JSON.
    body: Any
    is_json: bool
    #: From the `Retry-After` header; None when there was none.
    retry_after_seconds: float | None = None

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def reason(self) -> str:
        """Give the API's own words in at most 200 characters; for HTML and other pages only that there was one."""
        if not self.is_json:
            text = str(self.body).strip()
            if text.startswith("<"):
                return "an HTML page"
            return text[:QUOTED_CHARACTERS]
        body = mapping(self.body)
        said = body.get("detail") or body.get("error") or body.get("message") or ""
        if isinstance(said, list):
            said = "; ".join(f"{problem.field}: {problem.reason}" for problem in problems(said))
        return str(said).strip()[:QUOTED_CHARACTERS]

    @property
    def detail(self) -> str:
        """Give `detail` whole, to look for words in: what a driver said may be longer than what we quote."""
        return str(mapping(self.body).get("detail") or "")

    def __str__(self) -> str:
        reason = self.reason
        return f"{self.route} answered {self.status}" + (f": {reason}" if reason else "")


class Ask(Protocol):
    """How a resource reaches the API; see `ComfyDeploy._request`, its only implementation."""

    async def __call__(
        self,
        route: str,
        *,
        path: Mapping[str, str] | None = None,
        params: Mapping[str, str | int | None] | None = None,
        content: bytes | AsyncIterable[bytes] | None = None,
        content_type: str = "application/json",
        size: int | None = None,
        timeout_seconds: float | None = None,
        repeatable: bool = True,
        most_bytes: int | None = None,
    ) -> Answer: ...


class Send(Protocol):
    """How bytes reach an address that is not the API's; see `ComfyDeploy._send`, its only implementation."""

    async def __call__(
        self,
        route: str,
        url: str,
        content: bytes | AsyncIterable[bytes],
        *,
        size: int,
        headers: Mapping[str, str],
        timeout_seconds: float,
    ) -> Answer: ...


def refused(answer: Answer, *, not_found: type[GiveUp] = WorkflowNotFound) -> ConveyorError:
    """Give the error for an answer to a call that may be repeated; `not_found` is what a 404 means on this route."""
    status = answer.status
    if status == 429 or (status == 503 and answer.retry_after_seconds is not None):
        return RateLimited(str(answer), retry_after_seconds=answer.retry_after_seconds)
    if status >= 500 or status in _CUT_OFF:
        return Unavailable(str(answer), retry_after_seconds=answer.retry_after_seconds, upstream_status=status)
    if status == 422 and is_bad_path(answer):
        return not_found(str(answer), upstream_status=status)
    if status == 403 and not_found is RunNotFound and answer.reason in _NOT_OURS:
        return RunNotFound(str(answer), upstream_status=status)
    return _refusal(answer, not_found)


def submit_refused(answer: Answer) -> ConveyorError:
    """Give the error for any answer to a submit that names no run."""
    status = answer.status
    if status == 429:
        return RateLimited(str(answer), retry_after_seconds=answer.retry_after_seconds)
    if answer.ok or status >= 500 or status in _CUT_OFF:
        # Not RateLimited for a 503: a proxy may say it for a run that was made.
        return Undecided(str(answer), retry_after_seconds=answer.retry_after_seconds, upstream_status=status)
    if status == 402:
        return InsufficientCredit(str(answer), upstream_status=status)
    if status == 413:
        return InvalidInput([Problem("inputs", "is larger than the API takes")], upstream_status=status)
    return _refusal(answer, WorkflowNotFound)


def creation_refused(answer: Answer, *, not_found: type[GiveUp] = NotFound) -> ConveyorError:
    """Give the error for any answer to a creation that names nothing new; `not_found` is what it was to be made of."""
    status = answer.status
    if status == 429:
        return RateLimited(str(answer), retry_after_seconds=answer.retry_after_seconds)
    if error := wrapped_not_found(answer, not_found):
        return error
    if answer.ok or status >= 500 or status in _CUT_OFF:
        return Undecided(str(answer), retry_after_seconds=answer.retry_after_seconds, upstream_status=status)
    if status in (400, 413):
        return InvalidInput([Problem("body", answer.reason or "is not taken")], upstream_status=status)
    return _refusal(answer, not_found)


def wrapped_not_found(answer: Answer, not_found: type[GiveUp]) -> GiveUp | None:
    """Give the error for a 500 that is a 404 in disguise: `404: Workflow not found`, perhaps behind other words."""
    if answer.status == 500 and ("404: " in answer.detail or "invalid UUID" in answer.detail):
        return not_found(str(answer), upstream_status=answer.status)
    return None


def unexpected(answer: Answer, lacks: str) -> UnexpectedAnswer:
    """Give the error for an answer that lacks what its route promises."""
    return UnexpectedAnswer(
        f"{answer.route} answered {answer.status} without {lacks}.",
        check=_CHECK_CONTRACT,
        upstream_status=answer.status,
    )


def rows(answer: Answer, value: object) -> list[dict[str, Any]]:
    """Give the rows of a listing. Raises UnexpectedAnswer when it is none."""
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise unexpected(answer, "a list of objects")
    return value


def one(answer: Answer, what: str) -> dict[str, Any]:
    """Give the object an answer is. Raises UnexpectedAnswer, which says that it lacks `what`, when it is none."""
    if not isinstance(answer.body, dict):
        raise unexpected(answer, what)
    return answer.body


def required(answer: Answer, row: dict[str, Any], key: str) -> str:
    """Give a text nothing works without. Raises UnexpectedAnswer when it is missing."""
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise unexpected(answer, f"`{key}`")
    return value


def _refusal(answer: Answer, not_found: type[GiveUp]) -> ConveyorError:
    """The part of the table both readings share: 3xx and 4xx, where certainly nothing was done."""
    status, message = answer.status, str(answer)
    match status:
        case 401:
            return Unauthorized(message, check=_CHECK_KEY, upstream_status=status)
        case 403 if answer.reason.lower().startswith("insufficient"):
            return InsufficientCredit(message, upstream_status=status)
        case 403:
            return Unauthorized(message, check=_CHECK_KEY, upstream_status=status)
        case 404 if answer.is_json and answer.reason not in {"", "Not Found"}:
            return not_found(message, upstream_status=status)
        case 422 if found := problems(mapping(answer.body).get("detail")):
            return InvalidInput(found, upstream_status=status)
        case 404 | 405 | 301 | 302 | 303 | 307 | 308:
            # "Not Found" alone is the router's, not the route's: the URL is wrong, and a job must not be told
            # that its run does not exist.
            return UnexpectedAnswer(f"{message}.", check=_CHECK_URL, upstream_status=status)
        case _:
            return UnexpectedAnswer(f"{message}.", check=_CHECK_CONTRACT, upstream_status=status)


def encoded(body: Mapping[str, Any], *, nulls: Collection[str] = ()) -> bytes:
    """Write the body of a request, without what is None, save `nulls`. Raises InvalidInput for what JSON does not have."""
    said = {name: value for name, value in body.items() if value is not None or name in nulls}
    try:
        return json.dumps(said, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, TypeError, RecursionError) as error:
        # The message of a UnicodeEncodeError repeats what was sent.
        reason = "holds half a character" if isinstance(error, UnicodeEncodeError) else str(error)
        raise InvalidInput([Problem("body", reason[:QUOTED_CHARACTERS])]) from None


# --------------------------------------------------------------------------- 422


def is_bad_path(answer: Answer) -> bool:
    """Tell whether a 422 complains about an id in the path, which means: no such thing."""
    detail = mapping(answer.body).get("detail")
    return isinstance(detail, list) and bool(detail) and all(_loc(entry)[:1] == ["path"] for entry in detail)


def problems(detail: object) -> list[Problem]:
    """Give one problem per field from a validation answer.

    The server reports a value that may be of five types five times (CONTRACT section 2); those are joined into one
    sentence. What was sent (`input`) is never repeated.
    """
    reasons: dict[str, list[str]] = {}
    for entry in detail if isinstance(detail, list) else []:
        message = str(mapping(entry).get("msg") or "is not valid")[:QUOTED_CHARACTERS]
        said = reasons.setdefault(_field(_loc(entry)), [])
        if message not in said:
            said.append(message)
    return [Problem(field, _one_sentence(said)) for field, said in reasons.items()]


def _loc(entry: object) -> list[str]:
    loc = mapping(entry).get("loc")
    return [str(part) for part in loc] if isinstance(loc, list) else []


def _field(loc: list[str]) -> str:
    parts = loc[1:] if loc[:1] in (["body"], ["query"], ["path"]) else loc
    if parts[:1] == ["inputs"]:
        # Behind the input's name come only the names of the types it was tried as.
        parts = parts[:2]
    if not parts or parts[0].isdigit():  # the body as a whole; a number is where its JSON broke
        return loc[0] if loc else "body"
    return ".".join(parts)


def _one_sentence(said: Iterable[str]) -> str:
    first, *others = said
    start = "Input should be a valid "
    if others and all(text.startswith(start) for text in (first, *others)):
        kinds = [text.removeprefix(start) for text in (first, *others)]
        return f"{start}{', '.join(kinds[:-1])} or {kinds[-1]}"
    return "; or ".join((first, *others))[: 2 * QUOTED_CHARACTERS]
