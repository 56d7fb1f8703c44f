"""Hear what became of the jobs: the events of one frontend, in order, until acknowledged.

Start at `consumer.py`; `fetching.py` keeps it supplied, `inbox.py` keeps the order, `group.py` is what Redis is asked.
`dead_letters.py` is for what could not be delivered.
"""

from producers.results.consumer import ResultConsumer
from producers.results.delivery import Delivery

__all__ = ["Delivery", "ResultConsumer"]
