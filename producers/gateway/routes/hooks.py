"""ComfyUI Deploy's webhooks: reasons to look now (`shared/following/hints.py`), never truth.

They come unsigned, up to three times, the later ones as GET (CONTRACT section 12); the address carries our signature. One
round trip at most, so the answer takes milliseconds. Whatever is not signed by us, or about no job of ours, is the same 404.
"""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request

from producers.gateway.inside import Here
from producers.gateway.models import Health
from producers.gateway.problems import not_found, responses
from shared.following.hints import take_hint
from shared.hooks import is_signed

router = APIRouter(prefix="/hooks", tags=["hooks"])

_METHODS = {"summary": "A webhook of ComfyUI Deploy", "responses": responses(403, 404, 408, 413, 422, 503)}


@router.get("/comfydeploy/{job_id}", operation_id="hook_get", **_METHODS)  # type: ignore[arg-type]
@router.post("/comfydeploy/{job_id}", operation_id="hook_post", **_METHODS)  # type: ignore[arg-type]
async def hook(
    request: Request,
    here: Here,
    job_id: Annotated[str, Path(max_length=64)],
    sig: Annotated[str, Query(max_length=64, description="Our own signature of the job's id.")] = "",
) -> Health:
    """Have the job's run looked at now. A repeat changes nothing; a forged or unknown one is a 404."""
    secret = here.settings.secret.get_secret_value() if here.settings.secret else ""
    # Before the body is read: a stranger does not get us to wait for his.
    if not secret or not is_signed(secret, job_id, sig):
        here.metrics.hook("forged")
        raise not_found("hook")
    reply = await take_hint(here.store, secret, job_id, sig, await request.body())
    here.metrics.hook(reply)
    if reply in ("missing", "forged"):
        raise not_found("hook")
    return Health(status="ok")
