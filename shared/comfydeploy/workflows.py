"""Which workflows does the key see, and how do new ones get in?

A workflow is run through one of its deployments; what it does is in its versions (`versions.py`). Uploading is the one
place where the API wants JSON as strings; the client takes objects everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared.comfydeploy.answers import Answer, Ask, creation_refused, encoded, one, refused, required, rows
from shared.comfydeploy.values import flag, is_id, mapping, time_at, word
from shared.comfydeploy.versions import Version, read_version
from shared.errors import ConveyorError, InvalidInput, Problem, WorkflowNotFound

LIST = "GET /workflows"
GET = "GET /workflow/{workflow_id}"
CREATE = "POST /workflow"
UPDATE = "PATCH /workflow/{workflow_id}"
DELETE = "DELETE /workflow/{workflow_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """One workflow."""

    id: str
    name: str | None
    pinned: bool
    #: The machine its author last chose; a deployment has its own.
    machine_id: str | None
    #: None in listings, which do not say it.
    description: str | None
    cover_image: str | None
    created_at: datetime | None
    updated_at: datetime | None
    #: Only from `get`, and only when there is one.
    latest: Version | None = None


class Workflows:
    """The routes about workflows; reached as `client.workflows`."""

    __slots__ = ("_ask",)

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def list(self, search: str | None = None, *, limit: int = 100, offset: int = 0) -> tuple[Workflow, ...]:
        """List workflows, pinned ones first, then the newest. One call a page; a short page is the last.

        `search` is a part of the name in any case; `%` and `_` are wildcards there. Raises InvalidInput,
        Unauthorized, RateLimited, Unavailable, UnexpectedAnswer. CONTRACT section 14.
        """
        params = {"search": search or None, "limit": limit, "offset": offset or None}
        answer = await self._ask(LIST, params=params)
        if not answer.ok:
            raise refused(answer)
        return tuple(_workflow(answer, row) for row in rows(answer, answer.body))

    async def get(self, workflow_id: str) -> Workflow:
        """Read one workflow with its latest version. One call.

        Raises WorkflowNotFound, Unauthorized, RateLimited, Unavailable, UnexpectedAnswer.
        """
        answer = await self._ask(GET, path={"workflow_id": workflow_id})
        if not answer.ok:
            raise _refused(answer, workflow_id)
        return _workflow(answer, one(answer, "a workflow"))

    async def create(
        self,
        name: str,
        workflow: Mapping[str, Any],
        workflow_api: Mapping[str, Any] | None = None,
        *,
        machine_id: str | None = None,
    ) -> str:
        """Upload a workflow and give its id; with a machine it gets a `preview` deployment. One call; a repeat makes another.

        Without `workflow_api` it cannot be run. Raises InvalidInput, NotFound (the machine), InsufficientCredit,
        Unauthorized (also when the plan allows no more), RateLimited, Unavailable (nothing was made), UnexpectedAnswer,
        and Undecided (it may have been made: list the workflows).
        """
        answer = await self._ask(
            CREATE,
            content=encoded(
                {
                    "name": name,
                    "workflow_json": _as_text("workflow", workflow),
                    "workflow_api": None if workflow_api is None else _as_text("workflow_api", workflow_api),
                    "machine_id": machine_id,
                }
            ),
            repeatable=False,
        )
        workflow_id = word(mapping(answer.body).get("workflow_id")) if answer.ok else None
        if workflow_id is None:
            raise creation_refused(answer)
        return workflow_id

    async def update(
        self,
        workflow_id: str,
        *,
        name: str | None = None,
        machine_id: str | None = None,
        description: str | None = None,
        cover_image: str | None = None,
    ) -> Workflow:
        """Change what is given. One call; may be repeated. Pinning is `pin`: the API would ignore all else beside it.

        Raises WorkflowNotFound, InvalidInput, Unauthorized, RateLimited, Unavailable, UnexpectedAnswer.
        """
        body = {
            "name": name,
            "selected_machine_id": machine_id,
            "description": description,
            "cover_image": cover_image,
        }
        return await self._change(workflow_id, body)

    async def pin(self, workflow_id: str, pinned: bool = True) -> Workflow:
        """Put a workflow at the head of the listing, or back among the others. As `update`."""
        return await self._change(workflow_id, {"pinned": pinned})

    async def delete(self, workflow_id: str) -> None:
        """Delete a workflow; runs of its deployments are refused from then on. One call; a second one raises WorkflowNotFound.

        Raises WorkflowNotFound, Unauthorized, RateLimited, Unavailable, UnexpectedAnswer.
        """
        answer = await self._ask(DELETE, path={"workflow_id": workflow_id})
        if not answer.ok:
            raise _refused(answer, workflow_id)

    async def _change(self, workflow_id: str, body: Mapping[str, Any]) -> Workflow:
        answer = await self._ask(UPDATE, path={"workflow_id": workflow_id}, content=encoded(body))
        if not answer.ok:
            raise _refused(answer, workflow_id)
        return _workflow(answer, one(answer, "a workflow"))


def _workflow(answer: Answer, row: dict[str, Any]) -> Workflow:
    versions = row.get("versions")
    # A workflow without versions has one null in place of them.
    latest = versions[0] if isinstance(versions, list) and versions and isinstance(versions[0], dict) else None
    return Workflow(
        id=required(answer, row, "id"),
        name=word(row.get("name")),
        pinned=flag(row.get("pinned")) or False,
        machine_id=word(row.get("selected_machine_id")),
        description=word(row.get("description")),
        cover_image=word(row.get("cover_image")),
        created_at=time_at(row.get("created_at")),
        updated_at=time_at(row.get("updated_at")),
        latest=None if latest is None else read_version(answer, latest),
    )


def _refused(answer: Answer, workflow_id: str) -> ConveyorError:
    # These routes crash over what is no id; a crash over an id is real trouble.
    if answer.status == 500 and not is_id(workflow_id):
        return WorkflowNotFound(str(answer), upstream_status=answer.status)
    return refused(answer)


def _as_text(name: str, graph: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(graph), ensure_ascii=False, allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidInput([Problem(name, str(error))]) from None
