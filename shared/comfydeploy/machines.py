"""Which machines run our workflows, and how many runs at once?

Only reading so far.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared.comfydeploy.answers import Answer, Ask, refused, required, rows, unexpected
from shared.comfydeploy.values import flag, number, time_at, whole, word
from shared.errors import GiveUp

LIST = "GET /machines"
GET = "GET /machine/{machine_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One machine. The limits are None in listings, which do not say them."""

    id: str
    name: str | None
    #: `comfy-deploy-serverless`, `classic`, … Runs on `classic` and `runpod-serverless` cannot be cancelled.
    type: str | None
    #: `ready`, `building`, `error`, …
    status: str | None
    gpu: str | None
    machine_version_id: str | None
    #: Containers at once; further runs wait in `not-started`.
    concurrency_limit: int | None
    #: Runs at once in one container.
    allow_concurrent_inputs: int | None
    run_timeout_seconds: float | None
    idle_timeout_seconds: float | None
    keep_warm: int | None
    deleted: bool
    created_at: datetime | None
    updated_at: datetime | None


class Machines:
    """The routes about machines; reached as `client.machines`."""

    __slots__ = ("_ask",)

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def list(self, search: str | None = None, *, limit: int = 100, offset: int = 0) -> tuple[Machine, ...]:
        """List machines that are not deleted, newest first. One call a page; a short page is the last.

        Raises InvalidInput, Unauthorized, RateLimited, Unavailable, UnexpectedAnswer. CONTRACT section 16.
        """
        answer = await self._ask(
            LIST,
            # Without `is_deleted` the API lists deleted ones, too.
            params={"is_deleted": "false", "search": search or None, "limit": limit, "offset": offset or None},
        )
        if not answer.ok:
            raise refused(answer)
        return tuple(_machine(answer, row) for row in rows(answer, answer.body))

    async def get(self, machine_id: str) -> Machine:
        """Read one machine with its limits, also a deleted one. One call.

        Raises GiveUp for a machine the key does not see, Unauthorized, RateLimited, Unavailable, UnexpectedAnswer.
        """
        answer = await self._ask(GET, path={"machine_id": machine_id})
        if not answer.ok:
            raise refused(answer, not_found=GiveUp)
        if not isinstance(answer.body, dict):
            raise unexpected(answer, "a machine")
        return _machine(answer, answer.body)


def _machine(answer: Answer, row: dict[str, Any]) -> Machine:
    return Machine(
        id=required(answer, row, "id"),
        name=word(row.get("name")),
        type=word(row.get("type")),
        status=word(row.get("status")),
        gpu=word(row.get("gpu")),
        machine_version_id=word(row.get("machine_version_id")),
        concurrency_limit=whole(row.get("concurrency_limit")),
        allow_concurrent_inputs=whole(row.get("allow_concurrent_inputs")),
        run_timeout_seconds=number(row.get("run_timeout")),
        idle_timeout_seconds=number(row.get("idle_timeout")),
        keep_warm=whole(row.get("keep_warm")),
        deleted=flag(row.get("deleted")) or False,
        created_at=time_at(row.get("created_at")),
        updated_at=time_at(row.get("updated_at")),
    )
