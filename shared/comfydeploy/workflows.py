"""Which workflows does the key see?

Only the listing so far; a workflow is run through one of its deployments.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from shared.comfydeploy.answers import Ask, refused, required, rows
from shared.comfydeploy.values import flag, time_at, word

LIST = "GET /workflows"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """One workflow as the listing shows it."""

    id: str
    name: str | None
    pinned: bool
    #: The machine its author last chose; a deployment has its own.
    machine_id: str | None
    created_at: datetime | None
    updated_at: datetime | None


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
        return tuple(
            Workflow(
                id=required(answer, row, "id"),
                name=word(row.get("name")),
                pinned=flag(row.get("pinned")) or False,
                machine_id=word(row.get("selected_machine_id")),
                created_at=time_at(row.get("created_at")),
                updated_at=time_at(row.get("updated_at")),
            )
            for row in rows(answer, answer.body)
        )
