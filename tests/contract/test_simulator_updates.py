"""Does the simulator keep the server's few promises about a run, whatever workers report in whatever order?"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.agenda import Agenda
from simulator.broadcast import Broadcast
from simulator.bucket import Bucket
from simulator.containers import Pool
from simulator.faults import FaultMenu
from simulator.hooks import Hooks
from simulator.rows import TERMINAL, Run
from simulator.settings import Webhooks
from simulator.updates import Updates, float32

WORDS = ["not-started", "queued", "started", "running", "uploading", "success", "failed", "timeout", "cancelled"]
STATUSES = st.sampled_from(WORDS).map(lambda word: ("status", word))
LIVES = st.floats(0, 1, width=32).map(lambda value: ("live", value))
OUTPUTS = st.sampled_from([{"text": ["x"]}, [{"id": 1}], {"images": [{"type": "temp"}]}]).map(lambda d: ("output", d))


def _run() -> Run:
    return Run("r", "u", None, "w", "v", "m", "d", {}, webhook="http://unused")


class HeardHooks(Hooks):
    """Remembers what would have been sent."""

    def __init__(self) -> None:
        super().__init__(Webhooks(), FaultMenu([], 0, {}), 0)  # type: ignore[arg-type]
        self.heard: list[tuple[str, str]] = []

    def send(self, run: Run, event_type: str, outputs: list[dict[str, Any]], progress: float | None = None) -> None:
        self.heard.append((event_type, run.status))


@given(st.lists(st.one_of(STATUSES, LIVES, OUTPUTS), max_size=25))
def test_a_final_status_is_never_left(reports: list[tuple[str, Any]]) -> None:
    """Once final, status and ended_at stay; outputs and progress may still change; ended_at means final."""
    hooks = HeardHooks()
    updates, run = Updates(hooks, Broadcast(), Bucket("http://s")), _run()
    ended: tuple[str, Any] | None = None
    stored = 0
    for kind, value in reports:
        if kind == "status":
            updates.status(run, value)
        elif kind == "live":
            updates.live(run, None, value)
            assert run.progress == float32(value)
        else:
            updates.output(run, value, None)
            stored += 1
        if ended is None and run.status in TERMINAL:
            ended = (run.status, run.ended_at)
        if ended is not None:
            assert (run.status, run.ended_at) == ended
        assert (run.ended_at is not None) == (run.status in TERMINAL)
        assert len(run.outputs) == stored
    if ended is not None and ended[0] in {"timeout", "cancelled"}:
        # The worker's later words about a run that timed out or was cancelled are swallowed.
        assert hooks.heard.count(("run.updated", ended[0])) == 1


@given(st.integers(1, 4), st.lists(st.sampled_from(["arrive", "finish", "cancel"]), max_size=40))
def test_a_pool_never_runs_more_than_its_limit(limit: int, moves: list[str]) -> None:
    """At most `limit` runs are in containers; nobody waits while one is free; first come, first served."""
    taken: list[int] = []
    pool = Pool(Agenda(), limit, 0, 0, lambda run, _cold: taken.append(run.sequence))
    arrived: list[Run] = []
    running = 0
    for move in moves:
        if move == "arrive":
            arrived.append(_run())
            arrived[-1].sequence = len(arrived)
            pool.enqueue(arrived[-1])
        elif move == "finish" and pool.busy:
            pool.release()
        elif move == "cancel" and pool.waiting:
            pool.waiting[0].status = "cancelled"
        running = pool.busy
        live = [run for run in pool.waiting if not run.final]
        assert running <= limit
        assert not (live and running < limit)
    assert taken == sorted(taken)


async def test_the_agenda_keeps_order_and_time() -> None:
    """Entries come in order of time, then of insertion; a dropped one never; a new speed counts for old entries."""
    agenda, done, all_done = Agenda(speed=0.001), list[str](), asyncio.Event()
    for name, at in (("c", 3.0), ("a", 1.0), ("b", 1.0), ("dropped", 2.0)):
        entry = agenda.after(at, lambda name=name: done.append(name))
        entry.dropped = name == "dropped"
    agenda.after(4.0, all_done.set)
    await asyncio.sleep(0.02)
    assert done == []
    agenda.speed = 1000
    async with asyncio.timeout(2):
        await all_done.wait()
    assert done == ["a", "b", "c"]
    assert len(agenda) == 0


async def test_a_failing_entry_does_not_stop_the_agenda(caplog: pytest.LogCaptureFixture) -> None:
    """An exception is logged and the next entry has its turn."""
    agenda, reached = Agenda(), asyncio.Event()

    def fail() -> None:
        raise LookupError

    agenda.after(0, fail)
    agenda.after(0, reached.set)
    async with asyncio.timeout(2):
        await reached.wait()
    assert "an entry of the agenda failed" in caplog.text
