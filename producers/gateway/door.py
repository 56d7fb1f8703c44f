"""Who comes in at all, and with how much? The outermost layer: plain ASGI, so that it costs each stream nothing.

* Gives each request an id (`X-Request-ID`, taken from the client if it is a plain word), bound in every log line.
* Without API keys: refuses peers that are not on this machine, `Host` names that are not its own (a page that has its name
  point here: DNS rebinding) and requests that another origin's page made the browser send.
* Caps the body, by what is said and by what comes, and the time in which it has to come.
* Turns what nobody expected into a problem document, and writes one log line for each request, without its query.
"""

import asyncio
import ipaddress
import logging
import re
import time
import uuid
from urllib.parse import urlsplit

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producers.gateway.problems import Refused, document
from shared.metrics import HTTP_REQUESTS, HTTP_SECONDS

log = logging.getLogger(__name__)

#: What no request but an upload needs more of: inputs, context and meta of a job have 272 KiB together.
MAX_BODY_BYTES = 512 * 1024
MAX_HOOK_BYTES = 64 * 1024
#: What a form is larger than its file.
FORM_BYTES = 64 * 1024
#: A body that is not there by then will not come.
BODY_SECONDS = 60.0

_WORD = re.compile(r"[A-Za-z0-9._-]{1,64}")

#: A method that somebody made up makes no new series.
_METHODS = frozenset({"GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"})
_ASKED_BY_MACHINES = frozenset({"/healthz", "/readyz", "/metrics"})

#: Set on every answer that does not say otherwise. The page has a policy of its own, in `page_files.py`.
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


class Door:
    """The layer around the app."""

    def __init__(self, app: ASGIApp, *, only_this_machine: bool, upload_bytes: int, origins: list[str]) -> None:
        self._app = app
        self._only_this_machine = only_this_machine
        self._upload_bytes = upload_bytes
        self._origins = set(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = Visit(scope, send)
        structlog.contextvars.bind_contextvars(request_id=visit.request_id)
        try:
            try:
                self._check_origin(scope, visit)
                limit = self._limit(scope["path"])
                _refuse_large(visit.header("content-length"), limit)
                await self._app(scope, _capped(receive, limit), visit.send)
            except Refused as refused:
                await self._refuse(visit, refused, receive)
            except Exception:
                log.exception("request broke", extra={"method": scope["method"], "path": scope["path"]})
                await self._refuse(visit, Refused(500, "internal", "Something went wrong on our side."), receive)
        finally:
            self._account(visit)
            structlog.contextvars.unbind_contextvars("request_id")

    async def _refuse(self, visit: "Visit", refused: Refused, receive: Receive) -> None:
        if visit.status:
            return  # half an answer is out: all that is left is to close the connection
        answer = document(refused, path=visit.scope["path"], request_id=visit.request_id)
        await answer(visit.scope, receive, visit.send)

    def _limit(self, path: str) -> int:
        if path == "/v1/files":
            return self._upload_bytes + FORM_BYTES
        return MAX_HOOK_BYTES if path.startswith("/hooks/") else MAX_BODY_BYTES

    def _check_origin(self, scope: Scope, visit: "Visit") -> None:
        if not self._only_this_machine:
            return
        client = scope.get("client")
        if client is None or not _is_loopback(client[0]):
            raise Refused(403, "forbidden", "Without CONVEYOR_API_KEYS only this machine is served.")
        if scope["path"].startswith("/hooks/"):
            return  # comes through a tunnel under its public name, and brings a signature
        host = urlsplit(f"//{visit.header('host')}").hostname or ""
        if not (_is_loopback(host) or host == "localhost"):
            raise Refused(
                403, "forbidden", "Without CONVEYOR_API_KEYS only this machine is served, under its own name."
            )
        origin = visit.header("origin")
        if origin and origin not in self._origins and urlsplit(origin).netloc != visit.header("host"):
            raise Refused(403, "forbidden", "Pages of other origins have to be named in CONVEYOR_CORS_ORIGINS.")

    def _account(self, visit: "Visit") -> None:
        route = visit.scope.get("route")
        name = getattr(route, "path", None) or "other"
        seconds = time.perf_counter() - visit.began
        method = visit.scope["method"] if visit.scope["method"] in _METHODS else "other"
        HTTP_REQUESTS.labels(method, name, str(visit.status)).inc()
        HTTP_SECONDS.labels(name).observe(seconds)
        log.log(
            # Asked every few seconds by machines.
            logging.DEBUG if name in _ASKED_BY_MACHINES else logging.INFO,
            "request",
            extra={
                "method": visit.scope["method"],
                "path": visit.scope["path"],
                "status": visit.status,
                "ms": round(seconds * 1000, 1),
                "frontend": visit.state.get("frontend"),
            },
        )


class Visit:
    """One request at the door."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope = scope
        self.began = time.perf_counter()
        #: Of the answer; 0 until it has begun.
        self.status = 0
        self._send = send
        self._headers: dict[str, str] = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        asked = self.header("x-request-id")
        self.request_id = asked if _WORD.fullmatch(asked) else uuid.uuid4().hex
        self.state = scope.setdefault("state", {})
        self.state["request_id"] = self.request_id
        #: Headers that layers within want on the answer, whatever answer it becomes.
        self.state["headers"] = {}

    def header(self, name: str) -> str:
        """A header of the request, or nothing."""
        return self._headers.get(name, "")

    async def send(self, message: Message) -> None:
        """Pass an answer on, with our headers."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            given = {name.lower() for name, _ in message["headers"]}
            more = _HEADERS | self.state["headers"] | {"X-Request-ID": self.request_id}
            message["headers"] = [
                *message["headers"],
                *((n.encode(), v.encode()) for n, v in more.items() if n.lower().encode() not in given),
            ]
        await self._send(message)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refuse_large(length: str, limit: int) -> None:
    if length.isdecimal() and int(length) > limit:
        raise Refused(413, "too_large", f"The body may have {limit:,} bytes.")


def _capped(receive: Receive, limit: int) -> Receive:
    """The same body, until it is too large or too late."""
    taken = 0
    complete = False
    deadline = time.monotonic() + BODY_SECONDS

    async def capped() -> Message:
        nonlocal taken, complete
        if complete:
            return await receive()  # waits for the client to go, as long as that takes
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                message = await receive()
        except TimeoutError:
            raise Refused(408, "request_timeout", f"The body was not complete after {BODY_SECONDS:.0f} s.") from None
        if message["type"] == "http.request":
            taken += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if taken > limit:
                _refuse_large(str(taken), limit)
        return message

    return capped
