"""What makes up one simulated service? Everything with state, wired together once.

Routes get the whole service and use the part they need. `reset` forgets runs and counters but keeps connections, keys and
the port, so tests can share one process.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from simulator.agenda import Agenda
from simulator.broadcast import Broadcast
from simulator.bucket import Bucket
from simulator.engine import Engine
from simulator.faults import FaultMenu
from simulator.hooks import Hooks
from simulator.keys import Keyring
from simulator.limiter import Limiter
from simulator.meter import Meter
from simulator.settings import Settings
from simulator.tables import Tables
from simulator.updates import Updates
from simulator.worlds import WORLDS

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


class Service:
    def __init__(
        self,
        settings: Settings | None = None,
        keys: Sequence[str] = ("sim-key",),
        base_url: str = "http://simulator",
        world: str = "studio",
    ) -> None:
        self.settings = settings or Settings()
        self.keyring = Keyring(keys)
        self.meter = Meter()
        self.menu = FaultMenu(self.settings.faults, self.settings.seed, self.meter.faults)
        self.agenda = Agenda(self.settings.speed)
        self.tables = Tables()
        self.bucket = Bucket(base_url, self.settings.presigned_seconds)
        self.hooks = Hooks(self.settings.webhooks, self.menu, self.settings.seed)
        self.broadcast = Broadcast()
        self.updates = Updates(self.hooks, self.broadcast, self.bucket)
        self.engine = Engine(self.settings, self.menu, self.agenda, self.tables, self.updates, self.bucket)
        self.limiter: Limiter | None = None
        self._world = world
        WORLDS[world](self.tables)
        self.configure(self.settings)

    def configure(self, settings: Settings) -> None:
        """Put new settings in force; runs under way keep their scripts, only the clock's speed changes for them."""
        self.settings = settings
        self.menu = FaultMenu(settings.faults, settings.seed, self.meter.faults)
        self.agenda.speed = settings.speed
        self.limiter = None if settings.rate_limit is None else Limiter(settings.rate_limit)
        self.bucket.presigned_seconds = settings.presigned_seconds
        self.hooks.settings, self.hooks.menu = settings.webhooks, self.menu
        self.engine.settings, self.engine.menu = settings, self.menu

    def reset(self) -> None:
        """Forget runs, uploads, counters and what was changed in the catalogue; settings stay."""
        self.agenda.clear()
        self.engine.forget()
        self.hooks.forget()
        self.meter.clear()
        self.bucket.clear()
        fresh = Tables()
        WORLDS[self._world](fresh)
        self.tables.__dict__.update(fresh.__dict__)
        # The dice start over with the runs.
        self.configure(self.settings)

    async def close(self) -> None:
        self.agenda.clear()
        await self.hooks.close()
