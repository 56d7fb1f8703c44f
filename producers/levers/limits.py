"""How many jobs may be past the lanes, and how fast is the API asked? Set while everything runs, for all workers.

What is set here holds before the environment's, survives restarts, and ends with a reset. `shared/lua/dispatch.lua` reads
the windows, `shared/lua/take_tokens.lua` the budget, so a change holds from the next call on.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from shared.database import Database
from shared.jobs.by import By
from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows as they hold now."""

    #: Jobs past the lanes at once, of everybody, and of one user.
    window: int
    user_window: int
    #: What was set live, by its name in `conveyor:limits`.
    live: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, live: dict[str, str], settings: Settings) -> Self:
        """The stored limits over those of the environment."""
        numbers = {name: int(text) for name, text in live.items()}
        window, user = numbers.get("window", settings.window), numbers.get("user_window", settings.user_window)
        return cls(window, user, numbers)

    def of_user(self, user: str) -> int:
        """The window of one user, as lanes name him."""
        return self.live.get(f"user:{user}", self.user_window)

    def of_pool(self, pool: str, otherwise: int) -> int:
        """The window of one machine; `otherwise` is what the catalog made of it. 0 is no limit."""
        return self.live.get(f"pool:{pool}", otherwise)


async def read_windows(database: Database, settings: Settings) -> Windows:
    """The windows now. One round trip; raises `Unavailable`."""
    return Windows.read(await database.hash(database.keys.limits), settings)


async def adjust(
    database: Database, *, account: str, set_: Mapping[str, str], forget: Sequence[str], action: str, by: By
) -> None:
    """Set limits of an account's budget, or the windows when `account` is empty, and forget others. One round trip."""
    await database.run(
        "adjust", account, json.dumps(dict(set_)), json.dumps(list(forget)) if forget else "[]", action, by.json()
    )
