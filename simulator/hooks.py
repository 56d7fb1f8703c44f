"""How does a webhook reach its receiver? As the service sends it, weaknesses included.

POST first; after a status of 400 or more, or any exception, again after half a second and after one second, three times
in all. The second and third attempt are *GET with the same JSON body*: upstream takes the method out of options it reuses.
Each hook is its own task, so nothing keeps their order. Nothing is signed, stored or sent again later.

Sent with aiohttp, as upstream does, since its User-Agent and its GET bodies are part of what receivers see.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp

from simulator.faults import FaultMenu
from simulator.rows import Run
from simulator.settings import Webhooks
from simulator.timestamps import now


def wants_outputs(webhook: str) -> bool:
    """Tell whether the query of a webhook address asks for `run.output` events."""
    asked = parse_qs(urlsplit(webhook).query).get("target_events", [])
    return any("run.output" in events.split(",") for events in asked)


def hook_body(
    run: Run, event_type: str, outputs: list[dict[str, Any]], progress: float | None = None
) -> dict[str, Any]:
    """Give what a webhook says: always these six keys."""
    return {
        "event_type": event_type,
        "status": run.odd_status or run.status,
        "live_status": run.live_status,
        "progress": run.progress if progress is None else progress,
        "run_id": run.id,
        "outputs": outputs,
    }


class Hooks:
    def __init__(self, settings: Webhooks, menu: FaultMenu, seed: int) -> None:
        self.settings, self.menu = settings, menu
        self._dice = random.Random(f"hooks:{seed}")
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None
        self.counts = self._fresh_counts()

    @staticmethod
    def _fresh_counts() -> dict[str, int]:
        return {"sent": 0, "attempts": 0, "delivered": 0, "failed": 0, "lost": 0}

    def send(self, run: Run, event_type: str, outputs: list[dict[str, Any]], progress: float | None = None) -> None:
        """Send one event about a run, in the background; nothing happens when the run has no webhook."""
        if not run.webhook:
            return
        body = hook_body(run, event_type, outputs, progress)
        if self.menu.draw("hook_lost") is not None:
            self.counts["lost"] += 1
            return
        times = 2 if self.menu.draw("hook_doubled") is not None else 1
        delay = 0.0
        if (late := self.menu.draw("hook_late")) is not None:
            delay += 5.0 if late.seconds is None else late.seconds
        if (mixed := self.menu.draw("hook_reordered")) is not None:
            delay += self._dice.uniform(0, 1.0 if mixed.seconds is None else mixed.seconds)
        for _ in range(times):
            self.counts["sent"] += 1
            task = asyncio.get_running_loop().create_task(self._deliver(run, run.webhook, body, delay))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _deliver(self, run: Run, url: str, body: dict[str, Any], delay: float) -> None:
        if delay:
            await asyncio.sleep(delay)
        session = self._opened()
        timeout = aiohttp.ClientTimeout(total=self.settings.timeout_seconds)
        status: int | None = None
        began = time.monotonic()
        for attempt in range(1 + len(self.settings.wait_seconds)):
            if attempt:
                pause = self.settings.wait_seconds[attempt - 1]
                await asyncio.sleep(pause * self._dice.uniform(1.0, 1.1))
            self.counts["attempts"] += 1
            try:
                method = "GET" if attempt else "POST"
                async with session.request(method, url, json=body, timeout=timeout) as reply:
                    status = reply.status
                    await reply.read()
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
                status = None
                continue
            if status < 400:
                break
        delivered = status is not None and status < 400
        self.counts["delivered" if delivered else "failed"] += 1
        line = {
            "type": "webhook",
            "status": status,
            "latency_ms": (time.monotonic() - began) * 1000,
            "url": url,
            "message": None,
            "payload": json.dumps(body),
        }
        run.log.append((now(), "webhook", json.dumps(line)))

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=200))
        return self._session

    def forget(self) -> None:
        """Drop what is under way, as a restart of the service would."""
        for task in self._tasks:
            task.cancel()
        self.counts = self._fresh_counts()

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
