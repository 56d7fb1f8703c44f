"""The real Flower, without a worker: who may come in, what it tells to whom, and that it starts for nobody unguarded."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
import redis

from producers.local.processes import Supervised, environment, procfile
from producers.local.redis_server import RedisServer, free_port
from shared.database import Database
from shared.jobs.request import JobRequest
from shared.jobs.states import JobState
from shared.jobs.store import JobStore, Target

PASSWORD, REDIS_PASSWORD, API_KEY = "flower-password-3141", "redis-password-2718", "api-key-1618"
#: A name that would be a program if it were not escaped.
NAME = "</title><script>alert(1)</script><img src=x onerror=alert(2)>"

pytestmark = [pytest.mark.redis, pytest.mark.asyncio(loop_scope="module")]


class Guarded:
    """A Flower with a password, the database behind it, and its programs' words."""

    def __init__(self, http: httpx.AsyncClient, database: Database, program: Supervised) -> None:
        self.http, self.database, self.program = http, database, program
        self.jobs: list[str] = []


def flower(folder: Path, redis_url: str, **settings: str) -> Supervised:
    """As the Procfile starts it."""
    env = environment(REDIS_URL=redis_url, FLOWER_PORT=str(free_port()), COMFY_DEPLOY_API_KEY=API_KEY, **settings)
    return Supervised("flower", procfile()["flower"], env, folder / "flower.log", restart=False)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    """It listens on every address; its password and that of Redis come from files."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "auth").write_text(f"ada:{PASSWORD}\n")
    (folder / "redis-auth").write_text(f"{REDIS_PASSWORD}\n")
    async with RedisServer(folder / "redis") as server:
        with redis.Redis(port=server.port) as client:
            client.config_set("requirepass", REDIS_PASSWORD)
        files = {"FLOWER_BASIC_AUTH_FILE": str(folder / "auth"), "REDIS_PASSWORD_FILE": str(folder / "redis-auth")}
        program = flower(folder, server.url, FLOWER_ADDRESS="0.0.0.0", **files)
        url = f"http://127.0.0.1:{program.env['FLOWER_PORT']}"
        async with (
            Database.open(server.url.replace("//", f"//:{REDIS_PASSWORD}@")) as database,
            httpx.AsyncClient(base_url=url, timeout=10, trust_env=False) as http,
        ):
            store = JobStore(database)
            request = JobRequest.read({"workflow": "SDXL Portrait", "frontend": "web", "user": {"id": NAME}})
            jobs = [(await store.create(request, Target(workflow_id="wf")))[0] for _ in range(2)]
            await program.start()
            guarded = Guarded(http, database, program)
            guarded.jobs = jobs
            try:
                for _ in range(200):
                    try:
                        answer = await http.get("/api/tasks", auth=("ada", PASSWORD))
                    except httpx.TransportError:
                        answer = None
                    if answer is not None and len(answer.json()) == len(jobs):
                        break
                    await asyncio.sleep(0.1)
                else:
                    pytest.fail(program.last_words())
                yield guarded
            finally:
                await program.stop()


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/workers",
        "/tasks",
        "/task/{job}",
        "/broker",
        "/metrics",
        "/api/tasks",
        "/api/workers",
        "/api/task/info/{job}",
    ],
)
async def test_every_page_asks_for_the_password(guarded: Guarded, path: str) -> None:
    """Without it, or with a wrong one, there is nothing to read; with it there is."""
    path = path.format(job=guarded.jobs[0])
    for auth in (None, ("ada", "wrong"), ("eve", PASSWORD)):
        answer = await guarded.http.get(path, auth=auth)
        assert answer.status_code == 401, auth
        assert "SDXL" not in answer.text
    assert (await guarded.http.get(path, auth=("ada", PASSWORD))).status_code == 200


async def test_nothing_is_done_without_the_password(guarded: Guarded) -> None:
    """Cancelling, shutting down, sending tasks."""
    for path in (f"task/revoke/{guarded.jobs[0]}", "worker/shutdown/w1", "task/send-task/tasks.submit", "task/apply/x"):
        assert (await guarded.http.post(f"/api/{path}", json={"args": []})).status_code == 401
    assert (await guarded.http.post("/tasks/datatable", data={"draw": "1"})).status_code == 401
    job = await JobStore(guarded.database).get(guarded.jobs[0])
    assert job.state is JobState.QUEUED


async def test_the_health_check_says_ok_and_no_more(guarded: Guarded) -> None:
    """A container's probe needs no secret, and learns none."""
    answer = await guarded.http.get("/healthcheck")
    assert (answer.status_code, answer.text) == (200, "OK")


