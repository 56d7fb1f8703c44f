"""`python -m simulator`: a local ComfyUI Deploy that needs no GPU, no account and no bill."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import socket
import sys
from collections.abc import Sequence

import uvicorn

from simulator.app import create_app
from simulator.scenarios import SCENARIOS
from simulator.settings import scenario
from simulator.sockets import CuttableProtocol
from simulator.worlds import WORLDS

_EPILOG = """\
scenarios (--scenario, or POST /_sim/config {{"scenario": "…"}}):
{scenarios}

try it:
  python -m simulator --speed 10
  curl -s localhost:3011/api/deployments -H 'Authorization: Bearer sim-key'
  curl -s localhost:3011/api/run/deployment/queue -H 'Authorization: Bearer sim-key' -H 'Content-Type: application/json' \\
       -d '{{"deployment_id": "d0000000-0000-4000-8000-000000000001", "inputs": {{"prompt": "a lighthouse"}}}}'
  curl -s localhost:3011/api/run/RUN_ID -H 'Authorization: Bearer sim-key'

make it misbehave, and see what a client did:
  curl -s localhost:3011/_sim/config -d '{{"faults": {{"lost_answer": 0.5}}}}'
  curl -s localhost:3011/_sim/stats

Also there: keys sim-key-other (another user), sim-key-org (the owner's organisation), sim-key-free (a stranger),
sim-key-no-credit, sim-key-revoked, sim-key-suspended, sim-key-machine. All of it: docs/reference/simulator.md
"""


def parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:14} {preset.summary}" for name, preset in SCENARIOS.items())
    made = argparse.ArgumentParser(
        prog="python -m simulator",
        description="A faithful local ComfyUI Deploy: the same routes, statuses, webhooks and oddities, and faults on order.",
        epilog=_EPILOG.format(scenarios=listed),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--port", type=int, default=3011, help="port to listen on; 0 takes a free one (default: 3011)")
    made.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    made.add_argument("--public-url", help="how clients reach this server, for output URLs (default: http://HOST:PORT)")
    made.add_argument("--key", action="append", help="an API key of the owner; repeatable (default: sim-key)")
    made.add_argument("--speed", type=float, help="how many times faster than real time runs live (default: 1)")
    made.add_argument("--seed", type=int, help="seed of durations, faults and pictures (default: 0)")
    made.add_argument(
        "--scenario", default="calm", choices=list(SCENARIOS), help="which kind of day it is (default: calm)"
    )
    made.add_argument("--world", default="studio", choices=list(WORLDS), help="which fixtures exist (default: studio)")
    made.add_argument("--config", help="more settings as JSON, as for POST /_sim/config")
    made.add_argument(
        "--legacy-workflow-api",
        action="store_true",
        help="GET /run carries workflow_api, which the official Python SDK 0.7.0 requires",
    )
    made.add_argument("--access-log", action="store_true", help="print every call")
    return made


class Server(uvicorn.Server):
    """uvicorn, telling when it is ready and stopping at once: open streams and hanging calls are cut, not waited for."""

    def __init__(self, config: uvicorn.Config, told: str) -> None:
        super().__init__(config)
        self._told = told

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # Only now: whoever waits for this line may send a signal next.
        print(f"simulator: {self._told}", flush=True)  # noqa: T201 - the one line others wait for

    def handle_exit(self, sig: int, frame: object) -> None:  # noqa: ARG002 - the signature is signal's
        # What is cut off now is no news to anybody.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self.should_exit = True


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    try:
        patch = json.loads(given.config) if given.config else {}
        patch |= {name: value for name in ("speed", "seed") if (value := getattr(given, name)) is not None}
        if given.legacy_workflow_api:
            patch["legacy_workflow_api"] = True
        settings = scenario(given.scenario).changed(patch)
    except ValueError as error:
        print(f"simulator: {error}", file=sys.stderr)  # noqa: T201 - a program talks to its user
        return 2
    try:
        listening = socket.create_server((given.host, given.port), backlog=2048)
    except OSError as error:
        print(f"simulator: cannot listen on {given.host}:{given.port}: {error}", file=sys.stderr)  # noqa: T201 - a program talks to its user
        return 1
    # asyncio sets this only on sockets whose protocol number says TCP, which these do not; without it every answer on a
    # kept connection waits 40 ms for an acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    port = listening.getsockname()[1]
    url = given.public_url or f"http://{given.host}:{port}"
    app = create_app(settings, keys=given.key or ["sim-key"], base_url=url.rstrip("/"), world=given.world)
    config = uvicorn.Config(
        app,
        http=CuttableProtocol,
        ws="none",
        log_level="info" if given.access_log else "warning",
        access_log=given.access_log,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=0,
        server_header=False,
    )
    told = f"listening on {url}/api (scenario {settings.scenario}, speed {settings.speed:g}, seed {settings.seed})"
    with listening:
        asyncio.run(Server(config, told).serve(sockets=[listening]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
