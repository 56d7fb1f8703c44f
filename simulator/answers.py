"""How does a handler refuse? Four shapes of error body, as the service has them, and a way to reach the service.

`HTTPException` gives {"detail"}; `Crash` gives the text/plain 500 of an unhandled exception, after which the server closes
the connection; `told_error` gives {"error"}, which a few routes use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast
from uuid import UUID

from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse

from simulator.rows import Tenant

if TYPE_CHECKING:
    from simulator.service import Service


class Crash(Exception):
    """Upstream would not catch an exception here."""


def told_error(status: int, text: str) -> JSONResponse:
    return JSONResponse({"error": text}, status_code=status)


def refuse(status: int, detail: str) -> HTTPException:
    return HTTPException(status, detail)


def service_of(request: Request) -> Service:
    return cast("Service", request.app.state.service)


def tenant_of(request: Request) -> Tenant:
    """Tell for whom this request is made; the gate has checked the key."""
    return cast("Tenant", request.scope["simulator.identity"].tenant)


def uuid_or_crash(text: str) -> str:
    """Give a path id in its canonical form, or crash as upstream's database driver does on a malformed one."""
    try:
        return str(UUID(text))
    except ValueError:
        raise Crash(text) from None
