"""When is a run worth the next look?

Pure: no Redis, no clock of its own, no randomness but the jitter.

A look costs one call; a late look costs a user's waiting. The exchange rate is a price: so many seconds of waiting are worth
one call. The rule: **look when the waiting that is expected to have been caused since the last look, of all runs in flight
together, has reached the price.** For runs that end at random moments this is exactly optimal (the cost of an interval x is
price/x + rate * x/2, least where rate * x^2/2, the waiting caused, equals the price). For a single run it stays within 3 % of
the optimum that dynamic programming finds, see docs/performance.md. It needs no cases: many runs of a workflow make looks
more frequent and cheaper for each, a run that is far from its end causes none, a cold start is a second hump.

A deployment nobody knows yet gets exponential backoff with jitter: 1.0 s after the submit, then about 0.6, 0.9, 1.4, 2.0, 3.0,
then 5 s; after four minutes ever more rarely, up to a minute.

Read beside it: `shared/following/forecast.py`.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tenacity import RetryCallState, wait_exponential_jitter, wait_random_exponential
from tenacity.wait import wait_base

from shared.following.forecast import Forecast
from shared.following.history import Outlook
from shared.following.milestones import TOTAL
from shared.jobs.record import Followed, Job

#: Seconds of waiting that one call is worth while tokens are plentiful.
PRICE_SECONDS = 0.22
#: And so many more where hints announce every end: waiting is rare then, and looks are only the safety net.
SAFETY_SECONDS = 0.6
#: However reliable hints are, so much of the looks remains as a safety net.
LEAST_DOUBT = 0.002

#: And so many for each run in flight: a look handles all of them, here and upstream, so crowds are looked at less often.
ROW_SECONDS = 0.001

#: Of more runs than this, the waiting is judged by a sample, and a listing is always the better question.
CROWD = 200

#: No two looks at a workflow are closer, and none is further away.
LEAST_SECONDS = 0.2
MOST_SECONDS = 60.0
#: Looks of many workflows drift apart by this part of themselves.
JITTER = 0.05

#: A run is asked about singly when it has probably ended.
LIKELY = 0.5

#: Progress somebody asked for is read this often while a run is running, and before that whether it is.
PROGRESS_SECONDS = 2.0
#: And not more often than so many times in its age: a training of three hours is read some four hundred times, not five
#: thousand. Unknown runs are not asked about more often either.
AGE_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class Pending:
    """A run in flight, as the schedule sees it. Ages are seconds since what the forecast counts from."""

    forecast: Forecast
    age: float
    #: Its age when it was last looked at: it had not ended then.
    looked_age: float
    #: A hint has come since.
    hinted: bool = False
    #: The share of ends that hints announce: of so many ends we would have heard.
    hint_rate: float = 0.0

    @property
    def chance_ended(self) -> float:
        """How likely it has ended by now, given that a hint has come or has not (Bayes).

        A hint may also be about a start, but most are worth a read.
        """
        ended = self.forecast.ended_by(self.age, age=self.looked_age)
        return 0.9 if self.hinted else ended * (1.0 - self.hint_rate) / (1.0 - ended * self.hint_rate)


@dataclass(frozen=True, slots=True)
class Watched:
    """A run in flight and what is believed of it; None when its deployment is not known yet."""

    job: Job | Followed
    pending: Pending | None


class Schedule(Protocol):
    """The seam for other policies."""

    def first_look(self, job: Job, outlook: Outlook, call_price: float) -> float:
        """Seconds from the submit to the first look."""
        ...

    def next_looks(self, runs: Sequence[Watched], call_price: float) -> list[float]:
        """Seconds until each run of one workflow is worth the next look."""
        ...


class Backoff:
    """Exponential backoff with jitter, each run for itself: what is left when nothing is known."""

    FIRST_SECONDS = 1.0
    WAIT = wait_exponential_jitter(multiplier=0.6, exp_base=1.5, max=5.0, jitter=0.25)

    def first_look(self, job: Job, outlook: Outlook | None = None, call_price: float = PRICE_SECONDS) -> float:
        """The same for every run."""
        del job, outlook, call_price
        return self.FIRST_SECONDS

    def next_look(self, job: Job | Followed) -> float:
        """Longer with each look, up to 5 s; of a long run up to a minute."""
        return max(delay(self.WAIT, job.looks + 1), jittered(by_age(job)))

    def next_looks(self, runs: Sequence[Watched], call_price: float) -> list[float]:
        """Longer with each look at it, see `next_look`."""
        del call_price
        return [self.next_look(run.job) for run in runs]


class Learned(Backoff):
    """The rule above for the runs of known deployments, together; backoff for the others."""

    def first_look(self, job: Job, outlook: Outlook | None = None, call_price: float = PRICE_SECONDS) -> float:
        """When the run's own waiting is worth a call, and soon when progress is wanted: that it runs is the first of it."""
        forecast = outlook.since(TOTAL) if outlook else None
        if forecast is None:
            return super().first_look(job)
        seconds = next_look([Pending(forecast, 0.0, 0.0)], call_price)
        return min(seconds, jittered(PROGRESS_SECONDS)) if job.wants_progress else seconds

    def next_looks(self, runs: Sequence[Watched], call_price: float) -> list[float]:
        """One time for all known runs: a listing answers for all of them."""
        known = [run.pending for run in runs if run.pending is not None]
        together = next_look(known, call_price) if known else MOST_SECONDS
        return [together if run.pending is not None else self.next_look(run.job) for run in runs]


