"""Which bytes went out, when a call fails?

httpx over aiohttp's connections: an order of magnitude cheaper than httpx's own pool when many calls are under way
(`docs/decisions/0003-http-transport.md`). This file adds what a client of a paid API needs on top of `httpx-aiohttp`:

* Errors named for what they prove. `httpx-aiohttp` 0.2.0 reports every lost connection, also one that died *after*
  the request was sent, as `httpx.ConnectTimeout`, which reads as "never sent" and would invite a second paid run.
* No hidden repeats. aiohttp sends a GET again by itself when a kept connection turns out dead; each of our calls has
  paid for one token, so the caller decides.
* No cookies. The API prefers a `__session` cookie to the key (CONTRACT section 1), so none is ever kept.

Environment proxies are not read; give `ComfyDeploy` an `httpx.AsyncHTTPTransport(proxy=…)` where one is needed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

#: Enough for every slot of a worker process plus its looks; further calls wait for a free connection.
MAX_CONNECTIONS = 200

#: Shorter than the 5 s after which uvicorn, the API's own server, drops an idle connection. Reusing one at the moment
#: it is dropped costs a submit its answer, and with it a look-up.
KEEPALIVE_SECONDS = 4.0

#: Every way for a call to end without an answer, whichever transport is used; stock `httpx-aiohttp` lets some of
#: aiohttp's own errors through.
FAILURES = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, aiohttp.ClientError, OSError)

#: What is raised before the first byte of a request leaves.
_BEFORE_SENDING = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)


class Transport(AiohttpTransport):
    """aiohttp's connection pool behind httpx, opened on first use and bound to the event loop of that first use."""

    def __init__(self, *, max_connections: int = MAX_CONNECTIONS, keepalive_seconds: float = KEEPALIVE_SECONDS) -> None:
        self._max_connections = max_connections
        self._keepalive_seconds = keepalive_seconds
        super().__init__(client=self._open_session)

    def _open_session(self) -> aiohttp.ClientSession:
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._max_connections, keepalive_timeout=self._keepalive_seconds, ssl=self.ssl_context
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        # aiohttp offers no public switch; its own TestClient sets the same one. tests/contract/test_client_wire.py
        # counts the requests and fails if a new version renames it.
        session._retry_connection = False  # noqa: SLF001
        return session

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            response = await super().handle_async_request(request)
        except FAILURES as error:
            raise named(error) from error
        response.stream = _Body(response.stream)
        return response


class _Body(httpx.AsyncByteStream):
    """A response body whose errors are named like those of the request."""

    def __init__(self, inner: httpx.AsyncByteStream | httpx.SyncByteStream) -> None:
        if not isinstance(inner, httpx.AsyncByteStream):
            raise TypeError(f"expected an async stream, got {type(inner).__name__}")
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._inner:
                yield chunk
        except FAILURES as error:
            raise named(error) from error

    async def aclose(self) -> None:
        await self._inner.aclose()


def never_sent(error: Exception) -> bool:
    """Tell whether the request certainly did not reach the API. False means: it may have."""
    return isinstance(named(error), _BEFORE_SENDING)


def named(error: Exception) -> Exception:
    """Give the httpx error that says what really happened; aiohttp's own error decides when there is one.

    Whatever is not known to come from connecting counts as "may have been sent".
    """
    cause = error.__cause__ if isinstance(error, httpx.TransportError) else error
    match cause:
        case aiohttp.ConnectionTimeoutError():  # waiting for a free connection, connecting, TLS
            return httpx.ConnectTimeout(str(cause))
        case aiohttp.ClientConnectorError():  # refused, no route, DNS, TLS
            return httpx.ConnectError(str(cause))
        case aiohttp.InvalidURL():
            return httpx.UnsupportedProtocol(str(cause))
        case TimeoutError():  # also aiohttp's SocketTimeoutError
            return httpx.ReadTimeout(str(cause))
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientResponseError() | aiohttp.ClientPayloadError():
            return httpx.RemoteProtocolError(str(cause))
        case aiohttp.ClientError() | OSError():
            return httpx.ReadError(str(cause))
        case _:
            return error
