"""ComfyUI Deploy from asyncio: one client a process, one method a route, typed results and typed failures.

    async with ComfyDeploy("https://api.comfydeploy.com/api", key) as api:
        run_id = await api.runs.submit(deployment_id, {"prompt": "a cat"})
        run = await api.runs.get(run_id)

Promises:

* One method call is one HTTP request (`deployments.list` is two), so one token each; `files.put` goes to the store and
  needs none. Nothing is repeated in here, not even a GET whose kept connection died (CONTRACT section 2 would allow it,
  the budget would not see it). Rate limits and retries are the caller's.
* Every failure is an error of `shared.errors`; the caller never sees httpx. A cancelled `submit` raises CancelledError
  and is as undecided as a lost one.
* The key is in no repr, message or log of ours.

Read next: `answers.py` for what each refusal becomes, `runs.py` for the routes that matter, `transport.py` for what a
lost connection proves.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Self
from urllib.parse import quote

import httpx
from pydantic_core import from_json

from shared.comfydeploy.answers import QUOTED_CHARACTERS, Answer, refused, unexpected
from shared.comfydeploy.assets import Assets
from shared.comfydeploy.base_url import api_root
from shared.comfydeploy.deployments import Deployments
from shared.comfydeploy.files import Files
from shared.comfydeploy.machines import Machines
from shared.comfydeploy.prices import Prices
from shared.comfydeploy.progress_stream import ProgressStreams
from shared.comfydeploy.runs import Runs
from shared.comfydeploy.sending import Sending
from shared.comfydeploy.transport import FAILURES, Transport, named, never_sent
from shared.comfydeploy.values import retry_after_seconds
from shared.comfydeploy.versions import Versions
from shared.comfydeploy.workflows import Workflows
from shared.errors import InvalidInput, MissingSetting, Problem, Stopping, Unavailable, Undecided

_log = logging.getLogger(__name__)

#: Told after every request: the route's template (`GET /run/{run_id}`), the status or None when no answer came, and
#: the seconds it took. For metrics; what it raises is logged and dropped, since a run id may be on its way.
Observe = Callable[[str, int | None, float], None]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a call may take, in seconds."""

    #: Opening a connection.
    connect_seconds: float = 5.0
    #: Waiting for a free connection, then opening it.
    pool_seconds: float = 10.0
    #: A whole read or cancel, from asking for a connection to the last byte.
    read_seconds: float = 30.0
    #: A whole submit. Classic machines make the API hold the request while it calls them (CONTRACT section 4).
    submit_seconds: float = 60.0


