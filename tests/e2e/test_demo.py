"""`conveyor demo`, as a newcomer types it."""

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path

from producers.local.processes import ROOT

PROGRAM = "import sys; from producers.cli import main; sys.argv[0] = 'conveyor'; main()"


async def test_the_demo_makes_pictures(tmp_path: Path) -> None:
    """The demo starts everything by itself, exits 0, and leaves pictures and a summary that adds up."""
    # A copy, for the demo writes to var/ of the checkout it runs in.
    for name in ("workers", "tasks", "producers", "shared", "simulator"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Procfile", tmp_path)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        "demo",
        "--jobs",
        "5",
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 0, said.decode()
    folder = tmp_path / "var" / "demo"
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["jobs"], summary["ended"], summary["every_event_arrived"]) == (5, 5, True)
    assert (summary["runs_paid_twice"], sum(summary["by_state"].values())) == (0, 5)
    pictures = list(folder.glob("*/*.png"))
    assert pictures
    assert all(path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n") for path in pictures)
    assert (
        len([path for path in folder.glob("*/*") if path.parent.name != "run" and path.is_file()]) == summary["files"]
    )
