"""What operators see and press: the real Flower, its HTTP API and its pages in a real browser."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Dialog, Page, Route, expect

from producers.levers.audit import newest
from producers.levers.pauses import Scope, pause, resume
from producers.local.processes import ROOT
from shared.database import Database
from shared.jobs.by import By
from shared.jobs.states import JobState
from tests.e2e.browser import CHROMIUM
from tests.e2e.site import Flower, Site, until

FOLDER = ROOT / "var" / "flower"
#: A user who means no good.
SCRIPT = "<img src=x onerror=alert(1)>"

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on the path (.ci/run installs it where it may)"
)


class Operator:
    """A person at Flower."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.alerts: list[str] = []
        page.set_default_timeout(15_000)
        page.on("dialog", self._answer)
        page.on("pageerror", lambda error: self.alerts.append(f"uncaught: {error}"))

    async def _answer(self, dialog: Dialog) -> None:
        self.alerts.append(dialog.message)
        await dialog.accept()

    async def keep(self, name: str) -> None:
        """A screenshot for people, in `var/flower/`."""
        FOLDER.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=FOLDER / f"{name}.png", animations="disabled")


@pytest_asyncio.fixture(loop_scope="session")
async def operator(browser: Browser, flower: Flower) -> AsyncIterator[Operator]:
    """Somebody who looks at Flower for the first time."""
    context = await browser.new_context(
        base_url=str(flower.http.base_url), viewport={"width": 1280, "height": 900}, locale="en-GB"
    )
    yield Operator(await context.new_page())
    await context.close()


async def says_how_old(page: Page) -> None:
    """The list stays as it was, and says so, while Flower or Redis does not answer."""

    async def late(route: Route) -> None:
        answer = await route.fetch()
        await route.fulfill(response=answer, headers={**answer.headers, "X-Board-Behind": "7"})

    notice, again = page.locator("#board-notice"), page.get_by_role("button", name="All", exact=True)
    for handler, words in (
        (lambda route: route.abort(), "Flower does not answer."),
        (lambda route: route.fulfill(status=500), "Flower does not answer."),
        (late, "This is how it was 7 seconds ago"),
    ):
        await page.route("**/tasks/datatable", handler)
        await again.click()
        await expect(notice).to_contain_text(words)
        await page.unroute_all(behavior="wait")
    await again.click()
    await expect(notice).to_be_hidden()


async def ended(flower: Flower, ids: set[str]) -> dict[str, Any]:
    """The rows of these jobs, as soon as each has ended."""

    async def all_ended() -> dict[str, Any]:
        rows = {job_id: row for job_id, row in (await flower.rows()).items() if job_id in ids}
        open_ = [row for row in rows.values() if row["state"] not in {"SUCCESS", "FAILURE", "REVOKED"}]
        return rows if len(rows) == len(ids) and not open_ else {}

    return await until(all_ended, seconds=40, what="every row ends")


async def shows(flower: Flower, job_id: str, words: str) -> dict[str, Any]:
    """The row of a job, as soon as its result has these words."""

    async def shown() -> dict[str, Any]:
        row = (await flower.rows()).get(job_id, {})
        return row if words in str(row.get("result")) else {}

    return await until(shown, what=f"the row shows {words!r}")


