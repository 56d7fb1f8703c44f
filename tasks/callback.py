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
import random

import httpx
from tenacity import wait_exponential

from shared.jobs.callback import signing_key
from shared.jobs.store import Errand, JobStore
from shared.outside import FAILURES, Refused, why
from tasks.fault_points import reach
from tasks.schedule import delay

log = logging.getLogger(__name__)

#: From the first look-up of the name to the answer's status. Longer is a receiver that works before it answers.
ATTEMPT_SECONDS = 15.0
#: Nobody else tries meanwhile; longer than an attempt with everything around it.
LEASE_SECONDS = 30.0
#: After the first attempt; another is not begun later than that.
KEEP_TRYING_SECONDS = 86_400.0
#: 5, 15, 45 s, 2, 7, 20 min, then hourly: a restart of the receiver costs seconds, an outage of a day 29 attempts.
WAITS = wait_exponential(multiplier=5, exp_base=3, max=3600)
#: Those that failed together do not come back together.
JITTER = 0.2

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


async def deliver(store: JobStore, client: httpx.AsyncClient, job_id: str) -> None:
    """Make one attempt to deliver a job's callback, and note what became of it. Raises only what Redis raises."""
    errand = await store.begin_callback(job_id)
    if errand is None:
        return
    status, error, asked_to_wait, final = await _post(client, errand)
    if not error:
        await reach("after_callback", job_id)
        await store.settle_callback(job_id, "delivered", status=status)
        log.info("callback delivered", extra={"job_id": job_id, "attempt": errand.attempt})
        return
    wait = max(asked_to_wait, delay(WAITS, errand.attempt) * random.uniform(1 - JITTER, 1 + JITTER))
    over = (errand.now - errand.since) / 1000 + wait > KEEP_TRYING_SECONDS
    if final or over:
        await store.settle_callback(job_id, "failed", status=status, error=error)
        log.warning("callback given up", extra={"job_id": job_id, "attempt": errand.attempt, "error": error})
    else:
        await store.settle_callback(job_id, "again", status=status, error=error, again_seconds=wait)
        log.info("callback put off", extra={"job_id": job_id, "attempt": errand.attempt, "error": error, "wait": wait})


async def _post(client: httpx.AsyncClient, errand: Errand) -> tuple[int | None, str, float, bool]:
    """Send it. Answers the HTTP status, why it was not delivered ("": it was), the seconds the receiver asked us to wait,
    and whether another attempt is out of the question."""
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
        return None, reason, 0.0, reason == str(Refused())
    if 200 <= status < 300:
        return status, "", 0.0, False
    if status == GONE:
        return status, "the receiver wants no more of it (410)", 0.0, True
    wait = min(float(asked), 3600.0) if asked.isascii() and asked.isdigit() and len(asked) < 10 else 0.0
    reason = f"HTTP {status}; redirects are not followed" if 300 <= status < 400 else f"HTTP {status}"
    return status, reason, wait, False
