"""What happens when a worker reports on a run?

The only code that moves a run. The engine's simulated workers call it, and so does `POST /update-run`, so a test that
plays the worker gets exactly the life a simulated worker would give.

The rules are upstream's, unguarded as they are: once final, status and `ended_at` stay; before that any order is
accepted, backwards too. Late `queued` and `started` posts still move their times, late progress and outputs are still
stored. Updates to `cancelled` and `timeout` runs vanish; updates to `success` and `failed` runs send the hook again.
"""

from __future__ import annotations

import struct
from typing import Any

from simulator import outputs
from simulator.broadcast import Broadcast
from simulator.bucket import Bucket
from simulator.hooks import Hooks, wants_outputs
from simulator.rows import TERMINAL, Output, Run
from simulator.timestamps import now


def float32(value: float) -> float:
    """Store a number as the database column does: 0.43 reads back as 0.4300000071525574."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


class Updates:
    def __init__(self, hooks: Hooks, broadcast: Broadcast, bucket: Bucket) -> None:
        self._hooks, self._broadcast, self._bucket = hooks, broadcast, bucket

    def status(self, run: Run, status: str, *, call_id: str | None = None) -> None:
        """Take a status report of a worker."""
        if run.dropped_updates:
            return
        at = now()
        if status == "queued":
            run.queued_at = at
        elif status == "started":
            run.started_at = at
        if not run.final:
            run.status = status
            run.updated_at = at
            if call_id is not None:
                run.modal_function_call_id = call_id
            if status in TERMINAL:
                run.ended_at = at
                run.odd_status = None
        visible = [outputs.for_hook(output, self._bucket) for output in run.outputs if outputs.fits(output.data)]
        self._hooks.send(run, "run.updated", visible)
        self._broadcast.tell(run, run.status)

    def live(self, run: Run, live_status: str | None, progress: float | None) -> None:
        """Take a progress report; it is written even to a finished run, and never changes the status."""
        if live_status is not None:
            run.live_status = live_status
        if progress is not None:
            run.progress = float32(progress)
        run.updated_at = now()
        if run.webhook_intermediate_status:
            # Not the stored number: this hook repeats what the worker sent, and no outputs even if there are some.
            self._hooks.send(run, "run.updated", [], progress)

    def output(self, run: Run, data: Any, node_meta: dict[str, Any] | None) -> Output:
        """Take an output; it is appended even to a finished run."""
        output = Output(run.id, data, node_meta)
        run.outputs.append(output)
        if outputs.fits(data):
            if run.webhook and wants_outputs(run.webhook):
                self._hooks.send(run, "run.output", [outputs.for_hook(output, self._bucket, sign=False)])
            self._broadcast.tell(run, "output", "output")
        return output

    def cancelled(self, run: Run) -> None:
        """End a live run as the cancel call does: one hook, with every stored output row as it is."""
        run.status = "cancelled"
        run.odd_status = None
        run.ended_at = run.updated_at = now()
        self._hooks.send(run, "run.updated", [outputs.for_row(output) for output in run.outputs])
        self._broadcast.tell(run, None)

    def refused(self, run: Run) -> None:
        """End a run whose spawn failed. No hook: nobody is told."""
        run.status = "failed"
        run.ended_at = run.updated_at = now()
