"""What does a run live through?

submit ──▶ waits for a container ──▶ queued ──▶ started ──▶ running ──▶ progress … ──▶ outputs ──▶ success

The whole script of a run is worked out when a container takes it and put on the agenda; until then a waiting run costs
one entry in a queue. Whatever goes wrong by configuration (stuck, backwards, late updates …) is a change of that script.
The simulated workers only *report*: what a report does to the row is decided by `updates.py`.
"""

from __future__ import annotations

import math
import random
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

from simulator.agenda import Agenda, Entry
from simulator.bucket import Bucket
from simulator.containers import Pool
from simulator.faults import FaultMenu
from simulator.results import OUTPUT_NODES, Results, work_of
from simulator.rows import UNCANCELLABLE_MACHINES, Deployment, Machine, Run
from simulator.settings import RUN_FAULTS, Fault, Settings
from simulator.tables import Tables
from simulator.updates import Updates

#: A container that died or hung is noticed this long after its run's timeout.
KILL_AFTER_SECONDS = 20
#: How much longer than others some node classes take.
_WEIGHTS = {"KSampler": 12.0, "WanImageToVideo": 20.0, "TrainLora": 60.0, "CheckpointLoaderSimple": 2.0}

Step = tuple[float, Callable[[], None]]


class SpawnRefusedError(Exception):
    """The GPU side did not take the run. The row stays behind as `failed`."""


