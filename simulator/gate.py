"""What stands between the socket and the routes? Everything that can happen to a call before or after its handler.

In this order: the call is counted; a fault may answer, delay or cut it, as a proxy or a bad network would; the key is
checked, before routing, so an unknown path without a key is 401; then the routes. Afterwards the answer may be held back
or lost. `/_sim/` passes by, and downloads from the bucket meet only the faults that name them.

Connections are cut at the socket: the protocol class in `sockets.py` puts the transport into the scope.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Iterable
from email.utils import formatdate
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from simulator import sockets
from simulator.bucket import NAME
from simulator.keys import Identity
from simulator.service import Service
from simulator.settings import Fault

PREFIX = "/api"
OPEN_PATHS = frozenset({"/api/models", "/api/platform/gpu-pricing", "/api/deployments/community"})
LISTINGS = frozenset(
    {
        "GET /workflow/{workflow_id}/runs",
        "GET /v2/workflow/{workflow_id}/runs",
        "GET /workflow/{workflow_id}/runs/day",
        "GET /workflow/{workflow_id}/run/latest",
        "GET /deployment/{deployment_id}/runs",
    }
)
SUBMITS = frozenset(
    {
        "POST /run/deployment/queue",
        "POST /run",
        "POST /run/queue",
        "POST /run/workflow/queue",
        "POST /run/deployment/sync",
    }
)
_ID = re.compile(r"(?<=/)[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}(?=/|$)")
_HTML = "<html>\r\n<head><title>{0}</title></head>\r\n<body>\r\n<center><h1>{0}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"


class Gate:
    def __init__(self, app: ASGIApp, routers: Iterable[APIRouter]) -> None:
        self._app = app
        self._names = RouteNames(routers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope.get("path", "")
        if scope["type"] != "http" or path.startswith("/_sim"):
            await self._app(scope, receive, send)
            return
        service: Service = scope["app"].state.service
        if path.startswith(f"/{NAME}/"):
            # Downloads are no calls of the API: not counted, no key, and faults only if they name them.
            call = Call(f"{scope['method']} /{NAME}/{{key}}", service, only_named=True)
            if not await self._cut_or_refused(call, scope, receive, send):
                await self._through(call, scope, receive, send)
            return
        call = Call(self._names.of(scope["method"], path), service)
        service.meter.call(call.name)
        send = _counted(service, scope, send)
        if await self._cut_or_refused(call, scope, receive, send):
            return
        refusal = _unauthorised(service, scope, path, call.name)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        await self._through(call, scope, receive, send)

    async def _cut_or_refused(self, call: Call, scope: Scope, receive: Receive, send: Send) -> bool:
        """Do what happens to a call before its handler; tell whether that was all."""
        if (latency := call.fault("latency")) is not None:
            await asyncio.sleep(1.0 if latency.seconds is None else latency.seconds)
        if not call.only_named and (refusal := _over_limit(call.service)) is not None:
            await refusal(scope, receive, send)
            return True
        for kind in ("reset_before", "hang", *_REFUSALS):
            if (fault := call.fault(kind)) is None:
                continue
            if kind in {"reset_before", "hang"}:
                if kind == "hang":
                    await asyncio.sleep(600.0 if fault.seconds is None else fault.seconds)
                await sockets.reset(scope, receive)
            else:
                await _refusal(fault)(scope, receive, send)
            return True
        return False

    async def _through(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the handler work, then hold back or lose its answer if the menu says so."""
        lost: Fault | None = None
        slow: Fault | None = None
        if "stream" not in call.name:
            lost = call.fault("reset_after")
            if lost is None and call.name in SUBMITS:
                lost = call.fault("lost_answer")
            slow = call.fault("slow_answer")
        if lost is None and slow is None:
            await self._app(scope, receive, send)
            return
        held: list[Message] = []

        async def hold(message: Message) -> None:
            held.append(message)

        await self._app(scope, receive, hold)
        if slow is not None:
            await asyncio.sleep(2.0 if slow.seconds is None else slow.seconds)
        if lost is not None:
            await asyncio.sleep(lost.seconds or 0.0)
            await sockets.reset(scope, receive)
            return
        for message in held:
            await send(message)


class Call:
    """One call on its way: its route's name, and the faults it meets."""

    def __init__(self, name: str, service: Service, *, only_named: bool = False) -> None:
        self.name, self.only_named = name, only_named
        self.service = service

    def fault(self, kind: str) -> Fault | None:
        return self.service.menu.draw(kind, self.name, only_named=self.only_named)


