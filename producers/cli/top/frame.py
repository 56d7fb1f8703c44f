"""What did one look at Redis tell? Plain facts, for the screen and as JSON for scripts.

Lists are bounded and sorted, what matters most first; totals count everything.
"""

from dataclasses import asdict, dataclass
from typing import Any

from shared.limits.budget import Budget


@dataclass(frozen=True, slots=True)
class Lane:
    """A user with waiting jobs, in all pools together."""

    user: str
    waiting: int
    #: Jobs waiting because their workflow is paused.
    aside: int
    #: Whether all jobs of the user are, or those of the frontend, or everything.
    paused: bool
    #: The user's jobs past the lanes, and how many may be.
    past: int
    limit: int


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine's window; `pool` is its id, empty for jobs whose machine is not known. A limit of 0 is none."""

    pool: str
    past: int
    limit: int


@dataclass(frozen=True, slots=True)
class Flight:
    """The runs of one workflow that are followed."""

    workflow_id: str
    #: As a user asked for it.
    name: str
    runs: int
    #: Seconds until the next look; negative when it is late.
    look_seconds: float


@dataclass(frozen=True, slots=True)
class SlowJob:
    """A job that has been past the lanes for long."""

    job_id: str
    state: str
    seconds: float
    user: str
    workflow: str
    run_id: str
    #: How far the run is, when somebody asked for progress.
    fraction: float | None
    progress: str
    cancelling: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """A job that ended badly."""

    job_id: str
    state: str
    seconds_ago: float
    user: str
    workflow: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Worker:
    """What a worker last said of itself."""

    name: str
    busy: int
    slots: int
    starved_seconds: float
    draining: bool


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause that goes on."""

    scope: str
    name: str
    seconds: float
    who: str
    reason: str


@dataclass(frozen=True, slots=True)
class Frame:
    """Everything on the screen."""

    #: Seconds since 1970, on Redis's clock.
    at: float
    #: Redis commands this look took, in `round_trips` pipelines of `latency_ms` together.
    commands: int
    round_trips: int
    latency_ms: float
    budget: Budget
    #: API calls a second by class over the last ten seconds; None on the first look, which has nothing to compare with.
    calls: dict[str, float] | None
    waiting: int
    starting: int
    past: int
    #: Jobs that may be past the lanes.
    window: int
    #: Messages in the broker's queue.
    messages: int
    #: Jobs that ended in the last minute, by state; `ended_at_least` when there were more than could be counted.
    ended: dict[str, int]
    ended_at_least: bool
    pauses: list[Pause]
    machines: list[Machine]
    lanes: list[Lane]
    flights: list[Flight]
    #: Workflows with runs in flight, of which `flights` are the first.
    workflows: int
    slow: list[SlowJob]
    failures: list[Failure]
    workers: list[Worker]

    @property
    def in_flight(self) -> int:
        """Jobs whose run is followed: past the lanes, and no longer on their way to a run."""
        return max(0, self.past - self.starting)

    def snapshot(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"in_flight": self.in_flight, "rate_now": self.budget.now}
