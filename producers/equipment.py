"""What does a producer need beside Redis, and who closes it? Opened with the first use, closed together.

A program that only asks for a status must wait neither for Celery nor for the HTTP client to be loaded.
"""

import asyncio
from typing import TYPE_CHECKING, Protocol

from producers.admission import Resolves
from shared.database import Database
from shared.settings import Settings

if TYPE_CHECKING:
    from producers.files import Files
    from shared.catalog import Catalog
    from shared.comfydeploy import ComfyDeploy


class Publishes(Protocol):
    """What sends the submit tasks of dispatched jobs: `shared.broker.Publisher`, or a test's stand-in."""

    async def publish(self, job_ids: list[str]) -> None: ...
    def close(self) -> None: ...


class Equipment:
    """Publisher, catalog and files of one producer. What was given stays open, what was opened here is closed here."""

    def __init__(
        self, settings: Settings, database: Database, publisher: Publishes | None, catalog: Resolves | None
    ) -> None:
        self._settings, self._db = settings, database
        self._given_publisher, self._given_catalog = publisher, catalog
        self._publisher: Publishes | None = None
        self._catalog: Catalog | None = None
        self._files: Files | None = None
        self._api: ComfyDeploy | None = None

    @property
    def publisher(self) -> Publishes:
        """Sends messages to the broker."""
        if self._given_publisher is not None:
            return self._given_publisher
        if self._publisher is None:
            from shared.broker import Publisher, make_app  # noqa: PLC0415 - Celery takes long to load

            self._publisher = Publisher(make_app(self._settings), self._db)
        return self._publisher

    @property
    def catalog(self) -> Resolves:
        """Knows the workflows; without an API key only what workers have written."""
        if self._given_catalog is not None:
            return self._given_catalog
        if self._catalog is None:
            from shared.catalog import Catalog  # noqa: PLC0415 - brings the HTTP client
            from shared.comfydeploy import ComfyDeploy  # noqa: PLC0415
            from shared.limits.bucket import TokenBucket  # noqa: PLC0415
            from shared.metrics import observe_call  # noqa: PLC0415

            settings = self._settings
            if settings.api_key is not None:
                self._api = ComfyDeploy(settings.api_url, settings.require_api_key(), observe=observe_call)
            self._catalog = Catalog(self._db, settings, TokenBucket(self._db, settings), self._api)
        return self._catalog

    @property
    def files(self) -> "Files":
        """Files on their way up and down."""
        if self._files is None:
            from producers.files import Files  # noqa: PLC0415 - brings the HTTP client

            self._files = Files(self._settings, self._db)
        return self._files

    async def aclose(self) -> None:
        """Close what was opened; what is used again is opened again. Closing twice is fine."""
        publisher, self._publisher = self._publisher, None
        catalog, self._catalog = self._catalog, None
        files, self._files = self._files, None
        api, self._api = self._api, None
        if publisher is not None:
            await asyncio.to_thread(publisher.close)
        for one in (catalog, api, files):  # the catalog reads through the client, so it goes first
            if one is not None:
                await one.aclose()
