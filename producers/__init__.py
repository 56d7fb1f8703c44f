"""Put jobs in, and hear what became of them.

    from producers import JobRequest, Producer, ResultConsumer

    job = await Producer.from_env().enqueue(JobRequest(workflow="portrait", frontend="telegram", user={"id": "42"}))

Start at `producer.py`; what a frontend hears is in `results/`. Names are loaded when they are first used: a command
that only asks for a status must not wait for Celery.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from producers.blocking import SyncProducer
    from producers.handle import JobHandle, Status
    from producers.producer import Producer
    from producers.recipes import Ordered, make_image, rerun, train_model, tweak, variation
    from producers.results import Delivery, ResultConsumer
    from shared.jobs.event import Event
    from shared.jobs.request import JobRequest

__all__ = [
    "Delivery",
    "Event",
    "JobHandle",
    "JobRequest",
    "Ordered",
    "Producer",
    "ResultConsumer",
    "Status",
    "SyncProducer",
    "make_image",
    "rerun",
    "train_model",
    "tweak",
    "variation",
]

_HOMES = {
    "Delivery": "producers.results",
    "Event": "shared.jobs.event",
    "JobHandle": "producers.handle",
    "JobRequest": "shared.jobs.request",
    "Producer": "producers.producer",
    "ResultConsumer": "producers.results",
    "Status": "producers.handle",
    "SyncProducer": "producers.blocking",
    **dict.fromkeys(("Ordered", "make_image", "rerun", "train_model", "tweak", "variation"), "producers.recipes"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
