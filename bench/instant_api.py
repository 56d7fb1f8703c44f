"""An upstream that costs nothing: every run has ended well the moment it is made.

What is left of the time of a job is ours. Serves only the routes a job needs; the simulator is for everything else.
`python -m bench.instant_api` prints the port it listens on.
"""

import asyncio
import contextlib
import uuid
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

WORKFLOW = "b0000000-0000-4000-8000-000000000001"
DEPLOYMENT = "d0000000-0000-4000-8000-000000000001"


class InstantApi:
    """Runs by id, newest last."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application()
        app.add_routes(
            [
                web.post("/api/run/deployment/queue", self.submit),
                web.get("/api/run/{run_id}", self.read),
                web.get("/api/v2/workflow/{workflow_id}/runs", self.listing),
                web.get("/api/deployments", self.deployments),
            ]
        )
        return app

    async def submit(self, request: web.Request) -> web.Response:
        """Make a run that has ended."""
        body = await request.json()
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        run_id = str(uuid.uuid4())
        self.runs[run_id] = {
            "id": run_id,
            "status": "success",
            "workflow_id": WORKFLOW,
            "deployment_id": DEPLOYMENT,
            "workflow_inputs": body.get("inputs", {}),
            "created_at": now,
            "queued_at": now,
            "started_at": now,
            "ended_at": now,
        }
        return web.json_response({"run_id": run_id})

    async def read(self, request: web.Request) -> web.Response:
        """One run with one output."""
        run = self.runs[request.match_info["run_id"]]
        item = {"url": "http://127.0.0.1/picture.png", "filename": "picture.png", "type": "output", "is_public": True}
        outputs = [{"id": run["id"], "data": {"images": [item]}, "node_meta": {"node_id": "9"}}]
        return web.json_response({**run, "outputs": outputs})

    async def listing(self, request: web.Request) -> web.Response:
        """The newest runs, light."""
        limit = int(request.query.get("limit", "100"))
        rows = list(self.runs.values())[-limit:]
        return web.json_response([{k: v for k, v in row.items() if k != "workflow_inputs"} for row in reversed(rows)])

    async def deployments(self, request: web.Request) -> web.Response:
        """One deployment, on no machine in particular: nothing but us limits how many runs there are."""
        if request.query.get("is_fluid") == "true":
            return web.json_response([])
        one = {
            "id": DEPLOYMENT,
            "workflow_id": WORKFLOW,
            "workflow": {"id": WORKFLOW, "name": "Instant"},
            "environment": "production",
        }
        return web.json_response([one])


async def serve() -> None:
    """Serve until cancelled."""
    runner = web.AppRunner(InstantApi().app(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(f"listening on http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve())
