"""What is kept of the API's deployments, workflows and machines, and how is it written down?

Lenient both ways: processes of two releases read each other's copies, so what is missing has a default and what is not
known is left out (docs/decisions/0010).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from shared.inputs import Signature

#: CONTRACT section 15: a machine without a limit of its own runs two containers.
DEFAULT_CONCURRENCY = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """One deployment, as far as a job needs it."""

    deployment_id: str
    workflow_id: str
    name: str
    environment: str
    #: The machine whose window its jobs count in, or the deployment itself when it has containers of its own; empty when
    #: the API did not say.
    pool: str
    #: Runs carried out at once, as was known when this was read; of a machine see `Machine.concurrency`.
    concurrency: int = DEFAULT_CONCURRENCY
    description: str | None = None
    #: What it takes and gives; None when the API did not say.
    signature: Signature | None = None
    #: The version that is deployed, and its number, as people know it.
    version_id: str | None = None
    version: int | None = None
    #: When it was read (seconds since 1970) if that was before its copy: the API cannot list its workflow any more.
    kept_from: float | None = None

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """An entry as it is stored. Fields we do not know are left out: a newer process wrote them."""
        known = {name: value for name, value in stored.items() if name in cls.__dataclass_fields__}
        signature = known.get("signature")
        return cls(**(known | {"signature": None if signature is None else Signature.of(signature)}))

    def stored(self) -> dict[str, Any]:
        """For JSON; `of` reads it back."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return plain | {"signature": None if self.signature is None else self.signature.stored()}


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything that can be run, newest first, and the names of all workflows."""

    entries: tuple[Entry, ...] = ()
    #: Workflow id -> name, also of workflows without a deployment.
    workflows: Mapping[str, str] = field(default_factory=dict)
    #: What could not be read, in sentences for people.
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """A listing as it is stored."""
        return cls(
            entries=tuple(Entry.of(entry) for entry in stored["entries"]),
            workflows=dict(stored.get("workflows") or {}),
            warnings=tuple(stored.get("warnings") or ()),
        )

    def stored(self) -> dict[str, Any]:
        """For JSON; `of` reads it back."""
        return {
            "entries": [entry.stored() for entry in self.entries],
            "workflows": dict(self.workflows),
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine that deployments run on."""

    name: str
    #: Runs carried out there at once.
    concurrency: int
    #: As the API says it; another word means that the machine was changed.
    changed: str
    #: When its limit was read, seconds since 1970.
    read_at: float


Machines = dict[str, Machine]


def machines_of(stored: Mapping[str, Any]) -> Machines:
    """Machines as they are stored."""
    fields = Machine.__dataclass_fields__
    return {
        machine_id: Machine(**{name: value for name, value in one.items() if name in fields})
        for machine_id, one in stored["machines"].items()
    }


def stored_machines(machines: Machines) -> dict[str, Any]:
    """For JSON; `machines_of` reads it back."""
    fields = Machine.__dataclass_fields__
    return {"machines": {key: {name: getattr(one, name) for name in fields} for key, one in machines.items()}}
