"""The catalog between a real Redis and the simulator: who waits, who reads, what is told when the API is away.

Several `Catalog`s stand for as many processes: they share nothing but Redis. Each uses `bench`'s wire, so its calls count.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from shared.catalog import Catalog
from shared.catalog import renewal as renewals
from shared.catalog.freshness import STALE_SECONDS
from shared.comfydeploy import ComfyDeploy
from shared.database import Database
from shared.errors import InvalidInput, NotFound, TryLater, Unavailable, WorkflowNotFound
from shared.jobs.request import JobRequest
from shared.limits.bucket import TokenBucket
from shared.metrics import CATALOG_LOOKUPS
from tests.service.gateway_fixtures import catalog_of, job
from tests.service.worker_fixtures import PORTRAIT, Api, Bench, until

pytestmark = pytest.mark.redis

LIST, WORKFLOWS, MACHINES = "GET /deployments", "GET /workflows", "GET /machines"
#: The listing has two halves.
ONE_READING = 2
STICKER_WORKFLOW, STICKER = (f"{letter}0000000-0000-4000-8000-000000000008" for letter in "bd")
MACHINE = "a0000000-0000-4000-8000-000000000001"

Open = Callable[[], Catalog]


@pytest.fixture
async def opened(bench: Bench) -> AsyncIterator[Open]:
    """Opens catalogs, one for each process there shall be."""
    catalogs: list[Catalog] = []

    def open_one() -> Catalog:
        bucket = TokenBucket(bench.database, bench.settings)
        catalogs.append(Catalog(bench.database, bench.settings, bucket, bench.engine.client))
        return catalogs[-1]

    yield open_one
    for catalog in catalogs:
        await catalog.aclose()


def asked(**fields: Any) -> JobRequest:
    """A request."""
    return JobRequest.read(job() | {"frontend": "web", "workflow": "SDXL Portrait"} | fields)


async def age(database: Database, seconds: float, key: str = "") -> None:
    """Make a copy older; processes notice as they notice any new one."""
    key = key or database.keys.catalog
    stored = json.loads(str(await database.redis.get(key)))
    await database.redis.set(key, json.dumps({"stamp": str(time.time())} | stored | {"read_at": time.time() - seconds}))


async def away(bench: Bench, api: Api) -> None:
    """The API answers nothing but 503 from now on."""
    await api.fault("unavailable", "GET *")
    await bench.open_bucket()


def hold_the_api(bench: Bench) -> asyncio.Event:
    """No call gets any further until the event is set."""
    event = asyncio.Event()

    async def wait(_: httpx.Request) -> None:
        await event.wait()

    bench.wire.before = wait
    return event


def counted(answer: str) -> float:
    """How often a question about deployments was answered so."""
    return float(CATALOG_LOOKUPS.labels("deployments", answer)._value.get())


# -- waiting ----------------------------------------------------------------------------------------------------------


async def test_a_stale_copy_is_given_at_once_and_renewed_once(bench: Bench, api: Api, opened: Open) -> None:
    """Three processes, fifty questions: nobody waits for the API, one reads it, and no reader finds Redis empty."""
    await age(bench.database, 400)
    held = hold_the_api(bench)
    catalogs = [opened() for _ in range(3)]
    before = counted("stale")
    copies = await asyncio.gather(*(catalogs[n % 3].copy() for n in range(50)))
    assert all(copy and copy.stale and copy.age_seconds >= 400 for copy in copies)
    assert counted("stale") - before == 50
    held.set()

    async def renewed() -> bool:
        assert await bench.database.redis.exists(bench.database.keys.catalog)
        copies = [await catalog.copy() for catalog in catalogs]
        return all(copy and not copy.stale and copy.age_seconds < 10 for copy in copies)

    await until(renewed, what="every process has the new copy")
    assert await api.calls(LIST) == ONE_READING


async def test_without_a_copy_all_wait_for_one_reader(bench: Bench, api: Api, opened: Open) -> None:
    """Cold: three processes with twenty questions each cost one reading; all are answered."""
    await bench.database.redis.delete(bench.database.keys.catalog, bench.database.keys.catalog_machines)
    catalogs = [opened() for _ in range(3)]
    targets = await asyncio.gather(*(catalogs[n % 3].resolve(asked()) for n in range(60)))
    assert {(target.deployment_id, target.pool_limit) for target in targets} == {(PORTRAIT, 16)}
    assert await api.calls(LIST) == ONE_READING
    assert await api.calls(MACHINES) == await api.calls(WORKFLOWS) == 1


async def test_a_reader_that_died_holds_the_others_up_for_its_lease(bench: Bench, api: Api, opened: Open) -> None:
    """And not for longer; what it stores after that is thrown away."""
    keys = bench.database.keys
    await bench.database.redis.delete(keys.catalog)
    _, ghost = await bench.database.run("begin_refresh", "catalog", "ghost", 400, 0, 0, 60_000)
    began = time.monotonic()
    copy = await opened().copy()
    assert copy is not None
    assert time.monotonic() - began > 0.3
    late = json.dumps({"stamp": "0", "read_at": int(ghost) / 1000, "entries": []})
    assert await bench.database.run("end_refresh", "catalog", "ghost", ghost, late, 60_000, "", 0) == "lost"
    found = await opened().copy()
    assert found is not None
    assert found.entries == copy.entries


async def test_somebody_insists(bench: Bench, api: Api, opened: Open) -> None:
    """Past a fresh copy: thirty at once, in three processes, share at most two readings; a machine's limit is news, too."""
    catalogs = [opened() for _ in range(3)]
    copies = await asyncio.gather(*(catalogs[n % 3].refresh() for n in range(30)))
    assert all(copy.age_seconds < 5 and not copy.stale for copy in copies)
    assert await api.calls(LIST) <= 2 * ONE_READING
    await away(bench, api)
    with pytest.raises(TryLater):
        await catalogs[0].refresh()
    kept = await catalogs[0].copy()
    assert kept is not None
    assert not kept.stale


