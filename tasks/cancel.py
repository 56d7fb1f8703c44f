"""How is a run ended upstream? By asking, and then by looking: a 200 proves nothing (CONTRACT section 9)."""

import asyncio
import logging

from shared.comfydeploy import CancelAnswer
from shared.errors import ConveyorError, RateLimited, TryLater
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
            await engine.unless_stopping(engine.bucket.take("cancel"))
            if await engine.client.runs.cancel(run_id) is CancelAnswer.ACCEPTED:
                return True
        except TryLater as error:
            log.warning("cancel put off", extra={"run_id": run_id, "error": str(error)})
            if isinstance(error, RateLimited):
                await engine.bucket.push_back(error.retry_after_seconds or 1.0, slow_down=True)
            return False
        except ConveyorError as error:
            log.warning("cancel refused", extra={"run_id": run_id, "error": str(error)})
            return False
    return False
