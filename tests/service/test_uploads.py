"""Uploads through the simulator: one call for one content, whoever asks and whoever dies; and nothing that is not a file."""

import asyncio
import io
import logging
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from shared.comfydeploy import ComfyDeploy
from shared.database import Database
from shared.errors import InvalidInput, Unavailable
from shared.limits.bucket import TokenBucket
from shared.media import uploads as module
from shared.media.sources import Source
from shared.media.uploads import Uploads
from shared.settings import Settings
from tests.service.media_site import PNG, Site, site_open
from tests.service.worker_fixtures import Api

pytestmark = pytest.mark.redis

UPLOAD = "POST /file/upload"


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A web site with files."""
    async with site_open() as site:
        yield site


class Processes:
    """Uploads as several processes would have them: each with a client and a bucket of its own."""

    def __init__(self, api: Api, database: Database, stack: AsyncExitStack) -> None:
        self._api, self._database, self._stack = api, database, stack

    async def open(self, *, allow_private: bool = True, key: str = "sim-key") -> Uploads:
        url = f"{self._api.url}/api"
        settings = Settings.from_env({"COMFY_DEPLOY_API_URL": url, "COMFY_DEPLOY_API_KEY": key})
        client = await self._stack.enter_async_context(ComfyDeploy(url, key))
        bucket = TokenBucket(self._database, settings)
        return await self._stack.enter_async_context(
            Uploads(self._database, bucket, client, settings.account, allow_private=allow_private)
        )


@pytest.fixture
async def processes(api: Api, database: Database) -> AsyncIterator[Processes]:
    """Opens uploads, and closes them at the end."""
    async with AsyncExitStack() as stack:
        yield Processes(api, database, stack)


async def fetched(url: str) -> bytes:
    """What an address holds."""
    async with httpx.AsyncClient(trust_env=False) as http:
        return (await http.get(url)).raise_for_status().content


async def test_every_kind_of_source_ends_at_the_same_address(
    processes: Processes, api: Api, site: Site, tmp_path: Path
) -> None:
    """Bytes, a path, an open file, one that cannot seek, an address: the same content is uploaded once."""
    uploads = await processes.open()
    (tmp_path / "fox.png").write_bytes(PNG)

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    sources: list[Source] = [PNG, tmp_path / "fox.png", io.BytesIO(PNG), Pipe(PNG), site.at("moved")]
    kept = [await uploads.upload(source) for source in sources]
    assert len({one.url for one in kept}) == 1
    assert [one.known for one in kept] == [False, True, True, True, True]
    assert {(one.content_type, one.size) for one in kept} == {("image/png", len(PNG))}
    assert await fetched(kept[0].url) == PNG
    assert await api.calls(UPLOAD) == 1


async def test_fifty_at_once_in_two_processes_make_one_call(processes: Processes, api: Api) -> None:
    """One uploads, the others wait for its address."""
    both = [await processes.open(), await processes.open()]
    await api.fault("latency", UPLOAD, seconds=0.3)
    kept = await asyncio.gather(*(both[n % 2].upload(PNG, f"{n}.png") for n in range(50)))
    assert len({one.url for one in kept}) == 1
    assert sum(not one.known for one in kept) == 1
    assert await api.calls(UPLOAD) == 1


async def test_another_account_uploads_for_itself(processes: Processes, api: Api) -> None:
    """An address belongs to an account: another key does not get it."""
    mine, theirs = await processes.open(), await processes.open(key="sim-key-two")
    await mine.upload(PNG)
    assert mine._account != theirs._account
    assert not (await theirs._begin((await _digest(mine)), "them"))


async def _digest(uploads: Uploads) -> str:
    async with module.opened(PNG, None, uploads._reader, most_bytes=10**6) as content:
        return content.digest


async def test_a_holder_that_died_holds_nobody_up_for_longer_than_its_lease(
    processes: Processes, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took the place and was killed: the next one waits for the end of the lease, and uploads."""
    monkeypatch.setattr(module, "LEASE_SECONDS", 0.3)
    dead, alive = await processes.open(), await processes.open()
    assert await dead._begin(await _digest(dead), "dead") is None
    kept = await alive.upload(PNG)
    assert not kept.known
    assert await api.calls(UPLOAD) == 1


