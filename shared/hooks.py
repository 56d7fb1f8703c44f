"""How do we know that a webhook is about a job of ours? By a signature in its address: the API signs nothing itself.

CONTRACT section 12: the address is used as given on every attempt, its query included.
"""

import hashlib
import hmac

from shared.settings import Settings

#: A hook about a job of this name is the doctor's: it is taken when it is signed, and means nothing.
PROBE = "doctor-"


def signature(secret: str, job_id: str) -> str:
    """32 hex digits of HMAC-SHA256 over the job id."""
    return hmac.new(secret.encode(), f"hook:{job_id}".encode(), hashlib.sha256).hexdigest()[:32]


def is_signed(secret: str, job_id: str, claimed: str) -> bool:
    """Whether a signature is ours; takes the same time for every wrong one."""
    return hmac.compare_digest(signature(secret, job_id).encode(), claimed.encode())


def address(settings: Settings, job_id: str) -> str | None:
    """Where the API shall send news of this job's run; None without a public URL. Raises `MissingSetting`."""
    if not settings.public_url:
        return None
    sig = signature(settings.require_secret(), job_id)
    return f"{settings.public_url.rstrip('/')}/hooks/comfydeploy/{job_id}?sig={sig}"
