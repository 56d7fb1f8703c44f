"""What is there to see when a run is over? Read once, after everything should be final: streams, deliveries, runs, keys.

Nothing is judged here; `scorecard.py` does that from this alone, so evidence can be written by hand in a test.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.chaos.site import FRONTENDS, Site
from shared.broker import QUEUE

#: States a job does not leave, in the words of the streams.
FINAL = frozenset({"succeeded", "failed", "cancelled", "timed_out", "expired"})
#: Final statuses of a run.
RUN_FINAL = frozenset({"success", "failed", "timeout", "cancelled"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One event on a stream."""

    #: Redis's clock, ms since 1970.
    at: int
    job_id: str
    seq: int
    type: str
    final: bool


@dataclass
class Evidence:
    """Everything that was seen."""

    #: Jobs somebody was told are accepted.
    accepted: set[str] = field(default_factory=set)
    #: Idempotency key -> job ids it was answered with.
    answers: dict[str, set[str]] = field(default_factory=dict)
    #: Job id -> its record; jobs Redis does not know are missing.
    jobs: dict[str, dict[str, str]] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    #: What the frontends wrote down, in the order of writing.
    deliveries: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    #: Job id -> the state `AsyncResult(job_id)` tells; missing when its Celery row was never closed.
    rows: dict[str, str] = field(default_factory=dict)
    #: Key -> members left in it.
    leaks: dict[str, int] = field(default_factory=dict)
    dead_letters: int = 0
    #: Monotonic seconds of each call to the API.
    calls: list[float] = field(default_factory=list)
    #: What the simulator counted.
    stats: dict[str, Any] = field(default_factory=dict)
    #: Error lines in the workers' and consumers' logs, by text.
    log_errors: Counter[str] = field(default_factory=Counter)


async def gather(site: Site, accepted: Iterable[str], answers: dict[str, set[str]]) -> Evidence:
    """Read everything. Redis and the simulator must be up."""
    seen = Evidence(accepted=set(accepted), answers=answers)
    seen.jobs = await records(site, seen.accepted)
    redis, keys = site.client, site.database.keys
    for frontend in FRONTENDS:
        for entry_id, fields in await redis.xrange(keys.results(frontend)):
            word = fields["type"].removeprefix("job.")
            at = int(entry_id.partition("-")[0])
            seen.entries.append(Entry(at, fields["job_id"], int(fields["seq"]), word, word in FINAL))
        seen.dead_letters += await redis.xlen(keys.dead(frontend))
    seen.entries.sort(key=lambda entry: entry.at)
    seen.deliveries = deliveries(site)
    seen.rows = await rows(site, seen.accepted)
    seen.leaks = await leaks(site)
    seen.runs = (await site.http.get("/_sim/runs")).json()
    stats = (await site.http.get("/_sim/stats", params={"calls": "1"})).json()
    seen.calls = [at for at, _ in stats.pop("call_log")]
    seen.stats = stats
    for program in [*site.workers, *site.consumers]:
        seen.log_errors += errors_in(program.log_path)
    return seen


async def records(site: Site, job_ids: Iterable[str]) -> dict[str, dict[str, str]]:
    """The records of these jobs; those that are gone are left out."""
    pipe, ids = site.client.pipeline(transaction=False), list(job_ids)
    for job_id in ids:
        pipe.hgetall(site.database.keys.job(job_id))
    return {job_id: record for job_id, record in zip(ids, await pipe.execute(), strict=True) if "state" in record}


async def rows(site: Site, job_ids: Iterable[str]) -> dict[str, str]:
    """What Celery's result backend says of these jobs."""
    ids = list(job_ids)
    texts = await site.client.mget([f"celery-task-meta-{job_id}" for job_id in ids]) if ids else []
    return {job_id: json.loads(text)["status"] for job_id, text in zip(ids, texts, strict=True) if text}


def deliveries(site: Site) -> list[dict[str, Any]]:
    """What the frontends were handed. A line cut by a kill was not acknowledged, and comes again."""
    lines = []
    for consumer in site.consumers:
        path = site.deliveries(consumer.name)
        for text in path.read_text().splitlines() if path.exists() else []:
            try:
                lines.append(json.loads(text))
            except ValueError:
                continue
    return sorted(lines, key=lambda line: line["written"])


async def leaks(site: Site) -> dict[str, int]:
    """Windows, lanes and sets that should be empty when nothing is under way. A key that is gone is empty."""
    redis, keys = site.client, site.database.keys
    left: dict[str, int] = {}
    for key in (keys.window, keys.starting, keys.due, keys.expiring, keys.closing):
        left[key] = await redis.zcard(key)
    for key in (keys.window_users, keys.window_pools, keys.looking):
        left[key] = await redis.hlen(key)
    left[QUEUE] = await redis.llen(QUEUE)
    for pattern in ("inflight:*", "ring:*", "lane:*", "parked:*"):
        async for key in redis.scan_iter(match=f"{keys.prefix}{pattern}", count=1000):
            left[str(key)] = await redis.scard(key) if "parked" in pattern else await redis.zcard(key)
    return {key: size for key, size in left.items() if size}


def errors_in(path: Path) -> Counter[str]:
    """Lines of level error and above, and what a process said last before it broke."""
    found: Counter[str] = Counter()
    for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
        if not line.startswith("{"):
            if line.startswith("Traceback"):
                found["Traceback outside the log"] += 1
            continue
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if told.get("level") in {"error", "critical"}:
            last = str(told.get("exception") or told.get("error") or "").strip().splitlines()[-1:]
            found[f"{str(told.get('event'))[:100]} {''.join(last)[:160]}".strip()] += 1
    return found