async def test_another_page_of_the_browser_cannot_use_its_password(guarded: Guarded) -> None:
    """The browser would add it; the door says no first."""
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}):
        answer = await guarded.http.post(f"/api/task/revoke/{guarded.jobs[0]}", auth=("ada", PASSWORD), headers=headers)
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers
    assert (await JobStore(guarded.database).get(guarded.jobs[0])).state is JobState.QUEUED


async def test_a_name_is_text_on_every_page(guarded: Guarded) -> None:
    """What a user is called reaches no page as markup."""
    page = (await guarded.http.get(f"/task/{guarded.jobs[0]}", auth=("ada", PASSWORD))).text
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    answer = await guarded.http.get("/api/tasks", auth=("ada", PASSWORD))
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_cancel_is_audited_under_the_name_that_logged_in(guarded: Guarded) -> None:
    """Who, what, and how it ended; the password is not who."""
    job = guarded.jobs[1]
    answer = await guarded.http.post(f"/api/task/revoke/{job}", auth=("ada", PASSWORD))
    assert answer.json() == {"message": "The job was still waiting and is cancelled."}
    ((_, act),) = await guarded.database.redis.xrange(guarded.database.keys.audit)
    assert (act["who"], act["action"], act["target"], act["after"]) == ("ada", "cancel", job, "cancelled")
    assert (await JobStore(guarded.database).get(job)).state is JobState.CANCELLED


async def test_no_secret_is_told(guarded: Guarded) -> None:
    """Not on a page, not by the API, not in the log: searched for by value."""
    paths = (
        "/",
        "/workers",
        "/tasks",
        "/broker",
        "/metrics",
        "/api/tasks",
        f"/task/{guarded.jobs[0]}",
        "/nothing",
        "/login",
    )
    told = [(await guarded.http.get(path, auth=("ada", PASSWORD))).text for path in paths]
    told.append(guarded.program.log_path.read_text())
    for secret in (PASSWORD, REDIS_PASSWORD, API_KEY):
        assert not [text for text in told if secret in text]
    assert any("redis://:**@127.0.0.1" in text for text in told)


async def test_it_does_not_start_unguarded(tmp_path: Path, guarded: Guarded) -> None:
    """It ends with a sentence that says what to set, and repeats no secret."""

    async def refuses(n: int, settings: dict[str, str], words: str) -> None:
        program = flower(tmp_path / str(n), guarded.program.env["REDIS_URL"], **settings)
        await program.start()
        assert program.process
        try:
            async with asyncio.timeout(20):
                await program.process.wait()
        finally:
            await program.stop()
        log = program.log_path.read_text()
        assert program.process.returncode == 1
        assert words in log
        assert "Traceback" not in log
        assert PASSWORD not in log

    await asyncio.gather(
        refuses(1, {"FLOWER_ADDRESS": "0.0.0.0"}, "without a password"),
        refuses(2, {"FLOWER_ADDRESS": "0.0.0.0", "FLOWER_BASIC_AUTH": PASSWORD}, "not `name:password`"),
        refuses(3, {"FLOWER_BASIC_AUTH_FILE": "/nowhere/auth"}, "FLOWER_BASIC_AUTH_FILE"),
    )


async def test_it_ends_when_it_is_told_to(guarded: Guarded) -> None:
    """SIGTERM, as a container gets it: no traceback, and soon. The last test of this module."""
    assert guarded.program.process
    guarded.program.signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        await guarded.program.process.wait()
    assert guarded.program.process.returncode == 0
    assert "Traceback" not in guarded.program.log_path.read_text()
