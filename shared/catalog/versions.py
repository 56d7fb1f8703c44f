"""What does a version do? Its graphs by its id: read once, since a version never changes, and kept for a day or two."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import Any

from shared.catalog.freshness import VERSION_SECONDS
from shared.catalog.renewal import Part
from shared.catalog.shelf import Seen, Shelf
from shared.comfydeploy import ComfyDeploy
from shared.comfydeploy.values import is_id, time_at
from shared.comfydeploy.versions import Version
from shared.database import Database
from shared.errors import NotFound, Unavailable
from shared.limits.bucket import TokenBucket

#: Graphs are large: so many are in memory, the others in Redis alone.
MOST_IN_MEMORY = 20


class Versions:
    """Versions by id; each is a part of the catalog of its own. Belongs to one event loop."""

    def __init__(self, database: Database, bucket: TokenBucket, client: ComfyDeploy | None) -> None:
        self._db, self._bucket, self._client = database, bucket, client
        self._parts: OrderedDict[str, Part[Version]] = OrderedDict()

    async def get(self, version_id: str) -> Version:
        """One version with its graphs. One call in a day or two for all processes.

        Raises `NotFound`, what else the API raises, and `Unavailable`, also when it does not answer in time.
        """
        if not is_id(version_id):
            raise NotFound(f"{version_id!r} is no version's id.")
        part = self._parts.get(version_id) or self._open(version_id)
        self._parts.move_to_end(version_id)
        seen = await part.get()
        if seen.held is None:
            raise part.error or Unavailable(seen.trouble or "The version could not be read in time.")
        return seen.held.value

    def _open(self, version_id: str) -> Part[Version]:
        read = partial(self._read, self._client, version_id) if self._client else None
        part = f"catalog:version:{version_id}"
        shelf = Shelf(self._db, part, VERSION_SECONDS, _version_of, _stored)
        self._parts[version_id] = Part("versions", self._db, shelf, read)
        while len(self._parts) > MOST_IN_MEMORY:
            # One that is being read ends by itself, and leaves its copy in Redis.
            self._parts.popitem(last=False)
        return self._parts[version_id]

    async def _read(self, client: ComfyDeploy, version_id: str, _: Seen[Version]) -> Version:
        async with self._bucket.call("catalog"):
            return await client.versions.get(version_id)

    async def aclose(self) -> None:
        """Give up what is being read."""
        for part in self._parts.values():
            await part.aclose()


def _stored(version: Version) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, datetime) else value for name, value in asdict(version).items()}


def _version_of(stored: Mapping[str, Any]) -> Version:
    known: dict[str, Any] = {name: stored.get(name) for name in Version.__dataclass_fields__}
    return Version(**known | {name: time_at(known[name]) for name in ("created_at", "updated_at")})
