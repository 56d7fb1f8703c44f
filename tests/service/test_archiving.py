"""What jobs made is copied to where it lasts: into a folder, and into a real S3 (moto's server)."""

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from producers.producer import Producer
from shared.archive.archive import Archive, folder_of
from shared.archive.folder import Folder
from shared.archive.s3 import Bucket
from shared.archive.shelf import Shelf
from shared.database import Database
from shared.errors import FileUnusable, JobNotFound, TellOperator, Unavailable
from shared.identifiers import new_job_id
from shared.jobs.event import Output, Result
from shared.jobs.record import Job
from shared.jobs.states import JobState
from shared.jobs.store import JobStore
from shared.media import downloads
from tasks import archiving
from tasks.archiving import LEASE_SECONDS, LOST_AFTER, Archivist
from tasks.patience import KEEP_TRYING_SECONDS
from tests.redis.stage import Clock, put, submit, take
from tests.service.cli_stage import Stage, conveyor
from tests.service.media_site import PNG, Site, site_open
from tests.service.s3_server import s3_open
from tests.service.test_fetch import output, packed
from tests.service.worker_fixtures import READ, Api, Bench, until
from workers.archiving import Archiving
from workers.ticker import Ticker
from workers.upkeep import Upkeep

pytestmark = pytest.mark.redis

SECRET = "s3cr3t-key-of-the-bucket"


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    """A store for all tests of this file."""
    with s3_open() as url:
        yield url


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An archive's address in that store; the way there and the credentials are in the environment."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "conveyor")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return f"s3://pictures/{new_job_id()}"


