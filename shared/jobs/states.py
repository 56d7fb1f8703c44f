"""Which states can a job be in, and which moves exist?

The table is the referee: `transition.lua` is told by its caller which states it may leave, and the property tests
hold every caller's words against `MOVES`.
"""

from enum import StrEnum


class JobState(StrEnum):
    """A job is in exactly one of these."""

    QUEUED = "queued"
    """Waits in its user's lane, or has been dispatched and not been picked up yet."""
    SUBMITTING = "submitting"
    """The intent to make a run is written; whether the run exists is being found out."""
    SUBMITTED = "submitted"
    """The run exists and waits for a GPU."""
    RUNNING = "running"
    """The run has a GPU."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    """The run outlived its deadline and was cancelled upstream."""
    EXPIRED = "expired"
    """Nobody got round to it within `queue_timeout_seconds`; no run was made."""


S = JobState

#: States a job does not leave.
FINAL = frozenset({S.SUCCEEDED, S.FAILED, S.CANCELLED, S.TIMED_OUT, S.EXPIRED})

#: States in which a run exists upstream and is followed by looks.
FOLLOWED = frozenset({S.SUBMITTED, S.RUNNING})

#: Every move there is. `submitting -> queued` is the one way back: the API certainly did not make a run.
MOVES: dict[JobState, frozenset[JobState]] = {
    S.QUEUED: frozenset({S.SUBMITTING, S.EXPIRED, S.CANCELLED, S.FAILED}),
    S.SUBMITTING: frozenset({S.QUEUED, S.SUBMITTED, S.CANCELLED, S.FAILED, S.TIMED_OUT}),
    S.SUBMITTED: frozenset({S.RUNNING, S.SUCCEEDED, S.FAILED, S.CANCELLED, S.TIMED_OUT}),
    S.RUNNING: frozenset({S.SUCCEEDED, S.FAILED, S.CANCELLED, S.TIMED_OUT}),
    **{state: frozenset() for state in FINAL},
}


def sources(to: JobState) -> frozenset[JobState]:
    """The states from which a job may move to `to`."""
    return frozenset(state for state, targets in MOVES.items() if to in targets)
