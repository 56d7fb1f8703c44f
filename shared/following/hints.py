"""What do we make of a webhook? A reason to look now, never truth.

The API signs nothing, so each job's address carries a signature of ours (`shared/hooks.py`). A hook may come by POST or as a
GET without a body, twice, in any order, before our own submit has heard its answer, or never (CONTRACT section 12). One that
says the run has ended, or nothing sensible, moves the job's look forward; and if the job still waits for the answer of its submit, it names the run to look at first.
"""

import json
import re
from typing import Literal

from shared.comfydeploy.run import FINAL, RunStatus
from shared.hooks import is_signed
from shared.jobs.store import JobStore
from shared.metrics import HINTS

HintReply = Literal["nudged", "noted", "final", "missing", "forged"]

_RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


async def take_hint(store: JobStore, secret: str, job_id: str, sig: str, body: bytes = b"") -> HintReply:
    """Take one webhook in. One round trip, and none for a forged one. Repeats change nothing.

    Answers what became of it: `nudged` (looked at now), `noted` (no run known yet, or no reason to look), `final` or `missing` (too late),
    `forged` (not our signature). The receiver answers 404 to the last two alike, and 200 to the others.
    """
    reply: HintReply = "forged"
    if is_signed(secret, job_id, sig):
        run_id, goes_on = _told(body)
        reply = await store.nudge(job_id, run_id=run_id, goes_on=goes_on)
    HINTS.labels(reply).inc()
    return reply


def _told(body: bytes) -> tuple[str, bool]:
    """The run the hook is about, "" when the body does not say, which a GET's often does not; and whether it says that the
    run goes on. The API sends a hook at each status: three of four are no reason for a call, unless somebody watches."""
    try:
        told = json.loads(body) if body else None
    except (ValueError, RecursionError):  # the second by a body that is nothing but brackets
        return "", False
    if not isinstance(told, dict):
        return "", False
    run_id, status = told.get("run_id"), told.get("status")
    known = RunStatus.of(status) if isinstance(status, str) else None
    goes_on = known is not None and known not in FINAL
    return run_id if isinstance(run_id, str) and _RUN_ID.fullmatch(run_id) else "", goes_on
