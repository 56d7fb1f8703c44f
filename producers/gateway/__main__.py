"""`python -m producers.gateway`: the process `gateway` of the Procfile, on `$PORT`.

SIGTERM and Ctrl-C end every event stream at once, so that clients go on elsewhere; requests under way are answered.
"""

import asyncio
import contextlib
import logging
import resource
import signal
import socket
import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI
from prometheus_client import disable_created_metrics

from producers.gateway.access import OPEN_FRONTEND
from producers.gateway.app import make_app
from shared import tracing
from shared.errors import ConveyorError
from shared.logs import configure
from shared.settings import Settings

log = logging.getLogger(__name__)

#: Requests under way get this long at the end; a supervisor waits longer.
STOP_SECONDS = 8
#: Two thousand streams, each a socket, and room for Redis.
WANTED_FILES = 8192


class Server(uvicorn.Server):
    """uvicorn, which would wait for event streams to end by themselves."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets)
        if self.started:
            log.info("gateway listens", extra={"host": self.config.host, "port": self.config.port})

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop, and end the streams."""
        inside = getattr(_app(self).state, "inside", None)
        with contextlib.suppress(RuntimeError):
            if inside is not None:
                asyncio.get_running_loop().call_soon_threadsafe(inside.feed.stop)
        super().handle_exit(sig, frame)


def _app(server: uvicorn.Server) -> FastAPI:
    app = server.config.app
    assert isinstance(app, FastAPI)  # noqa: S101 - ours
    return app


def main() -> int:
    """Serve until told to stop. 2 when a setting is wrong."""
    try:
        settings = Settings.from_env()
        configure(settings)
        tracing.configure(settings, "conveyor-gateway")
        app = make_app(settings)
    except ConveyorError as error:
        print(f"gateway: {error}", file=sys.stderr)  # noqa: T201 - logging may not be set up
        return 2
    disable_created_metrics()  # type: ignore[no-untyped-call]  # half as many series, none is missed
    is_open = app.state.access.is_open
    host = settings.host or ("127.0.0.1" if is_open else "0.0.0.0")  # noqa: S104 - with keys, that is what it is for
    _raise_file_limit()
    server = Server(
        uvicorn.Config(
            app,
            host=host,
            port=settings.port,
            log_config=None,
            access_log=False,
            server_header=False,
            # Whoever may say where he comes from could say that he is this machine.
            proxy_headers=False,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
    )
    if is_open:
        log.warning("CONVEYOR_API_KEYS is empty: only this machine is served", extra={"frontend": OPEN_FRONTEND})
    # What uvicorn says of its own start and end is said above; its warnings stay.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    # uvicorn repeats the signal that ended it for whoever was here before: nobody, so the exit code is 0.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    tracing.close()
    return 0 if server.started else 3


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_FILES if hard == resource.RLIM_INFINITY else min(WANTED_FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    sys.exit(main())