# -- the API is away --------------------------------------------------------------------------------------------------


async def test_with_the_api_away_the_old_copy_is_given_and_says_so(bench: Bench, api: Api, opened: Open) -> None:
    """With its age and why; names are resolved and unknown ones taken unresolved; the API is not hammered."""
    await away(bench, api)
    await age(bench.database, 7200)
    catalog = opened()

    async def said() -> bool:
        copy = await catalog.copy()
        assert copy is not None
        assert copy.stale
        assert 7200 <= copy.age_seconds < 7300
        return any("could not be renewed" in warning and "503" in warning for warning in copy.warnings)

    await until(said, what="why it is stale")
    assert (await catalog.resolve(asked())).deployment_id == PORTRAIT
    assert (await catalog.resolve(asked(workflow="brand new"))).deployment_id == ""
    before = await api.calls()
    await asyncio.gather(*(opened().copy() for _ in range(50)))
    assert await api.calls() - before <= 6


async def test_a_copy_of_more_than_a_day_is_not_believed(bench: Bench, api: Api, opened: Open) -> None:
    """It may name what has not been there for long; a job is taken unresolved instead."""
    await away(bench, api)
    await age(bench.database, STALE_SECONDS + 301)
    catalog = opened()
    assert await catalog.copy() is None
    assert (await catalog.resolve(asked())).deployment_id == ""


async def test_memory_outlives_redis(bench: Bench, api: Api, opened: Open) -> None:
    """A Redis that lost everything costs no process its copy."""
    catalog = opened()
    assert await catalog.copy()
    await bench.database.redis.delete(bench.database.keys.catalog)
    catalog._listing.doubt()
    copy = await catalog.copy()
    assert copy is not None
    assert not copy.stale
    assert await api.calls(LIST) == 0


# -- forgetting -------------------------------------------------------------------------------------------------------


async def test_what_was_changed_is_known_to_all(bench: Bench, api: Api, opened: Open) -> None:
    """After `forget` who told sees the new name at once, another process within seconds; the copy was never gone."""
    writer, reader = opened(), opened()
    assert await reader.copy()
    await bench.engine.client.workflows.update(STICKER_WORKFLOW, name="Sticker Film")
    await writer.forget("workflows")
    assert await bench.database.redis.exists(bench.database.keys.catalog)
    copy = await writer.copy()
    assert copy is not None
    assert copy.named("sticker film")

    async def told() -> bool:
        other = await reader.copy()
        return bool(other and other.named("sticker film"))

    await until(told, seconds=5, what="the other process knows the new name")
    assert await api.calls(LIST) == ONE_READING
    assert await api.calls(MACHINES) == 0


async def test_only_the_machine_that_was_changed_is_asked(bench: Bench, api: Api, opened: Open) -> None:
    """One listing, one machine; its new limit counts for the next job."""
    catalog = opened()
    await catalog.refresh()
    assert (await catalog.resolve(asked())).pool_limit == 16
    key = {"authorization": "Bearer sim-key"}
    await api._http.patch(f"/api/machine/serverless/{MACHINE}", json={"concurrency_limit": 3}, headers=key)
    await api.reset_counts()
    await catalog.forget("machines")
    assert (await catalog.resolve(asked())).pool_limit == 6
    assert await api.calls(MACHINES) == await api.calls("GET /machine/{machine_id}") == 1
    assert await api.calls(LIST) == 0


