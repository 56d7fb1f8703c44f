"""Start a run, read it, find it again, cancel it.

`submit` is the one call that costs money and cannot be repeated: the API stores the run before it answers and has no
idempotency key (CONTRACT section 4). Its errors therefore say what is known about the run:

    certainly none      Unavailable, RateLimited, every GiveUp and TellOperator
    perhaps one         Undecided: look it up with `list_by_workflow` before submitting again
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from shared.comfydeploy.answers import Answer, Ask, refused, rows, submit_refused
from shared.comfydeploy.failure import reason_of
from shared.comfydeploy.run import ListedRun, Run, RunStatus, read_listed_run, read_run
from shared.comfydeploy.values import is_id, mapping, word
from shared.errors import InvalidInput, Problem, RunNotFound, WorkflowNotFound

SUBMIT = "POST /run/deployment/queue"
GET = "GET /run/{run_id}"
CANCEL = "POST /run/{run_id}/cancel"
LIST_WHOLE = "GET /workflow/{workflow_id}/runs"
LIST_BY_WORKFLOW = "GET /v2/workflow/{workflow_id}/runs"
LIST_BY_DEPLOYMENT = "GET /deployment/{deployment_id}/runs"

#: How many of a workflow's newest runs are searched for the one that failed, and how much of them is read: every row
#: carries its version's whole graphs.
REASON_ROWS = 50
REASON_BYTES = 4 * 1024 * 1024

#: The one text that tells "no such run, or too fresh" from real trouble behind a cancel's 500.
_NOTHING_TO_CANCEL = "Run not found or has no modal function call ID"


class CancelAnswer(Enum):
    """What the API said to a cancel. Neither proves anything about the run: read it."""

    #: 200. Also for a run that had already ended.
    ACCEPTED = "accepted"
    #: No such run, not ours, on a machine without cancel, or submitted so recently that there is nothing to cancel
    #: yet: try once or twice more if it is fresh, then read it.
    UNKNOWN_OR_TOO_FRESH = "unknown_or_too_fresh"


class Runs:
    """The routes about runs; reached as `client.runs`."""

    __slots__ = ("_ask",)

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def submit(
        self,
        deployment_id: str,
        inputs: Mapping[str, Any],
        *,
        webhook: str | None = None,
        gpu: str | None = None,
        timeout_seconds: float | None = None,
    ) -> str:
        """Start a run and give its id. One call; never repeat it after Undecided or a cancellation.

        `timeout_seconds` covers all of it (default `Timeouts.submit_seconds`). Raises InvalidInput before sending for
        values JSON or the API's database cannot hold, and for what the API refuses; WorkflowNotFound,
        InsufficientCredit, Unauthorized, RateLimited, Unavailable (no run was made), UnexpectedAnswer, and Undecided
        (a run may exist). CONTRACT section 4.
        """
        body: dict[str, Any] = {"deployment_id": deployment_id, "inputs": dict(inputs)}
        if webhook is not None:
            body["webhook"] = webhook
        if gpu is not None:
            body["gpu"] = gpu
        answer = await self._ask(
            SUBMIT,
            content=_encoded(body),
            timeout_seconds=timeout_seconds,
            repeatable=False,
        )
        run_id = word(mapping(answer.body).get("run_id")) if answer.ok else None
        if run_id is None:
            raise submit_refused(answer)
        return run_id

    async def get(self, run_id: str, *, queue_position: bool = False) -> Run:
        """Read one run with its outputs. One call.

        Raises RunNotFound (also for a run this key may not read), Unauthorized, RateLimited, Unavailable,
        UnexpectedAnswer. CONTRACT section 5.
        """
        answer = await self._ask(
            GET, path={"run_id": run_id}, params={"queue_position": "true" if queue_position else None}
        )
        if not answer.ok:
            raise refused(answer, not_found=RunNotFound)
        return read_run(answer)

    async def list_by_workflow(
        self,
        workflow_id: str,
        *,
        deployment_id: str | None = None,
        status: RunStatus | None = None,
        created_after: datetime | float | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[ListedRun]:
        """List a workflow's runs, newest first: the light listing, one call for the status of all of them.

        `created_after` is a time (naive means UTC) or unix seconds; the API counts whole seconds, so runs from up to
        a second before it may appear. Pages shift while new runs arrive; an id can come twice. Raises
        WorkflowNotFound, Unauthorized, RateLimited, Unavailable, UnexpectedAnswer. CONTRACT section 10.
        """
        answer = await self._ask(
            LIST_BY_WORKFLOW,
            path={"workflow_id": workflow_id},
            params={
                "deployment_id": deployment_id,
                "status": status,
                "rf": _unix_seconds(created_after),
                "limit": limit,
                "offset": offset or None,
            },
        )
        if not answer.ok:
            raise refused(answer)
        return [read_listed_run(answer, row) for row in rows(answer, answer.body)]

    async def list_by_deployment(self, deployment_id: str, *, limit: int = 60, offset: int = 0) -> list[ListedRun]:
        """List a deployment's runs, newest first. One call, no filters.

        A deployment of somebody else gives an empty list. Raises WorkflowNotFound for an unknown one, Unauthorized,
        RateLimited, Unavailable, UnexpectedAnswer. CONTRACT section 10.
        """
        answer = await self._ask(
            LIST_BY_DEPLOYMENT,
            path={"deployment_id": deployment_id},
            params={"limit": limit, "offset": offset or None},
        )
        if not answer.ok:
            # How this route says "unknown deployment": the Python error of looking at one that is not there.
            if answer.status == 500 and "'NoneType' object" in answer.reason:
                raise WorkflowNotFound(str(answer), upstream_status=answer.status)
            raise refused(answer)
        listed = rows(answer, mapping(answer.body).get("data"))
        return [read_listed_run(answer, row, duration_is_run=True) for row in listed]

    async def failure_reason(self, workflow_id: str, run_id: str) -> str | None:
        """Give why a run failed, in one line; None when the API has no reason, or none within reach. See `failure_reasons`."""
        return (await self.failure_reasons(workflow_id)).get(run_id)

    async def failure_reasons(self, workflow_id: str) -> dict[str, str | None]:
        """Give why a workflow's runs failed, by their ids; None when the API has no reason. One call.

        The API shows it in the heavy listing only (CONTRACT section 8), so it covers what failed among the newest
        `REASON_ROWS`, as far as `REASON_BYTES` go. Raises WorkflowNotFound for what is no id, Unauthorized, RateLimited,
        Unavailable, UnexpectedAnswer.
        """
        answer = await self._ask(
            LIST_WHOLE,
            path={"workflow_id": workflow_id},
            params={"with_outputs": "true", "with_inputs": "false", "limit": REASON_ROWS},
            most_bytes=REASON_BYTES,
        )
        if not answer.ok:
            if answer.status == 500 and not is_id(workflow_id):
                raise WorkflowNotFound(str(answer), upstream_status=answer.status)
            raise refused(answer)
        return {
            str(row.get("id")): reason_of(row.get("outputs"))
            for row in rows(answer, answer.body)
            if row.get("status") == RunStatus.FAILED
        }

    async def cancel(self, run_id: str) -> CancelAnswer:
        """Ask for a run to be cancelled. One call; may be repeated.

        Raises RunNotFound for what is not an id, Unauthorized, RateLimited, Unavailable, UnexpectedAnswer.
        CONTRACT section 9.
        """
        answer = await self._ask(CANCEL, path={"run_id": run_id})
        if answer.ok:
            return CancelAnswer.ACCEPTED
        if answer.status == 500 and _detail_has(answer, _NOTHING_TO_CANCEL):
            return CancelAnswer.UNKNOWN_OR_TOO_FRESH
        if answer.status == 500 and _detail_has(answer, "invalid UUID"):
            raise RunNotFound(f"{CANCEL}: this is not the id of a run", upstream_status=answer.status)
        raise refused(answer, not_found=RunNotFound)


def _detail_has(answer: Answer, text: str) -> bool:
    # Not `answer.reason`: the driver's text in front of it can be longer than what we quote.
    return text in str(mapping(answer.body).get("detail"))


def _unix_seconds(value: datetime | float | None) -> int | None:
    if isinstance(value, datetime):
        value = (value.replace(tzinfo=UTC) if value.tzinfo is None else value).timestamp()
    return None if value is None else math.floor(value)


# --------------------------------------------------------------------------- what may be sent


def _encoded(body: dict[str, Any]) -> bytes:
    """Write the request, or raise InvalidInput with every input that cannot be sent."""
    found = [
        Problem(f"inputs.{name}", reason)
        for name, value in body["inputs"].items()
        if (reason := _unsendable(name) or _unsendable(value))
    ]
    if found:
        raise InvalidInput(found)
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _unsendable(value: object, depth: int = 0) -> str | None:
    """Say why a value cannot be sent, None when it can."""
    match value:
        case None | bool() | int():
            return None
        case float():
            return None if math.isfinite(value) else "is not a finite number"
        case str():
            # PostgreSQL's JSONB takes neither, and the API would answer that with a 500, which reads as undecided.
            if "\x00" in value:
                return "holds a zero character"
            return None if _is_unicode(value) else "holds half a character (an unpaired surrogate)"
        case _ if depth > 50:
            return "is nested too deeply"
        case list() | tuple():
            return next((reason for item in value if (reason := _unsendable(item, depth + 1))), None)
        case dict():
            parts = (part for pair in value.items() for part in pair)
            return next((reason for part in parts if (reason := _unsendable(part, depth + 1))), None)
        case _:
            return f"is a {type(value).__name__}, which JSON does not have"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
