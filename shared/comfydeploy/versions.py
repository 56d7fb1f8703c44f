"""What exactly does a workflow do? Its versions, each with both of its graphs.

`workflow` is the graph as the editor keeps it (nodes with `widgets_values`), `workflow_api` as ComfyUI runs it (node id ->
`class_type` and `inputs`). Whole graphs make these answers large: tens to hundreds of kB for each version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared.comfydeploy.answers import (
    Answer,
    Ask,
    creation_refused,
    encoded,
    one,
    refused,
    required,
    rows,
)
from shared.comfydeploy.values import is_id, time_at, whole, word
from shared.errors import NotFound, WorkflowNotFound

LIST = "GET /workflow/{workflow_id}/versions"
GET = "GET /workflow-version/{version_id}"
GET_BY_NUMBER = "GET /workflow/{workflow_id}/version/{number}"
CREATE = "POST /workflow/{workflow_id}/version"


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of a workflow."""

    id: str
    workflow_id: str | None
    #: As people see it; counts from 1.
    number: int | None
    comment: str | None
    #: The editor's graph.
    workflow: dict[str, Any] | None
    #: The graph that runs; without it the version cannot be run.
    workflow_api: dict[str, Any] | None
    machine_id: str | None
    machine_version_id: str | None
    created_at: datetime | None
    updated_at: datetime | None


class Versions:
    """The routes about versions; reached as `client.versions`."""

    __slots__ = ("_ask",)

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def list(
        self, workflow_id: str, search: str | None = None, *, limit: int = 100, offset: int = 0
    ) -> tuple[Version, ...]:
        """List a workflow's versions, newest first; `search` is a part of the comment. One call a page.

        An unknown workflow has no versions: the API does not say which it is. Raises WorkflowNotFound for what is no id,
        InvalidInput, Unauthorized, RateLimited, Unavailable, UnexpectedAnswer. CONTRACT section 14.
        """
        answer = await self._ask(
            LIST,
            path={"workflow_id": workflow_id},
            params={"search": search or None, "limit": limit, "offset": offset or None},
        )
        if not answer.ok:
            if answer.status == 500 and not is_id(workflow_id):
                raise WorkflowNotFound(str(answer), upstream_status=answer.status)
            raise refused(answer)
        return tuple(read_version(answer, row) for row in rows(answer, answer.body))

    async def get(self, version_id: str) -> Version:
        """Read one version by its id. One call.

        Raises NotFound, Unauthorized, RateLimited, Unavailable, UnexpectedAnswer.
        """
        answer = await self._ask(GET, path={"version_id": version_id})
        if not answer.ok:
            raise refused(answer, not_found=NotFound)
        return read_version(answer, one(answer, "a version"))

    async def get_by_number(self, workflow_id: str, number: int) -> Version:
        """Read one version by its workflow and number. One call.

        Raises NotFound, also for an unknown workflow; Unauthorized, RateLimited, Unavailable, UnexpectedAnswer.
        """
        answer = await self._ask(GET_BY_NUMBER, path={"workflow_id": workflow_id, "number": str(number)})
        if not answer.ok:
            if answer.status == 500 and not is_id(workflow_id):
                raise NotFound(str(answer), upstream_status=answer.status)
            raise refused(answer, not_found=NotFound)
        return read_version(answer, one(answer, "a version"))

    async def create(
        self,
        workflow_id: str,
        workflow: Mapping[str, Any],
        workflow_api: Mapping[str, Any],
        *,
        comment: str | None = None,
        machine_id: str | None = None,
    ) -> Version:
        """Add a version to a workflow; with a machine its `preview` deployment follows. One call; a repeat adds another.

        Raises WorkflowNotFound, InvalidInput, InsufficientCredit, Unauthorized, RateLimited, Unavailable (nothing was
        made), UnexpectedAnswer, and Undecided (it may have been made: list the versions).
        """
        answer = await self._ask(
            CREATE,
            path={"workflow_id": workflow_id},
            content=encoded(
                {
                    "workflow": dict(workflow),
                    "workflow_api": dict(workflow_api),
                    "comment": comment,
                    "machine_id": machine_id,
                }
            ),
            repeatable=False,
        )
        if not answer.ok:
            raise creation_refused(answer, not_found=WorkflowNotFound)
        return read_version(answer, one(answer, "a version"))


def read_version(answer: Answer, row: dict[str, Any]) -> Version:
    """Read one version. Raises UnexpectedAnswer when it has no id."""
    return Version(
        id=required(answer, row, "id"),
        workflow_id=word(row.get("workflow_id")),
        number=whole(row.get("version")),
        comment=word(row.get("comment")),
        workflow=_graph(row.get("workflow")),
        workflow_api=_graph(row.get("workflow_api")),
        machine_id=word(row.get("machine_id")),
        machine_version_id=word(row.get("machine_version_id")),
        created_at=time_at(row.get("created_at")),
        updated_at=time_at(row.get("updated_at")),
    )


def _graph(value: object) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None