async def test_nobody_waits_long_for_a_forgotten_copy(
    bench: Bench, api: Api, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API hangs: the outdated copy is given after a while, flagged, and the next question does not wait again."""
    monkeypatch.setattr(renewals, "FORGOTTEN_WAIT_SECONDS", 0.3)
    catalog, held = opened(), hold_the_api(bench)
    await catalog.forget()
    began = time.monotonic()
    copy = await catalog.copy()
    waited = time.monotonic() - began
    assert waited >= 0.3
    assert copy is not None
    assert copy.stale
    monkeypatch.setattr(renewals, "FORGOTTEN_WAIT_SECONDS", 60.0)
    async with asyncio.timeout(10):
        assert await catalog.copy()
    held.set()


# -- names ------------------------------------------------------------------------------------------------------------


async def test_an_unknown_name_is_asked_for_once(bench: Bench, api: Api, opened: Open) -> None:
    """It may be new, so the API is asked before it is refused; then it is known to be unknown for a while."""
    catalog = opened()
    await age(bench.database, 60)
    before = counted("negative")
    for _ in range(5):
        with pytest.raises(WorkflowNotFound, match="Did you mean 'SDXL Portrait'"):
            await catalog.resolve(asked(workflow="sdxl portrayt"))
        await age(bench.database, 60)
        catalog._listing.doubt()
    assert await api.calls(LIST) == ONE_READING
    assert counted("negative") - before == 4


async def test_a_name_that_may_mean_two_is_refused(bench: Bench, opened: Open) -> None:
    """With the candidates; as it is written it means one."""
    await catalog_of(bench.database, "SDXL Portrait", "sdxl-portrait", age=1)
    catalog = opened()
    with pytest.raises(InvalidInput, match="'SDXL Portrait' or 'sdxl-portrait'"):
        await catalog.resolve(asked(workflow="sdxl portrait"))
    assert (await catalog.resolve(asked(workflow="sdxl-portrait"))).deployment_id == "d-sdxl-portrait"
    copy = await catalog.copy()
    assert copy is not None
    assert ["'SDXL Portrait' and 'sdxl-portrait' differ only" in warning for warning in copy.warnings] == [True]


# -- a broken enum ----------------------------------------------------------------------------------------------------


async def broken_sticker(client: ComfyDeploy) -> None:
    """Its author leaves an enum without a list of options; upstream the listing of all deployments is a 500 now."""
    enum = {"input_id": "style", "options": "not json"}
    graph = {"1": {"class_type": "ComfyUIDeployExternalEnum", "inputs": enum}}
    version = await client.versions.create(STICKER_WORKFLOW, {"nodes": []}, graph)
    await client.deployments.put(STICKER_WORKFLOW, version.id, "production", machine_id=MACHINE)


async def test_one_broken_enum_does_not_hide_the_other_workflows(bench: Bench, api: Api, opened: Open) -> None:
    """They are read one by one; of the broken one what was known is kept, and that is said. The budget stays open."""
    await broken_sticker(bench.engine.client)
    with pytest.raises(Unavailable):
        await bench.engine.client.deployments.list()
    before = await opened().copy()
    assert before is not None
    copy = await opened().refresh()
    assert {entry.deployment_id for entry in copy.entries} == {entry.deployment_id for entry in before.entries}
    assert [entry.deployment_id for entry in copy.entries if entry.kept_from] == [
        entry.deployment_id for entry in before.entries if entry.workflow_id == STICKER_WORKFLOW
    ]
    assert ["'Sticker GIF'" in warning and "kept" in warning for warning in copy.warnings] == [True]
    assert (await opened().resolve(asked(workflow="Sticker GIF"))).deployment_id == STICKER
    assert await bench.closed_for() == 0
    # Without anything known of it, it is left out, and the others are there all the same.
    await bench.database.redis.delete(bench.database.keys.catalog)
    cold = await opened().copy()
    assert cold is not None
    assert {entry.workflow_id for entry in before.entries} - {entry.workflow_id for entry in cold.entries} == {
        STICKER_WORKFLOW
    }
    assert ["'Sticker GIF'" in warning and "left out" in warning for warning in cold.warnings] == [True]


async def test_an_api_in_trouble_is_not_asked_workflow_by_workflow(bench: Bench, api: Api, opened: Open) -> None:
    """500 for everything about deployments is no enum: after a few workflows it is given up."""
    await api.configure(
        faults=[{"kind": "error_500_text", "route": route} for route in (LIST, "GET /workflow/*/deployments")]
    )
    with pytest.raises(Unavailable):
        await opened().refresh()
    assert await api.calls("GET /workflow/{workflow_id}/deployments") <= 3


# -- versions ---------------------------------------------------------------------------------------------------------


async def test_a_version_is_read_once_for_all(bench: Bench, api: Api, opened: Open) -> None:
    """Its graphs come from a copy from then on, also with the API away; an unknown one is refused."""
    one = await opened().refresh()
    entry = one.named("SDXL Portrait")[0]
    assert entry.version == 1
    catalogs = [opened() for _ in range(3)]
    found = await asyncio.gather(*(catalogs[n % 3].version(entry.version_id or "") for n in range(9)))
    assert await api.calls("GET /workflow-version/{version}") == 1
    assert all(version == found[0] for version in found)
    assert any(node["class_type"] == "ComfyUIDeployExternalSeed" for node in (found[0].workflow_api or {}).values())
    await away(bench, api)
    assert await opened().version(entry.version_id or "") == found[0]
    for unknown in ("none", "c0000000-0000-4000-8000-00000000dead"):
        with pytest.raises((NotFound, Unavailable)):
            await opened().version(unknown)
