"""Was a promise broken? Numbers with their limits (DESIGN section 9), from the evidence alone.

Words used here:

* A run is **paid** when a GPU worker took it (`queued_at`), however it ended.
* A job is paid **twice** when two of its runs were paid; a run that was cancelled before a worker took it is not.
* An **orphan** is a run that is not its job's recorded run and was paid without being cancelled, or any run that has not
  ended although everything is over: somebody pays for it and nobody follows it.
* An end **contradicts** the run when the user is told something else than what happened upstream.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from bench.chaos.evidence import FINAL, RUN_FINAL, Evidence
from bench.chaos.injector import Outage
from bench.chaos.wards import Ward

STALL_SECONDS = 20.0
REDIS_RECOVERY_SECONDS = 20.0
API_RECOVERY_SECONDS = 45.0
#: Calls are granted in Redis and counted where they arrive: on two busy cores they bunch up by this much.
ARRIVAL_SECONDS = 0.25

#: Moves that only happen when Redis, a worker and the API all work.
_MOVES = frozenset({"submitted", "running", "progress", "succeeded", "failed", "timed_out"})
#: Job state -> run statuses that fit it.
_FITS = {
    "succeeded": {"success"},
    "failed": {"failed", "success"},
    "cancelled": {"cancelled"},
    "timed_out": {"timeout", "cancelled"},
}
#: Job state -> what Celery's result has to say.
_ROWS = {
    "succeeded": "SUCCESS",
    "cancelled": "REVOKED",
    "expired": "REVOKED",
    "failed": "FAILURE",
    "timed_out": "FAILURE",
}
#: Failures that come from the run itself.
_UPSTREAM = frozenset({"upstream_failed", "no_outputs"})


@dataclass
class Line:
    """One number. `limit` None: told, not judged."""

    name: str
    value: float
    limit: float | None = None
    #: What broke it, or what it is made of.
    cases: list[str] = field(default_factory=list)
    at_least: bool = False

    @property
    def broken(self) -> bool:
        """Whether the number breaks its promise."""
        if self.limit is None:
            return False
        return self.value < self.limit if self.at_least else self.value > self.limit


def score(seen: Evidence, wards: Iterable[Ward], outages: Iterable[Outage], *, rate: float, burst: int) -> list[Line]:
    """Every line of the card."""
    lines = [Line("jobs accepted", len(seen.accepted))]
    lines += _ends(seen) + _events(seen) + _runs(seen)
    leaks = [f"{key}: {size}" for key, size in seen.leaks.items()]
    lines.append(Line("windows, lanes and sets not empty", len(leaks), 0, leaks))
    lines += _stalls(list(wards)) + _recoveries(seen, list(outages)) + _budget(seen.calls, rate, burst)
    return lines


def _ends(seen: Evidence) -> list[Line]:
    unknown = [f"{job_id}: no record" for job_id in seen.accepted - set(seen.jobs)]
    unended = [f"{job_id}: {job['state']}" for job_id, job in seen.jobs.items() if job["state"] not in FINAL]
    finals: defaultdict[str, set[int]] = defaultdict(set)
    for entry in seen.entries:
        if entry.final:
            finals[entry.job_id].add(entry.seq)
    handed = {(line["job_id"], line["seq"]) for line in seen.deliveries if line["final"]}
    for job_id, seq in handed:
        finals[job_id].add(seq)
    silent = [f"{job_id}: no final event" for job_id in seen.accepted if not finals.get(job_id)]
    doubled = [f"{job_id}: final events {sorted(seqs)}" for job_id, seqs in finals.items() if len(seqs) > 1]
    ours = [
        f"{job_id}: {job.get('error', '')[:200]}"
        for job_id, job in seen.jobs.items()
        if job["state"] in {"failed", "expired"} and not any(f'"{code}"' in job.get("error", "") for code in _UPSTREAM)
    ]
    keys = [f"{key}: {sorted(ids)}" for key, ids in seen.answers.items() if len(ids) > 1]
    strangers = {entry.job_id for entry in seen.entries} - seen.accepted
    rows = [
        f"{job_id}: {job['state']}, Celery says {seen.rows.get(job_id)}"
        for job_id, job in seen.jobs.items()
        if job["state"] in FINAL and seen.rows.get(job_id) != _ROWS[job["state"]]
    ]
    return [
        Line("jobs lost", len(unknown) + len(unended), 0, unknown + unended),
        Line("jobs without a final event", len(silent), 0, silent),
        Line("jobs with two final events", len(doubled), 0, doubled),
        Line("jobs nobody asked for", len(strangers), 0, sorted(strangers)),
        Line("idempotency keys with two jobs", len(keys), 0, keys),
        Line("jobs failed by our own fault", len(ours), 0, ours),
        Line("Celery results missing or contradicting", len(rows), 0, rows),
    ]


def _events(seen: Evidence) -> list[Line]:
    given: defaultdict[str, list[int]] = defaultdict(list)
    times: Counter[tuple[str, int]] = Counter()
    for line in seen.deliveries:
        times[line["job_id"], line["seq"]] += 1
        if times[line["job_id"], line["seq"]] == 1:
            given[line["job_id"]].append(line["seq"])
    unordered = [f"{job_id}: {seqs}" for job_id, seqs in given.items() if seqs != sorted(seqs)]
    gaps = []
    for job_id in seen.accepted:
        missing = set(range(1, int(seen.jobs.get(job_id, {}).get("seq", 0)) + 1)) - set(given.get(job_id, []))
        if missing:
            gaps.append(f"{job_id}: never handed out {sorted(missing)}")
    return [
        Line("events handed out, repeats aside", len(times)),
        Line("events handed out again", sum(times.values()) - len(times)),
        Line("events never handed out", len(gaps), 0, gaps),
        Line("jobs with events out of order", len(unordered), 0, unordered),
        Line("dead letters", seen.dead_letters, 0),
    ]


def _runs(seen: Evidence) -> list[Line]:
    by_job: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for run in seen.runs:
        by_job[str(run["_job_id"])].append(run)
    twice, orphans, contradictions, extra = [], [], [], 0
    for job_id, runs in by_job.items():
        job = seen.jobs.get(job_id, {})
        told = "; ".join(f"{run['id']} {run['status']}{' paid' if run['queued_at'] else ''}" for run in runs)
        told = f"{job_id} ({job.get('state')}, run {job.get('run_id')}): {told}"
        extra += len(runs) - 1
        if sum(run["queued_at"] is not None for run in runs) > 1:
            twice.append(told)
        for run in runs:
            alive = run["status"] not in RUN_FINAL
            unowned = run["id"] != job.get("run_id") and run["queued_at"] is not None and run["status"] != "cancelled"
            if alive or unowned:
                orphans.append(f"{run['id']} {run['status']} of {told}")
    statuses = {run["id"]: run["status"] for run in seen.runs}
    for job_id, job in seen.jobs.items():
        status = statuses.get(job.get("run_id", ""))
        wrong = status not in _FITS.get(job["state"], {status}) if status else job["state"] == "succeeded"
        if wrong:
            contradictions.append(f"{job_id}: {job['state']}, its run {job.get('run_id')}: {status}")
    return [
        Line("runs made", len(seen.runs)),
        Line("runs beyond one a job, paid or not", extra),
        Line("jobs paid twice", len(twice), 0, twice),
        Line("orphan runs", len(orphans), 0, orphans),
        Line("ends that contradict the run", len(contradictions), 0, contradictions),
    ]


def _stalls(wards: list[Ward]) -> list[Line]:
    slowest = sorted(wards, key=lambda ward: ward.stall, reverse=True)
    cases = [str(ward) for ward in slowest[:5]]
    return [
        Line("things in the hands of killed workers", len(wards)),
        Line("longest stall after a kill, s", max((ward.stall for ward in wards), default=0.0), STALL_SECONDS, cases),
        Line("the same, lost rescues included, s", max((ward.whole for ward in wards), default=0.0)),
    ]


def _recoveries(seen: Evidence, outages: list[Outage]) -> list[Line]:
    """From the moment it was back until the first move that needs everything.

    An outage into whose recovery another one fell is not judged: the other is.
    """
    moves = [entry.at / 1000 for entry in seen.entries if entry.type in _MOVES]
    longest = dict.fromkeys((outage.what for outage in outages), 0.0)
    overtaken = Counter[str]()
    for outage in outages:
        first = next((at for at in moves if at > outage.ended), None)
        if first is None:
            continue
        if any(other.began < first and other.ended > outage.ended for other in outages):
            overtaken[outage.what] += 1
        else:
            longest[outage.what] = max(longest[outage.what], first - outage.ended)
    limits = {"Redis": REDIS_RECOVERY_SECONDS, "the API": API_RECOVERY_SECONDS}
    return [
        Line(f"first move after {what} came back, s", value, limits[what], [f"{overtaken[what]} overtaken by another"])
        for what, value in longest.items()
    ]


def _budget(calls: list[float], rate: float, burst: int) -> list[Line]:
    """In any window of T seconds at most `burst + rate * T` calls: the most that any window had above `rate * T`."""
    most, least = 0.0, float("inf")
    for place, at in enumerate(calls):
        least = min(least, place - rate * at)
        most = max(most, place + 1 - rate * at - least)
    seconds = calls[-1] - calls[0] if len(calls) > 1 else 1.0
    return [
        Line("API calls", len(calls), None, [f"{len(calls) / seconds:.1f} a second, {rate:g} allowed"]),
        Line("most calls in any window above its rate", most, burst + rate * ARRIVAL_SECONDS, [f"burst {burst}"]),
    ]