async def test_one_row_for_each_job(site: Site, flower: Flower) -> None:
    """Every job is one row that ends as SUCCESS or FAILURE with the job's own runtime, on the worker that submitted it."""
    await site.configure(faults=[{"kind": "failed", "count": 1}])
    before = set(await flower.rows())
    handles = [await site.enqueue(n=n) for n in range(6)]
    jobs = await site.final(handles)
    await ended(flower, {job.id for job in jobs})
    rows = {job_id: row for job_id, row in (await flower.rows()).items() if job_id not in before}
    assert set(rows) == {job.id for job in jobs}
    nodes = {worker.name for worker in site.workers}
    for job in jobs:
        row = rows[job.id]
        assert row["name"] == row["args"] == f"SDXL Portrait for {job.request.lane}"
        assert row["state"] == ("SUCCESS" if job.state is JobState.SUCCEEDED else "FAILURE")
        assert job.submitting_at is not None
        assert job.final_at is not None
        assert abs(row["runtime"] - (job.final_at - job.submitting_at) / 1000) < 0.01
        assert row["received"] == job.created_at / 1000
        assert row["worker"].split("@")[0] in nodes
        assert row["run_id"] == job.run_id
        if job.error is not None:
            assert row["exception"].startswith("upstream_failed: ")
    assert Counter(row["state"] for row in rows.values()) == {"SUCCESS": 5, "FAILURE": 1}
    assert {node.split("@")[0] for node in await flower.workers()} == nodes
    found = (await flower.http.get("/api/tasks", params={"search": "kwargs:user=u3"})).json()
    assert {job.id for job in jobs if job.request.user.id == "u3"} <= set(found)
    assert all(row["name"].endswith(":u3") for row in found.values())


@needs_chromium
async def test_a_burst_is_a_list_that_follows_and_survives_flower(
    site: Site, flower: Flower, operator: Operator
) -> None:
    """50 jobs are 50 rows before any of them ran; the open page follows them to their ends by itself; Flower is killed and
    lists them again, with the same states. What a user is called is text and nothing else."""
    await site.configure(faults=[{"kind": "failed", "count": 2}], durations={"image": {"median": 25, "sigma": 0}})
    async with Database.open(site.settings.redis_url) as database:
        await pause(database, Scope.everything(), By("ada", "until the page is open"))
    handles = [await site.enqueue(n=n) for n in range(49)]
    handles.append(await site.enqueue(n=0, user={"id": SCRIPT}))
    ids = {handle.id for handle in handles}
    page = operator.page
    await page.goto("/tasks")
    await page.locator("#tasks-table_length select").select_option("50")
    rows = page.locator("#tasks-table tbody tr")
    await expect(rows).to_have_count(50)
    await page.get_by_role("button", name="Waiting").click()
    await expect(rows.locator("td", has_text="paused: until the page is open")).to_have_count(50)
    await expect(page.get_by_role("button", name="Waiting")).to_have_attribute("aria-pressed", "true")
    await operator.keep("waiting")
    await page.get_by_role("button", name="All", exact=True).click()
    await page.locator("#tasks-table_filter input").fill(f'"{SCRIPT}"')
    await expect(rows).to_have_count(1)
    await expect(rows.locator("td").nth(1)).to_have_text(f"SDXL Portrait for telegram:{SCRIPT}")
    await page.locator("#tasks-table_filter input").fill("")
    await expect(rows).to_have_count(50)
    await says_how_old(page)
    await expect(rows).to_have_count(50)
    async with Database.open(site.settings.redis_url) as database:
        assert await resume(database, Scope.everything(), By("ada"))
    await expect(page.locator(".badge.text-bg-success").first).to_be_visible(timeout=15_000)
    await operator.keep("burst")
    before = await ended(flower, ids)
    await expect(page.locator(".badge.text-bg-success, .badge.text-bg-danger")).to_have_count(50)
    await operator.keep("ended")
    assert Counter(row["state"] for row in before.values()) == {"SUCCESS": 48, "FAILURE": 2}

    flower.program.signal(signal.SIGKILL)
    await until(flower.forgot, what="Flower is gone")
    after = await until(lambda: flower.has(ids), seconds=30, what="Flower lists them again")
    kept = ("name", "state", "result", "exception", "runtime", "received", "worker", "run_id")
    assert {job_id: [row[name] for name in kept] for job_id, row in after.items()} == {
        job_id: [row[name] for name in kept] for job_id, row in before.items()
    }
    await page.reload()
    await expect(page.locator(".badge.text-bg-success, .badge.text-bg-danger")).to_have_count(50)
    await operator.keep("started-again")
    assert operator.alerts == []


