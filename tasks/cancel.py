"""How is a run ended upstream? By asking, and then by looking: a 200 proves nothing (CONTRACT section 9)."""

import asyncio
import logging

from shared.comfydeploy import CancelAnswer
from shared.errors import ConveyorError
from tasks.engine import Engine

log = logging.getLogger(__name__)

#: A fresh run has no call id for a moment, and cannot be cancelled then.
TRIES = 3
BETWEEN_TRIES_SECONDS = 0.5


async def cancel_run(engine: Engine, run_id: str) -> bool:
    """Ask the API to cancel a run; True when it took the request. Up to three calls, a cancel token each.

    Never raises for trouble upstream: whoever wants the run gone asks again at the next look.
    """
    for attempt in range(TRIES):
        if attempt:
            await asyncio.sleep(BETWEEN_TRIES_SECONDS)
        try:
            async with engine.bucket.call("cancel"):
                if await engine.client.runs.cancel(run_id) is CancelAnswer.ACCEPTED:
                    return True
        except ConveyorError as error:
            log.warning("cancel put off", extra={"run_id": run_id, "error": str(error)})
            return False
    return False
