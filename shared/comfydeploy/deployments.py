"""Which workflows can be run, where, and with which inputs?

A deployment is a workflow's version on a machine, under an environment. It has no name of its own: use the
workflow's name and the environment (CONTRACT section 15). The answers are large, since each carries its version's
whole graphs; those are left behind here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shared.comfydeploy.answers import Answer, Ask, refused, required, rows, unexpected
from shared.comfydeploy.values import mapping, number, time_at, whole, word
from shared.errors import WorkflowNotFound

LIST = "GET /deployments"
GET = "GET /deployment/{deployment_id}"

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
    """One deployment, without its graphs."""

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
    #: None when the version has no API graph; empty when the graph has no input nodes.
    input_types: tuple[InputType, ...] | None
    created_at: datetime | None
    updated_at: datetime | None


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
            if answer.status == 500 and answer.is_json and answer.reason == "Internal server error":
                raise WorkflowNotFound(str(answer), upstream_status=answer.status)
            raise refused(answer)
        if not isinstance(answer.body, dict):
            raise unexpected(answer, "a deployment")
        return _deployment(answer, answer.body)


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
        input_types=_input_types(inputs) if isinstance(inputs, list) else None,
        created_at=time_at(row.get("created_at")),
        updated_at=time_at(row.get("updated_at")),
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
