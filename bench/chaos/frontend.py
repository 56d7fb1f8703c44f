"""A frontend that only writes down what it was handed: one line of JSON an event, a moment for the "chat platform", then
the acknowledgement.

    python -m bench.chaos.frontend telegram tg-1 deliveries.jsonl

A program of its own, so that it can be killed at any moment; what it wrote before that is in the file.
"""

import asyncio
import json
import os
import random
import sys
import time
from pathlib import Path

from producers.results import ResultConsumer
from shared.logs import configure
from shared.settings import Settings

GROUP = "chaos"
#: Shorter than the default, so that a run sees a dead consumer's events being taken over.
CLAIM_IDLE_SECONDS = 10.0


async def deliver(frontend: str, name: str, path: Path) -> None:
    """Write down and acknowledge, until killed."""
    with path.open("ab", buffering=0) as file:
        async with ResultConsumer(frontend, GROUP, name, claim_idle_seconds=CLAIM_IDLE_SECONDS) as results:
            async for delivery in results:
                event = delivery.event
                line = {
                    "job_id": event.job_id,
                    "seq": event.seq,
                    "type": event.type,
                    "final": event.final,
                    "at": event.at.isoformat(),
                    # One clock for all processes of the machine: the order between two consumers can be told.
                    "written": time.monotonic_ns(),
                    "by": f"{name}/{os.getpid()}",
                    "deliveries": delivery.deliveries,
                }
                file.write(json.dumps(line).encode() + b"\n")
                # Killed in here, it has delivered and not acknowledged: the event comes again.
                await asyncio.sleep(random.uniform(0, 0.1))
                await delivery.ack()


if __name__ == "__main__":
    configure(Settings.from_env())
    asyncio.run(deliver(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
