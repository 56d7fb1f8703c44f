"""Which machines run our workflows, and how many runs at once?

Two sorts can be made: `serverless`, which the API builds and runs on rented GPUs, and `custom`, a ComfyUI of one's own
behind an address. Each has its own routes for making and changing; reading and deleting are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared.comfydeploy.answers import Answer, Ask, creation_refused, encoded, one, refused, required, rows
from shared.comfydeploy.values import flag, number, time_at, whole, word
from shared.errors import InUse, InvalidInput, NotFound, Problem

LIST = "GET /machines"
GET = "GET /machine/{machine_id}"
CREATE_SERVERLESS = "POST /machine/serverless"
CREATE_CUSTOM = "POST /machine/custom"
UPDATE_SERVERLESS = "PATCH /machine/serverless/{machine_id}"
UPDATE_CUSTOM = "PATCH /machine/custom/{machine_id}"
DELETE = "DELETE /machine/{machine_id}"


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
    #: Where a custom machine's ComfyUI is; serverless ones have an empty one or none.
    endpoint: str | None
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Serverless:
    """What to set of a serverless machine. None leaves it as it is, or to the API's default when the machine is made."""

    name: str | None = None
    #: `CPU T4 L4 A10G L40S A100 A100-80GB H100 H200 B200`.
    gpu: str | None = None
    concurrency_limit: int | None = None
    allow_concurrent_inputs: int | None = None
    run_timeout_seconds: int | None = None
    idle_timeout_seconds: int | None = None
    #: Containers that stay up without work. They cost money.
    keep_warm: int | None = None
    #: How its image is built, in the API's own words: `comfyui_version`, `docker_command_steps`, `python_version`, …
    build: Mapping[str, Any] | None = None

    def body(self) -> dict[str, Any]:
        """Give it as the API spells it."""
        return {
            **(self.build or {}),
            "name": self.name,
            "gpu": self.gpu,
            "concurrency_limit": self.concurrency_limit,
            "allow_concurrent_inputs": self.allow_concurrent_inputs,
            "run_timeout": self.run_timeout_seconds,
            "idle_timeout": self.idle_timeout_seconds,
            "keep_warm": self.keep_warm,
        }


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

        Raises NotFound for a machine the key does not see, Unauthorized, RateLimited, Unavailable, UnexpectedAnswer.
        """
        answer = await self._ask(GET, path={"machine_id": machine_id})
        if not answer.ok:
            raise refused(answer, not_found=NotFound)
        return _machine(answer, one(answer, "a machine"))

    async def create_serverless(self, wanted: Serverless) -> Machine:
        """Make a serverless machine; its image is built behind the answer (`building`). One call; a repeat makes another.

        Raises InvalidInput (name and GPU are needed), InsufficientCredit, Unauthorized (also when the plan allows no
        more), RateLimited, Unavailable (nothing was made), UnexpectedAnswer, and Undecided (it may have been made).
        """
        lacking = [Problem(name, "is needed") for name in ("name", "gpu") if getattr(wanted, name) is None]
        if lacking:
            raise InvalidInput(lacking)
        return await self._create(CREATE_SERVERLESS, encoded(wanted.body()))

    async def create_custom(
        self, name: str, endpoint: str, *, machine_type: str = "classic", auth_token: str | None = None
    ) -> Machine:
        """Make a machine of a ComfyUI at `endpoint`. One call; a repeat makes another. Raises as `create_serverless`.

        `machine_type` is `classic` or `runpod-serverless`; runs on either can never be cancelled (CONTRACT section 9).
        """
        body = {"name": name, "type": machine_type, "endpoint": endpoint, "auth_token": auth_token}
        return await self._create(CREATE_CUSTOM, encoded(body, nulls=("auth_token",)))

    async def update_serverless(self, machine_id: str, wanted: Serverless) -> Machine:
        """Change a serverless machine; may make the API build it anew. One call; may be repeated.

        Raises NotFound, InvalidInput, InsufficientCredit, Unauthorized, RateLimited, Unavailable, UnexpectedAnswer.
        """
        return await self._update(UPDATE_SERVERLESS, machine_id, wanted.body())

    async def update_custom(
        self,
        machine_id: str,
        *,
        name: str | None = None,
        endpoint: str | None = None,
        machine_type: str | None = None,
        auth_token: str | None = None,
    ) -> Machine:
        """Change what is given of a custom machine. One call; may be repeated. Raises as `update_serverless`."""
        body = {"name": name, "endpoint": endpoint, "type": machine_type, "auth_token": auth_token}
        return await self._update(UPDATE_CUSTOM, machine_id, body)

    async def delete(self, machine_id: str, *, force: bool = False) -> None:
        """Delete a machine. One call. It can still be read, as deleted; deleting it again changes nothing.

        Raises InUse while deployments run on it, unless `force`d, and InvalidInput while containers are kept warm;
        NotFound, Unauthorized, RateLimited, Unavailable, UnexpectedAnswer.
        """
        answer = await self._ask(DELETE, path={"machine_id": machine_id}, params={"force": "true" if force else None})
        if answer.ok:
            return
        if answer.status == 402:
            raise InUse(str(answer), user_message=answer.reason, upstream_status=answer.status)
        if answer.status == 400:
            raise InvalidInput([Problem("keep_warm", answer.reason)], upstream_status=answer.status)
        raise refused(answer, not_found=NotFound)

    async def _create(self, route: str, content: bytes) -> Machine:
        answer = await self._ask(route, content=content, repeatable=False)
        if not answer.ok:
            raise creation_refused(answer)
        return _machine(answer, one(answer, "a machine"))

    async def _update(self, route: str, machine_id: str, body: Mapping[str, Any]) -> Machine:
        answer = await self._ask(route, path={"machine_id": machine_id}, content=encoded(body))
        if not answer.ok:
            raise refused(answer, not_found=NotFound)
        return _machine(answer, one(answer, "a machine"))


def _machine(answer: Answer, row: dict[str, Any]) -> Machine:
    return Machine(
        id=required(answer, row, "id"),
        name=word(row.get("name")),
        type=word(row.get("type")),
        status=word(row.get("status")),
        gpu=word(row.get("gpu")),
        endpoint=word(row.get("endpoint")),
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
