"""How does a server drop a connection on purpose?

ASGI has no word for it, so the protocol class hands the transport down in the scope. `reset` makes the kernel send RST and
not FIN, by closing with a zero linger: clients see "connection reset by peer", the harder of the two cases.
Without a socket (an in-process ASGI client) the cut shows as `ConnectionResetError` out of the application.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol

_TRANSPORT = "simulator.transport"


class CuttableProtocol(AutoHTTPProtocol):  # type: ignore[valid-type,misc]  # chosen at run time by what is installed
    """uvicorn's HTTP protocol, with its transport in the scope of every request."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        inner: ASGIApp = self.app  # type: ignore[has-type]  # set by the class above, whichever it is

        async def with_transport(scope: Scope, receive: Receive, send: Send) -> None:
            scope[_TRANSPORT] = self.transport
            await inner(scope, receive, send)

        self.app = with_transport


async def reset(scope: Scope, receive: Receive) -> None:
    """Cut the connection of a request now; nothing that was not yet sent will be."""
    transport: asyncio.Transport | None = scope.get(_TRANSPORT)
    if transport is None:
        raise ConnectionResetError("the simulator cut this connection")
    sock: socket.socket | None = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    # uvicorn must notice before the application returns, or it would complain that there was no answer.
    while (await receive())["type"] != "http.disconnect":
        pass


def close(scope: Scope) -> None:
    """Close the connection after what was sent, without having announced it."""
    transport: asyncio.Transport | None = scope.get(_TRANSPORT)
    if transport is not None:
        transport.close()
