"""From which moment is the end of a run best foretold?

A run passes milestones, and each starts a clock of its own. How long runs took from there to their end is remembered for each
deployment, so a milestone says more the later it comes, and nobody has to know what it means: a run that waits third in its
machine's queue, one that has started, one that shows seven tenths of its nodes.

    total           the submit
    position:<n>    first seen at this place of its machine's queue (0 is next, 9 is nine or more)
    run             ComfyUI answers
    tenth:<n>       first seen with so many tenths of its nodes executed

The API's progress counts nodes, not time (CONTRACT section 7), so it is never read as a share of the duration.
"""

from collections.abc import Iterator

from shared.following.forecast import Forecast
from shared.following.history import Outlook
from shared.jobs.record import Followed, Job
from shared.jobs.states import JobState

#: An ETA is the time by which so many of such jobs have ended.
ETA_CHANCE = 0.8

TOTAL, RUN = "total", "run"

#: So many runs tell what a milestone is worth; of a newer deployment, as many as there were.
TELLING = 10


def position(queue_position: int) -> str:
    """The milestone of a place in the machine's queue."""
    return f"position:{min(9, queue_position)}"


def tenth(fraction: float) -> str:
    """The milestone of a share of the nodes."""
    return f"tenth:{int(fraction * 10)}"


def passed(job: Job | Followed) -> Iterator[tuple[str, int]]:
    """The milestones a job's run has passed, the latest first, each with its time in ms on Redis's clock."""
    if job.submitted_at is None:
        return
    running = job.state is JobState.RUNNING
    kind = "tenth:" if running else "position:"
    seen = [(name, at) for name, at in job.seen.items() if name.startswith(kind)]
    yield from sorted(seen, key=lambda one: one[1], reverse=True)
    if running and job.upstream_wait_ms is not None:
        yield RUN, job.submitted_at + job.upstream_wait_ms
    yield TOTAL, job.submitted_at


def best(job: Job | Followed, outlook: Outlook) -> tuple[Forecast, int] | None:
    """The forecast from the latest milestone enough is known of, and the time (ms) it counts from.

    A late milestone that few runs have told of says less than an early one that many have.
    """
    least = min(TELLING, outlook.known(TOTAL))
    for milestone, at in passed(job):
        if outlook.known(milestone) >= least and (forecast := outlook.since(milestone)):
            return forecast, at
    return None


def eta_seconds(job: Job, outlook: Outlook, now_ms: int) -> float | None:
    """Seconds until the run has ended in four of five such cases; None when too little is known."""
    known = best(job, outlook)
    if known is None:
        return None
    forecast, since = known
    age = max(0, now_ms - since) / 1000
    return round(forecast.by_chance(ETA_CHANCE, age=age) - age, 1)


def of_submit(outlook: Outlook) -> float | None:
    """Seconds from the submit by which four of five runs have ended; None when too little is known."""
    forecast = outlook.since(TOTAL)
    return round(forecast.by_chance(ETA_CHANCE, age=0.0), 1) if forecast else None


def durations(job: Job, total: float | None, run: float | None) -> dict[str, float]:
    """What a finished run teaches: milestone -> seconds from there to its end, from what the API told of its own."""
    known = {name: seconds for name, seconds in ((TOTAL, total), (RUN, run)) if seconds is not None}
    if total is not None and job.submitted_at is not None:
        ended = job.submitted_at + total * 1000
        known |= {name: (ended - at) / 1000 for name, at in job.seen.items()}
    return known
