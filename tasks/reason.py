"""Why did a run fail? Asked once, when its job is about to end, and never worth more than the end itself.

The API shows the reason in its heaviest listing only (CONTRACT section 8), so one call a failed run is the most it gets:
within `REASON_SECONDS`, not while calls wait for their tokens, and not again for a while when it did not help. Where all runs
of a workflow fail, one answer explains many. A job that ends without its reason has still ended.
"""

import asyncio
import logging
import time

from shared.errors import ConveyorError
from tasks.engine import Engine

log = logging.getLogger(__name__)

#: Waiting for the token and for the answer, together: so much later a user hears of the failure.
REASON_SECONDS = 5.0

#: While calls wait this long for their tokens, they are for runs that have not ended.
PRESSURE_SECONDS = 1.0

#: When the listing could not be read, or does not reach back to the run, the workflow's failures end without for so long.
UNEXPLAINED_SECONDS = 30.0

#: Answers are kept of so many workflows.
MOST_WORKFLOWS = 100


async def reason_of(engine: Engine, workflow_id: str | None, run_id: str) -> str | None:
    """Read why a run failed, in one line; None when there is no reason, or no way to it now. At most one API call."""
    if not workflow_id:
        return None
    if known := engine.reasons.get(workflow_id, {}).get(run_id):
        return known
    if time.monotonic() < engine.unexplained.get(workflow_id, 0.0) or engine.bucket.pressure_seconds > PRESSURE_SECONDS:
        return None
    try:
        async with asyncio.timeout(REASON_SECONDS), engine.bucket.call("look"):
            found = await engine.client.runs.failure_reasons(workflow_id)
    except (ConveyorError, TimeoutError) as error:
        log.warning("reason not read", extra={"run_id": run_id, "workflow_id": workflow_id, "error": repr(error)})
        found = {}
    if len(engine.reasons) >= MOST_WORKFLOWS:
        engine.reasons.clear()
        engine.unexplained.clear()
    engine.reasons[workflow_id] = found
    if run_id not in found:
        engine.unexplained[workflow_id] = time.monotonic() + UNEXPLAINED_SECONDS
    return found.get(run_id)
