"""The chaos harness, shortly: a dozen seconds of faults, and proof that its scorecard can say no.

The long runs are made by hand: `make chaos SECONDS=120 SEED=1`.
"""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from bench.chaos.evidence import Entry, Evidence
from bench.chaos.plan import make_plan
from bench.chaos.scorecard import score
from bench.chaos.wards import Ward

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
#: This plan kills a worker and a consumer, loses answers and kills Redis within the dozen seconds.
SEED, SECONDS = 30, 11


async def test_a_dozen_seconds_of_faults(tmp_path: Path) -> None:
    """Nothing is lost, nothing is paid twice, and the faults did happen."""
    folder = tmp_path / "chaos"
    command = [
        sys.executable,
        "-m",
        "bench.chaos",
        "--seconds",
        f"{SECONDS}",
        "--seed",
        f"{SEED}",
        "--folder",
        f"{folder}",
    ]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    card = json.loads((folder / "scorecard.json").read_text())
    assert {"kill_worker", "kill_consumer", "redis_kill", "lost_answer"} <= {one["kind"] for one in card["injected"]}
    assert next(line["value"] for line in card["lines"] if line["name"] == "jobs accepted") >= 20


async def test_the_same_seed_gives_the_same_plan() -> None:
    """A failing seed can be replayed; another seed is another plan; more intensity is more faults."""
    assert make_plan(3, 120) == make_plan(3, 120)
    assert make_plan(3, 120) != make_plan(4, 120)
    assert len(make_plan(3, 120, 2.0)) > 1.5 * len(make_plan(3, 120))
    assert {"redis_kill", "outage_503", "lost_answer", "stuck"} <= {fault.kind for fault in make_plan(3, 120)}
    assert not {"outage_503", "stuck", "hang"} & {fault.kind for seed in range(50) for fault in make_plan(seed, 12)}


def _healthy() -> Evidence:
    """One job, one run, three events handed out in order."""
    types = ["queued", "submitted", "succeeded"]
    return Evidence(
        accepted={"j"},
        answers={"k": {"j"}},
        jobs={"j": {"state": "succeeded", "seq": "3", "run_id": "r"}},
        entries=[Entry(n, "j", n, word, word == "succeeded") for n, word in enumerate(types, 1)],
        deliveries=[{"job_id": "j", "seq": n, "final": n == 3} for n in (1, 2, 3)],
        runs=[{"id": "r", "_job_id": "j", "status": "success", "queued_at": 1.0}],
        rows={"j": "SUCCESS"},
    )


def _broken(seen: Evidence, *wards: Ward) -> set[str]:
    return {line.name for line in score(seen, wards, [], rate=10, burst=10) if line.broken}


async def test_the_scorecard_says_no() -> None:
    """Each broken promise is seen, and a healthy run breaks none."""
    assert _broken(_healthy()) == set()

    seen = _healthy()
    seen.jobs["j"]["state"] = "running"
    assert "jobs lost" in _broken(seen)

    seen = _healthy()
    seen.entries.append(Entry(4, "j", 4, "failed", final=True))
    assert "jobs with two final events" in _broken(seen)

    seen = _healthy()
    seen.rows = {"j": "FAILURE"}
    assert _broken(seen) == {"Celery results missing or contradicting"}

    seen = _healthy()
    seen.deliveries.reverse()
    assert _broken(seen) == {"jobs with events out of order"}

    seen = _healthy()
    del seen.deliveries[1]
    assert _broken(seen) == {"events never handed out"}

    seen = _healthy()
    seen.runs.append({"id": "r2", "_job_id": "j", "status": "cancelled", "queued_at": None})
    assert _broken(seen) == set(), "a second run that no worker took costs nothing"
    seen.runs[-1]["queued_at"] = 2.0
    assert _broken(seen) == {"jobs paid twice"}
    seen.runs[-1]["status"] = "success"
    assert _broken(seen) == {"jobs paid twice", "orphan runs"}

    seen = _healthy()
    seen.leaks = {"conveyor:window": 1}
    assert _broken(seen) == {"windows, lanes and sets not empty"}

    seen = _healthy()
    seen.calls = [place / 100 for place in range(60)]
    assert _broken(seen) == {"most calls in any window above its rate"}

    assert _broken(_healthy(), Ward("w1", "j", "submitting", "", 1.0, moved_at=4.0)) == set()
    assert _broken(_healthy(), Ward("w1", "j", "submitting", "", 1.0, hit_again_at=14.0, moved_at=31.0)) == set()
    assert _broken(_healthy(), Ward("w1", "j", "submitting", "", 1.0, moved_at=31.0)) == {
        "longest stall after a kill, s"
    }
    assert _broken(_healthy(), Ward("w1", "j", "submitting", "", 1.0)) == {"longest stall after a kill, s"}