def by_age(job: Job | Followed) -> float:
    """Seconds between two looks that the age of a run makes good enough: 5 s after four minutes, a minute after fifty."""
    if job.submitted_at is None or job.looked_at is None:
        return 0.0
    return min(MOST_SECONDS, AGE_SHARE * max(0, job.looked_at - job.submitted_at) / 1000)


def price(pressure_seconds: float, hint_rate: float, in_flight: int = 1) -> float:
    """What a look is worth now, in seconds of waiting.

    `pressure_seconds` is how long calls wait for a token at the moment: a look makes others wait that long. `hint_rate` is the
    share of ends that hints announce: then looks are the safety net and may be rarer.
    """
    seconds = PRICE_SECONDS + ROW_SECONDS * in_flight + SAFETY_SECONDS * hint_rate + pressure_seconds
    return seconds / max(LEAST_DOUBT, 1.0 - hint_rate)


def waiting(pending: Sequence[Pending], seconds: float = 0.0) -> float:
    """The waiting expected to have been caused since the last looks, `seconds` from now, in seconds."""
    sample = pending[:: len(pending) // CROWD + 1]
    seen = sum(run.forecast.waited_by(run.age + seconds, age=run.looked_age) for run in sample)
    return seen * len(pending) / len(sample) if sample else 0.0


def worth(run: Pending | None, *, ended: bool = False) -> float:
    """The waiting that an answer about this run is expected to end, in seconds; `ended`: it is known to be over.

    When tokens are short the looks of a worker go by it (`shared/limits/turnstile.py`).
    """
    if run is None:
        return 0.0
    # What one waits in vain when it has ended, by the chance that it has; hints tell more of that than the forecast.
    since = waiting([run]) / max(0.01, run.forecast.ended_by(run.age, age=run.looked_age))
    return since if ended else since * run.chance_ended


def next_look(pending: Sequence[Pending], call_price: float) -> float:
    """Seconds from now until the runs of a workflow, together, are worth a call."""
    low, high = LEAST_SECONDS, MOST_SECONDS
    if waiting(pending, low) >= call_price:
        return jittered(low)
    for _ in range(12):  # to within 15 ms
        middle = (low + high) / 2
        if waiting(pending, middle) < call_price:
            low = middle
        else:
            high = middle
    return jittered(high)


def worth_reading(pending: Sequence[Pending]) -> list[int] | None:
    """Which runs to read singly; None when a listing is the cheaper question.

    Both find what ended; a read that finds its run ended has the outputs, too, which after a listing cost a read each. So the
    listing wastes one call, and reads waste one for each run that has not ended.
    """
    if len(pending) == 1:
        return [0]
    if len(pending) > CROWD:
        return None
    likely = [place for place, run in enumerate(pending) if run.chance_ended >= LIKELY]
    wasted = sum(1.0 - pending[place].chance_ended for place in likely)
    missed = sum(run.chance_ended for place, run in enumerate(pending) if place not in likely)
    return likely if likely and wasted + missed < 1.0 else None


def jittered(seconds: float) -> float:
    """The same, up to 5 % longer or shorter."""
    return seconds * random.uniform(1.0 - JITTER, 1.0 + JITTER)


#: How long to leave the API alone after it could not be reached, by attempt: full jitter, up to 2, 4, 8, 16, then 30 s.
TROUBLE = wait_random_exponential(multiplier=1, min=1, max=30)


def delay(wait: wait_base, attempt: int) -> float:
    """What a tenacity wait object says for the n-th time (1 for the first), without its retry loop."""
    state = RetryCallState(None, None, (), {})  # type: ignore[arg-type]  # no retry object: waits read only the attempt
    state.attempt_number = max(1, attempt)
    return float(wait(state))
