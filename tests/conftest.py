"""What tests stand on: one real Redis for the whole run, a key prefix for each test, and a clean environment."""

import logging
import os
import signal
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from producers.local.processes import Supervised
from producers.local.redis_server import RedisServer
from shared.database import Database
from shared.settings import PREFIX, Settings
from tests.hunt import HUNT, Records

OURS = ("COMFY_DEPLOY_", "REDIS_URL", "DEPLOYMENT", PREFIX)


def pytest_configure() -> None:
    """Programs that tests start must hear Ctrl-C, also when these tests run in the background of a script, which ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Your shell is not a fixture."""
    for name in list(os.environ):
        if name.startswith(OURS):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _clean_logging() -> Iterator[None]:
    """Our programs set up logging for their process; in a test that process is everybody's."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    root.handlers = handlers


@pytest.fixture(scope="session", autouse=True)
def _hunted_logs() -> Iterator[None]:
    """What this process logs, and where the programs log that tests start, is searched for secrets."""
    start = Supervised.start

    async def noted(program: Supervised) -> None:
        HUNT.log_file(program.log_path)
        await start(program)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Supervised, "start", noted)
        records = Records(HUNT)
        logging.getLogger().addHandler(records)
        yield
        logging.getLogger().removeHandler(records)


@pytest.fixture(scope="module", autouse=True)
def _no_secret_is_left(_hunted_logs: None) -> Iterator[None]:
    """After each module no secret is where it must not be (`tests/hunt.py`)."""
    yield
    HUNT.search()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A real server, one for each test process; never the one of REDIS_URL, which may hold somebody's data."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    HUNT.redis(server.url)
    server.stop()
    HUNT.search(whole=True)  # pytest shows one error of a test's end


@pytest.fixture
async def database(redis_server: RedisServer) -> AsyncIterator[Database]:
    """An open database below a prefix nobody else uses."""
    async with Database.open(redis_server.url, prefix=f"t{uuid.uuid4().hex[:10]}:") as database:
        yield database


@pytest.fixture
def settings(redis_server: RedisServer) -> Settings:
    """Defaults, with the test's Redis."""
    return Settings(redis_url=redis_server.url)
