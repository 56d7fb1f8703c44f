"""The circuit breaker: when the API is in trouble, nobody calls for a while, and then one probe finds out."""

import asyncio

import pytest

from shared.database import Database
from shared.errors import GiveUp, Unavailable, Undecided
from shared.limits import bucket as limits
from shared.limits.bucket import TokenBucket
from shared.settings import Settings

pytestmark = pytest.mark.redis


@pytest.fixture
def bucket(database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> TokenBucket:
    """A bucket whose breaker pauses are short enough to wait for."""
    monkeypatch.setattr(limits, "BREAKER_PAUSE_SECONDS", 0.2)
    monkeypatch.setattr(limits, "PROBE_SECONDS", 0.3)
    return TokenBucket(database, settings.model_copy(update={"rate_burst": 100}))


async def fail(bucket: TokenBucket, times: int, error: type[Exception] = Unavailable) -> None:
    for _ in range(times):
        with pytest.raises(error):
            async with bucket.call("look"):
                raise error("the API did not answer")


async def test_it_opens_after_failures_in_a_row(bucket: TokenBucket) -> None:
    """Five failures in a row, and the bucket is closed for every class."""
    await fail(bucket, limits.BREAKER_THRESHOLD)

    assert await bucket.ask("look") > 0
    assert await bucket.ask("submit") > 0
    assert (await bucket.state())["opened"] == "1"


async def test_an_answer_in_between_starts_the_count_again(bucket: TokenBucket) -> None:
    """Failures count only in a row: a call that was answered, even refused, shows that the API is there."""
    await fail(bucket, limits.BREAKER_THRESHOLD - 1)
    async with bucket.call("look"):
        pass
    await fail(bucket, limits.BREAKER_THRESHOLD - 1)
    with pytest.raises(GiveUp):
        async with bucket.call("look"):
            raise GiveUp("no such run")
    await fail(bucket, limits.BREAKER_THRESHOLD - 1)

    assert await bucket.ask("look") == 0


async def test_half_open_lets_one_probe_through(bucket: TokenBucket) -> None:
    """When the pause is over one call goes; the others wait until it is known how it went."""
    await fail(bucket, limits.BREAKER_THRESHOLD)

    async with asyncio.timeout(5):
        failures = await bucket.take("look")
    assert failures == limits.BREAKER_THRESHOLD
    assert await bucket.ask("look") > 0

    async with bucket.learning(failures):
        pass
    async with asyncio.timeout(2):
        assert [await bucket.take("look"), await bucket.take("submit")] == [0, 0]


async def test_a_failed_probe_opens_it_for_longer(bucket: TokenBucket) -> None:
    """Each failed probe doubles the pause, whatever kind of trouble it met."""
    await fail(bucket, limits.BREAKER_THRESHOLD)
    async with asyncio.timeout(5):
        failures = await bucket.take("submit")

    with pytest.raises(Undecided):
        async with bucket.learning(failures):
            raise Undecided("the answer was lost")

    assert 0.19 <= await bucket.ask("look") <= 0.41


async def test_a_probe_that_is_never_heard_of_is_replaced(bucket: TokenBucket) -> None:
    """The worker that probed was killed: after the probe's lease another may."""
    await fail(bucket, limits.BREAKER_THRESHOLD)
    async with asyncio.timeout(5):
        await bucket.take("look")
        assert await bucket.take("look") == limits.BREAKER_THRESHOLD


async def test_what_became_of_a_submit_is_not_hidden_by_redis(settings: Settings) -> None:
    """Redis is away when an undecided submit is to be reported: the caller still hears that it is undecided."""
    async with Database.open("redis://127.0.0.1:1/0") as nowhere:
        with pytest.raises(Undecided):
            async with TokenBucket(nowhere, settings).learning(0):
                raise Undecided("the answer was lost")


async def test_retries_get_a_share_of_the_rate(database: Database, settings: Settings) -> None:
    """What was refused before gets a fifth of the rate after the first five; what was never tried is not held up by it."""
    bucket = TokenBucket(database, settings.model_copy(update={"rate_per_second": 100.0, "rate_burst": 100}))

    began = asyncio.get_running_loop().time()
    for _ in range(limits.MOST_RETRIES + 4):
        await bucket.take("submit", retry=True)
    took = asyncio.get_running_loop().time() - began

    # 4 beyond the first five, at 100 * 0.2 a second: 0.2 s
    assert took >= 0.19
    waiting = asyncio.create_task(bucket.take("submit", retry=True))
    async with asyncio.timeout(0.04):
        await bucket.take("submit")
    waiting.cancel()
