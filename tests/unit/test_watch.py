"""When does a worker decide that it no longer consumes?"""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from workers.watch import Watch


@pytest.fixture
def watch() -> Watch:
    """A worker with two slots that took its last message at 100."""
    watch = Watch(cast(Any, SimpleNamespace(settings=SimpleNamespace(slots=2))))
    watch._arrived_at = 100.0
    return watch


def test_an_empty_queue_is_no_reason_to_worry(watch: Watch) -> None:
    """However long nothing arrives: nothing was there."""
    assert watch.starved_seconds(0, 10_000.0) == 0.0


def test_messages_beside_a_free_slot_count_from_when_they_were_seen(watch: Watch) -> None:
    """The worker may have been idle for hours before they came."""
    assert watch.starved_seconds(3, 5_000.0) == 0.0
    assert watch.starved_seconds(3, 5_031.0) == 31.0


def test_an_arrival_starts_the_count_again(watch: Watch) -> None:
    """A message that arrives shows that we consume, though more are waiting."""
    watch.starved_seconds(3, 5_000.0)
    watch._arrived_at = 5_020.0

    assert watch.starved_seconds(3, 5_031.0) == 11.0


def test_full_slots_are_no_reason_to_worry(watch: Watch) -> None:
    """Messages wait because we are busy, not because we are deaf."""
    watch.starved_seconds(3, 5_000.0)
    watch._begins()
    watch._begins()
    watch._arrived_at = 5_039.0
    assert watch.starved_seconds(3, 5_040.0) == 0.0

    watch._ends()
    assert watch.starved_seconds(3, 5_041.0) == 0.0


def test_a_queue_that_was_empty_in_between_starts_the_count_again(watch: Watch) -> None:
    """Somebody emptied it; what waits now has come since."""
    watch.starved_seconds(3, 5_000.0)
    watch.starved_seconds(0, 5_020.0)

    assert watch.starved_seconds(3, 5_031.0) == 0.0
