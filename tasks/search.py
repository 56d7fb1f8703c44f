"""Which runs carry this job's id? What a submit whose answer was lost may have made.

CONTRACT section 10: list the workflow's runs since the intent, read the candidates nobody owns, compare
`workflow_inputs._job_id`.
"""

from shared.comfydeploy import ListedRun, Run
from shared.errors import GiveUp, RunNotFound, TellOperator
from shared.jobs.record import Job
from shared.jobs.request import REFERENCE_INPUT
from tasks.engine import Engine

#: Their clock may be behind ours.
CLOCK_SLACK_SECONDS = 60.0
PAGE = 100

#: Another search need not read a run again whose job is known.
OWNER_SECONDS = 3600


def intent_ms(job: Job) -> int:
    """When the intent to make a run was written, on Redis's clock."""
    return job.submitting_at or job.created_at


async def runs_of(engine: Engine, job: Job) -> list[Run]:
    """Every run that carries the job's id. One listing a page, one read for each run nobody owns, a look token each.

    Raises what the API answers when it may not be listed (`GiveUp`, `TellOperator`), and `TryLater`.
    """
    ids = await _listed(engine, job)
    if not ids:
        return []
    with engine.database.asking():
        owners = await engine.database.redis.mget([engine.database.keys.run(run_id) for run_id in ids])
    found = []
    for run_id, owner in zip(ids, owners, strict=True):
        if owner not in (None, job.id):
            continue
        try:
            async with engine.bucket.call("look"):
                run = await engine.client.runs.get(run_id)
        except RunNotFound:
            continue
        carried = run.workflow_inputs.get(REFERENCE_INPUT)
        if carried == job.id:
            found.append(run)
        else:
            # Other searches need not read it again, unless it is the very job they search for.
            with engine.database.asking():
                await engine.database.redis.set(
                    engine.database.keys.run(run_id), str(carried), nx=True, ex=OWNER_SECONDS
                )
    return found


async def _listed(engine: Engine, job: Job) -> list[str]:
    """Ids of the runs made since the intent."""
    since = intent_ms(job) / 1000 - CLOCK_SLACK_SECONDS
    ids: list[str] = []
    while True:
        page = await _page(engine, job, since, len(ids))
        # Newest first, and new ones push others to the next page: an id may come twice, none is missed.
        ids += [run.id for run in page if run.id not in ids]
        old = page and page[-1].created_at and page[-1].created_at.timestamp() < since
        if len(page) < PAGE or old:
            return ids


async def _page(engine: Engine, job: Job, since: float, offset: int) -> list[ListedRun]:
    """One page of the workflow's runs; of the deployment's where the workflow's may not be listed."""
    if job.workflow_id:
        try:
            async with engine.bucket.call("look"):
                return await engine.client.runs.list_by_workflow(
                    job.workflow_id, deployment_id=job.deployment_id, created_after=since, limit=PAGE, offset=offset
                )
        except (GiveUp, TellOperator) as error:
            if error.upstream_status == 401:
                raise
    async with engine.bucket.call("look"):
        return await engine.client.runs.list_by_deployment(job.deployment_id, limit=PAGE, offset=offset)
