"""`make up`: stay up on this machine, with every process of the Procfile, until Ctrl-C."""

import asyncio
import contextlib
import logging
import os
import secrets
import signal

from rich.console import Console

from producers.local.processes import ROOT, procfile
from producers.local.stack import Stack
from shared.errors import ConveyorError
from shared.logs import configure
from shared.settings import Settings

FOLDER = ROOT / "var" / "up"
SIMULATOR_PORT = 3011


def run() -> int:
    """Start everything and wait for Ctrl-C. 3 when something could not be started."""
    console = Console()
    try:
        configure(Settings.from_env(), logging.WARNING)
        asyncio.run(_stay_up(console))
    except ConveyorError as error:
        console.print(f"[red]Could not start:[/] {error}", highlight=False)
        return 3
    return 0


def _hooks() -> dict[str, str]:
    """Webhooks of the simulator, which reaches our gateway as nobody outside does."""
    port = os.environ.get("PORT") or "8000"
    ours = {"CONVEYOR_PUBLIC_URL": f"http://127.0.0.1:{port}", "CONVEYOR_SECRET": secrets.token_hex(16)}
    return {name: os.environ.get(name) or value for name, value in ours.items()}


async def _stay_up(console: Console) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    console.print("Starting …")
    settings = _hooks() if not os.environ.get("COMFY_DEPLOY_API_KEY") else {}
    async with Stack(FOLDER, workers=1, speed=1.0, simulator_port=SIMULATOR_PORT, settings=settings) as stack:
        for name, command in procfile().items():
            if name != "worker":
                await stack.start(name, command)
        console.print(f"  Chat page  http://127.0.0.1:{stack.env.get('PORT', '8000')}")
        console.print(f"  Redis      {stack.env['REDIS_URL']}")
        console.print(f"  API        {stack.env.get('COMFY_DEPLOY_API_URL', 'ComfyUI Deploy')}")
        console.print(f"  Flower     http://127.0.0.1:{stack.env.get('FLOWER_PORT', '5555')}")
        console.print(f"  logs       {FOLDER.relative_to(ROOT)}/*.log")
        console.print("\nIn another terminal:\n")
        for name in ("REDIS_URL", "COMFY_DEPLOY_API_URL", "COMFY_DEPLOY_API_KEY"):
            if stack.simulator_url or name == "REDIS_URL":
                console.print(f"  export {name}={stack.env[name]}", highlight=False)
        console.print(
            "  .venv/bin/conveyor enqueue --workflow 'SDXL Portrait' --input prompt='a fox' --wait", highlight=False
        )
        console.print("\nCtrl-C stops everything.")
        with contextlib.suppress(asyncio.CancelledError):
            await stop.wait()
        console.print("Stopping …")