async def test_an_upload_longer_than_its_lease_is_not_taken_over(
    processes: Processes, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says again and again that it is alive."""
    monkeypatch.setattr(module, "LEASE_SECONDS", 0.8)
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.1)
    await api.fault("latency", UPLOAD, seconds=1.2)
    uploads = await processes.open()
    first, second = await asyncio.gather(uploads.upload(PNG), uploads.upload(PNG))
    assert first.url == second.url
    assert await api.calls(UPLOAD) == 1


async def test_a_failed_or_cancelled_upload_lets_the_next_one_try_at_once(processes: Processes, api: Api) -> None:
    """Nothing is kept of it, and nobody waits for a lease."""
    uploads = await processes.open()
    await api.fault("error_500", UPLOAD, count=1)
    with pytest.raises(Unavailable):
        await uploads.upload(PNG)
    await api.fault("latency", UPLOAD, seconds=5)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await uploads.upload(PNG)
    await api.configure(faults=[])
    async with asyncio.timeout(5):
        assert not (await uploads.upload(PNG)).known


async def test_an_address_is_forgotten_before_it_ends(
    processes: Processes, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept for as long as `keep_for` says, and not when that is nothing."""
    uploads = await processes.open()
    monkeypatch.setattr(module, "keep_for", lambda _url, _now: 0.0)
    await uploads.upload(PNG)
    assert not await database.redis.exists(database.keys.upload(uploads._account, await _digest(uploads)))
    monkeypatch.setattr(module, "keep_for", lambda _url, _now: 60.0)
    assert not (await uploads.upload(PNG)).known
    assert 50 < await database.redis.ttl(database.keys.upload(uploads._account, await _digest(uploads))) <= 60


async def test_a_file_that_changes_while_it_goes_up_is_refused(
    processes: Processes, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its new content would be given to everybody who has the old one."""
    uploads = await processes.open()
    path = tmp_path / "fox.png"
    path.write_bytes(PNG)
    token = uploads._token

    async def write_and_token() -> int:
        path.write_bytes(PNG + b"more")
        return await token()

    monkeypatch.setattr(uploads, "_token", write_and_token)
    with pytest.raises(InvalidInput, match="changed while"):
        await uploads.upload(path)
    monkeypatch.setattr(uploads, "_token", token)
    kept = await uploads.upload(path)
    assert not kept.known
    assert await fetched(kept.url) == PNG + b"more"


async def test_what_the_api_does_not_take_goes_to_the_store_behind_it(
    processes: Processes, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an address signed for it: one call of the API, once for each content, as with the others."""
    monkeypatch.setattr(module, "MOST_UPLOAD_BYTES", 1000)
    uploads = await processes.open()
    (tmp_path / "fox.png").write_bytes(PNG)
    first = await uploads.upload(tmp_path / "fox.png")
    again = await uploads.upload(PNG)
    assert (first.known, again.known, again.url) == (False, True, first.url)
    assert (await fetched(first.url), first.size) == (PNG, len(PNG))
    assert (await api.calls(UPLOAD), await api.calls("GET /assets/presigned-url")) == (0, 1)


async def test_a_file_goes_up_as_it_is_read(processes: Processes, tmp_path: Path) -> None:
    """Forty megabytes, of which a few are in memory at a time."""
    path = tmp_path / "fox.bin"
    path.write_bytes(PNG + bytes(40_000_000))
    uploads = await processes.open()
    tracemalloc.start()
    try:
        kept = await uploads.upload(path, "fox.png")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept.size == len(PNG) + 40_000_000
    assert most < 12_000_000


@pytest.mark.parametrize("path", ["page.png", "error.png", "forbidden.png", "round", "endless.png"])
async def test_an_address_without_a_file_is_refused(processes: Processes, api: Api, site: Site, path: str) -> None:
    """A page, an error, redirects without end, a file without end: nothing of it reaches the API."""
    uploads = await processes.open()
    with pytest.raises(InvalidInput):
        await uploads.upload(site.at(path), "fox.png", most_bytes=1_000_000)
    assert await api.calls() == 0


async def test_a_file_that_came_short_is_no_file(processes: Processes, api: Api, site: Site) -> None:
    """It may come whole the next time."""
    uploads = await processes.open()
    with pytest.raises(Unavailable):
        await uploads.upload(site.at("short.png"))
    assert await api.calls() == 0


async def test_an_address_in_our_own_network_is_not_read(processes: Processes, site: Site) -> None:
    """By number, by name, by redirect's first hop: nothing is asked there."""
    uploads = await processes.open(allow_private=False)
    for url in (site.at("fox.png"), site.at("fox.png").replace("127.0.0.1", "localhost"), "file:///etc/passwd", "fox"):
        with pytest.raises(InvalidInput):
            await uploads.upload(url)
    assert site.asked == []


async def test_the_secret_in_an_address_goes_nowhere(
    processes: Processes, api: Api, site: Site, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """No log line, no error, no key and no value in Redis, and nothing the API hears has it."""
    caplog.set_level(logging.DEBUG)
    uploads = await processes.open()
    secret = "bot123456-AAtoken"
    kept = await uploads.upload(site.at(f"file/{secret}/{secret}"))
    told = [kept.url, kept.filename]
    for path in ("short.png", "page.png", "forbidden.png"):
        with pytest.raises((InvalidInput, Unavailable)) as raised:
            await uploads.upload(site.at(f"{secret}/{path}?token={secret}"))
        told += [str(raised.value), repr(raised.value.__cause__)]
    told += [record.getMessage() for record in caplog.records if record.name != "aiohttp.access"]
    async for key in database.redis.scan_iter(f"{database.keys.prefix}upload:*"):
        told += [key, str(await database.hash(key))]
    assert kept.filename == "file.png"
    assert secret not in "".join(told)


async def test_a_path_is_a_path_and_a_folder_is_refused(processes: Processes, tmp_path: Path) -> None:
    """What is not there, a folder, an empty file, one that is too large: `InvalidInput`."""
    uploads = await processes.open()
    (tmp_path / "empty.png").touch()
    (tmp_path / "large.png").write_bytes(PNG)
    for path in (tmp_path / "none.png", tmp_path, tmp_path / "empty.png", tmp_path / "large.png"):
        with pytest.raises(InvalidInput):
            await uploads.upload(path, most_bytes=1000)
    with pytest.raises(InvalidInput, match="not an http"):
        await uploads.upload(str(tmp_path / "large.png"))
