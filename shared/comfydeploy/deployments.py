"""Which workflows can be run, where, and with which inputs?

A deployment is a workflow's version on a machine, under an environment. It has no name of its own: use the
workflow's name and the environment (CONTRACT section 15). The answers are large, since each carries its version's
whole graphs. Keep of these only what is needed: `shared/inputs/` reads the inputs out of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from shared.comfydeploy.answers import Answer, Ask, encoded, one, refused, required, rows, wrapped_not_found
from shared.comfydeploy.values import is_id, mapping, number, time_at, whole, word
from shared.errors import ConveyorError, InvalidInput, NotFound, Problem, WorkflowNotFound

LIST = "GET /deployments"
LIST_BY_WORKFLOW = "GET /workflow/{workflow_id}/deployments"
GET = "GET /deployment/{deployment_id}"
PUT = "POST /deployment"
UPDATE = "PATCH /deployment/{deployment_id}"
DELETE = "DELETE /deployment/{deployment_id}"
DEACTIVATE = "POST /deployment/{deployment_id}/deactivate"

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputType:
    """One input node the API recognises. Seed and face-model inputs work, but are never listed."""

    #: The key to send in `inputs`. Two nodes can share one.
    input_id: str
    #: `string`, `integer`, `float`, `boolean`, `binary`.
    type: str | None
    class_type: str | None
    #: Can be a node link such as `["12", 0]`.
    default_value: Any
    min_value: float | None
    max_value: float | None
    step: float | None
    display_name: str | None
    description: str | None
    #: The choices of an enum, None for everything else.
    enum_options: tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One deployment. Writes answer without the workflow's name, the version and the inputs."""

    id: str
    workflow_id: str | None
    workflow_name: str | None
    workflow_version_id: str | None
    #: The version's number, as people see it.
    version: int | None
    environment: str | None
    description: str | None
    machine_id: str | None
    machine_version_id: str | None
    #: When set it wins over the `gpu` of a submit.
    gpu: str | None
    #: Containers at once; further runs wait in `not-started`.
    concurrency_limit: int | None
    run_timeout_seconds: float | None
    #: Has its own image (`is_fluid`).
    is_fluid: bool
    #: Has an app of its own on the GPU side, which can be deactivated.
    has_app: bool
    #: None when the version has no API graph; empty when the graph has no input nodes.
    input_types: tuple[InputType, ...] | None
    created_at: datetime | None
    updated_at: datetime | None
    #: The version's two graphs, as in `Version`; None where the answer holds none.
    workflow: dict[str, Any] | None = field(default=None, repr=False)
    workflow_api: dict[str, Any] | None = field(default=None, repr=False)


