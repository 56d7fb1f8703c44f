"""What operators see: one row for each job, from submit to its end."""

from typing import Any

from shared.jobs.states import JobState
from tests.e2e.site import Flower, Site, until


async def test_one_row_for_each_job(site: Site, flower: Flower) -> None:
    """Every job is one row that ends as SUCCESS or FAILURE with the job's own runtime, on a worker that exists."""
    await site.configure(faults=[{"kind": "failed", "count": 1}])
    before = set(await flower.rows())
    handles = [await site.enqueue(n=n) for n in range(6)]
    waiting = await site.enqueue(n=1)
    jobs = await site.final([*handles, waiting])
    ids = {job.id for job in jobs}

    async def closed() -> dict[str, Any]:
        rows = {task_id: row for task_id, row in (await flower.rows()).items() if task_id not in before}
        ended = {task_id for task_id, row in rows.items() if row["state"] in {"SUCCESS", "FAILURE"}}
        return rows if ids <= ended else {}

    rows = await until(closed, seconds=10, what="every row ends")
    assert set(rows) == ids
    nodes = {worker.name for worker in site.workers}
    for job in jobs:
        row = rows[job.id]
        assert row["name"] == "tasks.submit"
        assert row["state"] == ("SUCCESS" if job.state is JobState.SUCCEEDED else "FAILURE")
        assert job.submitting_at is not None
        assert job.final_at is not None
        assert abs(row["runtime"] - (job.final_at - job.submitting_at) / 1000) < 0.01
        assert row["args"].strip("'\"") == f"SDXL Portrait for {job.request.lane}"
        assert row["worker"].split("@")[0] in nodes
        assert job.run_id is not None
        assert job.run_id[:8] in str(row["result"]) or "upstream_failed" in str(row["exception"])
    states = [row["state"] for row in rows.values()]
    assert (states.count("SUCCESS"), states.count("FAILURE")) == (6, 1)
    assert {node.split("@")[0] for node in await flower.workers()} == nodes


async def test_revoke_in_flower_cancels_the_run(site: Site, flower: Flower) -> None:
    """Terminate on a running job's row: the run is cancelled upstream, the job ends cancelled, the row is REVOKED."""
    await site.configure(durations={"video": {"median": 5000, "sigma": 0}})
    handle = await site.enqueue("Wan Video 2.1", progress=True)

    async def shown() -> bool:
        row = (await flower.rows()).get(handle.id, {})
        return row.get("state") == "STARTED" and "run " in str(row.get("result"))

    await until(shown, what="the row shows the run")
    answer = await flower.http.post(f"/api/task/revoke/{handle.id}", params={"terminate": "true"})
    assert answer.status_code == 200, answer.text
    event = await handle.wait(15)
    assert (event.type, event.error.code if event.error else None) == ("job.cancelled", "cancelled")
    assert [run["status"] for run in await site.runs(handle.id)] == ["cancelled"]

    async def revoked() -> bool:
        return bool((await flower.rows())[handle.id]["state"] == "REVOKED")

    await until(revoked, what="the row is REVOKED")
    await site.check([handle], runs=1)
