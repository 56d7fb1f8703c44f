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
from shared.hooks import PROBE, is_signed

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
    if here.settings.secret is None:
        raise not_found("hook")
    secret = here.settings.secret.get_secret_value()
    if job_id.startswith(PROBE) and is_signed(secret, job_id, sig):
        return Health(status="ok")
    # The body of a stranger is not even waited for.
    body = await request.body() if is_signed(secret, job_id, sig) else b""
    if await take_hint(here.store, secret, job_id, sig, body) in ("missing", "forged"):
        raise not_found("hook")
    return Health(status="ok")