class Deployments:
    """The routes about deployments; reached as `client.deployments`."""

    __slots__ = ("_ask",)

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def list(self, environment: str | None = None) -> tuple[Deployment, ...]:
        """List every deployment, newest first. **Two calls**: the API shows those with their own image separately.

        Raises InvalidInput for an environment the API does not have, Unauthorized, RateLimited, Unavailable (one
        broken enum node in any workflow makes the API answer the whole list with 500), UnexpectedAnswer.
        """
        found: dict[str, Deployment] = {}
        for is_fluid in ("false", "true"):
            answer = await self._ask(LIST, params={"environment": environment, "is_fluid": is_fluid})
            if not answer.ok:
                raise refused(answer)
            for row in rows(answer, answer.body):
                deployment = _deployment(answer, row)
                found.setdefault(deployment.id, deployment)
        return tuple(sorted(found.values(), key=lambda one: one.updated_at or _LONG_AGO, reverse=True))

    async def get(self, deployment_id: str) -> Deployment:
        """Read one deployment. One call.

        Raises WorkflowNotFound, Unauthorized, RateLimited, Unavailable, UnexpectedAnswer. The API says 500
        `Internal server error` as JSON for a deployment it does not know; real trouble is plain text.
        """
        answer = await self._ask(GET, path={"deployment_id": deployment_id})
        if not answer.ok:
            raise _refused(answer)
        return _deployment(answer, one(answer, "a deployment"))

    async def list_by_workflow(self, workflow_id: str) -> tuple[Deployment, ...]:
        """List a workflow's deployments, both halves, by environment. One call; a broken enum node elsewhere does no harm.

        A workflow without deployments and an unknown one give the same empty list: the API does not say which it is.
        Raises WorkflowNotFound for what is no id, Unauthorized, RateLimited, Unavailable, UnexpectedAnswer.
        """
        answer = await self._ask(LIST_BY_WORKFLOW, path={"workflow_id": workflow_id})
        if answer.status == 404 and answer.reason.startswith("Deployments not found"):
            return ()
        if not answer.ok:
            if answer.status == 500 and not is_id(workflow_id):
                raise WorkflowNotFound(str(answer), upstream_status=answer.status)
            raise refused(answer)
        return tuple(_deployment(answer, row) for row in rows(answer, answer.body))

    async def put(
        self,
        workflow_id: str,
        workflow_version_id: str,
        environment: str,
        *,
        machine_id: str | None = None,
        machine_version_id: str | None = None,
        deployment_id: str | None = None,
    ) -> Deployment:
        """Make a deployment, or change the one of this id, or of this workflow and environment. One call; may be repeated.

        The API wants a machine or a version of one, and overwrites the description with the workflow's. Raises
        InvalidInput, WorkflowNotFound (workflow or version), NotFound (machine), Unauthorized, RateLimited, Unavailable,
        UnexpectedAnswer. CONTRACT section 15.
        """
        if machine_id is None and machine_version_id is None:
            raise InvalidInput([Problem("machine_id", "is needed, or a machine_version_id")])
        answer = await self._ask(
            PUT,
            content=encoded(
                {
                    "workflow_id": workflow_id,
                    "workflow_version_id": workflow_version_id,
                    "environment": environment,
                    "machine_id": machine_id,
                    "machine_version_id": machine_version_id,
                    "deployment_id": deployment_id,
                }
            ),
        )
        if not answer.ok:
            if answer.status == 500 and "invalid input value for enum" in answer.detail:
                raise InvalidInput([Problem("environment", "is none the API has")], upstream_status=answer.status)
            machine = "Machine not found" in answer.detail
            raise wrapped_not_found(answer, NotFound if machine else WorkflowNotFound) or refused(answer)
        return _deployment(answer, one(answer, "a deployment"))

    async def update(
        self,
        deployment_id: str,
        *,
        workflow_version_id: str | None = None,
        machine_id: str | None = None,
        machine_version_id: str | None = None,
        gpu: str | None = None,
        concurrency_limit: int | None = None,
        run_timeout_seconds: int | None = None,
        idle_timeout_seconds: int | None = None,
        keep_warm: int | None = None,
    ) -> Deployment:
        """Change what is given; may make the API deploy anew. One call; may be repeated.

        Raises InvalidInput, WorkflowNotFound, Unauthorized, RateLimited, Unavailable, UnexpectedAnswer.
        """
        answer = await self._ask(
            UPDATE,
            path={"deployment_id": deployment_id},
            content=encoded(
                {
                    "workflow_version_id": workflow_version_id,
                    "machine_id": machine_id,
                    "machine_version_id": machine_version_id,
                    "gpu": gpu,
                    "concurrency_limit": concurrency_limit,
                    "run_timeout": run_timeout_seconds,
                    "idle_timeout": idle_timeout_seconds,
                    "keep_warm": keep_warm,
                }
            ),
        )
        if not answer.ok:
            raise _refused(answer)
        return _deployment(answer, one(answer, "a deployment"))

    async def delete(self, deployment_id: str) -> None:
        """Delete a share. One call. The API deletes `public-share`, `private-share` and `community-share` only.

        Raises NotFound for an unknown deployment and for one that is no share, which the API does not tell apart;
        Unauthorized, RateLimited, Unavailable, UnexpectedAnswer.
        """
        answer = await self._ask(DELETE, path={"deployment_id": deployment_id})
        if not answer.ok:
            if _is_unknown(answer):
                raise NotFound(f"{answer}: unknown, or no share", upstream_status=answer.status)
            raise refused(answer, not_found=NotFound)

    async def deactivate(self, deployment_id: str) -> Deployment:
        """Take down the deployment's own app on the GPU side. One call.

        Raises WorkflowNotFound; NotFound when there is no app (see `has_app`), for which the API crashes, so that real
        trouble may be taken for it; Unauthorized, RateLimited, Unavailable, UnexpectedAnswer.
        """
        answer = await self._ask(DEACTIVATE, path={"deployment_id": deployment_id})
        if not answer.ok:
            if answer.status == 500 and not answer.is_json:
                raise NotFound(f"{answer}: it has no app, or the API is in trouble", upstream_status=answer.status)
            raise _refused(answer)
        return _deployment(answer, one(answer, "a deployment"))


def _is_unknown(answer: Answer) -> bool:
    """Tell whether this is how these routes say 404; real trouble is plain text."""
    return answer.status == 500 and answer.is_json and answer.reason == "Internal server error"


def _refused(answer: Answer) -> ConveyorError:
    if _is_unknown(answer):
        return WorkflowNotFound(str(answer), upstream_status=answer.status)
    return refused(answer)


def _deployment(answer: Answer, row: dict[str, Any]) -> Deployment:
    workflow, version = mapping(row.get("workflow")), mapping(row.get("version"))
    inputs = row.get("input_types")
    return Deployment(
        id=required(answer, row, "id"),
        workflow_id=word(row.get("workflow_id")) or word(workflow.get("id")),
        workflow_name=word(workflow.get("name")),
        workflow_version_id=word(row.get("workflow_version_id")) or word(version.get("id")),
        version=whole(version.get("version")),
        environment=word(row.get("environment")),
        description=word(row.get("description")),
        machine_id=word(row.get("machine_id")),
        machine_version_id=word(row.get("machine_version_id")),
        gpu=word(row.get("gpu")),
        concurrency_limit=whole(row.get("concurrency_limit")),
        run_timeout_seconds=number(row.get("run_timeout")),
        is_fluid=word(row.get("modal_image_id")) is not None,
        has_app=word(row.get("modal_app_id")) is not None,
        input_types=_input_types(inputs) if isinstance(inputs, list) else None,
        created_at=time_at(row.get("created_at")),
        updated_at=time_at(row.get("updated_at")),
        workflow=mapping(version.get("workflow")) or None,
        workflow_api=mapping(version.get("workflow_api")) or None,
    )


def _input_types(value: object) -> tuple[InputType, ...]:
    entries = value if isinstance(value, list) else []
    return tuple(_input_type(entry) for entry in entries if isinstance(entry, dict) and word(entry.get("input_id")))


def _input_type(entry: dict[str, Any]) -> InputType:
    options = entry.get("enum_options")
    return InputType(
        input_id=str(entry["input_id"]),
        type=word(entry.get("type")),
        class_type=word(entry.get("class_type")),
        default_value=entry.get("default_value"),
        min_value=number(entry.get("min_value")),
        max_value=number(entry.get("max_value")),
        step=number(entry.get("step")),
        display_name=word(entry.get("display_name")),
        description=word(entry.get("description")),
        enum_options=tuple(str(option) for option in options) if isinstance(options, list) else None,
    )
