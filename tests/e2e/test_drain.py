"""A drained worker takes nothing new, what it followed goes on elsewhere, and it can be put back to work."""

import asyncio
from typing import Any

from typer.testing import CliRunner

from producers.cli.app import app
from producers.levers.drains import signs
from shared.broker import QUEUE
from shared.database import Database
from shared.jobs.states import JobState
from tests.e2e.site import Site, until


async def conveyor(site: Site, *words: str) -> Any:
    """A command, with the site's settings."""
    return await asyncio.to_thread(CliRunner().invoke, app, list(words), env=dict(site.stack.env))


async def test_a_drained_worker_hands_over_and_comes_back(site: Site) -> None:
    """Runs it followed end elsewhere; with both drained a message stays in the broker; undone, one worker does it all."""
    async with Database.open(site.settings.redis_url) as database:

        async def two() -> list[str] | None:
            # Those that other tests killed are taken for alive for half a minute.
            names = sorted(await signs(database))
            return names if len(names) == len(site.workers) == 2 else None

        names = await until(two, seconds=40, what="only our two workers are seen")
        assert names
        first, second = names
        handles = [await site.enqueue(n=n) for n in range(6)]

        drained = await conveyor(site, "drain", first, "--reason", "a look inside")
        assert (drained.exit_code, "nothing is under way" in drained.output) == (0, True), drained.output
        assert {job.state for job in await site.final(handles)} == {JobState.SUCCEEDED}

        both = await conveyor(site, "drain", second)
        assert "No other worker takes work" in both.output
        waits = await site.enqueue()
        assert {sign.draining for sign in (await signs(database)).values() if sign.name in (first, second)} == {True}

        async def stays() -> bool:
            # The last read of a consumer that was cancelled may bring it, and then it is given back.
            return bool(await database.redis.llen(QUEUE) == 1)

        await until(stays, what="the message is back in the broker")

        undone = await conveyor(site, "drain", first, "--undo")
        assert "takes work again" in undone.output
        [job] = await site.final([waits])
        assert job.state is JobState.SUCCEEDED
        await site.check([*handles, waits], runs=7)

        # Its supervisor starts it again, and what was said to its predecessor does not hold for it.
        stopped = await conveyor(site, "drain", second, "--stop")
        assert "told to stop" in stopped.output

        async def back() -> bool:
            sign = (await signs(database)).get(second)
            return sign is not None and not sign.draining

        await until(back, what="the stopped worker is back")
        assert not await database.hash(database.keys.drains)
