"""How do we call an address a user gave us, without being led into our own network?

A name is resolved once for each connection; when any of its addresses is not public the call is refused, and otherwise the
connection goes to the very addresses that were checked. There is no second resolution that could answer something else
(DNS rebinding), and the socket itself is the last check, which also covers addresses given as numbers. Host header, SNI
and certificate are those of the name.

Redirects are not followed, proxies of the environment are not used (they would resolve by themselves), no cookie is kept,
and no connection is used twice.
"""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver, ResolveResult
from httpx_aiohttp import AiohttpTransport

from shared.outside.addresses import NOT_PUBLIC, Refused, is_public

#: Every way for a call to end without an answer; stock `httpx-aiohttp` lets some of aiohttp's own errors through.
FAILURES = (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, TimeoutError, OSError)

#: The first that fits. aiohttp's own errors and the builtin ones decide: `httpx-aiohttp` 0.2.0 calls every lost connection
#: a `ConnectTimeout`.
_REASONS: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((Refused,), NOT_PUBLIC),
    ((httpx.InvalidURL, httpx.UnsupportedProtocol, aiohttp.InvalidURL), "the address cannot be called"),
    ((socket.gaierror,), "the name was not found"),
    ((ssl.SSLError, ssl.CertificateError), "no TLS connection, or a certificate that is not accepted"),
    ((TimeoutError,), "no answer in time"),
    ((aiohttp.ClientConnectorError, httpx.ConnectError), "no connection"),
)
_LOST = "the connection was lost"

#: A resolver that hangs must not take the threads other work needs, so names have some of their own.
_RESOLVING_THREADS = 8


def open_client(*, allow_private: bool, seconds: float, most: int = 100) -> httpx.AsyncClient:
    """A client for addresses given by users; nothing connects yet, and it belongs to the loop of its first use.

    `seconds` is the timeout of each single step, so a call needs a deadline of its own: a peer may send a byte now and
    then. Refused addresses raise an httpx error with `Refused` among its causes; ask `why`.
    """
    transport = open_transport(allow_private=allow_private, most=most)
    return httpx.AsyncClient(transport=transport, timeout=seconds, follow_redirects=False, trust_env=False)


def open_transport(*, allow_private: bool, most: int = 100) -> httpx.AsyncBaseTransport:
    """The same without the client around it, which logs every address it calls: for addresses that hold a secret."""
    return AiohttpTransport(client=lambda: _open_session(allow_private=allow_private, most=most))


def _open_session(*, allow_private: bool, most: int) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        resolver=_Resolver(allow_private=allow_private),
        socket_factory=None if allow_private else _public_socket,
        use_dns_cache=False,
        force_close=True,
        limit=most,
    )
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


class _Resolver(AbstractResolver):
    """The system's resolver, that refuses a name with even one address that is not public."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._threads = ThreadPoolExecutor(_RESOLVING_THREADS, thread_name_prefix="resolve")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        )
        addresses = [(str(where[0]), kind, proto) for kind, _, proto, _, where in found]
        if not self._allow_private and not all(is_public(address) for address, _, _ in addresses):
            raise Refused
        numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=proto, flags=numeric)
            for address, kind, proto in addresses
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _public_socket(address: tuple[Any, Any, int, str, Sequence[Any]]) -> socket.socket:
    """The socket of a connection that is about to be made, if it may be made."""
    family, kind, proto, _, where = address
    if not is_public(str(where[0])):
        raise Refused
    return socket.socket(family, kind, proto)


def why(error: BaseException) -> str:
    """Why a call got no answer, in words of ours: the library's own may quote the address or what was sent."""
    causes = list(_causes(error))
    return next((words for kinds, words in _REASONS if any(isinstance(cause, kinds) for cause in causes)), _LOST)


def _causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
