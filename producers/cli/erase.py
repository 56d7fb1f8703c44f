"""Erasing a user on the command line."""

import json
from dataclasses import asdict

import typer

from producers.cli.confirm import agreed
from producers.cli.options import operator
from producers.cli.outcome import OK, REFUSED, UNAVAILABLE, say
from producers.levers.erasure import NOT_ERASED, Erased, Erasure
from shared.archive.archive import Archive
from shared.database import Database
from shared.jobs.by import By
from shared.settings import Settings

#: Runs named to a person; JSON has all of them.
MOST_NAMED = 5


async def erase(frontend: str, user: str, reason: str, *, yes: bool, wait_seconds: float, as_json: bool) -> int:
    """Erase a user, after asking. 2 when nobody agreed, 3 when jobs of his have not ended: then erase again."""
    settings = Settings.from_env()
    archive = Archive.open(settings.archive) if settings.archive else None
    async with Database.open(settings.redis_url) as database:
        erasure = Erasure(database, frontend, user, archive=archive)
        jobs = await erasure.jobs()
        open_ = [job_id for job_id, job in jobs.items() if job is not None and not job.final]
        what = f"{len(jobs)} job{'' if len(jobs) == 1 else 's'} of {frontend}:{user}, {len(open_)} of them not over"
        if not yes and not agreed(
            f"Erase {what}, and everything kept of this user? It cannot be taken back.",
            unasked=f"{what} would be erased",
            refused="Nothing was erased.",
        ):
            return REFUSED
        if open_:
            await erasure.end(open_, wait_seconds)
        done = await erasure.erase(By(operator(), reason))
    if as_json:
        typer.echo(json.dumps(asdict(done) | {"not_erased": NOT_ERASED}, ensure_ascii=False))
    else:
        _print(done, f"{frontend}:{user}")
    if done.open:
        say(
            f"{len(done.open)} jobs have not ended, and stay until they have: {', '.join(done.open[:3])} … Erase again then."
        )
    return UNAVAILABLE if done.open else OK


def _print(done: Erased, user: str) -> None:
    typer.echo(
        f"Erased of {user}: {done.jobs} jobs, {done.events} events, {done.dead_letters} dead letters, "
        f"{done.archived_files} archived files, {done.uploads} remembered uploads."
    )
    typer.echo("Not erased:")
    for line in NOT_ERASED:
        typer.echo(f"  {line}")
    if done.runs:
        more = f" and {len(done.runs) - MOST_NAMED} more, see --json" if len(done.runs) > MOST_NAMED else ""
        typer.echo(f"Runs at ComfyUI Deploy: {', '.join(done.runs[:MOST_NAMED])}{more}")
