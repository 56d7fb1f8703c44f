"""Does this occasion go wrong?

The menu holds the configured faults and rolls the dice. It knows nothing about what a fault does: `gate.py` acts on the
faults of a request, `engine.py` on those of a run, `hooks.py` on those of a webhook.
"""

from __future__ import annotations

import random
from collections import Counter
from fnmatch import fnmatchcase

from simulator.settings import Fault


class FaultMenu:
    def __init__(self, faults: list[Fault], seed: int, used: Counter[str]) -> None:
        #: How often each kind was drawn; kept by the meter, as menus come and go.
        self._used = used
        self._faults = faults
        self._dice = random.Random(f"faults:{seed}")
        self._kinds = {fault.kind for fault in faults}

    def draw(
        self, kind: str, route: str | None = None, *, workflow: str | None = None, only_named: bool = False
    ) -> Fault | None:
        """Take the first fault of this kind that applies, and count it as used; None when all goes well.

        `only_named` passes over faults for any route: downloads fail only when a fault names them.
        """
        if kind not in self._kinds:
            return None
        for fault in self._faults:
            if fault.kind != kind or fault.count == 0 or (only_named and fault.route is None):
                continue
            if not _fits(fault.route, route) or not _fits(fault.workflow, workflow):
                continue
            if fault.probability < 1 and self._dice.random() >= fault.probability:
                continue
            if fault.count is not None:
                fault.count -= 1
            self._used[kind] += 1
            return fault
        return None

    def draw_any(self, kinds: tuple[str, ...], workflow: str) -> dict[str, Fault]:
        """Draw each of these kinds once for a run of a workflow; usually an empty answer."""
        if self._kinds.isdisjoint(kinds):
            return {}
        drawn = {kind: self.draw(kind, workflow=workflow) for kind in kinds}
        return {kind: fault for kind, fault in drawn.items() if fault is not None}


def _fits(pattern: str | None, name: str | None) -> bool:
    return pattern is None or name is None or fnmatchcase(name, pattern)
