"""A training of an hour, through real workers: it outlives them, ends once, and holds up no picture."""

import asyncio
import signal

from producers.recipes import train_model
from shared.jobs.states import JobState
from tests.e2e.site import Site, until

PICTURES = [b"\x89PNG\r\n\x1a\n" + bytes([n]) * 64 for n in (1, 2)]
HOUR = 3600.0


async def test_a_training_outlives_every_worker_and_holds_up_no_picture(site: Site) -> None:
    """Every worker is killed while it runs, new ones go on; pictures of the same user are made meanwhile, and the next
    training waits in its own lane. The training ends once, with one run, and has told its progress."""
    await site.configure(durations={"training": {"median": HOUR, "sigma": 0.0}})
    who = {"workflow": "LoRA Training", "frontend": "web", "user": {"id": "trainer"}}
    training = (await train_model(site.producer, PICTURES, input_name="fox", **who)).job
    waiting = (await train_model(site.producer, PICTURES, input_name="owl", **who)).job

    async def is_running() -> bool:
        return (await training.status()).job.state is JobState.RUNNING

    async def progress() -> list[float]:
        events = (await site.events([training.id]))[training.id]
        return [event.progress.fraction or 0.0 for event in events if event.progress]

    await until(is_running, what="the training runs")
    for worker in site.workers:
        worker.restart = False
        worker.signal(signal.SIGKILL)
    await asyncio.gather(site.start_worker(), site.start_worker())
    pictures = [await site.enqueue(n=n, frontend="web", user={"id": "trainer"}) for n in range(4)]
    assert {job.state for job in await site.final(pictures)} == {JobState.SUCCEEDED}
    assert await is_running()
    assert (await waiting.status()).queue is not None
    assert await waiting.cancel() == "cancelled"
    await until(progress, what="progress is told")
    try:
        # An hour would take long here, even so: the rest of it passes in a few seconds.
        await site.configure(speed=1200)
        (job,) = await site.final([training])
    finally:
        await site.configure(speed=50)
    assert job.state is JobState.SUCCEEDED
    assert job.result is not None
    assert [output.filename for output in job.result.outputs] == ["fox.safetensors"]
    await site.check([training, *pictures], runs=5)
    assert await progress() == sorted(await progress())
