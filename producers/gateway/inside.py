"""What does a gateway process hold? One of each, made at its start and found by every route."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from producers.gateway.feed import Feed
from producers.gateway.told import Teller
from producers.producer import Producer
from shared.archive.archive import Archive
from shared.catalog import Catalog
from shared.census import Census
from shared.comfydeploy import ComfyDeploy
from shared.database import Database
from shared.jobs.store import JobStore
from shared.limits.bucket import TokenBucket
from shared.media.uploads import Uploads
from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class Inside:
    """Belongs to one event loop."""

    settings: Settings
    database: Database
    store: JobStore
    producer: Producer
    catalog: Catalog
    bucket: TokenBucket
    census: Census
    #: None without COMFY_DEPLOY_API_KEY: then no files are taken, and the catalog is what workers wrote.
    api: ComfyDeploy | None
    feed: Feed
    teller: Teller
    #: None without COMFY_DEPLOY_API_KEY.
    uploads: Uploads | None
    #: None without CONVEYOR_ARCHIVE.
    archive: Archive | None


def inside(request: Request) -> Inside:
    """What this process holds."""
    found: Inside = request.app.state.inside
    return found


async def _inside(request: Request) -> Inside:
    return inside(request)


Here = Annotated[Inside, Depends(_inside)]
