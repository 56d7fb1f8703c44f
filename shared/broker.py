"""How does a job reach a worker? As a Celery message that is only a trigger: the job's record says the rest.

Producers and workers speak through the same app, so that both send the same messages; a producer names the task and
imports none of its code. The Celery task id is the job id: one row in Flower for a job's whole life.
"""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

from celery import Celery
from kombu.exceptions import OperationalError

from shared.database import REDIS_AWAY, Database
from shared.settings import Settings

log = logging.getLogger(__name__)

#: The one queue. It stays short (`lanes.STARTING_WINDOW`), so it needs no priorities.
QUEUE = "conveyor"
SUBMIT_TASK = "tasks.submit"

#: Seconds; kombu's own calls are blocking and must end, too.
BROKER_TIMEOUT_SECONDS = 10


def make_app(settings: Settings) -> Celery:
    """A Celery app that can send our messages and read results; workers add what only they need."""
    app = Celery("conveyor", broker=settings.redis_url, backend=settings.redis_url)
    timeouts = {"socket_timeout": BROKER_TIMEOUT_SECONDS, "socket_connect_timeout": 3, "socket_keepalive": True}
    app.conf.update(
        task_default_queue=QUEUE,
        task_serializer="json",
        result_serializer="json",
        event_serializer="json",
        accept_content=["json"],
        result_accept_content=["json"],
        task_send_sent_event=True,
        # Publishing is retried by rescue, which sees what was dispatched and never started; do not hang here.
        task_publish_retry_policy={"max_retries": 2, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.5},
        broker_transport_options=timeouts,
        result_backend_transport_options={"socket_timeout": BROKER_TIMEOUT_SECONDS},
        redis_socket_timeout=BROKER_TIMEOUT_SECONDS,
        result_expires=settings.job_keep_seconds,
        broker_connection_retry_on_startup=True,
        enable_utc=True,
    )
    return app


class Publisher:
    """Send submit tasks without blocking the event loop: kombu is synchronous, so it gets a thread of its own."""

    def __init__(self, app: Celery, database: Database) -> None:
        self._app = app
        self._db = database
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="publisher")

    async def publish(self, job_ids: list[str]) -> None:
        """Publish the submit tasks of dispatched jobs. A message that cannot be sent is left to rescue, and logged."""
        if not job_ids:
            return
        try:
            pipe = self._db.redis.pipeline(transaction=False)
            for job_id in job_ids:
                pipe.hget(self._db.keys.job(job_id), "label")
            labels = await pipe.execute()
            await asyncio.get_running_loop().run_in_executor(self._thread, self._send, job_ids, labels)
        except (*REDIS_AWAY, OperationalError) as error:
            log.warning("publish failed, rescue will repeat it", extra={"jobs": len(job_ids), "error": repr(error)})

    def _send(self, job_ids: list[str], labels: list[str | None]) -> None:
        with self._app.producer_pool.acquire(block=True, timeout=BROKER_TIMEOUT_SECONDS) as producer:
            for job_id, label in zip(job_ids, labels, strict=True):
                self._app.send_task(
                    SUBMIT_TASK,
                    args=[job_id],
                    task_id=job_id,
                    # What monitors of Celery's events show instead of an id.
                    argsrepr=label or job_id,
                    kwargsrepr="",
                    producer=producer,
                    # The result is stored when the job is final (`tasks/closing.py`); nobody waits on this channel.
                    ignore_result=True,
                )

    def close(self) -> None:
        """Stop the thread after what it is sending now, and close the broker connections."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._app.close()
