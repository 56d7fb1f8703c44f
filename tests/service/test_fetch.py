"""Outputs into a folder: from the simulator and from addresses that disappoint; and `conveyor get`, `conveyor upload`."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from producers.producer import Producer
from shared.database import Database
from shared.errors import FileUnusable, JobFailed, MissingSetting, Unavailable
from shared.jobs.event import JobError, Output, Result
from shared.jobs.record import Job
from shared.jobs.states import JobState
from shared.media import downloads
from shared.media.names import names_for
from shared.settings import Settings
from tests.service.cli_stage import Stage, conveyor
from tests.service.media_site import PNG, Site, site_open
from tests.service.worker_fixtures import PACK, READ, Api, Bench, until

pytestmark = pytest.mark.redis

PACK_WORKFLOW = "b0000000-0000-4000-8000-000000000005"


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A web site with files."""
    async with site_open() as site:
        yield site


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow each other at once."""
    monkeypatch.setattr(downloads, "FIRST_WAIT_SECONDS", 0.001)


def within(folder: Path) -> list[str]:
    """The names of a folder, hidden ones among them."""
    return sorted(path.name for path in folder.iterdir())


class Shop:
    """A producer, and jobs that have ended with outputs of the test's choice."""

    def __init__(self, bench: Bench, producer: Producer) -> None:
        self.bench, self.producer = bench, producer

    async def job(self, *outputs: Output, state: str = "succeeded") -> str:
        """A job that ended."""
        submitted = await self.bench.submit()
        error = JobError(code="upstream_failed", message="CUDA", user_message="x") if state == "failed" else None
        result = None if error else Result(outputs=list(outputs))
        assert await self.bench.engine.store.move(submitted.id, JobState.RUNNING)
        assert await self.bench.engine.store.move(submitted.id, JobState(state), result=result, error=error)
        return submitted.id


def output(url: str, filename: str | None = None, key: str = "9:images:0", **more: Any) -> Output:
    """An image, as events have it."""
    return Output(key=key, kind="image", url=url, filename=filename, **more)


@pytest.fixture
async def shop(bench: Bench, tmp_path: Path) -> AsyncIterator[Shop]:
    """A shop with a cache of its own."""
    async with AsyncExitStack() as stack:
        yield Shop(bench, await stack.enter_async_context(Producer(knobs(bench, tmp_path), bench.database)))


def knobs(bench: Bench, tmp_path: Path) -> Settings:
    """The bench's settings with a cache in the test's folder."""
    return bench.settings.model_copy(update={"cache_folder": str(tmp_path / "cache")})


async def packed(bench: Bench) -> Job:
    """A job of the pack workflow that a GPU of the simulator has carried out: private pictures, films, a text."""
    await bench.api.configure(autopilot=True, speed=500)
    submitted = await bench.submit(deployment_id=PACK)

    async def ended() -> Job | None:
        await bench.look_at_all(PACK_WORKFLOW)
        job = await bench.job(submitted.id)
        return job if job.final else None

    job = await until(ended, what="the run ends")
    await bench.api.configure(speed=50)
    assert job is not None
    assert job.result is not None, job.error
    return job


async def test_every_output_of_a_real_run_is_saved_as_what_it_is(shop: Shop, tmp_path: Path) -> None:
    """Pictures, animation, film and text; a repeat reads the cache and writes nothing."""
    job = await packed(shop.bench)
    assert job.result is not None
    saved = await shop.producer.fetch(job.id, tmp_path / "out")
    assert [one.key for one in saved] == [one.key for one in job.result.outputs]
    assert within(tmp_path / "out") == sorted(one.path.name for one in saved)
    assert {"image/png", "image/gif", "video/webm", "text/plain"} <= {one.content_type for one in saved}
    for one in saved:
        assert one.path.stat().st_size == one.size > 0
        if one.content_type == "image/png":
            Image.open(one.path).verify()
    await shop.bench.api.reset()  # the storage has nothing any more
    again = await shop.producer.fetch(job.id, tmp_path / "out")
    elsewhere = await shop.producer.fetch(job.id, tmp_path / "other")
    assert [one.written for one in again] == [False] * len(saved)
    assert [one.digest for one in elsewhere] == [one.digest for one in saved]


