"""What does a client hear when something is wrong? A problem document (RFC 9457), the same shape for every error.

`code` is for programs: our own words where the error is one of `shared/errors.py`. `problems` names every field that is
wrong. `request_id` is what an operator finds in the log. No document repeats a value, since it may be a secret.
"""

import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from shared.errors import (
    ConveyorError,
    GiveUp,
    InvalidInput,
    JobNotFound,
    TellOperator,
    TooManyJobs,
    TryLater,
    WorkflowNotFound,
)

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

#: Asking again sooner is no use, when nobody said how long.
RETRY_SECONDS = 2


class FieldProblem(BaseModel):
    """One reason why an input was refused."""

    field: str = Field(description="Where, as a dotted path: `inputs.seed`, `user.id`.", examples=["inputs.seed"])
    reason: str = Field(examples=["null is not an input value; leave the input out to get its default"])


class ProblemDocument(BaseModel):
    """RFC 9457, with three members of ours: `code`, `request_id`, `problems`."""

    type: str = Field(examples=["urn:conveyor:problem:invalid_input"])
    title: str = Field(examples=["Unprocessable Entity"])
    status: int = Field(examples=[422])
    detail: str = Field(description="One or two sentences; fits a chat window.")
    instance: str = Field(description="The path that was asked.", examples=["/v1/jobs"])
    code: str = Field(description="The same as the last word of `type`.", examples=["invalid_input"])
    request_id: str = Field(description="As in the header `X-Request-ID`; operators find it in the log.")
    problems: list[FieldProblem] = Field(default_factory=list, description="Every field that is wrong.")


class Refused(Exception):
    """The gateway itself refuses: no job was asked about yet. Becomes a problem document."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        problems: list[tuple[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.problems = problems or []
        self.headers = dict(headers or {})


def not_found(what: str) -> Refused:
    """404: it does not exist, or not for this key; which of the two is not told."""
    return Refused(404, "not_found", f"That {what} is not known (any more).")


def invalid(*problems: tuple[str, str]) -> Refused:
    """422 with the fields that are wrong."""
    return Refused(422, "invalid_input", InvalidInput.user_message, problems=list(problems))


def document(refused: Refused, *, path: str, request_id: str) -> JSONResponse:
    """The answer for a refusal."""
    body = ProblemDocument(
        type=f"urn:conveyor:problem:{refused.code}",
        title=HTTPStatus(refused.status).phrase,
        status=refused.status,
        detail=refused.detail,
        instance=path,
        code=refused.code,
        request_id=request_id,
        problems=[FieldProblem(field=field, reason=reason) for field, reason in refused.problems],
    )
    return JSONResponse(body.model_dump(), refused.status, headers=refused.headers, media_type=MEDIA_TYPE)


def refusal(error: ConveyorError) -> Refused:
    """What one of our typed errors is in HTTP."""
    match error:
        case InvalidInput():
            found = [(problem.field, problem.reason) for problem in error.problems]
            return Refused(422, error.code, error.user_message, problems=found)
        case WorkflowNotFound():
            return Refused(422, error.code, error.user_message, problems=[("workflow", error.user_message)])
        case JobNotFound():
            return not_found("job")
        case TooManyJobs():
            return Refused(429, "too_many_jobs", error.user_message, headers=_retry(error.retry_after_seconds))
        case TryLater():
            # The message names hosts, which are nobody's business outside.
            return Refused(
                503,
                "unavailable",
                "The service cannot answer at the moment.",
                headers=_retry(error.retry_after_seconds),
            )
        case GiveUp():
            return Refused(422, error.code, error.user_message)
        case TellOperator():
            return Refused(502, error.code, "The image service refused; the operators have to look at it.")
        case _:
            return Refused(500, "internal", "Something went wrong on our side.")


def _retry(seconds: float | None) -> dict[str, str]:
    return {"Retry-After": str(max(1, math.ceil(seconds or RETRY_SECONDS)))}


def request_id_of(request: Request) -> str:
    """The id the door gave this request."""
    return str(getattr(request.state, "request_id", ""))


def _answer(request: Request, refused: Refused) -> JSONResponse:
    return document(refused, path=request.url.path, request_id=request_id_of(request))


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refused)  # noqa: S101 - the handler's own kind
    return _answer(request, error)


async def _ours(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ConveyorError)  # noqa: S101
    refused = refusal(error)
    if refused.status >= 500:
        log.warning("request failed", extra={"error": str(error) or type(error).__name__, "status": refused.status})
    return _answer(request, refused)


async def _validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    return _answer(request, invalid(*(_field(one) for one in error.errors())))


def _field(error: Mapping[str, Any]) -> tuple[str, str]:
    where = [str(part) for part in error["loc"] if part not in ("query", "path", "body", "header")]
    return ".".join(where) or "request", str(error["msg"])


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    headers = dict(error.headers or {})
    return _answer(request, Refused(error.status_code, code, f"{error.detail}.", headers=headers))


def install(app: FastAPI) -> None:
    """Make every error of the app a problem document; what nobody expected is the door's business."""
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(ConveyorError, _ours)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """These refusals, as the OpenAPI describes them."""
    return {
        status: {
            "description": _MEANING[status],
            "model": ProblemDocument,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
            **({"headers": _RETRY_HEADER} if status in (429, 503) else {}),
        }
        for status in statuses
    }


_RETRY_HEADER = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
_MEANING = {
    400: "Not readable as HTTP, or as a form.",
    401: "No API key, or none that is known.",
    403: "Not from here: without API keys only programs on this machine are served.",
    404: "Not known (any more), or another frontend's.",
    408: "The body did not come in time.",
    413: "The body is too large.",
    415: "Not a media type that is taken here.",
    422: "Refused: `problems` names every field that is wrong, and nothing was written.",
    429: "Too many requests with this key, or too many open jobs of this user.",
    502: "The image service refused; the operators have to look at it.",
    503: "Redis or the image service cannot be reached; the same request may be repeated after `Retry-After`.",
}