@needs_chromium
async def test_terminate_on_a_jobs_page_cancels_its_run(site: Site, flower: Flower, operator: Operator) -> None:
    """The page of a running job shows how far it is; Terminate cancels the run upstream and the row ends REVOKED."""
    await site.configure(durations={"video": {"median": 5000, "sigma": 0}})
    handle = await site.enqueue("Wan Video 2.1", progress=True)
    row = await shows(flower, handle.id, "%")
    assert row["state"] == "STARTED"
    page = operator.page
    await page.goto(f"/task/{handle.id}")
    await expect(page.locator(".detail-list")).to_contain_text("Wan Video 2.1 for telegram:u0")
    await operator.keep("running")
    await page.get_by_role("button", name="Terminate").click()
    await expect(page.locator(".toast-body")).to_have_text("The job's run is being cancelled.")
    await operator.keep("terminated")
    event = await handle.wait(15)
    assert (event.type, event.error.code if event.error else None) == ("job.cancelled", "cancelled")
    assert [run["status"] for run in await site.runs(handle.id)] == ["cancelled"]
    assert (await ended(flower, {handle.id}))[handle.id]["state"] == "REVOKED"
    await page.reload()
    await expect(page.locator(".badge")).to_have_text("REVOKED")
    await expect(page.get_by_role("button", name="Terminate")).to_have_count(0)
    await operator.keep("revoked")
    await site.check([handle], runs=1)


@needs_chromium
async def test_revoke_holds_without_a_worker(site: Site, flower: Flower, operator: Operator) -> None:
    """While no worker lives, a waiting job ends at once, and a run is cancelled by the first worker that comes."""
    await site.configure(durations={"video": {"median": 5000, "sigma": 0}})
    running = await site.enqueue("Wan Video 2.1")
    await shows(flower, running.id, "running")
    await asyncio.gather(*(worker.stop() for worker in site.workers))
    waiting = await site.enqueue()
    assert (await shows(flower, waiting.id, "on its way to a worker"))["state"] == "RECEIVED"
    page = operator.page
    await page.goto("/tasks?state=RECEIVED")
    row = page.locator(f"tr[id='{waiting.id}']")
    await row.get_by_role("button", name="Cancel SDXL Portrait for telegram:u0").click()
    await expect(page.locator(".toast-body")).to_have_text("The job was still waiting and is cancelled.")
    await expect(row).to_have_count(0)
    assert operator.alerts == [f"Cancel this job?\n\nSDXL Portrait for telegram:u0\n{waiting.id}"]
    assert (await flower.rows())[waiting.id]["state"] == "REVOKED"

    claim = {"Authorization": "Basic bm9ib2R5"}  # there is no password, so nobody is believed
    answer = await flower.http.post(f"/api/task/revoke/{running.id}", params={"terminate": "true"}, headers=claim)
    assert "No worker has been heard of lately" in answer.json()["message"]
    assert (await flower.rows())[running.id]["result"].startswith("cancelling; run ")
    await site.start_worker()
    assert (await running.wait(15)).type == "job.cancelled"
    assert [run["status"] for run in await site.runs()] == ["cancelled"]
    assert (await flower.http.post("/api/task/revoke/nobody")).status_code == 404
    async with Database.open(site.settings.redis_url) as database:
        acts = await newest(database, 2)
    assert [(act.who, act.action, act.target) for act in acts] == [
        ("flower", "cancel", waiting.id),
        ("flower", "cancel", running.id),
    ]
    assert "already ended" in (await flower.http.post(f"/api/task/revoke/{running.id}")).text


async def test_celerys_own_revoke_cancels_a_run(site: Site) -> None:
    """`app.control.revoke`, as any Celery program would say it, is heard by the workers."""
    await site.configure(durations={"video": {"median": 5000, "sigma": 0}})
    handle = await site.enqueue("Wan Video 2.1")

    async def started() -> bool:
        return bool(await site.runs(handle.id))

    await until(started, what="the run exists")
    await asyncio.to_thread(site.app.control.revoke, handle.id, terminate=True)
    assert (await handle.wait(15)).type == "job.cancelled"
