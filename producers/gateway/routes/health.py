"""Is this process alive, can it do its work, and what has it done?"""

from fastapi import APIRouter, Response
from prometheus_client import generate_latest

from producers.gateway.inside import Here
from producers.gateway.models import Health
from shared.census import Counted
from shared.errors import Unavailable

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Alive")
async def healthz() -> Health:
    """The process answers. Says nothing of Redis: starting it again would not help there."""
    return Health(status="ok")


@router.get(
    "/readyz", summary="Ready", responses={503: {"model": Health, "description": "Not ready; `checks` says why."}}
)
async def readyz(here: Here, response: Response) -> Health:
    """Redis answers and the catalog is known: requests may be sent here."""
    checks = {"redis": "ok", "catalog": "ok"}
    try:
        with here.database.asking():
            await here.database.redis.ping()
        if await here.catalog.copy() is None:
            checks["catalog"] = "empty: no worker has filled it yet"
    except Unavailable:
        checks = {"redis": "away", "catalog": "unknown"}
    ready = set(checks.values()) == {"ok"}
    response.status_code = 200 if ready else 503
    return Health(status="ok" if ready else "not ready", checks=checks)


@router.get(
    "/metrics",
    summary="Counters for Prometheus",
    response_class=Response,
    responses={200: {"description": "Prometheus's text.", "content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(here: Here) -> Response:
    """What this process did, and what there is of the whole: `docs/reference/metrics.md`."""
    told = generate_latest() + generate_latest(Counted(await here.census.read()))
    return Response(told, media_type="text/plain; version=0.0.4")
