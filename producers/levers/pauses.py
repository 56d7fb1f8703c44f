"""May jobs go out of their lanes? Operators pause everything, a workflow, a user or a frontend, and resume it.

A paused job waits where it stood: it keeps its place, may be cancelled, and the clock of its queue timeout stands still
(docs/decisions/0016). What has left the lanes is not stopped: a run that exists is followed to its end. A job that was
dispatched and has not been posted goes back to its lane.

Read `shared/lua/pause.lua`, `shared/lua/resume.lua` and the head of `shared/lua/dispatch.lua` beside it.
"""

import json
from dataclasses import dataclass
from typing import Self

from producers.levers.workflow import Workflow
from shared.database import Database
from shared.jobs.by import By


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose jobs."""

    #: As the scripts know it.
    key: str
    #: As people know it.
    name: str

    @classmethod
    def everything(cls) -> Self:
        """All jobs."""
        return cls("all", "everything")

    @classmethod
    def frontend(cls, name: str) -> Self:
        """The jobs of one frontend."""
        return cls(f"frontend:{name}", f"frontend {name}")

    @classmethod
    def user(cls, frontend: str, user_id: str) -> Self:
        """The jobs of one user of one frontend: the same id on another is somebody else."""
        return cls(f"user:{frontend}:{user_id}", f"user {frontend}:{user_id}")

    @classmethod
    def workflow(cls, workflow: Workflow) -> Self:
        """The jobs of one workflow, in all its environments."""
        return cls(f"workflow:{workflow.id}", f"workflow {workflow.name}")


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause that goes on."""

    scope: str
    name: str
    #: Milliseconds on Redis's clock.
    since: int
    who: str
    reason: str

    @classmethod
    def read(cls, scope: str, text: str) -> Self:
        """As the script wrote it."""
        told = json.loads(text)
        return cls(scope, told["name"], int(told["since"]), told["who"], told["reason"])


async def pause(database: Database, scope: Scope, by: By) -> tuple[Pause, bool]:
    """Pause a scope; the pause and whether it is new: one that goes on stays as it is. One round trip."""
    word, told = await database.run("pause", scope.key, scope.name, by.json())
    return Pause.read(scope.key, told), word == "paused"


async def resume(database: Database, scope: Scope, by: By) -> Pause | None:
    """End a pause, and answer it; None when there was none. One round trip; workers let the jobs go from then on."""
    word, told = await database.run("resume", scope.key, by.json())
    return Pause.read(scope.key, told) if word == "resumed" else None


async def pauses(database: Database) -> list[Pause]:
    """All that go on, the oldest first. One round trip."""
    found = await database.hash(database.keys.pauses)
    return sorted((Pause.read(scope, told) for scope, told in found.items()), key=lambda pause: pause.since)
