"""By HTTP a job's files have addresses that do not end: copies from the archive, else a fresh address of the API."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.jobs.event import Output
from shared.media import downloads
from tests.service.gateway_fixtures import API_KEYS, Gateway, Open
from tests.service.media_site import PNG, Site, site_open
from tests.service.test_archiving import Worker
from tests.service.test_fetch import output, packed
from tests.service.worker_fixtures import READ, Api, Bench, until

pytestmark = pytest.mark.redis


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A web site with files."""
    async with site_open() as site:
        yield site


@pytest.fixture
async def worker(bench: Bench, tmp_path: Path) -> AsyncIterator[Worker]:
    """A worker with a folder."""
    worker = Worker(bench, str(tmp_path / "archive"), tmp_path / "cache")
    yield worker
    await worker.archivist.aclose()
    await worker.producer.aclose()


@pytest.fixture
async def shop(worker: Worker, open_gateway: Open) -> Gateway:
    """A gateway that has the worker's archive, and keys."""
    settings = worker.bench.settings
    return await open_gateway(
        CONVEYOR_ARCHIVE=settings.archive,
        CONVEYOR_API_KEYS=API_KEYS,
        COMFY_DEPLOY_API_URL=settings.api_url,
        COMFY_DEPLOY_API_KEY="sim-key",
        CONVEYOR_RATE_PER_SECOND="1000",
        CONVEYOR_RATE_BURST="1000",
    )


async def test_a_copy_is_sent_as_long_as_the_archive_keeps_it(shop: Gateway, worker: Worker, site: Site) -> None:
    """With its type, its name and how long it may be kept; for its frontend alone, also when the record is gone."""
    text = Output(key="4:text:0", kind="text", text="a fox\n")
    job_id = await worker.job(output(site.at("größe.png"), "größe.png"), text)
    path = f"/v1/jobs/{job_id}/outputs/9:images:0"
    early = await shop.http.get(path)
    await worker.tick()
    site.asked.clear()

    for gone in (False, True):
        if gone:
            await worker.bench.database.redis.delete(worker.bench.database.keys.job(job_id))
        answer = await shop.http.get(path)
        assert (answer.status_code, answer.content) == (200, PNG)
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["content-length"] == str(len(PNG))
        assert answer.headers["content-disposition"] == "inline; filename*=UTF-8''gr%C3%B6%C3%9Fe.png"
        assert answer.headers["cache-control"].startswith("private")
        said = await shop.http.get(f"/v1/jobs/{job_id}/outputs/4:text:0")
        assert (said.text, said.headers["content-type"]) == ("a fox\n", "text/plain; charset=utf-8")
        assert (await shop.http.get(f"/v1/jobs/{job_id}/outputs/9:images:1")).status_code == 404
        async with shop.client("telegram") as other:
            assert (await other.get(path)).status_code == 404
    assert site.asked == []
    assert (early.status_code, early.headers["location"]) == (307, site.at("gr%C3%B6%C3%9Fe.png"))


async def test_what_a_browser_could_run_is_saved_and_not_shown(shop: Gateway, worker: Worker, site: Site) -> None:
    """A drawing with scripts, or a page, that a run made must not act as one of ours."""
    site.other["a.svg"] = (b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>", "image/svg+xml")
    job_id = await worker.job(output(site.at("a.svg"), "a.svg"))
    await worker.tick()

    answer = await shop.http.get(f"/v1/jobs/{job_id}/outputs/9:images:0")
    assert answer.headers["content-disposition"].startswith("attachment;")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


async def test_without_a_copy_a_fresh_address_is_given(shop: Gateway, worker: Worker, api: Api) -> None:
    """One call of the API; without a run upstream it is not found."""
    await api.configure(presigned_seconds=1)
    job = await packed(worker.bench)
    assert job.result is not None
    private = next(one for one in job.result.outputs if one.url_expires_at)
    await api.configure(presigned_seconds=3600)

    async def over() -> bool:
        return downloads._is_over(private)

    await until(over, what="the signature ends")
    await api.reset_counts()
    path = f"/v1/jobs/{job.id}/outputs/{private.key}"
    answer = await shop.http.get(path)
    assert answer.status_code == 307
    assert answer.headers["location"] != private.url
    assert await api.calls(READ) == 1
    await api.reset()
    assert (await shop.http.get(path)).status_code == 404


async def test_a_copy_that_was_deleted_is_no_end(shop: Gateway, worker: Worker, site: Site) -> None:
    """The answer leads to where the API has the file."""
    job_id = await worker.job(output(site.at("fox.png")))
    await worker.tick()
    await worker.archive.erase(job_id)
    answer = await shop.http.get(f"/v1/jobs/{job_id}/outputs/9:images:0")
    assert (answer.status_code, answer.headers["location"]) == (307, site.at("fox.png"))


async def test_the_status_says_where_the_copies_are(shop: Gateway, worker: Worker, site: Site) -> None:
    """As the operator's tools take it."""
    job_id = await worker.job(output(site.at("fox.png")))
    await worker.tick()
    archive = (await shop.http.get(f"/v1/jobs/{job_id}")).json()["archive"]
    assert (archive["state"], archive["attempts"], archive["last_error"]) == ("kept", 1, None)
    assert archive["files"] == {"9:images:0": f"{worker.archive.address(job_id)}/fox.png"}