def _over_limit(service: Service) -> Response | None:
    """Answer 429 when an enforced rate limit is configured and used up."""
    limiter = service.limiter
    if limiter is None or (wait := limiter.take()) <= 0:
        return None
    service.meter.faults["rate_limit"] += 1
    return _too_many(float(math.ceil(wait)), limiter.rate.retry_after_date)


def _counted(service: Service, scope: Scope, send: Send) -> Send:
    """Count the answer's status; close the connection after the plain 500 of a crash."""
    closing = False

    async def counted(message: Message) -> None:
        nonlocal closing
        if message["type"] == "http.response.start":
            service.meter.per_status[str(message["status"])] += 1
            closing = message["status"] == 500 and _is_text(message)
        await send(message)
        if closing and message["type"] == "http.response.body" and not message.get("more_body"):
            # As upstream: after an unhandled exception the answer is sent, then the connection ends unannounced.
            sockets.close(scope)

    return counted


def _unauthorised(service: Service, scope: Scope, path: str, name: str) -> Response | None:
    if path in OPEN_PATHS or not path.startswith(f"{PREFIX}/"):
        return None
    headers = dict(reversed(scope["headers"]))  # the first of equal headers counts
    found = service.keyring.identify(path, scope["query_string"], headers)
    if not isinstance(found, Identity):
        status, detail = found
        return JSONResponse({"detail": detail}, status_code=status)
    scope["simulator.identity"] = found
    if service.settings.forbid_listing and name in LISTINGS:
        return JSONResponse({"detail": "Token does not have permission to access this endpoint"}, status_code=403)
    return None


class RouteNames:
    """What is a call's route called? "GET /run/{run_id}", without the prefix, known before routing."""

    def __init__(self, routers: Iterable[APIRouter]) -> None:
        self._known: list[tuple[str, re.Pattern[str], str]] = []
        for router in routers:
            for route in router.routes:
                path: str = getattr(route, "path", "")
                pattern = re.compile(re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(path)) + "$")
                for method in getattr(route, "methods", None) or ():
                    self._known.append((method, pattern, f"{method} {path}"))
        self._cache: dict[tuple[str, str], str] = {}

    def of(self, method: str, path: str) -> str:
        path = _ID.sub("{}", path.removeprefix(PREFIX))
        name = self._cache.get((method, path))
        if name is None:
            name = next(
                (name for known, pattern, name in self._known if known == method and pattern.match(path)),
                f"{method} (unknown)",
            )
            if len(self._cache) < 1000:
                self._cache[method, path] = name
        return name


_REFUSALS = (
    "rate_limited",
    "error_500",
    "error_500_text",
    "bad_gateway",
    "unavailable",
    "gateway_timeout",
    "forbidden",
)


def _refusal(fault: Fault) -> Response:
    match fault.kind:
        case "rate_limited":
            return _too_many(fault.retry_after, fault.retry_after_date)
        case "error_500":
            return JSONResponse({"detail": "Internal server error"}, status_code=500)
        case "error_500_text":
            return PlainTextResponse("Internal Server Error", status_code=500)
        case "bad_gateway":
            return HTMLResponse(_HTML.format("502 Bad Gateway"), status_code=502)
        case "unavailable":
            headers = _retry_after(fault.retry_after, fault.retry_after_date)
            return HTMLResponse(_HTML.format("503 Service Temporarily Unavailable"), status_code=503, headers=headers)
        case "gateway_timeout":
            return HTMLResponse(_HTML.format("504 Gateway Time-out"), status_code=504)
        case _:
            return JSONResponse({"detail": "Access denied for requested operation"}, status_code=403)


def _too_many(after: float | None, as_date: bool) -> Response:
    return JSONResponse({"detail": "Too Many Requests"}, status_code=429, headers=_retry_after(after, as_date))


def _retry_after(after: float | None, as_date: bool) -> dict[str, str]:
    if after is None:
        return {}
    return {"Retry-After": formatdate(time.time() + after, usegmt=True) if as_date else f"{after:g}"}


def _is_text(message: dict[str, Any] | Message) -> bool:
    return any(key.lower() == b"content-type" and value.startswith(b"text/plain") for key, value in message["headers"])
