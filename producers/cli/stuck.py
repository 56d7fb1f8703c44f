"""A stuck job on the command line: requeue it, or end it."""

import json

import typer

from producers.cli.options import operator
from producers.cli.outcome import OK, say
from producers.levers import stuck
from shared.database import Database
from shared.errors import InvalidInput, Problem
from shared.jobs.by import By
from shared.jobs.store import JobStore
from shared.settings import Settings

#: What a requeue did, as a sentence.
REQUEUED: dict[stuck.Requeued, str] = {
    "waiting": "It waits in its lane, where it belongs; conveyor status tells its place.",
    "laned": "It stood nowhere; it is in its lane again, at its old place.",
    "rescued": "A worker takes it up within seconds; if a run of it may exist, it is looked for before anything is posted.",
    "looked": "Its run is looked at now, and followed.",
    "final": "Nothing to do: it has ended. To try again, enqueue it again.",
}


async def requeue(job_id: str, reason: str, *, as_json: bool) -> int:
    """Have a job taken up again."""
    async with Database.open(Settings.from_env().redis_url) as database:
        word, detail = await stuck.requeue(database, job_id, By(operator(), reason))
    if as_json:
        typer.echo(json.dumps({"job_id": job_id, "requeue": word, "detail": detail}))
    else:
        typer.echo(REQUEUED[word])
    return OK


async def fail(job_id: str, reason: str, *, as_json: bool) -> int:
    """End a job. That it had ended before is no error, and is said."""
    if not reason.strip():
        raise InvalidInput([Problem("--reason", "say why: it stands in the job's error")])
    settings = Settings.from_env()
    async with Database.open(settings.redis_url) as database:
        store = JobStore(database, keep_seconds=settings.job_keep_seconds)
        before = await stuck.fail(store, job_id, By(operator(), reason.strip()))
    if as_json:
        typer.echo(json.dumps({"job_id": job_id, "fail": "final" if before else "failed", "state": before or "failed"}))
    elif before:
        say(f"Too late: it has ended as {before}.")
    else:
        typer.echo("Ended as failed. If it had a run, workers cancel it upstream.")
    return OK