class Engine:
    def __init__(  # noqa: PLR0917 - wired once, in service.py
        self, settings: Settings, menu: FaultMenu, agenda: Agenda, tables: Tables, updates: Updates, bucket: Bucket
    ) -> None:
        self.settings, self.menu = settings, menu
        self._agenda, self._tables, self._updates, self._bucket = agenda, tables, updates, bucket
        self._pools: dict[str, Pool] = {}
        #: Runs in a container: their pool and what is still to come.
        self._script: dict[str, tuple[Pool, list[Entry]]] = {}
        self._faults: dict[str, dict[str, Fault]] = {}

    def spawn(self, run: Run, machine: Machine, deployment: Deployment | None) -> None:
        """Hand a stored run to the GPU side. Raises `SpawnRefusedError`; the run is then `failed`."""
        workflow = self._tables.workflows.get(run.workflow_id or "")
        faults = self.menu.draw_any(RUN_FAULTS, "" if workflow is None else workflow.name)
        if "spawn_refused" in faults:
            self._updates.refused(run)
            raise SpawnRefusedError(run.id)
        if machine.type not in UNCANCELLABLE_MACHINES:
            run.modal_function_call_id = _call_id()
        if not self.settings.autopilot:
            return
        stuck = faults.get("stuck")
        if stuck is not None and stuck.status == "not-started":
            return
        if faults:
            self._faults[run.id] = faults
        self._pool(machine, deployment).enqueue(run)

    def cancel(self, run: Run) -> None:
        """Take a run off its container; its worker reports nothing more."""
        pool, entries = self._script.pop(run.id, (None, []))
        for entry in entries:
            entry.dropped = True
        self._faults.pop(run.id, None)
        if pool is not None:
            pool.release()

    def forget(self) -> None:
        self._pools.clear()
        self._script.clear()
        self._faults.clear()

    def pools(self) -> dict[str, dict[str, int]]:
        """Tell how busy every pool is, for the stats."""
        return {
            key: {"limit": pool.limit, "busy": pool.busy, "warm": pool.warm, "waiting": len(pool.waiting)}
            for key, pool in self._pools.items()
        }

    # --- containers ---

    def _pool(self, machine: Machine, deployment: Deployment | None) -> Pool:
        fluid = deployment is not None and deployment.modal_image_id is not None
        owner: Machine | Deployment = deployment if fluid and deployment is not None else machine
        limit = owner.concurrency_limit * (1 if fluid else machine.allow_concurrent_inputs)
        pool = self._pools.get(owner.id)
        if pool is None:
            pool = Pool(self._agenda, limit, owner.idle_timeout, owner.keep_warm, self._take)
            self._pools[owner.id] = pool
        pool.limit, pool.idle_seconds, pool.keep_warm = max(1, limit), owner.idle_timeout, owner.keep_warm
        return pool

    def _take(self, run: Run, cold: bool) -> None:
        """Begin the script of a run for which a container has been set aside."""
        dice = random.Random(f"{self.settings.seed}:{run.sequence}:life")
        boot = self.settings.warm_start_seconds
        comfy = boot / 2
        if cold and self.settings.cold_start_seconds:
            whole = _log_normal(dice, self.settings.cold_start_seconds, 0.25)
            # The container boots while the run is still not-started; ComfyUI starts between queued and started.
            boot, comfy = whole * 0.7, whole * 0.3
        deployment = None if run.deployment_id is None else self._tables.deployments.get(run.deployment_id)
        machine = self._tables.machines.get(run.machine_id or "")
        fluid = deployment is not None and deployment.modal_image_id is not None
        owner: Machine | Deployment | None = deployment if fluid else machine
        version = self._tables.versions.get(run.workflow_version_id or "")
        graph = (version.workflow_api if version is not None else None) or {}
        pool = self._pools[owner.id] if owner is not None else next(iter(self._pools.values()))
        faults = self._faults.pop(run.id, {})
        steps = self._steps(
            run,
            graph,
            dice,
            boot=boot,
            comfy=comfy,
            cold=cold,
            run_timeout=owner.run_timeout if owner is not None else 300,
            faults=faults,
        )
        begin = self._agenda.time()
        entries = [self._agenda.at(begin + at, report) for at, report in steps]
        self._script[run.id] = (pool, entries)

    def _done(self, run: Run, *, dead: bool = False) -> None:
        script = self._script.pop(run.id, None)
        if script is not None:
            script[0].release(dead=dead)

    # --- the script ---

    def _steps(
        self,
        run: Run,
        graph: dict[str, Any],
        dice: random.Random,
        *,
        boot: float,
        comfy: float,
        cold: bool,
        run_timeout: int,
        faults: dict[str, Fault],
    ) -> list[Step]:
        """Work out everything the worker will report, with times relative to now, in order."""
        report = self._updates
        call_id = None if run.modal_function_call_id is None else _call_id()
        queued, started = boot, boot + comfy
        running = started + min(0.3, comfy)
        work = self.settings.durations.get(work_of(graph)) or self.settings.durations["image"]
        length = _log_normal(dice, work.median, work.sigma)
        if "timeout" in faults:
            length += run_timeout * 2
        end = running + length
        steps: list[Step] = [
            (queued, partial(report.status, run, "queued", call_id=call_id)),
            (started, partial(report.status, run, "started")),
            (running, partial(report.status, run, "running")),
        ]
        progress = self._progress(graph, dice, cold)
        steps += [
            (running + length * 0.94 * share, partial(report.live, run, text, value)) for share, text, value in progress
        ]
        finish, ending = self._ending(run, graph, dice, running=running, end=end, faults=faults)
        steps += ending
        if finish > queued + run_timeout:
            steps = [step for step in steps if step[0] < queued + run_timeout]
            steps.append((queued + run_timeout, partial(report.status, run, "timeout")))
            steps.append((queued + run_timeout, partial(self._done, run)))
        middle = (running + end) / 2
        if "backwards" in faults:
            steps += [
                (middle, partial(report.status, run, "queued")),
                (middle + length * 0.2, partial(report.status, run, "running")),
            ]
        if "unknown_status" in faults:
            steps.append((middle, partial(setattr, run, "odd_status", faults["unknown_status"].status or "processing")))
        if "stuck" in faults:
            steps = self._stuck(run, steps, faults["stuck"].status or "running", middle, queued + run_timeout)
        return sorted(steps, key=lambda step: step[0])

    def _progress(self, graph: dict[str, Any], dice: random.Random, cold: bool) -> list[tuple[float, str, float]]:
        """Give (share of the run, live status, progress) for each node that executes.

        Progress counts distinct nodes, cached ones at once: hence the jump on a warm container, and an end below 1.
        """
        nodes = [str(node.get("class_type")) for node in graph.values()] or ["KSampler"]
        cached = [] if cold else [name for name in nodes if "Loader" in name or "ExternalLora" in name]
        executed = [name for name in nodes if name not in cached]
        weights = [_WEIGHTS.get(name, 0.15) * dice.uniform(0.8, 1.2) for name in executed]
        told, passed, result = len(cached), 0.0, []
        for name, weight in zip(executed, weights, strict=True):
            result.append((passed / sum(weights), f"Executing {name}", round(told / len(nodes), 2)))
            passed += weight
            told += 1
        return result

    def _ending(
        self,
        run: Run,
        graph: dict[str, Any],
        dice: random.Random,
        *,
        running: float,
        end: float,
        faults: dict[str, Fault],
    ) -> tuple[float, list[Step]]:
        """Give when the run ends, and the reports of its end."""
        report = self._updates
        if "failed" in faults:
            at = running + (end - running) * dice.uniform(0.2, 0.9)
            return at, [(at, partial(self._fail, run)), (at, partial(self._done, run))]
        success: list[Step] = [(end, partial(report.status, run, "success")), (end, partial(self._done, run))]
        if "late_updates" in faults:
            success += [
                (end + 1.0, partial(report.live, run, "Executing VAEDecode", 0.5)),
                (end + 1.5, partial(report.status, run, "started")),
                (end + 2.0, partial(report.status, run, "failed")),
            ]
        if "no_outputs" in faults:
            return end, success
        count = sum(node.get("class_type") in OUTPUT_NODES for node in graph.values())
        begin, gap = running + (end - running) * 0.95, (end - running) * 0.04 / max(1, count)
        if "late_outputs" in faults:
            seconds = faults["late_outputs"].seconds
            begin, gap = end + (5.0 if seconds is None else seconds), 0.0
        # Each output is a step of its own: a poll in between sees a part of them.
        uploads: list[Step] = [
            (begin + gap * index, partial(self._upload, run, graph, index)) for index in range(count)
        ]
        return end, uploads + success

    def _upload(self, run: Run, graph: dict[str, Any], index: int) -> None:
        data, meta = Results(run, graph, self._bucket, self.settings.seed).produce(index)
        self._updates.output(run, data, meta)

    def _fail(self, run: Run) -> None:
        error = {
            "node_id": "22",
            "node_type": "KSampler",
            "prompt_id": run.id,
            "traceback": ["..."],
            "exception_type": "torch.OutOfMemoryError",
            "exception_message": "CUDA out of memory",
        }
        self._updates.output(run, error, None)
        self._updates.status(run, "failed")

    def _stuck(self, run: Run, steps: list[Step], status: str, middle: float, limit: float) -> list[Step]:
        """Cut the script after a status was reached: the container died hard and nobody reports it."""
        order = {"queued": 1, "started": 2, "running": 3}
        kept = sorted(steps, key=lambda step: step[0])[: order.get(status, 3)]
        if status not in order:
            kept.append((middle, partial(self._updates.status, run, status)))
        return [*kept, (limit + KILL_AFTER_SECONDS, partial(self._done, run, dead=True))]


def _log_normal(dice: random.Random, median: float, sigma: float) -> float:
    return math.exp(dice.gauss(math.log(median), sigma))


def _call_id() -> str:
    return f"fc-{uuid.uuid4().hex[:24].upper()}"
