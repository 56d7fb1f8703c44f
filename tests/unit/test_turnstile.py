"""The turnstile: one at a time, the most valuable and then the oldest first, and nobody is forgotten."""

import asyncio
import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.limits import turnstile as module
from shared.limits.turnstile import MOST_VALUE, Turnstile


class Hall:
    """Callers at one turnstile, on a clock the test moves."""

    def __init__(self) -> None:
        self.turnstile, self.now = Turnstile(), 0.0
        self.served: list[int] = []
        self.inside = 0
        self.tasks: dict[int, asyncio.Task[None]] = {}
        #: Released once for each that shall go on.
        self.next = asyncio.Semaphore(0)
        #: The one inside first lets better ones through.
        self.give_way = False

    def monotonic(self) -> float:
        return self.now

    async def caller(self, number: int, value: float) -> None:
        """Wait for a turn, hold it until told to go on."""
        async with self.turnstile.turn(value) as turn:
            if self.give_way:
                await self.turnstile.give_way(turn)
            self.inside += 1
            assert self.inside == 1
            try:
                await self.next.acquire()
                self.served.append(number)
            finally:
                self.inside -= 1

    def come(self, value: float) -> int:
        """One more caller."""
        number = len(self.tasks)
        self.tasks[number] = asyncio.create_task(self.caller(number, value))
        return number

    async def settle(self) -> None:
        """Let everybody do what can be done now: no I/O, so a few rounds of the loop."""
        for _ in range(10):
            await asyncio.sleep(0)

    async def serve(self) -> None:
        """Let the one inside go on."""
        self.next.release()
        await self.settle()

    async def serve_all(self) -> list[int]:
        """Let everybody go on who is there; answers the order from here."""
        known = len(self.served)
        for _ in self.tasks:
            self.next.release()
        async with asyncio.timeout(2):
            ended = await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        assert all(one is None or isinstance(one, asyncio.CancelledError) for one in ended), ended
        return self.served[known:]


@pytest.fixture
async def hall(monkeypatch: pytest.MonkeyPatch) -> Hall:
    """An empty hall."""
    made = Hall()
    monkeypatch.setattr(module, "time", made)  # not time.monotonic: the loop goes by that
    return made


async def test_the_most_valuable_goes_first_and_equals_in_order(hall: Hall) -> None:
    """Whoever is inside stays; of those that wait the value decides, then the order of coming."""
    for value in (0, 1, 3, 1, 3, 0):
        hall.come(value)
        await hall.settle()

    assert await hall.serve_all() == [0, 2, 4, 1, 3, 5]


async def test_a_second_of_waiting_counts_as_a_second_of_value(hall: Hall) -> None:
    """A value of five passes those that came up to five seconds before it, and no others."""
    hall.come(0)
    await hall.settle()
    old = hall.come(0)
    await hall.settle()
    hall.now = 3.0
    young = hall.come(0)
    await hall.settle()
    hall.now = 6.0
    valuable = hall.come(5)
    await hall.settle()

    assert await hall.serve_all() == [0, old, valuable, young]


async def test_nobody_waits_for_ever(hall: Hall) -> None:
    """A stream of callers of endless value passes a worthless one for as long as the bound says, and no longer."""
    hall.come(0)
    await hall.settle()
    worthless = hall.come(0)
    await hall.settle()
    while worthless not in hall.served:
        hall.come(float("inf"))
        await hall.settle()
        hall.now += 1
        await hall.serve()
        assert hall.now <= MOST_VALUE + 3

    assert hall.now >= MOST_VALUE - 3
    await hall.serve_all()


async def test_a_holder_gives_way_to_a_better_one_and_comes_back(hall: Hall) -> None:
    """The one that has the turn and sleeps lets a more valuable one go first, and is next after it."""
    order = []

    async def holder() -> None:
        async with hall.turnstile.turn() as turn:
            await asyncio.sleep(0)
            await hall.turnstile.give_way(turn)
            order.append("holder")

    async def other(name: str, value: float) -> None:
        async with hall.turnstile.turn(value):
            order.append(name)

    async with asyncio.timeout(2):
        await asyncio.gather(holder(), other("equal", 0), other("better", 2))

    assert order == ["better", "holder", "equal"]


async def test_a_turn_that_is_handed_to_a_cancelled_one_is_passed_on(hall: Hall) -> None:
    """Cancelled in the moment between the handing over and its own next step: the third one is served."""
    async with hall.turnstile.turn():
        handed, third = hall.come(0), hall.come(0)
        await hall.settle()
    hall.tasks[handed].cancel()

    assert await hall.serve_all() == [third]


async def test_one_that_left_the_row_is_passed_by(hall: Hall) -> None:
    """Cancelled while it waits: the next one is served, also when the turn comes before it has noticed."""
    async with hall.turnstile.turn():
        gone, third = hall.come(0), hall.come(0)
        await hall.settle()
        hall.tasks[gone].cancel()

    assert await hall.serve_all() == [third]


async def test_one_that_is_cancelled_while_it_gives_way_does_not_keep_the_turn(hall: Hall) -> None:
    """The others go on without it."""
    async with asyncio.timeout(2):
        entered = asyncio.Event()

        async def holder() -> None:
            async with hall.turnstile.turn() as turn:
                entered.set()
                await asyncio.sleep(0)
                await hall.turnstile.give_way(turn)

        leaving = asyncio.create_task(holder())
        await entered.wait()
        better, other = hall.come(5), hall.come(0)
        await hall.settle()
        leaving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await leaving

    assert await hall.serve_all() == [better, other]


steps = st.lists(
    st.tuples(st.just("come"), st.sampled_from([0.0, 0.5, 2.0, 1e9]))
    | st.tuples(st.just("cancel"), st.integers(0, 8))
    | st.tuples(st.just("serve"), st.just(0))
    | st.tuples(st.just("wait"), st.sampled_from([0.1, 1.0, 40.0]))
    | st.tuples(st.just("tick"), st.just(0)),
    max_size=40,
)


@settings(deadline=None, max_examples=200)
@given(steps, st.booleans())
def test_every_waiter_is_served_or_was_cancelled(plan: list[tuple[str, Any]], give_way: bool) -> None:
    """Whoever comes, leaves and is served in whatever order: nobody is lost, two are never inside, the order holds."""

    async def play() -> None:
        hall, cancelled = Hall(), set()
        hall.give_way = give_way
        keys: dict[int, tuple[float, int]] = {}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "time", hall)
            for what, amount in plan:
                if what == "come":
                    number = hall.come(amount)
                    await hall.settle()
                    keys[number] = (hall.now - min(amount, MOST_VALUE), number)
                elif what == "cancel" and amount in hall.tasks:
                    if hall.tasks[amount].cancel():
                        cancelled.add(amount)
                elif what == "serve":
                    hall.next.release()  # and the next step comes at once: nothing is settled
                elif what == "tick":
                    await asyncio.sleep(0)
                elif what == "wait":
                    hall.now += amount
            await hall.settle()
            rest = await hall.serve_all()
        assert set(hall.served) | cancelled == set(hall.tasks)
        # Of those served at the end nobody else came in between: by value and age, but for the one that was inside.
        order = [keys[number] for number in rest[1:]]
        assert order == sorted(order)

    asyncio.run(play())
