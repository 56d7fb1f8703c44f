"""When is a run worth the next look?

A schedule is a policy and nothing else: no Redis, no clock of its own. Looks cost tokens, late looks cost waiting; this
first policy knows only how often it has asked. First delays: 1.0 s after the submit, then about 0.6, 0.9, 1.4, 2.0, 3.0,
then 5 s, each with up to 0.25 s of jitter so that runs submitted together drift apart.
"""

from typing import Protocol

from tenacity import RetryCallState, wait_exponential_jitter, wait_random_exponential
from tenacity.wait import wait_base

from shared.jobs.record import Job


def delay(wait: wait_base, attempt: int) -> float:
    """What a tenacity wait object says for the n-th time (1 for the first), without its retry loop."""
    state = RetryCallState(None, None, (), {})  # type: ignore[arg-type]  # no retry object: waits read only the attempt
    state.attempt_number = max(1, attempt)
    return float(wait(state))


class Schedule(Protocol):
    """The seam for better policies."""

    def first_look(self, job: Job) -> float:
        """Seconds from the submit to the first look."""
        ...

    def next_look(self, job: Job) -> float:
        """Seconds from a look that brought no end to the next; `job.looks` have been made."""
        ...


class Backoff:
    """Exponential backoff with jitter."""

    FIRST_SECONDS = 1.0
    WAIT = wait_exponential_jitter(multiplier=0.6, exp_base=1.5, max=5.0, jitter=0.25)

    def first_look(self, job: Job) -> float:
        """The same for every run: nothing is known of it yet."""
        del job
        return self.FIRST_SECONDS

    def next_look(self, job: Job) -> float:
        """Longer with each look, up to 5 s."""
        return delay(self.WAIT, job.looks + 1)


#: How long the API is left alone after it could not be reached, by attempt: full jitter, up to 2, 4, 8, 16, then 30 s.
TROUBLE = wait_random_exponential(multiplier=1, min=1, max=30)
