"""The Celery app of the worker and Flower processes.

The job's record is the truth and a message only its trigger, so messages are acknowledged early and none is
prefetched: a worker that dies loses no job, only its hold on it, and rescue sends another message (docs/decisions/0001).
"""

import sys
from typing import Any

from celery import Celery
from celery.signals import setup_logging

from shared.broker import make_app
from shared.errors import MissingSetting
from shared.logs import configure
from shared.settings import Settings
from workers.start import EngineStep


def worker_app(settings: Settings) -> Celery:
    """The app with everything a worker needs on top of what producers use."""
    app = make_app(settings)
    app.conf.update(
        include=["tasks.submit"],
        worker_pool="workers.pool:ThreadPool",
        worker_concurrency=settings.slots,
        worker_disable_prefetch=True,
        worker_prefetch_multiplier=1,
        task_acks_late=False,
        task_track_started=False,
        worker_send_task_events=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_transport="workers.transport:Transport",
        worker_consumer="workers.consumer:Consumer",
        # Reconnect for ever: an outage of Redis must not end the worker.
        broker_connection_max_retries=None,
        worker_cancel_long_running_tasks_on_connection_loss=False,
    )
    app.steps["worker"].add(EngineStep)
    return app


def _load() -> tuple[Settings, Celery]:
    try:
        settings = Settings.from_env()
    except MissingSetting as error:
        sys.exit(f"conveyor: {error}")
    return settings, worker_app(settings)


settings, app = _load()


@setup_logging.connect
def _configure_logging(**_: Any) -> None:
    configure(settings)
