"""Does the event loop keep up? Everything of a process waits for it, so its lateness is a part of every delay."""

import asyncio
import time
from typing import NoReturn

from shared.metrics import LOOP_LAG

EVERY_SECONDS = 0.5


async def watch_loop() -> NoReturn:
    """Measure until cancelled how much later than asked the loop comes back."""
    while True:
        began = time.monotonic()
        await asyncio.sleep(EVERY_SECONDS)
        LOOP_LAG.observe(max(0.0, time.monotonic() - began - EVERY_SECONDS))
