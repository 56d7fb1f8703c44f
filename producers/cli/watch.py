"""Watch jobs until all have ended."""

import asyncio
from contextlib import aclosing, suppress

from producers.cli.outcome import JOB_FAILED, OK
from producers.cli.progress import Display
from producers.producer import Producer
from shared.errors import ConveyorError
from shared.jobs.states import JobState

#: Seconds between two looks at where the waiting jobs stand, and how many of them are looked at.
PLACES_SECONDS = 2.0
MOST_PLACES = 20


async def watch(producer: Producer, job_ids: list[str], display: Display) -> int:
    """Show the jobs' events; 1 when any of them ended in something other than success."""
    waiting = dict.fromkeys(job_ids)
    code = OK
    with display:
        places = asyncio.create_task(_places(producer, waiting, display))
        try:
            async with aclosing(producer.follow_many(job_ids)) as events:
                async for event in events:
                    display.tell(event)
                    if event.state is not JobState.QUEUED:
                        waiting.pop(event.job_id, None)
                    if event.final and event.state is not JobState.SUCCEEDED:
                        code = JOB_FAILED
        finally:
            places.cancel()
            await asyncio.gather(places, return_exceptions=True)
    return code


async def _places(producer: Producer, waiting: dict[str, None], display: Display) -> None:
    while True:
        await asyncio.sleep(PLACES_SECONDS)
        for job_id in list(waiting)[:MOST_PLACES]:
            # A place that cannot be read now is read the next time.
            with suppress(ConveyorError):
                status = await producer.status(job_id)
                if job_id in waiting:
                    display.place(job_id, status.queue)
