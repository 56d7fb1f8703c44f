"""Whose key is this?

Keys given with `--key` belong to the owner of the fixtures. The others are built in, one for each way in which a key can
be wrong, so that 401, 403 and the tenant rules can be met on purpose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http.cookies import CookieError, SimpleCookie
from typing import NamedTuple
from urllib.parse import parse_qs

from simulator.rows import Tenant

OWNER = Tenant("user_owner")
OTHER = Tenant("user_other")
ORGANISATION = Tenant("user_owner", "org_acme")
STRANGER = Tenant("user_free")

#: key -> who it is, for people who are somebody.
BUILT_IN = {
    "sim-key-other": OTHER,
    "sim-key-org": ORGANISATION,
    "sim-key-free": STRANGER,
    "sim-key-no-credit": Tenant("user_owner"),
    "sim-key-machine": Tenant("user_owner"),
}
#: key -> the refusal it always meets.
REFUSED = {
    "sim-key-revoked": (401, "Revoked token"),
    "sim-key-suspended": (403, "Your account has been suspended. Please contact support."),
}
#: A worker's key may only use the worker's own routes.
MACHINE_KEY = "sim-key-machine"
MACHINE_ROUTES = ("/api/update-run", "/api/file-upload")
NO_CREDIT_KEY = "sim-key-no-credit"

MISSING = (401, "Invalid or missing token")
INVALID = (401, "Invalid or expired token")
OUT_OF_SCOPE = (403, "Token does not have permission to access this endpoint")


class Identity(NamedTuple):
    key: str
    tenant: Tenant


class Keyring:
    def __init__(self, keys: Iterable[str]) -> None:
        self._tenants: dict[str, Tenant] = {**BUILT_IN, **dict.fromkeys(keys, OWNER)}

    def identify(self, path: str, query: bytes, headers: Mapping[bytes, bytes]) -> Identity | tuple[int, str]:
        """Tell who asks, or the status and detail of the refusal. The first source that holds a key decides."""
        key = _key_of(query, headers)
        if key is None:
            return MISSING
        if key in REFUSED:
            return REFUSED[key]
        tenant = self._tenants.get(key)
        if tenant is None:
            return INVALID
        if key == MACHINE_KEY and path not in MACHINE_ROUTES:
            return OUT_OF_SCOPE
        return Identity(key, tenant)


def _key_of(query: bytes, headers: Mapping[bytes, bytes]) -> str | None:
    if cookie := headers.get(b"cookie"):
        try:
            session = SimpleCookie(cookie.decode("latin-1")).get("__session")
        except CookieError:
            session = None
        if session is not None:
            return session.value
    if b"cd_token=" in query:
        told = parse_qs(query.decode("latin-1")).get("cd_token")
        if told:
            return told[0]
    authorization = headers.get(b"authorization", b"").decode("latin-1")
    if authorization.startswith("Bearer "):  # the word is case-sensitive upstream
        return authorization[7:]
    api_key = headers.get(b"x-api-key")
    return None if api_key is None else api_key.decode("latin-1")
