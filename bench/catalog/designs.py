"""Three ways to know which deployment a name stands for. Each answers the id, or raises what its reader would meet.

Times are a hundredth of life: a listing is good for 3 s instead of 300, a machine for 0.6 s instead of 60.
"""

import json

from shared.catalog import Catalog, catalog
from shared.comfydeploy import ComfyDeploy
from shared.database import Database
from shared.jobs.request import JobRequest
from shared.limits.bucket import TokenBucket
from shared.metrics import CATALOG_LOOKUPS
from shared.names import tolerant
from shared.settings import Settings

SCALE = 100
LISTING_SECONDS = catalog.DEPLOYMENTS_SECONDS / SCALE


class NoCache:
    """Every question is a question to the API."""

    name = "no cache"
    #: Answers that came from a copy.
    hits = 0

    def __init__(self, _database: Database, _settings: Settings, client: ComfyDeploy) -> None:
        self._client = client

    async def look_up(self, name: str) -> str:
        """Two calls."""
        deployments = await self._client.deployments.list()
        return next(one.id for one in deployments if tolerant(one.workflow_name or "") == tolerant(name))

    async def aclose(self) -> None:
        """Nothing."""


class ExpireThenRefill:
    """A key in Redis with a time to live: who finds it gone reads the API and sets it. The documents' cache."""

    name = "expires, then is refilled"
    hits = 0

    def __init__(self, database: Database, _settings: Settings, client: ComfyDeploy) -> None:
        self._redis, self._key, self._client = database.redis, f"{database.keys.prefix}naive", client

    async def look_up(self, name: str) -> str:
        """One round trip, and two calls when the key is gone."""
        text = await self._redis.get(self._key)
        if text is None:
            deployments = await self._client.deployments.list()
            known = {tolerant(one.workflow_name or ""): one.id for one in deployments}
            await self._redis.set(self._key, json.dumps(known), px=round(LISTING_SECONDS * 1000))
        else:
            known = json.loads(text)
            self.hits += 1
        return str(known[tolerant(name)])

    async def aclose(self) -> None:
        """Nothing."""


class Ours:
    """`Catalog.resolve`, as every enqueue calls it: the deployment, its workflow and its machine's limit."""

    name = "Conveyor"

    def __init__(self, database: Database, settings: Settings, client: ComfyDeploy) -> None:
        catalog.DEPLOYMENTS_SECONDS = LISTING_SECONDS
        catalog.MACHINES_SECONDS /= SCALE
        self._catalog = Catalog(database, settings, TokenBucket(database, settings), client)
        self._requests: dict[str, JobRequest] = {}

    async def look_up(self, name: str) -> str:
        """No round trip as a rule."""
        if name not in self._requests:
            self._requests[name] = JobRequest.read({"workflow": name, "frontend": "bench", "user": {"id": "u"}})
        return (await self._catalog.resolve(self._requests[name])).deployment_id

    @property
    def hits(self) -> int:
        """As its own counters say, stale copies included."""
        answers = (CATALOG_LOOKUPS.labels("deployments", answer) for answer in ("memory", "redis", "stale"))
        return round(sum(one._value.get() for one in answers))  # noqa: SLF001 - the library has no other way

    async def aclose(self) -> None:
        """Stop renewing."""
        await self._catalog.aclose()


DESIGNS = {design.name: design for design in (Ours, ExpireThenRefill, NoCache)}
