"""The table of moves is total, final means final, and every job can end."""

import pytest

from shared.jobs.states import FINAL, FOLLOWED, MOVES, JobState, sources

S = JobState


def reachable(state: JobState) -> set[JobState]:
    """Every state a job in `state` can still come to."""
    found: set[JobState] = set()
    ahead = [state]
    while ahead:
        for target in MOVES[ahead.pop()] - found:
            found.add(target)
            ahead.append(target)
    return found


def test_every_state_has_a_line_in_the_table() -> None:
    """MOVES says for each state where it leads, and names no state that does not exist."""
    assert set(MOVES) == set(JobState)
    assert {target for targets in MOVES.values() for target in targets} <= set(JobState)


@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_final_state_is_not_left(state: JobState) -> None:
    """No move leads out of a final state."""
    assert not MOVES[state]


@pytest.mark.parametrize("state", sorted(set(JobState) - FINAL))
def test_a_job_that_is_not_final_can_become_final(state: JobState) -> None:
    """From every state that is not final a final one can be reached: no job is trapped."""
    assert reachable(state) & FINAL


@pytest.mark.parametrize("state", sorted(set(JobState) - FINAL))
def test_every_job_can_be_cancelled_and_can_fail(state: JobState) -> None:
    """Cancellation and failure are possible at any time before the end, in one move."""
    assert {S.CANCELLED, S.FAILED} <= MOVES[state]


def test_the_only_way_back_is_from_submitting_to_queued() -> None:
    """A job goes forward; only a submit that certainly made no run takes it back."""
    order = [S.QUEUED, S.SUBMITTING, S.SUBMITTED, S.RUNNING]
    back = {(one, to) for one in order for to in MOVES[one] if to in order and order.index(to) <= order.index(one)}

    assert back == {(S.SUBMITTING, S.QUEUED)}


def test_success_needs_a_run() -> None:
    """Only a job whose run exists upstream can succeed."""
    assert sources(S.SUCCEEDED) == FOLLOWED


def test_a_job_expires_only_while_it_waits() -> None:
    """`expired` promises that no run was made, so only a waiting job expires."""
    assert sources(S.EXPIRED) == {S.QUEUED}


def test_sources_is_the_table_read_backwards() -> None:
    """`sources(to)` names exactly the states whose line contains `to`."""
    pairs = {(one, to) for to in JobState for one in sources(to)}

    assert pairs == {(one, to) for one, targets in MOVES.items() for to in targets}
