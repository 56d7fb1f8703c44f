"""Who changed what, when and why? The last 10,000 acts of operators, in a stream.

Most acts are written by the script that carries them out; `note` is for those that take several steps.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self, cast

from producers.follow import stream_id
from shared.database import Database
from shared.jobs.by import By


@dataclass(frozen=True, slots=True)
class Act:
    """One line of the audit."""

    id: str
    who: str
    action: str
    target: str
    reason: str
    #: What it was, and what it became: texts or JSON, as the act has them.
    before: str
    after: str

    @classmethod
    def read(cls, id_: str, fields: dict[str, str]) -> Self:
        """A line as it is stored; what another version left out is empty."""
        return cls(id_, *(fields.get(name, "") for name in ("who", "action", "target", "reason", "before", "after")))

    @property
    def what(self) -> str:
        """The target as people call it: a pause knows its workflow's name."""
        try:
            return str(json.loads(self.after or self.before)["name"])
        except (ValueError, KeyError, TypeError):
            return self.target

    @property
    def at(self) -> datetime:
        """When, by Redis's clock."""
        return datetime.fromtimestamp(stream_id(self.id)[0] / 1000, UTC)


async def note(database: Database, by: By, action: str, target: str, *, before: str = "", after: str = "") -> None:
    """Write an act down. A repeat is a second line."""
    await database.run("audit", by.json(), action, target, before, after)


async def newest(database: Database, most: int) -> list[Act]:
    """The last acts, oldest first. One round trip; raises `Unavailable`."""
    with database.asking():
        found = cast(list[Any], await database.redis.xrevrange(database.keys.audit, count=most))
    return [Act.read(str(id_), fields) for id_, fields in reversed(found)]
