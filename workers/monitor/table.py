"""What does Flower keep in memory? A table of jobs that only our reader writes, and what workers say of themselves.

Celery's events go over Redis's publish and subscribe: who does not listen at that moment never hears them, and a row whose
last event was missed would say STARTED for ever. So an event of a task is only a hint that its job's record has news.
"""

import heapq
import time
from typing import Any

from celery import states
from celery.events.state import Task as CeleryTask
from celery.events.state import Worker
from flower.events import EventsState

from shared.broker import SUBMIT_TASK


class Row(CeleryTask):
    """One job. The fields that Flower shows on the job's own page, in this order."""

    _fields = (
        "uuid",
        "name",
        "state",
        "args",
        "kwargs",
        "result",
        "exception",
        "job_state",
        "jobs_ahead",
        "run_id",
        "runtime",
        "received",
        "started",
        "succeeded",
        "failed",
        "revoked",
        "waited_in_lane",
        "waited_for_gpu",
        "worker",
        "retries",
        "priority",
        "looks",
        "deployment_id",
        "machine",
        "timestamp",
    )
    #: The number of the job's last event; not shown.
    seq = 0
    job_state = jobs_ahead = run_id = waited_in_lane = waited_for_gpu = priority = looks = deployment_id = machine = (
        None
    )

    @property
    def ended(self) -> bool:
        """Whether it can still change."""
        return self.state in states.READY_STATES


def with_elapsed(row: Row) -> Row:
    """Have a row that is about to be shown tell how long it has gone on; Flower hands in a copy."""
    if row.state == states.STARTED and row.started:
        row.runtime = max(0.0, time.time() - row.started)
    return row


class Table(EventsState):  # type: ignore[misc]  # Flower is published without types
    """Flower's state. Used on the event loop's thread only, as Flower's own."""

    def __init__(self, most: int) -> None:
        # Without a limit of its own: `trim` knows better which rows may go.
        super().__init__(max_tasks_in_memory=0)
        self._most = most
        self._nobody = Row("")
        #: Jobs of which an event came since the reader last looked.
        self.hinted: set[str] = set()

    def event(self, event: dict[str, Any]) -> None:
        """Count what workers send, and take a task's event as a hint."""
        if not event["type"].startswith("task-"):
            super().event(event)
            return
        self.hinted.add(event["uuid"])
        if event["type"] == "task-sent":
            return  # by a producer, of which there may be any number in time
        self.counter[event["hostname"]][event["type"]] += 1
        # One name for all jobs: labels of a metric must not grow with users.
        self.metrics.observe_task(event["hostname"], {**event, "name": SUBMIT_TASK}, self._nobody)

    def put(self, job_id: str, row: dict[str, Any]) -> None:
        """Write a job's row."""
        task = self.tasks.data.get(job_id) or Row(job_id)
        if task.seq > row["seq"]:
            return  # read earlier, and came later
        hostname = row.get("worker")
        # Not `get_or_create_worker`: a worker that has gone must not come back to the list of workers.
        worker = hostname and (self.workers.data.get(hostname) or Worker(hostname))
        vars(task).update(row, worker=worker or None)
        self.tasks.data[job_id] = task
        self.search_engine.upsert(task)

    def drop(self, job_id: str) -> None:
        """Take a row away; one that is not there is fine."""
        if self.tasks.data.pop(job_id, None) is not None:
            self.search_engine.remove(job_id)

    def trim(self) -> None:
        """Drop the oldest rows beyond what is kept, those that have ended first."""
        rows = self.tasks.data
        over = len(rows) - self._most
        if over > 0:
            for _, job_id in heapq.nsmallest(over, ((not row.ended, job_id) for job_id, row in rows.items())):
                self.drop(job_id)
