"""Who listens to the progress stream? Every listener of an account hears every run of that account.

Nothing is kept: who connects late has missed it, as with upstream's pub/sub.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simulator.rows import Run
from simulator.timestamps import now

Listener = Callable[[dict[str, Any], Run], None]


class Broadcast:
    def __init__(self) -> None:
        self._listeners: dict[tuple[str, str | None], set[Listener]] = {}

    def join(self, channel: tuple[str, str | None], listener: Listener) -> None:
        self._listeners.setdefault(channel, set()).add(listener)

    def leave(self, channel: tuple[str, str | None], listener: Listener) -> None:
        self._listeners.get(channel, set()).discard(listener)

    def tell(self, run: Run, status: str | None, node_class: str = "") -> None:
        listeners = self._listeners.get((run.user_id if run.org_id is None else "", run.org_id))
        if not listeners:
            return
        event = {
            "run_id": run.id,
            "workflow_id": run.workflow_id,
            "machine_id": run.machine_id,
            "progress": -1,
            "status": status,
            "node_class": node_class,
            "timestamp": now().isoformat(),
        }
        for listener in list(listeners):
            listener(event, run)
