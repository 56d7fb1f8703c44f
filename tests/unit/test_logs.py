"""What a process writes to its log."""

import logging

import pytest

from shared.logs import configure
from shared.settings import Settings


@pytest.mark.parametrize("log_format", ["pretty", "json"])
def test_a_traceback_shows_no_local_variable(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A frame may hold a key or a secret; what went wrong and where is told without."""
    configure(Settings.from_env({"CONVEYOR_LOG_FORMAT": log_format}))
    secret = "hunter" + "2"  # not a word of the source, which a traceback quotes

    try:
        int(f"{len(secret)} letters")
    except ValueError:
        logging.getLogger("test").exception("failed")

    written = capsys.readouterr().out
    assert "7 letters" in written
    assert "test_logs.py" in written
    assert "hunter2" not in written
