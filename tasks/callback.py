"""How does a job's final event reach the address its asker gave? By POST, signed, until it is taken or a day is over.

The body is the event byte for byte as it stands on the stream. Signed after the Standard Webhooks specification
(https://www.standardwebhooks.com): HMAC-SHA256 over `id.timestamp.body`. The id is made of the job and the event's number, so
it is the same whenever the event is sent again: a receiver that keeps ids sees each event once.

2xx is delivered. 410 means that the receiver wants no more, and is the end. Everything else, redirects among it, is tried
again, less and less often. An attempt is counted before it is made; a worker that dies in the middle leaves the job in
`conveyor:callbacks`, and another worker tries again when the lease is over.
"""

import asyncio
import base64
import hashlib
import hmac
import logging
import re
from dataclasses import dataclass

import httpx

from shared import tracing
from shared.jobs.callback import signing_key
from shared.jobs.errand import Errand
from shared.jobs.store import JobStore
from shared.logs import about
from shared.metrics import CALLBACKS
from shared.outside import FAILURES, NOT_PUBLIC, why
from shared.tracing import Attributes, Kind
from tasks.fault_points import reach
from tasks.patience import wait_of

log = logging.getLogger(__name__)

#: From the first look-up of the name to the answer's status. Longer is a receiver that works before it answers.
ATTEMPT_SECONDS = 15.0
#: Nobody else tries meanwhile; longer than an attempt with everything around it.
LEASE_SECONDS = 30.0
#: What a receiver may ask for in `Retry-After`.
MOST_PATIENCE_SECONDS = 3600.0

GONE = 410


def headers(errand: Errand) -> dict[str, str]:
    """The headers of one attempt, the signature among them."""
    message_id, timestamp = f"{errand.job_id}_{errand.seq}", str(errand.now // 1000)
    signed = f"{message_id}.{timestamp}.{errand.body}".encode()
    signature = base64.b64encode(hmac.new(signing_key(errand.secret), signed, hashlib.sha256).digest()).decode()
    return {
        "content-type": "application/json",
        "user-agent": "Conveyor",
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{signature}",
    }


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one attempt."""

    #: Of the answer; None when there was none.
    status: int | None = None
    #: Why it was not delivered; "" when it was.
    error: str = ""
    #: Another attempt cannot help, or is not wanted.
    hopeless: bool = False
    #: What the receiver asked us to wait.
    wait_seconds: float = 0.0


async def deliver(store: JobStore, client: httpx.AsyncClient, job_id: str) -> None:
    """Make one attempt to deliver a job's callback, and note what became of it. Raises only what Redis raises."""
    errand = await store.begin_errand(job_id, "callback")
    if errand is None:
        return
    facts: Attributes = {"conveyor.job_id": job_id, "conveyor.attempt": errand.attempt, "http.request.method": "POST"}
    with about(job_id), tracing.span("callback", job_id, errand.traceparent, Kind.CLIENT, facts) as span:
        outcome = await _post(client, errand)
        if outcome.status is not None:
            span.note({"http.response.status_code": outcome.status})
        if outcome.error:
            span.fail("no_answer" if outcome.status is None else str(outcome.status))
    told = {"job_id": job_id, "attempt": errand.attempt, "error": outcome.error}
    found = {"callback_status": str(outcome.status or ""), "callback_error": outcome.error}
    if not outcome.error:
        await reach("after_callback", job_id)
        await store.settle_errand(job_id, "callback", "delivered", found)
        CALLBACKS.labels("delivered").inc()
        log.info("callback delivered", extra=told)
        return
    wait = None if outcome.hopeless else wait_of(errand, at_least=outcome.wait_seconds)
    if wait is None:
        await store.settle_errand(job_id, "callback", "failed", found)
        CALLBACKS.labels("failed").inc()
        log.warning("callback given up", extra=told)
    else:
        await store.settle_errand(job_id, "callback", "again", found, again_seconds=wait)
        CALLBACKS.labels("again").inc()
        log.info("callback put off", extra=told | {"seconds": round(wait, 1)})


async def _post(client: httpx.AsyncClient, errand: Errand) -> Outcome:
    try:
        async with (
            asyncio.timeout(ATTEMPT_SECONDS),
            # The answer's body is not read: it says nothing to us, and may have no end.
            client.stream("POST", errand.url, content=errand.body.encode(), headers=headers(errand)) as answer,
        ):
            status = answer.status_code
            asked = answer.headers.get("retry-after", "")
    except FAILURES as error:
        reason = why(error)
        return Outcome(error=reason, hopeless=reason == NOT_PUBLIC)
    if 200 <= status < 300:
        return Outcome(status)
    if status == GONE:
        return Outcome(status, "the receiver wants no more of it (410)", hopeless=True)
    reason = f"HTTP {status}; redirects are not followed" if 300 <= status < 400 else f"HTTP {status}"
    # Seconds only: dates are rare, and a receiver's clock is its own.
    wait = min(float(asked), MOST_PATIENCE_SECONDS) if re.fullmatch(r"[0-9]{1,9}", asked) else 0.0
    return Outcome(status, reason, wait_seconds=wait)