async def test_an_address_that_has_expired_is_renewed_by_one_read_of_the_run(
    shop: Shop, tmp_path: Path, api: Api
) -> None:
    """Whether its end is told with the output, or the storage says 403: the run is read once for all its outputs."""
    await api.configure(presigned_seconds=1)
    job = await packed(shop.bench)
    assert job.result is not None
    private = [one for one in job.result.outputs if one.url_expires_at]
    assert len(private) > 1
    await api.configure(presigned_seconds=3600)
    assert private[0].url is not None

    async def over() -> bool:
        return downloads._is_over(private[0])

    await until(over, what="the signature ends")
    await api.reset_counts()
    saved = await shop.producer.fetch(job.id, tmp_path / "out")
    assert len(saved) == len(job.result.outputs)
    assert await api.calls(READ) == 1


async def test_a_storage_that_says_403_is_asked_again_with_a_fresh_address(
    shop: Shop, tmp_path: Path, api: Api
) -> None:
    """Its clock is the one that counts, not ours. A signature that is wrong looks the same."""
    job = await packed(shop.bench)
    assert job.result is not None
    broken = [
        one.model_copy(update={"url": one.url.replace("X-Amz-Signature=", "X-Amz-Signature=0")}) if one.url else one
        for one in job.result.outputs
    ]
    key = shop.bench.database.keys.job(job.id)
    await shop.bench.database.redis.hset(key, "result", Result(outputs=broken).model_dump_json())
    await api.reset_counts()
    assert len(await shop.producer.fetch(job.id, tmp_path / "out")) == len(broken)
    assert await api.calls(READ) == 1


async def test_without_a_key_an_expired_address_says_what_is_missing(
    shop: Shop, tmp_path: Path, site: Site, database: Database
) -> None:
    """A producer may do without a key, but not for this."""
    job_id = await shop.job(output(site.at("forbidden.png")))
    settings = knobs(shop.bench, tmp_path).model_copy(update={"api_key": None})
    async with Producer(settings, database) as producer:
        with pytest.raises(MissingSetting, match="COMFY_DEPLOY_API_KEY"):
            await producer.fetch(job_id, tmp_path / "out")


async def test_what_a_run_no_longer_has_is_refused(shop: Shop, tmp_path: Path, site: Site) -> None:
    """The storage says no, and the run has no such output."""
    job_id = await shop.job(output(site.at("forbidden.png")))
    with pytest.raises(FileUnusable, match="does not have it any more"):
        await shop.producer.fetch(job_id, tmp_path / "out")


@pytest.mark.parametrize("path", ["page.png", "error.png"])
async def test_an_error_page_is_never_saved_as_a_picture(shop: Shop, tmp_path: Path, site: Site, path: str) -> None:
    """Status 200 and a name that ends in `.png` prove nothing; nothing stays of it."""
    job_id = await shop.job(output(site.at(path), "fox.png"), output(site.at("good.png"), "good.png", "9:images:1"))
    with pytest.raises(FileUnusable, match=r"fox\.png: .* in place of the file"):
        await shop.producer.fetch(job_id, tmp_path / "out")
    assert within(tmp_path / "out") == ["good.png"]
    assert not list((tmp_path / "cache" / "partial").iterdir())


@pytest.mark.parametrize("path", ["page.png", "error.png"])
async def test_a_message_in_place_of_a_file_without_a_magic_number_is_refused(
    shop: Shop, tmp_path: Path, site: Site, path: str
) -> None:
    """Who asks for weights does not want to hear "sign in", in HTML or JSON."""
    job_id = await shop.job(output(site.at(path), "weights.bin"))
    with pytest.raises(FileUnusable, match="a page came"):
        await shop.producer.fetch(job_id, tmp_path / "out")


