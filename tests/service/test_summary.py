"""The one line that says how a job went."""

import logging
import re
from pathlib import Path
from typing import Any

import pytest

from tasks.submit import submit_job
from tests.service.worker_fixtures import SUBMIT, Api, Bench
from workers.upkeep import Upkeep

PAGE = Path(__file__).parents[2] / "docs/reference/logs.md"


@pytest.fixture
def ends(caplog: pytest.LogCaptureFixture) -> Any:
    """What was said of jobs that ended, so far."""
    caplog.set_level(logging.INFO)
    plain = set(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}
    return lambda: [
        {name: value for name, value in record.__dict__.items() if name not in plain}
        for record in caplog.records
        if record.message == "job ended"
    ]


async def test_a_job_that_succeeded_has_one_line(bench: Bench, api: Api, ends: Any) -> None:
    """Though two workers close its row: what it was, how long it took, what it cost us in calls."""
    job = await bench.submit()
    await api.finish(str(job.run_id))
    await bench.look_at_all()
    other = bench.another()
    await Upkeep(bench.engine).close_rows()
    await bench.database.redis.zadd(bench.database.keys.closing, {job.id: 0})  # the other had it in hand already
    await bench.database.redis.zrem(bench.database.keys.closing, job.id)
    await Upkeep(other.engine).close_rows()
    (line,) = ends()
    assert line["job_id"] == job.id
    assert line["run_id"] == job.run_id
    assert (line["state"], line["code"], line["outputs"], line["attempts"], line["adopted"]) == (
        "succeeded",
        None,
        1,
        1,
        None,
    )
    assert line["frontend"] == "web"
    assert re.fullmatch("[0-9a-f]{12}", line["user"])
    assert 0 <= line["noticed_after_seconds"] <= line["ran_seconds"] <= line["total_seconds"]
    assert line["waited_seconds"] <= line["total_seconds"]


async def test_a_run_that_was_found_is_called_adopted(bench: Bench, api: Api, ends: Any) -> None:
    """The answer to its submit was lost, and it had to be looked for."""
    await api.fault("lost_answer", SUBMIT, count=1)
    job_id = await bench.enqueue()
    await bench.dispatch()
    await submit_job(bench.engine, job_id)
    await api.configure(faults=[])
    await bench.open_bucket()
    job = await bench.settled(job_id)
    await api.finish(str(job.run_id))
    await bench.look_at_all()
    await Upkeep(bench.engine).close_rows()
    assert [(line["job_id"], line["adopted"]) for line in ends()] == [(job_id, "found")]


async def test_a_job_that_never_ran_has_a_line_too(bench: Bench, ends: Any) -> None:
    """Cancelled while it waited, by whichever process: the line comes from a worker."""
    job_id = await bench.enqueue()
    assert await bench.engine.store.cancel(job_id) == "cancelled"
    await Upkeep(bench.engine).close_rows()
    (line,) = ends()
    assert (line["state"], line["code"], line["run_id"], line["ran_seconds"]) == ("cancelled", "cancelled", None, None)
    assert line["waited_seconds"] == line["total_seconds"]


async def test_the_page_of_fields_is_the_line(bench: Bench, ends: Any) -> None:
    """docs/reference/logs.md has a row for each field, in the line's order, and no other."""
    await bench.engine.store.cancel(await bench.enqueue())
    await Upkeep(bench.engine).close_rows()
    table = PAGE.read_text().partition("## `job ended`")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(ends()[0])
