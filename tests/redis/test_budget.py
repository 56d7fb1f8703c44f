"""The budget: never more than allowed in any window, none of it wasted, no class starved, and every wait is true."""

import asyncio
import contextlib
from collections import Counter
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.database import Database
from shared.errors import ConveyorError, InvalidInput, RateLimited, Unavailable
from shared.limits import bucket as module
from shared.limits.bucket import FLOORS, LEAST_FACTOR, RECOVERY_PER_SECOND, CallClass, TokenBucket
from shared.settings import Settings
from tests.exploring import examples
from tests.redis.stage import Clock

CLASSES: list[CallClass] = list(FLOORS)
#: Rounding of stored numbers (nine digits) and of the clock (microseconds at 10,000 tokens a second).
EPSILON = 0.02

#: Examples share a database; each has an account of its own.
many = settings(deadline=None, max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])

rates = st.sampled_from([0.5, 3.0, 10.0, 97.3, 2_000.0])
bursts = st.sampled_from([10, 20, 33])
classes = st.sampled_from(CLASSES)
#: Seconds; in grains of a microsecond, so that the clock has them exactly.
pauses = st.integers(0, 3_000_000).map(lambda us: us / 1e6) | st.sampled_from([0.0, 0.0, 0.001])


def bucket(database: Database, rate: float = 10.0, burst: int = 20) -> TokenBucket:
    """A full bucket nobody else asks."""
    return TokenBucket(
        database, Settings.model_validate({"api_key": uuid4().hex, "rate_per_second": rate, "rate_burst": burst})
    )


async def drain(asked: TokenBucket, *spenders: CallClass) -> int:
    """Take what there is; answers how much it was."""
    taken = 0
    for spender in spenders or CLASSES:
        while await asked.ask(spender) == 0:
            taken += 1
    return taken


@many
@given(rates, bursts, st.lists(st.tuples(pauses, classes, st.integers(1, 15)), max_size=15))
async def test_no_window_sees_more_than_burst_and_refill(
    database: Database, clock: Clock, rate: float, burst: int, steps: list[tuple[float, CallClass, int]]
) -> None:
    """Over every window [a, b], whoever asks whenever, at most `burst + rate * (b - a)` calls are granted."""
    asked = bucket(database, rate, burst)
    grants: list[float] = []
    for pause, class_, calls in steps:
        await clock.advance(pause)
        grants += [clock.now_us / 1e6 for _ in range(calls) if await asked.ask(class_) == 0]

    for first, a in enumerate(grants):
        for last in range(first, len(grants)):
            assert last - first + 1 <= burst + rate * (grants[last] - a) + EPSILON


@many
@given(rates, bursts, st.lists(st.tuples(pauses, classes, st.integers(1, 15)), max_size=8), classes)
async def test_a_wait_is_enough(  # noqa: PLR0917 - drawn by hypothesis, called by nobody
    database: Database,
    clock: Clock,
    rate: float,
    burst: int,
    steps: list[tuple[float, CallClass, int]],
    class_: CallClass,
) -> None:
    """Who waits as long as told, and is alone, is granted; to the millisecond the wait is told in."""
    asked = bucket(database, rate, burst)
    for pause, other, calls in steps:
        await clock.advance(pause)
        for _ in range(calls):
            await asked.ask(other)
    while not (wait := await asked.ask(class_)):
        pass

    await clock.advance(wait)

    assert await asked.ask(class_) <= 0.001


@pytest.mark.parametrize("class_", CLASSES)
@pytest.mark.parametrize("rate", [0.5, 10.0, 97.3])
async def test_a_wait_is_not_too_long(database: Database, clock: Clock, rate: float, class_: CallClass) -> None:
    """In a drained bucket nothing is granted two milliseconds before the wait is over."""
    asked = bucket(database, rate)
    await drain(asked, class_)
    for _ in range(5):
        wait = await asked.ask(class_)
        await clock.advance(wait - 0.002)
        assert await asked.ask(class_) > 0
        await clock.advance(0.002)
        assert await asked.ask(class_) <= 0.001
        await clock.advance(0.001)
        await drain(asked, class_)


