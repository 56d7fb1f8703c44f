"""Where are the rows, and how is one found?

Plain dictionaries by id. Runs are also indexed by workflow and deployment in order of submission, because listings are
the crash-recovery path of clients and must stay cheap with many thousands of runs.
"""

from __future__ import annotations

from simulator.rows import Asset, Deployment, Machine, Run, Tenant, Version, Workflow

_WAITING = ("not-started", "queued")


class Tables:
    def __init__(self) -> None:
        self.machines: dict[str, Machine] = {}
        self.workflows: dict[str, Workflow] = {}
        self.versions: dict[str, Version] = {}
        self.deployments: dict[str, Deployment] = {}
        self.assets: dict[str, Asset] = {}
        self.runs: dict[str, Run] = {}
        self._by_workflow: dict[str, list[Run]] = {}
        self._by_deployment: dict[str, list[Run]] = {}
        #: Runs that wait for a machine, cleaned of those that no longer do whenever a position is asked for.
        self._waiting: dict[str, dict[str, Run]] = {}

    def add_run(self, run: Run) -> None:
        run.sequence = len(self.runs)
        self.runs[run.id] = run
        if run.workflow_id is not None:
            self._by_workflow.setdefault(run.workflow_id, []).append(run)
        if run.deployment_id is not None:
            self._by_deployment.setdefault(run.deployment_id, []).append(run)
        if run.machine_id is not None:
            self._waiting.setdefault(run.machine_id, {})[run.id] = run

    def runs_of_workflow(self, workflow_id: str, tenant: Tenant) -> list[Run]:
        """Give the tenant's runs of a workflow, newest first."""
        return [run for run in reversed(self._by_workflow.get(workflow_id, [])) if tenant.owns(run)]

    def runs_of_deployment(self, deployment_id: str, tenant: Tenant) -> list[Run]:
        return [run for run in reversed(self._by_deployment.get(deployment_id, [])) if tenant.owns(run)]

    def workflow(self, workflow_id: str, tenant: Tenant) -> Workflow | None:
        """Find a workflow the tenant can see; deleted ones cannot be seen."""
        workflow = self.workflows.get(workflow_id)
        return workflow if workflow is not None and not workflow.deleted and tenant.owns(workflow) else None

    def versions_of(self, workflow_id: str) -> list[Version]:
        """Give all versions of a workflow, latest first."""
        found = [version for version in self.versions.values() if version.workflow_id == workflow_id]
        return sorted(found, key=lambda version: version.version, reverse=True)

    def machine(self, machine_id: str, tenant: Tenant) -> Machine | None:
        machine = self.machines.get(machine_id)
        return machine if machine is not None and tenant.owns(machine) else None

    def position(self, run: Run) -> int | None:
        """Tell how many runs wait before this one on its machine, of any user; null unless it is itself waiting."""
        if run.status not in _WAITING or run.machine_id is None:
            return None
        line = self._waiting.get(run.machine_id, {})
        for waiting in [other for other in line.values() if other.status not in _WAITING]:
            del line[waiting.id]
        return sum(other.sequence < run.sequence for other in line.values())
