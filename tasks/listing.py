"""What has become of all runs of a workflow? One listing, a page a call.

The newest come first, so it is read on until the oldest run in flight was found.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from shared.comfydeploy import ListedRun
from shared.following.due import InFlight
from shared.jobs.record import Followed, Job
from tasks.engine import Engine

#: What a listing may hold beside our own runs: other people's, and those that ended since the oldest of ours began.
LISTED_AT_LEAST = 100
CLOCK_SLACK_SECONDS = 60.0

#: A listing is read on until every run in flight was found, up to so many pages, or three times as many rows as runs.
MOST_PAGES = 5
#: Rows of a page: more would not be cheaper for each, and this is a part of a worker's memory.
MOST_ROWS = 1000


async def listed_runs(
    engine: Engine,
    workflow_id: str,
    in_flight: Iterable[InFlight],
    known: Mapping[str, Job | Followed],
    *,
    value: float,
) -> dict[str, ListedRun]:
    """The runs in flight by their ids, as far as the listing holds them; `known` are their jobs. One call a page, and one
    page unless runs are very many or very old; `value` is what the answer is worth when tokens are short.

    Raises what `list_by_workflow` raises.
    """
    wanted = {run.run_id for run in in_flight}
    oldest = min((job.submitting_at or job.created_at for job in known.values()), default=0)
    since = datetime.fromtimestamp(oldest / 1000 - CLOCK_SLACK_SECONDS, UTC)
    limit = min(MOST_ROWS, max(LISTED_AT_LEAST, 2 * len(wanted)))
    rows: dict[str, ListedRun] = {}
    for page in range(max(MOST_PAGES, 3 * len(wanted) // limit)):
        async with engine.bucket.call("look", value=value):
            found = await engine.client.runs.list_by_workflow(
                workflow_id, created_after=since, limit=limit, offset=page * limit
            )
        rows |= {row.id: row for row in found if row.id in wanted}
        if len(found) < limit or wanted <= rows.keys():
            break
    return rows