@pytest.mark.parametrize("class_", CLASSES)
@pytest.mark.parametrize(("rate", "burst"), [(10.0, 20), (97.3, 20), (400.0, 10)])
async def test_nothing_is_wasted(database: Database, clock: Clock, rate: float, burst: int, class_: CallClass) -> None:
    """One class alone, that always has work and waits as told, gets 99 % of the rate and more."""
    asked = bucket(database, rate, burst)
    await drain(asked, class_)
    seconds, granted, start = 400 / rate, 0, clock.now_us
    while clock.now_us - start < seconds * 1e6:
        wait = await asked.ask(class_)
        granted += wait == 0
        await clock.advance(wait)

    assert 0.99 * rate * seconds <= granted <= rate * seconds + 2


@pytest.mark.parametrize("greedy", CLASSES)
@pytest.mark.parametrize("other", CLASSES)
async def test_no_class_starves_another(database: Database, clock: Clock, greedy: CallClass, other: CallClass) -> None:
    """While one class takes whatever it can, another gets its first call at once and then its share of the rate."""
    if greedy == other:
        return
    rate, share = 10.0, FLOORS[other][0]
    asked = bucket(database, rate)
    await drain(asked, greedy)
    assert await asked.ask(other) == 0

    got: Counter[CallClass] = Counter()
    for _ in range(6_000 // 50):
        await clock.advance(0.05)
        for class_ in (greedy, other):
            while await asked.ask(class_) == 0:
                got[class_] += 1

    assert got[other] >= share * rate * 6 - 1
    assert sum(got.values()) >= 0.99 * rate * 6 - 1


async def test_every_class_gets_its_share_when_all_are_greedy(database: Database, clock: Clock) -> None:
    """All four ask without end: each gets its floor's share, and together they get the rate."""
    asked = bucket(database)
    await drain(asked)
    got: Counter[CallClass] = Counter()
    for _ in range(600):
        await clock.advance(0.05)
        for class_ in CLASSES:
            while await asked.ask(class_) == 0:
                got[class_] += 1

    assert all(got[class_] >= share * 10 * 30 - 2 for class_, (share, _) in FLOORS.items())
    assert 0.99 * 10 * 30 <= sum(got.values()) <= 10 * 30 + 1


@many
@given(st.lists(st.tuples(st.sampled_from([0.01, 0.1, 0.5]), st.lists(classes, max_size=30)), min_size=5, max_size=20))
async def test_the_first_call_of_a_quiet_class_is_never_far(
    database: Database, clock: Clock, steps: list[tuple[float, list[CallClass]]]
) -> None:
    """Whatever the others did, a class that took nothing lately waits for nothing."""
    asked = bucket(database)
    for pause, others in steps:
        await clock.advance(pause)
        for other in others:
            if other != "cancel":
                await asked.ask(other)

    assert await asked.ask("cancel") == 0


async def test_a_push_back_closes_for_everyone(database: Database, clock: Clock) -> None:
    """After a 429 with Retry-After no class and no worker is granted anything until then, and the wait says when."""
    settings_ = Settings(api_key="k")  # type: ignore[arg-type]
    one, other = TokenBucket(database, settings_), TokenBucket(database, settings_)

    await one.push_back(7.5, slow_down=True)

    assert [await other.ask(class_) for class_ in CLASSES] == [7.5] * 4
    await clock.advance(7.499)
    assert [await other.ask(class_) for class_ in CLASSES] == [0.001] * 4
    await clock.advance(0.001)
    assert [await other.ask(class_) for class_ in CLASSES] == [0.0, 0.2, 0.2, 0.2]


async def test_a_pause_ends_gently(database: Database, clock: Clock) -> None:
    """A full bucket that was closed opens with one token and goes on at the rate: no burst for an API that wants less."""
    asked = bucket(database)
    await asked.push_back(30, slow_down=False)
    await clock.advance(30)
    assert await drain(asked) == 1

    start, granted = clock.now_us, 0
    for _ in range(40):
        await clock.advance(0.05)
        granted += await drain(asked)
        assert granted <= 10 * (clock.now_us - start) / 1e6 + EPSILON
    assert granted >= 16

    # And the quiet time after the pause counts as any other: the bucket fills to its burst.
    await clock.advance(60)
    assert await drain(asked) == 20


@pytest.mark.parametrize("stood_full", [True, False])
@pytest.mark.parametrize("pause", [0.02, 0.5, 100.0])
async def test_a_pause_hands_out_nothing_of_its_own(
    database: Database, clock: Clock, pause: float, stood_full: bool
) -> None:
    """However often and long it is closed, there is never more in it than if it had not been."""
    asked = bucket(database)
    spent = 0 if stood_full else await drain(asked)
    start = clock.now_us
    for _ in range(10):
        await asked.push_back(pause, slow_down=False)
        await clock.advance(pause)
        spent += await drain(asked)

    assert spent <= 20 + 10 * (clock.now_us - start) / 1e6
    assert spent <= (0 if stood_full else 20) + 10


async def test_pauses_starve_no_class(database: Database, clock: Clock) -> None:
    """With a pause every second each class still gets its share of what is granted, whoever asks first."""
    asked = bucket(database)
    got: Counter[CallClass] = Counter()
    for _ in range(20):
        await asked.push_back(0.3, slow_down=False)
        await clock.advance(0.3)
        for _unused in range(14):
            for class_ in CLASSES:
                while await asked.ask(class_) == 0:
                    got[class_] += 1
            await clock.advance(0.05)

    assert got.total() >= 0.5 * 10 * 20
    assert all(got[class_] >= share * got.total() - 1 for class_, (share, _) in FLOORS.items())


async def test_a_shorter_push_back_does_not_open_earlier(database: Database, clock: Clock) -> None:
    """The longest pause asked for holds."""
    asked = bucket(database)
    await asked.push_back(10, slow_down=False)
    await clock.advance(1)

    await asked.push_back(2, slow_down=True)

    assert await asked.ask("submit") == 9.0


async def per_second(asked: TokenBucket, clock: Clock, seconds: float) -> float:
    """What a greedy caller gets a second, over some seconds."""
    await drain(asked, "submit")
    granted = 0
    for _ in range(round(seconds / 0.05)):
        await clock.advance(0.05)
        granted += await drain(asked, "submit")
    return granted / seconds


async def test_a_429_halves_the_rate_and_it_comes_back(database: Database, clock: Clock) -> None:
    """Half the rate after one 429, a quarter after the next, and all of it after the recovery."""
    asked = bucket(database, rate=40.0)
    assert await per_second(asked, clock, 1) == pytest.approx(40, abs=1)

    # The seconds in between fill the floors of the other classes again.
    await asked.push_back(0.001, slow_down=True)
    await clock.advance(1.001)
    assert await per_second(asked, clock, 1) == pytest.approx(20, abs=1.5)
    await asked.push_back(0.001, slow_down=True)
    await clock.advance(2.001)
    assert await per_second(asked, clock, 1) == pytest.approx(10, abs=1.5)

    await clock.advance(0.76 / RECOVERY_PER_SECOND)
    assert await per_second(asked, clock, 1) == pytest.approx(40, abs=1)
    assert await per_second(asked, clock, 1) == pytest.approx(40, abs=1)


@pytest.mark.parametrize(("quiet", "pause"), [(100.0, 0.001), (0.0, 100.0), (30.0, 30.0)])
async def test_the_rate_recovers_from_when_calls_go_again(
    database: Database, clock: Clock, quiet: float, pause: float
) -> None:
    """Neither a quiet time before the 429 nor the pause it asked for brings the rate back."""
    asked = bucket(database)
    await drain(asked)
    await clock.advance(quiet)

    await asked.push_back(pause, slow_down=True)
    await clock.advance(pause)
    await asked.ask("submit")
    assert float((await asked.state())["factor"]) == pytest.approx(0.5)

    await clock.advance(0.25 / RECOVERY_PER_SECOND)
    await asked.ask("submit")
    assert float((await asked.state())["factor"]) == pytest.approx(0.75)


async def test_one_trouble_halves_once(database: Database, clock: Clock) -> None:
    """Calls under way when the bucket closes come back with 429 as well, and halve nothing more."""
    asked = bucket(database)
    for _ in range(8):
        await asked.push_back(5, slow_down=True)

    assert float((await asked.state())["factor"]) == 0.5
    assert (await asked.state())["pushed_back"] == "1"


async def test_however_often_it_is_pushed_back_something_is_left(database: Database, clock: Clock) -> None:
    """The rate never falls below its least part: otherwise nobody would notice that the API has recovered."""
    asked = bucket(database)
    for _ in range(20):
        await asked.push_back(0.001, slow_down=True)
        await clock.advance(0.01)

    assert float((await asked.state())["factor"]) == LEAST_FACTOR
    await drain(asked)
    assert await asked.ask("submit") <= 0.001 + 1 / (10 * LEAST_FACTOR * FLOORS["submit"][0])


async def test_a_pause_without_429_keeps_the_rate(database: Database, clock: Clock) -> None:
    """A 503 with Retry-After is the API's trouble, not our pace."""
    asked = bucket(database)
    await asked.push_back(1, slow_down=False)
    await clock.advance(5)

    assert await per_second(asked, clock, 2) == pytest.approx(10, abs=0.5)


@pytest.mark.parametrize("rate", [1.0, 5.0, 80.0])
async def test_an_operator_sets_the_rate_live(database: Database, clock: Clock, rate: float) -> None:
    """`HSET budget:<account> rate` holds from the next call on, for every worker."""
    asked = bucket(database)
    await drain(asked, "submit")
    await database.redis.hset(database.keys.budget(asked._account), "rate", str(rate))

    assert await per_second(asked, clock, 10) == pytest.approx(rate, rel=0.02, abs=0.2)


@pytest.mark.parametrize("class_", CLASSES)
@pytest.mark.parametrize("burst", [1, 5, 8, 10, 60])
async def test_an_operator_sets_the_burst_live(database: Database, clock: Clock, burst: int, class_: CallClass) -> None:
    """`HSET budget:<account> burst` bounds what comes at once, and what the rate allows is still granted.

    A burst too small to hold a token of each class and one more counts as that.
    """
    asked = bucket(database)
    await database.redis.hset(database.keys.budget(asked._account), "burst", str(burst))
    await clock.advance(100)

    assert await drain(asked) == max(burst, 5)
    assert await asked.ask(class_) > 0
    granted = 0
    for _ in range(200):
        await clock.advance(0.05)
        granted += await drain(asked, class_)
    assert granted == pytest.approx(100, abs=max(burst, 5))
    # And the wait told is enough here as well.
    wait = await asked.ask(class_)
    await clock.advance(wait)
    assert await asked.ask(class_) <= 0.001


async def test_a_clock_set_back_neither_grants_nor_blocks(database: Database, clock: Clock) -> None:
    """When the server's clock jumps back nothing is refilled twice, and the bucket goes on from there."""
    asked = bucket(database)
    await drain(asked)

    await clock.advance(-3600)
    assert await asked.ask("submit") > 0
    await clock.advance(1)

    assert 9 <= await drain(asked) <= 11


async def test_accounts_do_not_share(database: Database, clock: Clock) -> None:
    """Another key or another address is another budget."""
    one, other = bucket(database), bucket(database)
    await drain(one)
    await one.push_back(60, slow_down=True)

    assert await other.ask("submit") == 0


async def test_grants_and_refusals_are_counted_by_class(database: Database, clock: Clock) -> None:
    """An operator sees who spends the budget and who is refused."""
    asked = bucket(database)
    granted = await drain(asked, "look")

    state = await asked.state()

    assert (state["granted:look"], state["refused:look"]) == (str(granted), "1")


async def test_take_waits_and_is_served_in_order(database: Database) -> None:
    """Callers of one class are granted in the order in which they asked. On the real clock: 2,000 a second."""
    asked = bucket(database, rate=2_000.0, burst=10)
    served: list[int] = []

    async def caller(n: int) -> None:
        await asked.take("submit")
        served.append(n)

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for n in range(60):
            group.create_task(caller(n))

    assert served == list(range(60))


class Api:
    """The API as a caller meets it: answers, or is in trouble."""

    def __init__(self, asked: TokenBucket, clock: Clock) -> None:
        self.asked, self.clock = asked, clock

    async def call(self, outcome: ConveyorError | None = None) -> None:
        """Make one call that is granted at once, and let it end like this."""
        async with asyncio.timeout(5), self.asked.call("look"):
            if outcome:
                raise outcome

    async def fail(self, times: int = 1) -> None:
        """Calls that get no answer."""
        for _ in range(times):
            with pytest.raises(Unavailable):
                await self.call(Unavailable("503"))

    async def wait(self) -> float:
        """What the next caller hears."""
        return await self.asked.ask("submit")


@pytest.fixture
def api(database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Api:
    """An API nobody has called yet; pauses of the breaker are not jittered."""
    monkeypatch.setattr(module.random, "random", lambda: 1.0)
    return Api(bucket(database), clock)


async def test_a_row_of_failures_opens_the_breaker_for_everyone(api: Api) -> None:
    """After the fifth call in a row without an answer nobody calls for a while; after the fourth all still may."""
    await api.fail(module.BREAKER_THRESHOLD - 1)
    assert await api.wait() == 0

    await api.fail()

    assert await api.wait() == module.BREAKER_PAUSE_SECONDS


@pytest.mark.parametrize("answer", [None, InvalidInput([])], ids=["success", "refusal"])
async def test_an_answer_ends_a_row_of_failures(api: Api, answer: ConveyorError | None) -> None:
    """A refusal is an answer too: the API is there, and the count begins anew."""
    await api.fail(module.BREAKER_THRESHOLD - 1)
    with contextlib.suppress(InvalidInput):
        await api.call(answer)

    await api.fail(module.BREAKER_THRESHOLD - 1)

    assert await api.wait() == 0


async def test_one_probe_at_a_time_finds_out_and_an_answer_opens_for_all(api: Api) -> None:
    """When the pause is over one call goes; the others wait for what becomes of it."""
    await api.fail(module.BREAKER_THRESHOLD)
    await api.clock.advance(module.BREAKER_PAUSE_SECONDS)
    async with api.asked.call("look"):
        assert await api.wait() == module.PROBE_SECONDS

    # Gently: what gathered while the probe was under way is not let loose at once.
    wait = await api.wait()
    assert 0 < wait <= 1
    await api.clock.advance(wait)
    assert await api.wait() <= 0.001


async def test_the_breaker_closes_gently(api: Api) -> None:
    """A probe that took seconds is answered: one call at most goes at once, the others at the rate."""
    await api.fail(module.BREAKER_THRESHOLD)
    await api.clock.advance(module.BREAKER_PAUSE_SECONDS)
    async with api.asked.call("look"):
        await api.clock.advance(8)

    assert await drain(api.asked) == 1


async def test_a_probe_that_fails_doubles_the_pause_up_to_a_limit(api: Api) -> None:
    """1, 2, 4, 8, 16, 30, 30 seconds: an API that is down for long is asked rarely, and never forgotten."""
    await api.fail(module.BREAKER_THRESHOLD)
    pauses = []
    for _ in range(7):
        pauses.append(await api.wait())
        await api.clock.advance(pauses[-1])
        await api.fail()

    assert pauses == [1, 2, 4, 8, 16, 30, 30]


async def test_a_probe_that_was_lost_is_followed_by_another(api: Api) -> None:
    """The worker that was to find out was killed: after its lease somebody else does."""
    await api.fail(module.BREAKER_THRESHOLD)
    await api.clock.advance(module.BREAKER_PAUSE_SECONDS)
    assert await api.wait() == 0  # granted, and never heard of again
    assert await api.wait() == module.PROBE_SECONDS

    await api.clock.advance(module.PROBE_SECONDS)

    assert await api.wait() == 0


async def test_calls_that_end_while_the_breaker_is_open_count_for_nothing(api: Api) -> None:
    """Ten calls that were under way fail together: one trouble, one pause."""
    await api.fail(module.BREAKER_THRESHOLD)
    for _ in range(10):
        with pytest.raises(Unavailable):
            async with api.asked.learning(0):
                raise Unavailable("503")

    assert await api.wait() == module.BREAKER_PAUSE_SECONDS


async def test_a_429_in_a_call_closes_and_halves(api: Api) -> None:
    """What the API says about its limits is learnt from the call itself, and does not count as trouble."""
    with pytest.raises(RateLimited):
        await api.call(RateLimited("429", retry_after_seconds=4))

    assert await api.wait() == 4
    state = await api.asked.state()
    assert (state["factor"], state.get("failures")) == ("0.5", None)


async def test_without_redis_the_budget_is_closed() -> None:
    """No answer, no call: a bucket that cannot be asked raises, and grants nothing."""
    async with Database.open("redis://127.0.0.1:1/0") as nowhere:
        with pytest.raises(Unavailable):
            await bucket(nowhere).take("submit")


def test_the_floors_leave_something_for_whoever_comes_first() -> None:
    """The shares of the rate and of the burst each sum to less than one."""
    assert sum(share for share, _ in FLOORS.values()) < 1
    assert sum(part for _, part in FLOORS.values()) < 1