@pytest.mark.usefixtures("quick")
async def test_trouble_on_the_way_is_tried_again_and_ends(shop: Shop, tmp_path: Path, site: Site) -> None:
    """Two refusals for want of time, then the file; a file that always comes short is given up, and not kept."""
    site.busy["fox.png"] = 2
    await shop.producer.fetch(await shop.job(output(site.at("fox.png"))), tmp_path / "out")
    assert (tmp_path / "out" / "fox.png").read_bytes() == PNG
    short = await shop.job(output(site.at("short.png")))
    with pytest.raises(Unavailable):
        await shop.producer.fetch(short, tmp_path / "short")
    assert site.asked.count("/short.png") == downloads.TRIES
    assert not (tmp_path / "short").exists()


async def test_a_file_of_another_content_is_left_alone_unless_forced(shop: Shop, tmp_path: Path, site: Site) -> None:
    """Also when it is a link that leads elsewhere: the link is replaced, not what it leads to."""
    job_id = await shop.job(output(site.at("fox.png")))
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "fox.png").symlink_to(tmp_path / "mine.txt")
    with pytest.raises(FileUnusable, match="exists and is another file"):
        await shop.producer.fetch(job_id, tmp_path / "out")
    await shop.producer.fetch(job_id, tmp_path / "out", force=True)
    assert (tmp_path / "out" / "fox.png").read_bytes() == PNG
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert within(tmp_path / "out") == ["fox.png"]


async def test_a_damaged_file_of_the_cache_is_fetched_again(shop: Shop, tmp_path: Path, site: Site) -> None:
    """What comes out is what the run made, whatever happened to the disk."""
    job_id = await shop.job(output(site.at("fox.png")))
    await shop.producer.fetch(job_id, tmp_path / "one")
    next((tmp_path / "cache" / "content").rglob("*/*")).write_bytes(b"\0" * len(PNG))
    await shop.producer.fetch(job_id, tmp_path / "two")
    assert (tmp_path / "two" / "fox.png").read_bytes() == PNG


