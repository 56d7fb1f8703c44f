"""Hear what became of the jobs: the events of one frontend, in order, until acknowledged.

Start at `consumer.py`; `inbox.py` is what keeps the order, `group.py` what Redis is asked; `dead_letters.py` is
for what could not be delivered.
"""

from producers.results.consumer import ResultConsumer
from producers.results.delivery import Delivery

__all__ = ["Delivery", "ResultConsumer"]
