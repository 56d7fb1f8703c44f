"""When will it have ended? What a frontend hears of it, and what operators see of how good that was."""

import pytest
from prometheus_client import REGISTRY

from producers.producer import Producer
from shared.following.history import History
from shared.jobs.states import JobState
from tests.service.worker_fixtures import PORTRAIT, Api, Bench

pytestmark = pytest.mark.redis


async def known(bench: Bench, seconds: float = 12.0) -> None:
    """Make the portrait deployment one that is known to take so long."""
    for part in (0.9, 0.95, 1.0, 1.05, 1.1):
        durations = {
            "total": seconds * part,
            "run": (seconds - 1) * part,
            "tenth:6": 3.0 * part,
            "position:0": 8.0 * part,
        }
        await bench.engine.history.record(PORTRAIT, durations)
    bench.engine.history = History(bench.database)


def counted(name: str, **labels: str) -> float:
    """What a metric of this process stands at."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_every_event_but_the_last_says_when_it_will_have_ended(bench: Bench, api: Api) -> None:
    """Submitted, running and progress carry an ETA, and each later one is for less."""
    await known(bench)
    job = await bench.submit(progress=True)
    await api.update(job.run_id, status="running", progress=0.61, live_status="Executing KSampler")
    await bench.look()
    await api.finish(job.run_id)
    await bench.look()

    etas = {event.type: event.eta_seconds for event in await bench.events(job.id)}

    assert 12.0 < (etas["job.submitted"] or 0) < 18.0
    assert (etas["job.submitted"] or 0) >= (etas["job.running"] or 0) > (etas["job.progress"] or 0) > 2.0
    assert (etas["job.queued"], etas["job.succeeded"]) == (None, None)


async def test_a_waiting_job_is_told_when_its_turn_will_be(bench: Bench, api: Api) -> None:
    """Through a window of two, each place held 10 s: two are ahead, so its turn is in 15 s, and its end a run later."""
    await known(bench)
    bench = bench.another(CONVEYOR_WINDOW="2")
    async with Producer(
        bench.engine.settings, bench.database, publisher=bench.published, catalog=bench.engine.catalog
    ) as producer:
        asked = {"deployment_id": PORTRAIT, "frontend": "web", "user": {"id": "ada"}}
        jobs = [await producer.enqueue(asked)]
        pool = (await bench.job(jobs[0].id)).pool
        await bench.database.redis.hset(bench.database.keys.held, pool, "10000")
        jobs += [await producer.enqueue(asked) for _ in range(4)]

        status = await jobs[4].status()
        started = await jobs[0].status()

    assert status.queue is not None
    assert (status.queue.ahead, status.queue.eta_seconds) == (2, 15.0)
    assert 15.0 + 12.0 < (status.eta_seconds or 0) < 15.0 + 18.0
    assert 12.0 < (started.eta_seconds or 0) < 18.0
    told = (await bench.events(jobs[4].id))[0]
    assert told.queue is not None
    assert (told.queue.eta_seconds, told.eta_seconds) == (15.0, status.eta_seconds)


async def test_a_place_in_the_machines_queue_is_remembered(bench: Bench, api: Api) -> None:
    """A read of a run that has not started asks for its place, and what is known from there is believed."""
    await known(bench)
    job = await bench.submit()
    await bench.look()

    assert set((await bench.job(job.id)).seen) == {"position:0"}


async def test_what_a_job_shows_on_its_way_teaches(bench: Bench, api: Api) -> None:
    """A finished run leaves its duration, and the time from each milestone it was seen at."""
    job = await bench.submit(progress=True)
    await bench.look()
    await api.update(job.run_id, status="running", progress=0.61)
    await bench.look()
    await api.finish(job.run_id)
    await bench.look()

    learned = await bench.database.hash(bench.database.keys.history(PORTRAIT))

    assert {"total", "position:0"} <= set(learned) <= {"total", "run", "position:0", "tenth:6"}


async def test_operators_see_delay_looks_and_kept_promises(bench: Bench, api: Api) -> None:
    """One job with a hint: a look because of it with news, a delay, a hit, an ETA that was kept, its calls and tokens."""
    names = {
        "delay": ("conveyor_detection_delay_seconds_count", {"source": "hint"}),
        "looks": ("conveyor_looks_total", {"reason": "hint", "outcome": "news"}),
        "kept": ("conveyor_etas_total", {"kept": "yes"}),
        "tokens": ("conveyor_tokens_total", {"class": "submit", "answer": "granted"}),
        "ended": ("conveyor_jobs_ended_total", {"state": "succeeded"}),
    }
    await known(bench)
    before = {name: counted(metric, **labels) for name, (metric, labels) in names.items()}
    job = await bench.submit()
    await api.finish(job.run_id)
    await bench.engine.store.nudge(job.id)
    await bench.look()

    assert (await bench.job(job.id)).state is JobState.SUCCEEDED
    assert {
        name: counted(metric, **labels) - before[name] for name, (metric, labels) in names.items()
    } == dict.fromkeys(names, 1.0)
