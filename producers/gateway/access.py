"""Who asks? An API key stands for one frontend, and sees that frontend's jobs only.

`CONVEYOR_API_KEYS=web:key1,telegram:key2`; several keys may stand for one frontend, so that one can be replaced without a
pause. Keys come in `Authorization: Bearer …`, never in an address, which ends up in logs.

Without keys the gateway serves only this machine, as the frontend `web`: `door.py` refuses everybody else.
"""

import hmac
import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from producers.gateway.problems import Refused
from producers.gateway.rates import Rates
from shared.errors import MissingSetting
from shared.settings import Settings

#: The frontend of a gateway without keys.
OPEN_FRONTEND = "web"

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_SHORTEST_KEY = 8

bearer = HTTPBearer(
    auto_error=False, description="An API key of `CONVEYOR_API_KEYS`. Not needed on a gateway without keys."
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    #: Whose jobs he may see; where his jobs' events go.
    frontend: str


class Access:
    """The keys of this gateway. Raises `MissingSetting` when one cannot be right."""

    def __init__(self, settings: Settings) -> None:
        self._keys: list[tuple[bytes, str]] = []
        for entry in settings.api_keys:
            name, colon, key = entry.get_secret_value().partition(":")
            if not colon or not _NAME.fullmatch(name) or len(key) < _SHORTEST_KEY:
                raise MissingSetting(
                    "CONVEYOR_API_KEYS cannot be read.",
                    check="it is `name:key,name:key`; a name has a-z, 0-9, _ and -, "
                    f"and a key at least {_SHORTEST_KEY} characters.",
                )
            self._keys.append((key.encode(), name))

    @property
    def is_open(self) -> bool:
        """Whether no keys are needed, and only this machine is served."""
        return not self._keys

    @property
    def frontends(self) -> list[str]:
        """Whose events may be asked for here."""
        return sorted({name for _, name in self._keys} or {OPEN_FRONTEND})

    def caller(self, key: str | None) -> Caller:
        """Who has this key. Takes the same time for every wrong one. Raises `Refused` (401)."""
        if self.is_open:
            return Caller(OPEN_FRONTEND)
        found = None
        given = (key or "").encode()
        for known, name in self._keys:
            if hmac.compare_digest(known, given):
                found = name
        if found is None:
            raise Refused(
                401,
                "unauthorized",
                "An API key is needed: `Authorization: Bearer …`.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return Caller(found)


async def identify(
    request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)] = None
) -> Caller:
    """Who makes this request, counted against his rate. Raises `Refused` (401, 429)."""
    access: Access = request.app.state.access
    rates: Rates = request.app.state.rates
    caller = access.caller(given.credentials if given else None)
    request.state.frontend = caller.frontend
    rates.count(caller.frontend, request.state.headers)
    return caller


Known = Annotated[Caller, Depends(identify)]
