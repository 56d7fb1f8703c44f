"""How does a job end for Celery, so that `AsyncResult(job_id).get()` returns and a monitor of its events sees a row end?

Our Flower needs none of this: its rows are made of records (`workers/monitor/`).

A submit task leaves its slot with `Ignore`, so its Celery state stays open while the run is followed. When the job is
final it is listed in `conveyor:closing` (by the script that moved it, so a crash cannot forget it) and a worker's ticker
stores the Celery result and sends the Celery event. Closing twice is harmless: the same result, the same event.
"""

import threading
from typing import Any

from celery import Celery, states
from celery.exceptions import TaskRevokedError
from kombu.exceptions import OperationalError

from shared.database import REDIS_AWAY
from shared.errors import JobFailed
from shared.jobs.record import Job
from shared.jobs.states import JobState

#: What celery and redis-py raise when the broker is away.
BROKER_AWAY = (OperationalError, *REDIS_AWAY)


class Rows:
    """Celery's rows of jobs. Its methods block, one at a time: call them in a thread."""

    def __init__(self, app: Celery, hostname: str) -> None:
        self._app = app
        self._hostname = hostname
        self._dispatcher: Any = None
        self._lock = threading.Lock()

    def close_row(self, job: Job) -> None:
        """Store the result of a final job and send its event. Raises `OperationalError` when the broker is away."""
        state, result, event, fields = _closing(job)
        self._app.backend.store_result(job.id, result, state)
        self._send(event, uuid=job.id, **fields)

    def show_progress(self, job: Job, text: str) -> None:
        """Show where the job is in its row's result column; the row stays STARTED and keeps its Terminate button."""
        self._send("task-started", uuid=job.id, result=text)

    def _send(self, event: str, **fields: Any) -> None:
        with self._lock:
            if self._dispatcher is None:
                connection = self._app.connection_for_write()
                self._dispatcher = self._app.events.Dispatcher(
                    # Without its buffer: an event that could not be sent is sent by the next try, not kept and forgotten.
                    connection,
                    hostname=self._hostname,
                    buffer_while_offline=False,
                )
            try:
                self._dispatcher.send(event, **fields)
            except BROKER_AWAY:
                self._drop()
                raise

    def _drop(self) -> None:
        dispatcher, self._dispatcher = self._dispatcher, None
        if dispatcher is not None:
            dispatcher.close()
            dispatcher.connection.release()

    def close(self) -> None:
        """Close the connection. Closing twice is fine."""
        with self._lock:
            self._drop()


def _closing(job: Job) -> tuple[str, Any, str, dict[str, Any]]:
    """The Celery state, result, event name and event fields of a final job."""
    fields: dict[str, Any]
    error = f"{job.error.code}: {job.error.message}" if job.error else job.state.value
    began = job.submitting_at or job.created_at
    runtime = max(0, (job.final_at or began) - began) / 1000
    match job.state:
        case JobState.SUCCEEDED:
            result = job.result.model_dump(mode="json") if job.result else None
            outputs = len(job.result.outputs) if job.result else 0
            row = f"run {(job.run_id or '')[:8]}: {outputs} output{'' if outputs == 1 else 's'}"
            return states.SUCCESS, result, "task-succeeded", {"result": row, "runtime": runtime}
        case JobState.CANCELLED | JobState.EXPIRED:
            fields = {"terminated": False, "signum": None, "expired": job.state is JobState.EXPIRED}
            return states.REVOKED, TaskRevokedError(job.state.value), "task-revoked", fields
        case _:
            fields = {"exception": f"JobFailed({error!r})", "traceback": "", "runtime": runtime}
            return states.FAILURE, JobFailed(error), "task-failed", fields