class ComfyDeploy:
    """The client. Belongs to the event loop of its first call; close it with `aclose()` or leave the `async with`.

    Raises MissingSetting when the base URL or the key cannot be right. The connections live in `transport`, which is
    closed with the client.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        timeouts: Timeouts | None = None,
        observe: Observe | None = None,
    ) -> None:
        self.base_url = api_root(base_url)
        self.timeouts = timeouts or Timeouts()
        self._key = _checked_key(api_key)
        self._observe = observe
        self._http = httpx.AsyncClient(
            transport=transport or Transport(),
            headers={
                "authorization": f"Bearer {self._key}",
                "accept": "application/json",
                "user-agent": "conveyor",
            },
            # A kept `__session` cookie would be taken for our key (CONTRACT section 1).
            cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=())),
            follow_redirects=False,
            trust_env=False,
        )
        self.runs = Runs(self._request)
        self.deployments = Deployments(self._request)
        self.workflows = Workflows(self._request)
        self.versions = Versions(self._request)
        self.machines = Machines(self._request)
        self.progress = ProgressStreams(self._stream)
        self.files = Files(self._request, self._send)
        self.assets = Assets(self._request)
        self.prices = Prices(self._request)

    def __repr__(self) -> str:
        return f"ComfyDeploy({self.base_url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections. Calls still under way fail as lost; later ones raise Stopping. May be repeated."""
        await self._http.aclose()

    async def _request(
        self,
        route: str,
        *,
        path: Mapping[str, str] | None = None,
        params: Mapping[str, str | int | None] | None = None,
        content: bytes | AsyncIterable[bytes] | None = None,
        content_type: str = "application/json",
        size: int | None = None,
        timeout_seconds: float | None = None,
        repeatable: bool = True,
        most_bytes: int | None = None,
    ) -> Answer:
        """Make one HTTP request and read its answer, whatever the status. Only this, `_send` and `_stream` touch httpx.

        `route` is `METHOD /template/{name}`; `path` fills the template, `params` that are None are left out. No
        answer raises Unavailable, or Undecided when the call is not `repeatable` and the request may have been sent.
        Of a body longer than `most_bytes` the JSON is read as far as it came. A `content` that is a stream needs its
        `size`; InvalidInput when it turns out to have another, and what the stream itself raises.
        """
        method, _, template = route.partition(" ")
        url = self.base_url + template.format_map({name: _segment(name, value) for name, value in (path or {}).items()})
        total = timeout_seconds or (self.timeouts.read_seconds if repeatable else self.timeouts.submit_seconds)
        if self._http.is_closed:
            raise Stopping(f"{route}: the client has been closed")
        headers = {"content-type": content_type} if content is not None else {}
        if content is not None and not isinstance(content, bytes):
            content = Sending(content, size or 0)
            headers["content-length"] = str(size or 0)
        status: int | None = None
        started = time.perf_counter()
        try:
            async with asyncio.timeout(total):
                request = self._http.build_request(
                    method,
                    url,
                    params={name: value for name, value in (params or {}).items() if value is not None},
                    content=content,
                    headers=headers,
                    timeout=self._timeout(total),
                )
                response = await self._http.send(request, stream=True)
                try:
                    body, is_whole = await _read(response, most_bytes)
                finally:
                    await response.aclose()
            status = response.status_code
            return self._answer(route, response, body, is_whole=is_whole)
        except FAILURES as error:
            if isinstance(content, Sending):
                content.complain()
            # `from None`: what hangs below holds the request with its headers, and some tracebacks print locals.
            message = f"{route} got no answer: {self._without_key(_described(error))}"
            if repeatable or never_sent(error):
                raise Unavailable(message) from None
            raise Undecided(message) from None
        finally:
            self._tell(route, status, time.perf_counter() - started)

    async def _send(
        self,
        route: str,
        url: str,
        content: bytes | AsyncIterable[bytes],
        *,
        size: int,
        headers: Mapping[str, str],
        timeout_seconds: float,
    ) -> Answer:
        """Put `size` bytes to an address that carries its own permission, without our key; give the answer.

        `route` stands for the address in messages. Raises Unavailable, InvalidInput for a stream of another size, and what
        the stream raises.
        """
        if self._http.is_closed:
            raise Stopping(f"{route}: the client has been closed")
        sending = Sending(content, size)
        status: int | None = None
        started = time.perf_counter()
        try:
            request = self._http.build_request(
                "PUT",
                url,
                content=sending,
                headers={**headers, "content-length": str(size)},
                timeout=self._timeout(timeout_seconds),
            )
            # Whoever keeps the store is not whom the key is for.
            del request.headers["authorization"]
            async with asyncio.timeout(timeout_seconds):
                response = await self._http.send(request)
            status = response.status_code
            return self._answer(route, response, response.content)
        except FAILURES as error:
            sending.complain()
            # The words of the error may hold the address.
            raise Unavailable(f"{route} got no answer: {type(named(error)).__name__}") from None
        finally:
            self._tell(route, status, time.perf_counter() - started)

    def _timeout(self, total: float) -> httpx.Timeout:
        connect, pool = self.timeouts.connect_seconds, self.timeouts.pool_seconds
        return httpx.Timeout(total, connect=min(total, connect), pool=min(total, pool))

    @asynccontextmanager
    async def _stream(
        self, route: str, *, params: Mapping[str, str], silence_seconds: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a stream of events with one HTTP request; gives its bytes as they come, and closes it on leaving.

        Until its beginning it may take as long as a read, then as long as it likes, but for silences. Entering raises what
        `refused` says; the bytes raise Unavailable when they stop coming otherwise than by the server's end.
        """
        method, _, template = route.partition(" ")
        if self._http.is_closed:
            raise Stopping(f"{route}: the client has been closed")
        connect, pool = self.timeouts.connect_seconds, self.timeouts.pool_seconds
        request = self._http.build_request(
            method,
            self.base_url + template,
            params=params,
            # Not compressed: what compresses on the way also collects, and an event is wanted now.
            headers={"accept": "text/event-stream", "accept-encoding": "identity"},
            timeout=httpx.Timeout(silence_seconds, connect=connect, pool=pool),
        )
        response: httpx.Response | None = None
        status: int | None = None
        started = time.perf_counter()
        try:
            try:
                async with asyncio.timeout(self.timeouts.read_seconds):
                    response = await self._http.send(request, stream=True)
                    status = response.status_code
                    is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
                    if status != 200 or not is_stream:
                        await response.aread()
            except FAILURES as error:
                raise Unavailable(f"{route} got no answer: {self._without_key(_described(error))}") from None
            finally:
                self._tell(route, status, time.perf_counter() - started)
            if status != 200 or not is_stream:
                answer = self._answer(route, response, response.content)
                raise unexpected(answer, "a stream of events") if answer.ok else refused(answer)
            yield self._chunks(route, response, silence_seconds)
        finally:
            if response is not None:
                with suppress(*FAILURES):
                    await response.aclose()

    async def _chunks(self, route: str, response: httpx.Response, silence_seconds: float) -> AsyncIterator[bytes]:
        chunks = response.aiter_bytes()
        while True:
            try:
                async with asyncio.timeout(silence_seconds):
                    chunk = await anext(chunks, None)
            except FAILURES as error:
                raise Unavailable(f"{route} broke off: {self._without_key(_described(error))}") from None
            if chunk is None:
                return
            yield chunk

    def _answer(self, route: str, response: httpx.Response, content: bytes, *, is_whole: bool = True) -> Answer:
        headers = response.headers
        if response.status_code >= 300 and self._key.encode() in content:
            content = self._without_key(content.decode(errors="replace")).encode()
        try:
            body, is_json = from_json(content, allow_partial=not is_whole), True
        except ValueError:
            body, is_json = content.decode(errors="replace"), False
        wait = retry_after_seconds(headers.get("retry-after"), date=headers.get("date"))
        return Answer(route, response.status_code, body, is_json, wait)

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "(key)")

    def _tell(self, route: str, status: int | None, seconds: float) -> None:
        if self._observe is None:
            return
        try:
            self._observe(route, status, seconds)
        except Exception:  # noqa: BLE001 - somebody else's code, and a paid run's id must not be lost to it
            _log.exception("the observer of API calls failed")


async def _read(response: httpx.Response, most_bytes: int | None) -> tuple[bytes, bool]:
    """Give the body, or at least the first `most_bytes` of it, and whether it is whole."""
    if most_bytes is None:
        return await response.aread(), True
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > most_bytes:
            return bytes(body), False
    return bytes(body), True


def _checked_key(api_key: str) -> str:
    key = api_key.strip()
    # Checked here, since the libraries below repeat a header they cannot send in their messages.
    if not key or not all("!" <= character <= "~" for character in key):
        raise MissingSetting(
            "The API key is empty or holds characters a key cannot have.",
            check="COMFY_DEPLOY_API_KEY: copy it again, in one line, without quotes.",
        )
    return key


def _segment(name: str, value: str) -> str:
    """Quote an id for a path. Nothing it holds can lead to another route."""
    if value in {"", ".", ".."}:
        raise InvalidInput([Problem(name, "is not an id")])
    return quote(value, safe="")


def _described(error: Exception) -> str:
    error = named(error)
    said = str(error)[:QUOTED_CHARACTERS]
    return f"{type(error).__name__} ({said})" if said else type(error).__name__