async def test_a_stopped_download_leaves_nothing(shop: Shop, tmp_path: Path, site: Site) -> None:
    """Neither in the folder nor in the cache; the next one begins anew."""
    job_id = await shop.job(output(site.at("endless.png")))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await shop.producer.fetch(job_id, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


async def test_only_a_job_that_succeeded_has_outputs(shop: Shop, tmp_path: Path) -> None:
    """One that goes on may be asked again; one that failed says why."""
    going_on = await shop.bench.submit()
    with pytest.raises(Unavailable, match="not ended yet"):
        await shop.producer.fetch(going_on.id, tmp_path)
    with pytest.raises(JobFailed, match="CUDA"):
        await shop.producer.fetch(await shop.job(state="failed"), tmp_path)


def test_names_are_safe_and_each_is_there_once() -> None:
    """Two nodes name their files alike, a third by a path, a text has none; a repeat gives the same."""
    outputs = [
        output("https://b.test/1", "fox.png"),
        output("https://b.test/2", "FOX.png", "10:images:0"),
        output("https://b.test/3", "../../fox.png", "11:images:0"),
        output("https://b.test/o/a%20b.webp?x=1", None, "12:images:0"),
        output("https://b.test/", None, "13:files:0"),
        Output(key="14:text:0", kind="text", text="a caption"),
    ]
    names = ["fox.png", "FOX-2.png", "fox-3.png", "a b.webp", "13_files_0", "14_text_0.txt"]
    assert names_for(outputs) == names_for(outputs) == names


# -- the command line -------------------------------------------------------------------------------------------------


class Counter:
    """Jobs on the stage of the command line, whose files are on a site in another thread's loop."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def job(self, *outputs: Output) -> str:
        """A job that succeeded with these outputs."""
        done = conveyor("enqueue", "--deployment", PACK, "--json")
        job_id = str(json.loads(done.stdout)["job_id"])
        self.stage.run(job_id)

        async def end(database: Database) -> None:
            from shared.jobs.store import JobStore  # noqa: PLC0415

            await JobStore(database).move(job_id, JobState.SUCCEEDED, result=Result(outputs=list(outputs)))

        self.stage.with_database(end)
        return job_id


@pytest.fixture
def counter(stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Counter:
    """A stage with a cache of its own, in a folder of its own."""
    monkeypatch.setenv("CONVEYOR_CACHE_FOLDER", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return Counter(stage)


@pytest.fixture
def picture(simulator: str) -> str:
    """The address of a picture that has been uploaded to the simulator."""
    import httpx  # noqa: PLC0415

    answer = httpx.post(
        f"{simulator}/api/file/upload",
        files={"file": ("fox.png", PNG)},
        headers={"Authorization": "Bearer sim-key"},
        trust_env=False,
    )
    return str(answer.json()["file_url"])


def test_get_saves_and_says_where(counter: Counter, picture: str, tmp_path: Path) -> None:
    """Lines for people, JSON for programs, a folder of the job's id without `-o`; 0."""
    job_id = counter.job(output(picture, "fox.png"), Output(key="9:text:0", kind="text", text="a caption"))
    first = conveyor("get", job_id)
    assert first.exit_code == 0, first.output
    assert first.stdout.splitlines()[0] == f"{job_id}/fox.png  image/png, {len(PNG):,} bytes"
    assert (tmp_path / job_id / "9_text_0.txt").read_text() == "a caption"
    again = [json.loads(line) for line in conveyor("get", job_id, "-o", job_id, "--json").stdout.splitlines()]
    assert [one["written"] for one in again] == [False, False]
    assert (again[0]["key"], again[0]["content_type"], again[0]["size"]) == ("9:images:0", "image/png", len(PNG))


def test_get_leaves_other_files_alone_without_force(counter: Counter, picture: str, tmp_path: Path) -> None:
    """2, and the name of the file; with `--force` it is replaced."""
    job_id = counter.job(output(picture, "fox.png"))
    (tmp_path / "fox.png").write_text("mine")
    refused = conveyor("get", job_id, "-o", ".")
    assert (refused.exit_code, (tmp_path / "fox.png").read_text()) == (2, "mine")
    assert "fox.png exists" in refused.stderr
    assert conveyor("get", job_id, "-o", ".", "--force").exit_code == 0
    assert (tmp_path / "fox.png").read_bytes() == PNG


def test_get_leaves_with_the_code_of_what_happened(counter: Counter, stage: Stage) -> None:
    """1 for a job that failed, 2 for none, 3 for one that goes on or an address that does not answer."""
    job_id = str(json.loads(conveyor("enqueue", "--deployment", PACK, "--json").stdout)["job_id"])
    assert conveyor("get", job_id).exit_code == 3
    stage.run(job_id)
    stage.fail(job_id)
    failed = conveyor("get", job_id, "--wait")
    assert (failed.exit_code, failed.stderr.strip()) == (1, "upstream_failed: CUDA out of memory")
    assert conveyor("get", "01a1fb4b-efc2-79a1-94b1-f3ed4809d12e").exit_code == 2


def test_upload_prints_the_address(
    counter: Counter, simulator: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """For a file and, refused, for what is none or is in our own network."""
    monkeypatch.setenv("COMFY_DEPLOY_API_URL", f"{simulator}/api")
    monkeypatch.setenv("COMFY_DEPLOY_API_KEY", "sim-key")
    (tmp_path / "fox.txt").write_bytes(PNG)
    first = conveyor("upload", "fox.txt")
    assert first.exit_code == 0, first.output
    again = json.loads(conveyor("upload", "fox.txt", "--json").stdout)
    assert (again["url"], again["known"], again["filename"]) == (first.stdout.strip(), True, "fox.png")
    for source in ("none.png", f"{simulator}/x.png"):
        assert conveyor("upload", source).exit_code == 2


def test_an_hour_is_an_hour() -> None:
    """An address is over when the event says so, even if it tells nothing itself."""
    past, later = (datetime.now(UTC) + timedelta(seconds=n) for n in (-1, 60))
    assert downloads._is_over(output("https://b.test/a.png", url_expires_at=past))
    assert not downloads._is_over(output("https://b.test/a.png", url_expires_at=later))
    assert not downloads._is_over(output("https://b.test/a.png"))
