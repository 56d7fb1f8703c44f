"""Which objects exist when the simulator starts?

`studio` is for people and for clients under test: workflows with realistic names and every kind of output.
`recorded` has the ids and graphs of the recorded exchanges, so these can be replayed one by one.
"""

from __future__ import annotations

from collections.abc import Callable

from simulator.tables import Tables
from simulator.worlds.recorded import recorded
from simulator.worlds.studio import studio

WORLDS: dict[str, Callable[[Tables], None]] = {"studio": studio, "recorded": recorded}
