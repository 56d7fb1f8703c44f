"""How long is something tried again that is left to do for a job that has ended? Less and less often, for a day."""

import random

from tenacity import wait_exponential

from shared.jobs.errand import Errand
from tasks.schedule import delay

#: After the first attempt; another is not begun later than that.
KEEP_TRYING_SECONDS = 86_400.0
#: 5, 15, 45 s, 2, 7, 20 min, then hourly: a restart of the other side costs seconds, an outage of a day 29 attempts.
WAITS = wait_exponential(multiplier=5, exp_base=3, max=3600)
#: Those that failed together do not come back together.
JITTER = 0.2


def wait_of(errand: Errand, *, at_least: float = 0.0) -> float | None:
    """Seconds until the attempt after this one; None when that would be too late."""
    wait = max(at_least, delay(WAITS, errand.attempt) * random.uniform(1 - JITTER, 1 + JITTER))
    return None if (errand.now - errand.since) / 1000 + wait > KEEP_TRYING_SECONDS else wait
