"""Every test in this folder needs a real Redis or Valkey server."""

from pathlib import Path

import pytest

from shared.database import Database
from tests.redis.stage import Clock

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them, so that `-m 'not redis'` leaves them out."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.redis)


@pytest.fixture
async def clock(database: Database) -> Clock:
    """The time of `database`, stopped."""
    return await Clock.of(database)
