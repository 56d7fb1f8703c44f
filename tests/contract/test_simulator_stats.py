"""Can a checker trust what the simulator counted? Calls, rates, double submits, resets; and the program itself."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from simulator.__main__ import main, parser
from simulator.meter import Meter, Window
from simulator.scenarios import SCENARIOS
from tests.contract.simulator_fixtures.served import OWNER, PORTRAIT, ROOT, Simulated, in_process, process


@pytest.fixture
async def sim() -> AsyncIterator[Simulated]:
    async with in_process(speed=2000) as simulated:
        yield simulated


async def test_calls_are_counted_by_route(sim: Simulated) -> None:
    """Every call to the API counts, under its route's name, whatever its answer; control and downloads do not."""
    run = await sim.until(await sim.submit(), "success")
    await sim.client.get(run["outputs"][0]["data"]["images"][0]["url"])
    await sim.client.get("/api/nowhere")
    await sim.client.get("/api/deployments", headers={"Authorization": "Bearer wrong"})
    await sim.client.get("/api/run/not-a-uuid")
    stats = await sim.stats(calls=1)
    assert stats["calls"]["POST /run/deployment/queue"] == 1
    assert stats["calls"]["GET /deployments"] == 1
    assert stats["calls"]["GET (unknown)"] == 1
    assert stats["calls_total"] == sum(stats["calls"].values()) == len(stats["call_log"])
    assert stats["answers"]["401"] == 1
    assert stats["runs"] == {"success": 1}
    assert not any("_sim" in name or "bucket" in name for name in stats["calls"])


async def test_double_submits_are_seen(sim: Simulated) -> None:
    """Two runs with the same `_job_id` are one double submit; runs without one are not."""
    for job_id in ("a", "b", "b", "b"):
        await sim.submit(inputs={"_job_id": job_id})
    await sim.submit()
    stats = await sim.stats()
    assert stats["double_submits"] == {"b": 3}
    assert (stats["double_submits_count"], stats["job_ids"], stats["runs_total"]) == (1, 2, 5)


async def test_the_times_of_a_run_are_real(sim: Simulated) -> None:
    """/_sim/runs tells unix seconds of the wall clock, in order, whatever the speed."""
    before = time.time()
    run_id = await sim.submit(inputs={"_job_id": "j"})
    await sim.until(run_id, "success")
    (row,) = (await sim.client.get("/_sim/runs")).json()
    times = [row["created_at"], row["queued_at"], row["started_at"], row["ended_at"]]
    assert times == sorted(times)
    assert before - 1 < times[0] <= times[-1] < time.time() + 1
    assert (row["id"], row["_job_id"], row["deployment_id"]) == (run_id, "j", PORTRAIT)


def test_the_highest_rate_is_over_any_window() -> None:
    """The window slides: five calls around a whole second are five in one second."""
    window = Window(1.0)
    for at in (0.9, 0.95, 1.0, 1.05, 1.1, 3.0):
        window.add(at)
    assert window.highest == 5


def test_the_meter_keeps_totals_beyond_its_log() -> None:
    """Single calls are forgotten after a while, totals never."""
    meter = Meter()
    meter.calls = type(meter.calls)(maxlen=3)
    for _ in range(10):
        meter.call("GET /x")
    assert (meter.report()["calls_total"], len(meter.calls)) == (10, 3)


async def test_reset_forgets_runs_and_counters_but_not_settings(sim: Simulated) -> None:
    """After a reset there are no runs and no calls; speed and faults stay; the catalogue is as at the start."""
    await sim.submit()
    await sim.client.patch(f"/api/deployment/{PORTRAIT}", json={"run_timeout": 5})
    await sim.configure(speed=3)
    assert (await sim.client.post("/_sim/reset", params={"seed": 4})).json()["seed"] == 4
    stats = await sim.stats()
    assert (stats["runs_total"], stats["calls_total"]) == (0, 0)
    assert (await sim.client.get("/_sim/config")).json()["speed"] == 3
    assert (await sim.client.get(f"/api/deployment/{PORTRAIT}")).json()["run_timeout"] == 300


async def test_the_same_seed_gives_the_same_lives() -> None:
    """Durations and pictures repeat with the seed, run by run."""

    async def story() -> list[str]:
        async with in_process(seed=9, speed=2000) as sim:
            runs = [await sim.until(await sim.submit(inputs={"prompt": "x"}), "success") for _ in range(3)]
            return [run["outputs"][0]["data"]["images"][0]["upload_duration"] for run in runs]

    assert await story() == await story()


def test_the_program_listens_takes_keys_and_stops_at_once() -> None:
    """It prints where it listens, knows only the given key, and ends on SIGTERM within a second, calls hanging or not."""
    with process("--key", "one", "--key", "two", "--config", '{"faults": {"hang": 0}}') as url:
        assert httpx.get(f"{url}/api/machines", headers=OWNER).status_code == 401
        for key in ("one", "two"):
            assert httpx.get(f"{url}/api/machines", headers={"x-api-key": key}).status_code == 200
        httpx.post(f"{url}/_sim/config", json={"faults": {"hang": 1}})
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(f"{url}/api/machines", timeout=0.2)
        began = time.monotonic()
    assert time.monotonic() - began < 3


def test_ctrl_c_is_a_clean_end() -> None:
    """SIGINT ends it with status 0 and nothing on stderr."""
    command = [sys.executable, "-m", "simulator", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as running:
        assert running.stdout is not None
        assert "listening on http://127.0.0.1:" in running.stdout.readline()
        running.send_signal(signal.SIGINT)
        _, complaint = running.communicate(timeout=5)
    assert (running.returncode, complaint) == (0, "")


def test_help_teaches() -> None:
    """--help names every scenario and shows a call to try."""
    told = parser().format_help()
    assert all(name in told for name in SCENARIOS)
    assert "/api/run/deployment/queue" in told


def test_a_bad_setting_is_told_at_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    """A typo in --config ends with status 2 and a sentence."""
    assert main(["--config", '{"sped": 1}']) == 2
    assert "sped" in capsys.readouterr().err