@pytest.fixture(params=["folder", "s3"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An archive's address, as `CONVEYOR_ARCHIVE` has it."""
    return str(tmp_path / "archive") if request.param == "folder" else str(request.getfixturevalue("s3"))


@pytest.fixture
async def site(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    """A web site with files; tries follow each other at once."""
    monkeypatch.setattr(downloads, "FIRST_WAIT_SECONDS", 0.001)
    async with site_open() as site:
        yield site


class Worker:
    """A worker that archives, and jobs that have ended with outputs of the test's choice."""

    def __init__(self, bench: Bench, address: str, cache: Path) -> None:
        self.bench = bench.another(CONVEYOR_ARCHIVE=address, CONVEYOR_CACHE_FOLDER=str(cache))
        self.engine = self.bench.engine
        assert self.engine.archive
        self.archive = self.engine.archive
        self.archivist = Archivist(self.engine, self.archive)
        self.producer = Producer(self.bench.settings, bench.database)

    async def job(self, *outputs: Output) -> str:
        """A job that succeeded."""
        submitted = await self.bench.submit()
        assert await self.engine.store.move(submitted.id, JobState.SUCCEEDED, result=Result(outputs=list(outputs)))
        return submitted.id

    async def tick(self) -> int:
        """Attempt what is due, and answer how many that were."""
        due = await self.engine.lanes.overdue("archives", again_seconds=LEASE_SECONDS)
        for job_id in due:
            await self.archivist.attempt(job_id)
        return len(due)

    async def state(self, job_id: str) -> dict[str, Any]:
        """The archiving as `status` shows it."""
        snapshot = (await self.bench.job(job_id)).snapshot()["archive"]
        assert isinstance(snapshot, dict)
        return snapshot


Hire = Callable[[str], Worker]


@pytest.fixture
async def hire(bench: Bench, tmp_path: Path) -> AsyncIterator[Hire]:
    """Workers with an archive somewhere, each with a cache of its own."""
    hired: list[Worker] = []

    def hire(address: str) -> Worker:
        hired.append(Worker(bench, address, tmp_path / f"cache {len(hired)}"))
        return hired[-1]

    yield hire
    for worker in hired:
        await worker.archivist.aclose()
        await worker.producer.aclose()


@pytest.fixture
def worker(hire: Hire, tmp_path: Path) -> Worker:
    """One with a folder."""
    return hire(str(tmp_path / "archive"))


# -- the two places -----------------------------------------------------------------------------------------------------


@pytest.fixture
def shelf(address: str) -> Shelf:
    """A place for copies."""
    return Archive.open(address)._shelf


async def content(shelf: Shelf, name: str, size: int) -> bytes:
    """A kept file."""
    return b"".join([piece async for piece in shelf.read(name, size)])


async def test_a_place_keeps_replaces_finds_and_erases(shelf: Shelf, address: str) -> None:
    """Names in any script; a file of several parts; erasing one folder leaves the one whose name goes on."""
    assert isinstance(shelf, Bucket if address.startswith("s3:") else Folder)
    large = bytes(range(256)) * 80_000  # 20 MB
    await shelf.put("day/a/größe 1.png", io.BytesIO(b"old"), "image/png")
    await shelf.put("day/a/größe 1.png", io.BytesIO(large), "image/png")
    await shelf.put("day/a/b.txt", io.BytesIO(b""), "text/plain")
    await shelf.put("day/ab/c.txt", io.BytesIO(b"c"), "text/plain")
    await shelf.tidy("day/a")

    assert await content(shelf, "day/a/größe 1.png", len(large)) == large
    assert shelf.address("day/a/b.txt") == f"{address}/day/a/b.txt"
    assert await shelf.find("day/a/b.txt", 10) == b""
    assert await shelf.find("day/a/größe 1.png", 10) is None
    assert await shelf.find("day/a/none", 10) is None
    with pytest.raises(FileUnusable, match="not in the archive"):
        await content(shelf, "day/a/none", 5)
    assert [await shelf.erase("day/a"), await shelf.erase("day/a"), await shelf.erase("none")] == [2, 0, 0]
    assert await shelf.find("day/a/b.txt", 10) is None
    assert await shelf.find("day/ab/c.txt", 10) == b"c"


async def test_a_folder_that_cannot_be_written_is_for_the_operator(tmp_path: Path) -> None:
    """The message says what and where to look, and nothing half is left."""
    (tmp_path / "taken").write_text("a file, not a folder")
    shelf = Folder(tmp_path / "taken")
    for deed in (shelf.put("a/b", io.BytesIO(b"x"), "text/plain"), shelf.find("a/b", 5), content(shelf, "a/b", 5)):
        with pytest.raises(TellOperator, match="CONVEYOR_ARCHIVE"):
            await deed


async def test_a_killed_writer_leaves_nothing_that_counts(tmp_path: Path) -> None:
    """What it began has a name no output has, is not counted, and goes with the next job's list."""
    shelf = Folder(tmp_path)
    (tmp_path / "day/a").mkdir(parents=True)
    (tmp_path / "day/a/.partial-1").write_bytes(b"half")
    await shelf.put("day/a/b", io.BytesIO(b"x"), "text/plain")
    await shelf.tidy("day/a")
    assert [path.name for path in (tmp_path / "day/a").iterdir()] == ["b"]


async def test_trouble_of_a_store_is_told_in_words_of_ours(
    s3: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No such bucket is for the operator, a store that is away may come back; neither quotes an address or a key."""
    wrong = Archive.open("s3://no-such-bucket/prefix")
    with pytest.raises(TellOperator, match="NoSuchBucket") as refused:
        await wrong.keep(new_job_id(), "fox.png", io.BytesIO(PNG), "image/png")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("shared.archive.s3.MOST_RETRIES", 0)
    with pytest.raises(Unavailable) as away:
        await Archive.open(s3).find(new_job_id())
    told = f"{refused.value} {away.value} {caplog.text}"
    assert "127.0.0.1" not in told
    assert SECRET not in told


@pytest.mark.parametrize("job_id", ["", "..", "../../etc", "01a1fb52", "{01a1fb52-f096-76b3-915b-49e82266f9cd}"])
async def test_what_is_no_jobs_id_leads_nowhere(tmp_path: Path, job_id: str) -> None:
    """It comes from a command line: nothing is read, and nothing is erased."""
    archive = Archive.open(str(tmp_path))
    assert await archive.find(job_id) is None
    with pytest.raises(ValueError, match=r".+"):
        await archive.erase(job_id)


def test_a_jobs_folder_follows_from_its_id_alone() -> None:
    """Its day, and then itself."""
    assert folder_of("01a1fb52-f096-76b3-915b-49e82266f9cd") == "2026-11-20/01a1fb52-f096-76b3-915b-49e82266f9cd"
    assert folder_of("ffffffff-ffff-7fff-bfff-ffffffffffff").startswith("undated/")


# -- copied -------------------------------------------------------------------------------------------------------------


async def test_every_output_of_a_run_outlives_its_address_and_its_record(
    hire: Hire, address: str, tmp_path: Path, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    """A ticker copies pictures, films and texts after the end; then storage, run and record may go."""
    caplog.set_level(logging.DEBUG)
    worker = hire(address)
    job = await packed(worker.bench)
    ticker = asyncio.create_task(Ticker(worker.engine).run())

    async def kept() -> Job | None:
        found = await worker.bench.job(job.id)
        return found if found.archive and found.archive.state == "kept" else None

    found = await until(kept, what="the outputs are archived")
    worker.engine.stopping.set()
    await ticker
    assert found is not None
    assert found.archive is not None
    assert found.result is not None
    assert set(found.archive.copies) == {one.key for one in found.result.outputs if one.url}
    redis, keys = worker.bench.database.redis, worker.bench.database.keys
    assert await redis.zcard(keys.archives) == 0
    assert await redis.ttl(keys.job(job.id)) > 0
    [first, *_] = (await worker.state(job.id))["files"].values()
    assert first.startswith(f"{address}/{folder_of(job.id)}/")
    fresh = await worker.producer.fetch(job.id, tmp_path / "fresh")

    await api.reset()  # neither the storage nor the API has anything any more
    later = hire(address)
    dead = await later.producer.fetch(job.id, tmp_path / "dead")
    await redis.delete(keys.job(job.id))
    gone = await later.producer.fetch(job.id, tmp_path / "gone")

    seen = [[(one.key, one.path.name, one.digest) for one in saved] for saved in (fresh, dead, gone)]
    assert seen[0] == seen[1] == seen[2]
    assert len(fresh) == len(found.result.outputs)
    files = len(found.archive.copies)
    assert await worker.archive.erase(job.id) == files + 1
    with pytest.raises(JobNotFound):
        await hire(address).producer.fetch(job.id, tmp_path / "erased")
    assert SECRET not in caplog.text


async def test_the_final_event_does_not_wait_for_the_copies(worker: Worker, site: Site) -> None:
    """It is on the stream while the copies are due."""
    job_id = await worker.job(output(site.at("fox.png")))

    assert (await worker.bench.told(job_id))[-1] == "succeeded"
    assert site.asked == []
    assert (await worker.state(job_id))["state"] == "pending"
    assert await worker.bench.database.redis.ttl(worker.bench.database.keys.job(job_id)) == -1


async def test_nothing_is_due_for_a_job_that_made_nothing(worker: Worker, bench: Bench) -> None:
    """Nor for one that failed, nor where there is no archive."""
    other = await bench.submit()
    await bench.engine.store.move(other.id, JobState.SUCCEEDED, result=Result(outputs=[output("http://x/y.png")]))
    job_id = await worker.bench.enqueue()
    await worker.engine.store.cancel(job_id)

    assert await worker.tick() == 0
    assert (await bench.job(other.id)).snapshot()["archive"] is None


async def test_what_is_missing_is_tried_again_and_only_that(worker: Worker, site: Site) -> None:
    """A storage in trouble: the other output is copied and shown, the next attempt asks for the missing one alone."""
    site.busy["busy/fox.png"] = downloads.TRIES
    job_id = await worker.job(output(site.at("fine.png")), output(site.at("busy/fox.png"), key="9:images:1"))
    await worker.tick()

    first = await worker.state(job_id)
    assert (first["state"], first["attempts"], list(first["files"])) == ("pending", 1, ["9:images:0"])
    assert "fox.png: The file could not be read: HTTP 503." in first["last_error"]
    assert first["next_at"] > 0
    site.asked.clear()
    await worker.bench.database.redis.zadd(worker.bench.database.keys.archives, {job_id: 0})
    assert await worker.tick() == 1

    after = await worker.state(job_id)
    assert (after["state"], after["last_error"], len(after["files"])) == ("kept", None, 2)
    assert site.asked == ["/busy/fox.png"]


async def test_what_is_gone_is_given_up_and_the_rest_is_kept(worker: Worker, site: Site, tmp_path: Path) -> None:
    """After a few tries: an error page is no picture. `get` says which output it does not have."""
    job_id = await worker.job(output(site.at("page.png")), output(site.at("good.png"), key="9:images:1"))
    for _ in range(LOST_AFTER):
        assert (await worker.state(job_id))["state"] == "pending"
        await worker.bench.database.redis.zadd(worker.bench.database.keys.archives, {job_id: 0})
        await worker.tick()

    state = await worker.state(job_id)
    assert (state["state"], list(state["files"])) == ("failed", ["9:images:1"])
    assert "page.png: a page came in place of the file" in state["last_error"] or "in place" in state["last_error"]
    await worker.bench.database.redis.delete(worker.bench.database.keys.job(job_id))
    with pytest.raises(FileUnusable, match=r"page\.png: there is neither an address nor a copy"):
        await worker.producer.fetch(job_id, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.png"]


async def test_an_archive_that_stays_away_is_given_up_after_a_day(
    worker: Worker, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Less and less often; then the record has its usual life, and `status` says why."""

    async def full(*_: Any) -> None:
        raise TellOperator("The archive cannot be written: No space left on device.", check="the disk")

    monkeypatch.setattr(worker.archive, "keep", full)
    clock = await Clock.of(worker.bench.database)
    job_id = await worker.job(output(site.at("fox.png")))
    attempts = 0
    while (state := await worker.state(job_id))["state"] == "pending":
        await clock.advance(max(0.0, state["next_at"] - clock.now_ms / 1000))
        attempts += await worker.tick()

    assert state["state"] == "failed"
    assert "No space left" in state["last_error"]
    assert 25 <= attempts == state["attempts"] <= 40
    assert await worker.bench.database.redis.ttl(worker.bench.database.keys.job(job_id)) > 0
    assert KEEP_TRYING_SECONDS == 86_400


async def test_an_address_that_has_expired_is_renewed(worker: Worker, api: Api) -> None:
    """An attempt that comes after the hour reads the run once for all its outputs."""
    await api.configure(presigned_seconds=1)
    job = await packed(worker.bench)
    assert job.result is not None
    private = [one for one in job.result.outputs if one.url_expires_at]
    await api.configure(presigned_seconds=3600)

    async def over() -> bool:
        return downloads._is_over(private[0])

    await until(over, what="the signature ends")
    await api.reset_counts()
    await worker.tick()
    assert (await worker.state(job.id))["state"] == "kept"
    assert await api.calls(READ) == 1


async def test_a_worker_that_stops_gives_back_what_it_copies(worker: Worker, site: Site) -> None:
    """A film may take longer than a stopping process has: another worker begins at once."""
    job_id = await worker.job(output(site.at("endless.png")))
    copying = Archiving(worker.engine, worker.archive)
    await copying.archive_due()

    async def asked() -> bool:
        return bool(site.asked)

    await until(asked, what="it is being copied")
    assert await worker.engine.lanes.overdue("archives") == []
    await copying.aclose()
    assert await worker.engine.lanes.overdue("archives") == [job_id]


async def test_a_lease_is_renewed_for_as_long_as_it_is_copied(
    worker: Worker, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else begins while one is at it."""
    monkeypatch.setattr(archiving, "RENEW_SECONDS", 0.01)
    job_id = await worker.job(output(site.at("endless.png")))
    redis, archives = worker.bench.database.redis, worker.bench.database.keys.archives
    attempt = asyncio.create_task(worker.archivist.attempt(job_id))
    await redis.zadd(archives, {job_id: 0})

    async def later() -> bool:
        return float(await redis.zscore(archives, job_id) or 0) > 0

    await until(later, what="the lease is renewed")
    attempt.cancel()
    await asyncio.gather(attempt, return_exceptions=True)


async def test_an_attempt_has_an_end(worker: Worker, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """And so has a mistake of ours: both are tried again, with an end."""
    monkeypatch.setattr(archiving, "ATTEMPT_SECONDS", 0.1)
    slow = await worker.job(output(site.at("endless.png")))
    await worker.tick()
    assert "not ready after" in (await worker.state(slow))["last_error"]

    monkeypatch.undo()

    async def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(worker.archive, "keep", broken)
    wrong = await worker.job(output(site.at("fox.png")))
    await worker.tick()
    state = await worker.state(wrong)
    assert (state["state"], state["last_error"]) == ("pending", "ZeroDivisionError")


async def test_copies_made_while_their_job_was_erased_are_erased(worker: Worker, site: Site, tmp_path: Path) -> None:
    """Whoever erases a user's data forgets the record first; a copy that comes later does not stay."""
    job_id = await worker.job(output(site.at("fox.png")))
    real = worker.archive.conclude

    async def meanwhile(*args: Any) -> None:
        await real(*args)
        await worker.bench.database.redis.delete(worker.bench.database.keys.job(job_id))
        assert await worker.archive.erase(job_id) == 2
        await real(*args)

    worker.archive.conclude = meanwhile  # type: ignore[method-assign]
    await worker.tick()
    assert not list((tmp_path / "archive").rglob("*.*"))


async def test_an_archive_that_is_set_no_more_holds_no_record(worker: Worker, bench: Bench, site: Site) -> None:
    """Workers without one decide what nobody has taken for an hour, and say why; sooner, another may have one."""
    job_id = await worker.job(output(site.at("fox.png")))
    upkeep = Upkeep(bench.engine)
    await upkeep.give_up_archives()
    assert (await worker.state(job_id))["state"] == "pending"
    await worker.bench.past(job_id, 3601, "archive_next_at")
    await bench.database.redis.zadd(bench.database.keys.archives, {job_id: 0})
    await upkeep.give_up_archives()

    state = await worker.state(job_id)
    assert (state["state"], state["last_error"]) == ("failed", "CONVEYOR_ARCHIVE is not set any more")
    assert await bench.database.redis.ttl(bench.database.keys.job(job_id)) > 0


async def test_a_damaged_copy_is_noticed_and_a_fresh_address_is_asked_for(
    worker: Worker, site: Site, tmp_path: Path, api: Api
) -> None:
    """The SHA-256 is checked; what is wrong is not saved."""
    job = await packed(worker.bench)
    await worker.tick()
    folder = Path(worker.archive.address(job.id))
    for copy in (await worker.bench.job(job.id)).archive.copies.values():
        (folder / copy.name).write_bytes(b"x" * copy.size)
    assert job.result is not None
    expired = [one.model_copy(update={"url_expires_at": datetime.now(UTC)}) for one in job.result.outputs]
    unsigned = [one.model_copy(update={"url": one.url and one.url.partition("?")[0]}) for one in expired]
    key = worker.bench.database.keys.job(job.id)
    await worker.bench.database.redis.hset(key, "result", Result(outputs=unsigned).model_dump_json())
    await api.reset_counts()
    assert len(await worker.producer.fetch(job.id, tmp_path / "out")) == len(job.result.outputs)
    assert await api.calls(READ) == 1


def test_the_command_line_says_where_the_copies_are(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """`conveyor status`: how far it is, where, and why something is missing."""
    monkeypatch.setenv("REDIS_URL", stage.url)
    copies = '{"9:images:0": {"name": "fox.png", "size": 7, "digest": "ab", "content_type": "image/png"}}'

    async def ended(database: Database) -> str:
        store, job_id = JobStore(database, archives=True), await put(database)
        await take(database)
        await submit(database, job_id)
        await store.move(job_id, JobState.SUCCEEDED, result=Result(outputs=[output("http://x/fox.png")]))
        await store.begin_errand(job_id, "archive")
        found = {"archive_at": "s3://pictures/day/job", "archive_copies": copies, "archive_error": "b.png: HTTP 503"}
        await store.settle_errand(job_id, "archive", "again", found, again_seconds=60)
        return job_id

    job_id = stage.with_database(ended)
    shown = conveyor("status", job_id).output
    assert "archive    pending, 1 file in s3://pictures/day/job, b.png: HTTP 503; next at " in shown
    told = json.loads(conveyor("status", job_id, "--json").output)["archive"]
    assert told["files"] == {"9:images:0": "s3://pictures/day/job/fox.png"}
