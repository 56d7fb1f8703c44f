"""Every Redis key of Conveyor, on one page.

The same words are spelled in Lua (`shared/lua/prelude.lua`), where scripts derive a key from a job's own fields;
`tests/redis/test_keys.py` holds the two together. Everything is on one Redis (primary and replicas, not Cluster):
see docs/decisions/0002.
"""

from dataclasses import dataclass

DEFAULT_PREFIX = "conveyor:"


@dataclass(frozen=True)
class Keys:
    """Names of the keys below one prefix. Tests give each test a prefix of its own."""

    prefix: str = DEFAULT_PREFIX

    # -- the job ------------------------------------------------------------------------------------------------

    def job(self, job_id: str) -> str:
        """hash: the record of one job; gone `job_keep_seconds` after its final state."""
        return f"{self.prefix}job:{job_id}"

    def idempotency(self, frontend: str, key: str) -> str:
        """string: the job id this key stands for, 24 h."""
        return f"{self.prefix}idem:{frontend}:{key}"

    def callback(self, job_id: str) -> str:
        """hash: the secret and, once the job is final, the body of its callback; gone when the callback is decided."""
        return f"{self.prefix}callback:{job_id}"

    def run(self, run_id: str) -> str:
        """string: the job a run belongs to, for a day from the submit."""
        return f"{self.prefix}run:{run_id}"

    def jobs(self, user: str) -> str:
        """zset: the jobs of one user of one frontend, oldest first by id; ids of jobs no longer kept may linger."""
        return f"{self.prefix}jobs:{user}"

    # -- results ------------------------------------------------------------------------------------------------

    def results(self, frontend: str) -> str:
        """stream: every event of the frontend's jobs, kept until each consumer group has acknowledged it."""
        return f"{self.prefix}results:{frontend}"

    def dead(self, frontend: str) -> str:
        """stream: events no consumer could deliver, with the reason."""
        return f"{self.prefix}results:{frontend}:dead"

    @property
    def frontends(self) -> str:
        """set: the frontends that have a result stream."""
        return f"{self.prefix}frontends"

    # -- waiting ------------------------------------------------------------------------------------------------

    def lane(self, pool: str, user: str) -> str:
        """zset: waiting jobs of one user for one pool, best priority and oldest first."""
        return f"{self.prefix}lane:{pool}:{user}"

    def ring(self, pool: str) -> str:
        """zset: users with waiting jobs and room in their window, by whose turn it is."""
        return f"{self.prefix}ring:{pool}"

    def turns(self, pool: str) -> str:
        """zset: users not in the ring whose next turn lies ahead, so that leaving and coming back gains nothing."""
        return f"{self.prefix}turns:{pool}"

    def step(self, user: str) -> str:
        """string: how far a job moves this user's turn on, when his tier weighs more than one; 2520 is a whole turn."""
        return f"{self.prefix}step:{user}"

    def parked(self, user: str) -> str:
        """set: pools in which a user with a full window waits to get back into the ring."""
        return f"{self.prefix}parked:{user}"

    @property
    def pools(self) -> str:
        """hash: pool -> how many jobs may be past the lanes there (0: no limit). A pool is a machine, or empty."""
        return f"{self.prefix}pools"

    @property
    def clocks(self) -> str:
        """hash: pool -> the turn that was served last."""
        return f"{self.prefix}clocks"

    def waiting(self, tier: str) -> str:
        """zset: waiting jobs of one tier, oldest first; only to be counted."""
        return f"{self.prefix}waiting:{tier}"

    @property
    def expiring(self) -> str:
        """zset: waiting jobs by when they stop being worth waiting for (ms)."""
        return f"{self.prefix}expiring"

    # -- levers of operators ------------------------------------------------------------------------------------

    @property
    def audit(self) -> str:
        """stream: what operators changed, who and why; the last 10,000 acts."""
        return f"{self.prefix}audit"

    @property
    def pauses(self) -> str:
        """hash: scope -> JSON of a pause that goes on. Scopes: `all`, `frontend:…`, `user:<frontend>:…`, `workflow:<id>`."""
        return f"{self.prefix}pauses"

    @property
    def paused(self) -> str:
        """hash: scope -> how long its ended pauses lasted together, ms: by so much later its jobs expire."""
        return f"{self.prefix}paused"

    def aside(self, scope: str) -> str:
        """zset: what dispatch took aside for a pause: users out of their rings, or jobs of a workflow out of their lanes."""
        return f"{self.prefix}aside:{scope}"

    @property
    def aside_users(self) -> str:
        """hash: user -> jobs of theirs that are aside, of all workflows."""
        return f"{self.prefix}aside:users"

    @property
    def returning(self) -> str:
        """set: scopes whose pause is over, and for which something is still aside."""
        return f"{self.prefix}returning"

    @property
    def limits(self) -> str:
        """hash: what an operator set live: `window`, `user_window`, `pool:<pool>`, `user:<user>` -> jobs past the lanes."""
        return f"{self.prefix}limits"

    @property
    def drains(self) -> str:
        """hash: worker -> JSON of why it takes nothing new."""
        return f"{self.prefix}drains"

    # -- past the lanes -----------------------------------------------------------------------------------------

    @property
    def window(self) -> str:
        """zset: every job past the lanes and not final, by when it was dispatched (ms)."""
        return f"{self.prefix}window"

    @property
    def window_users(self) -> str:
        """hash: user -> jobs past the lanes."""
        return f"{self.prefix}window:users"

    @property
    def window_pools(self) -> str:
        """hash: pool -> jobs past the lanes."""
        return f"{self.prefix}window:pools"

    @property
    def starting(self) -> str:
        """zset: jobs dispatched or submitting, by when rescue should ask what became of them (ms)."""
        return f"{self.prefix}starting"

    @property
    def running(self) -> str:
        """zset: jobs whose run has a GPU, by when we heard of that (ms); only to be counted."""
        return f"{self.prefix}running"

    @property
    def held(self) -> str:
        """hash: pool -> how long a job holds its place past the lanes: ms, a moving mean."""
        return f"{self.prefix}held"

    # -- following ----------------------------------------------------------------------------------------------

    @property
    def due(self) -> str:
        """zset: workflows with runs in flight, by when to look next (ms)."""
        return f"{self.prefix}due"

    def inflight(self, workflow_id: str) -> str:
        """zset: `<job id> <run id>` of the workflow's runs, by when each is worth a look of its own (ms); see `together`."""
        return f"{self.prefix}inflight:{workflow_id}"

    @property
    def looking(self) -> str:
        """hash: workflow -> `<until ms> <owner>`, the lease of the worker that is looking."""
        return f"{self.prefix}looking"

    @property
    def together(self) -> str:
        """hash: workflow -> `<ms> <ms>`: when all its runs were looked at, and when they all are worth the next look."""
        return f"{self.prefix}together"

    @property
    def strays(self) -> str:
        """zset: `<job id> <run id>` of runs a hint named that are not their job's own, by when to check (ms)."""
        return f"{self.prefix}strays"

    def history(self, deployment_id: str) -> str:
        """hash: milestone -> how long it took from there to the end, in the last runs: seconds, the newest first."""
        return f"{self.prefix}history:{deployment_id}"

    @property
    def hints(self) -> str:
        """list: whether a hint had announced the end of the last runs, newest first."""
        return f"{self.prefix}hints"

    # -- upkeep -------------------------------------------------------------------------------------------------

    @property
    def closing(self) -> str:
        """zset: final jobs whose Celery row is still open, by when to close it (ms)."""
        return f"{self.prefix}closing"

    @property
    def callbacks(self) -> str:
        """zset: final jobs whose callback is not decided, by when the next attempt is due (ms)."""
        return f"{self.prefix}callbacks"

    @property
    def archives(self) -> str:
        """zset: final jobs whose outputs are not archived yet, by when the next attempt is due (ms)."""
        return f"{self.prefix}archives"

    def lease(self, chore: str) -> str:
        """string: who does this chore at the moment."""
        return f"{self.prefix}lease:{chore}"

    def worker(self, hostname: str) -> str:
        """string: what a worker knows of itself, JSON; gone half a minute after its last sign of life."""
        return f"{self.prefix}worker:{hostname}"

    @property
    def rejected(self) -> str:
        """hash: reason -> broker messages refused because they were not ours."""
        return f"{self.prefix}rejected"

    @property
    def census(self) -> str:
        """string: the numbers of the last count, JSON, for a few seconds."""
        return f"{self.prefix}census"

    # -- the API account ----------------------------------------------------------------------------------------

    def budget(self, account: str) -> str:
        """hash: the token bucket of one API key."""
        return f"{self.prefix}budget:{account}"

    def upload(self, account: str, digest: str) -> str:
        """hash: the address of a file that was uploaded, or who is uploading it; gone before the address is."""
        return f"{self.prefix}upload:{account}:{digest}"

    @property
    def catalog(self) -> str:
        """string: the deployments and the workflows' names as last read, JSON."""
        return f"{self.prefix}catalog"

    @property
    def catalog_machines(self) -> str:
        """string: the limits of the machines as last read, JSON."""
        return f"{self.prefix}catalog:machines"

    def catalog_version(self, version_id: str) -> str:
        """string: one version of a workflow with its graphs, JSON."""
        return f"{self.prefix}catalog:version:{version_id}"

    def refresh(self, part: str) -> str:
        """hash: who reads a part of the catalog now, when it was forgotten, why it could not be read."""
        return f"{self.prefix}refresh:{part}"

    @property
    def workflows(self) -> str:
        """hash: deployment that is not in the catalog -> its workflow, as a run of it told."""
        return f"{self.prefix}workflows"
