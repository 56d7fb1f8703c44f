"""What does one API call cost us, by HTTP transport and by how many are under way?

    .venv/bin/python bench/transports.py [--rounds 7] [--calls 800]

Starts a tiny server in a process of its own (a fixed answer of 1 kB after 20 ms, keep-alive), then lets every transport make the
same calls at 1, 50 and 400 under way, taking turns so that a noisy neighbour hits all alike. Prints medians and the
spread (lowest to highest round) of the *client's* CPU time per call, which does not count the server, and of the
wall time per call. `Transport` is the one the client uses. The decision is in docs/decisions/0003-http-transport.md.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import httpx
from httpx_aiohttp import AiohttpTransport

sys.path.insert(0, str(Path(__file__).parent.parent))

from shared.comfydeploy.transport import Transport

LEVELS = (1, 50, 400)
DELAY_SECONDS = 0.02
BODY = b'{"status":"running","filler":"' + b"x" * 970 + b'"}'
ANSWER = (b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY)) + BODY


class Server(asyncio.Protocol):
    """Answers every request head; requests have no body here."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        for _ in range(data.count(b"\r\n\r\n")):
            asyncio.get_running_loop().call_later(DELAY_SECONDS, self.answer)

    def answer(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(ANSWER)


def serve(port: Connection) -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0, backlog=1024)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def candidates(most: int) -> dict[str, Callable[[], httpx.AsyncBaseTransport]]:
    limits = httpx.Limits(max_connections=most, max_keepalive_connections=most)
    found: dict[str, Callable[[], httpx.AsyncBaseTransport]] = {
        "httpx, own pool": lambda: httpx.AsyncHTTPTransport(limits=limits),
        "httpx-aiohttp": lambda: AiohttpTransport(limits=limits),
        "Transport (ours, on it)": lambda: Transport(max_connections=most),
    }
    if importlib.util.find_spec("h2"):
        # Over plain TCP the server would have to speak HTTP/2 from the first byte; this one does not.
        print("note: h2 is installed, but this server speaks HTTP/1.1 only, so HTTP/2 is not measured")
    return found


async def measure(
    make: Callable[[], httpx.AsyncBaseTransport], url: str, level: int, calls: int
) -> tuple[float, float]:
    """Give (CPU, wall) in milliseconds per call, connections already open."""
    async with httpx.AsyncClient(transport=make(), timeout=30, trust_env=False) as client:

        async def ask(times: int) -> None:
            for _ in range(times):
                (await client.get(url, params={"limit": 100})).raise_for_status()

        await asyncio.gather(*(ask(1) for _ in range(level)))
        each = max(1, calls // level)
        cpu, wall = time.process_time(), time.perf_counter()
        await asyncio.gather(*(ask(each) for _ in range(level)))
        done = each * level
        return (time.process_time() - cpu) * 1000 / done, (time.perf_counter() - wall) * 1000 / done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=800)
    options = parser.parse_args()

    ours, theirs = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("spawn")
    server = context.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    try:
        url = f"http://127.0.0.1:{ours.recv()}/api/v2/workflow/w/runs"
        makers = candidates(max(LEVELS))
        figures: dict[tuple[str, int], list[tuple[float, float]]] = {}
        for _ in range(options.rounds):
            for level in LEVELS:
                # A call alone takes the server's 20 ms, so fewer of them.
                calls = options.calls if level > 1 else options.calls // 8
                for name, make in makers.items():
                    figures.setdefault((name, level), []).append(asyncio.run(measure(make, url, level, calls)))
        print(f"{'transport':26}{'under way':>10}{'CPU ms/call':>13}{'spread':>16}{'wall ms/call':>14}")
        for level in LEVELS:
            for name in makers:
                cpu, wall = zip(*figures[name, level], strict=True)
                spread = f"{min(cpu):.2f} - {max(cpu):.2f}"
                print(f"{name:26}{level:10}{statistics.median(cpu):13.2f}{spread:>16}{statistics.median(wall):14.2f}")
    finally:
        server.terminate()
        server.join()


if __name__ == "__main__":
    main()
