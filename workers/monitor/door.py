"""Who may come in? Whoever knows the password; without one, programs and pages of this machine only.

A browser on this machine is a way in for every page it shows: such a page can send requests to loopback. So without a
password the request has to be meant for loopback by name, and with or without one it must not come from another page.
"""

from collections.abc import Sequence
from urllib.parse import urlsplit

from tornado.httputil import HTTPServerRequest

from shared.errors import MissingSetting

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def check_listening(address: str, credentials: Sequence[str], *, oauth: bool, unix_socket: bool) -> None:
    """Raise `MissingSetting` when Flower would be open to strangers. No value is repeated: it may be a password."""
    for credential in credentials:
        name, _, password = credential.partition(":")
        if not name or not password:
            raise MissingSetting("FLOWER_BASIC_AUTH is not `name:password`.", check="each pair between the commas.")
    if not credentials and not oauth and not unix_socket and address not in _LOOPBACK:
        where = address or "every address"
        raise MissingSetting(
            f"Flower would listen on {where} without a password: whoever reaches it could read and cancel every job.",
            check="set FLOWER_BASIC_AUTH=name:password (or FLOWER_BASIC_AUTH_FILE), or leave FLOWER_ADDRESS empty for loopback.",
        )


def refuse(request: HTTPServerRequest, *, local: bool) -> str:
    """Why this request is turned away before anything looks at it; "" when it is not.

    `local`: there is no password and Flower listens on loopback.
    """
    told, site = request.headers, request.headers.get("Sec-Fetch-Site")
    if site is None:
        origin = told.get("Origin")
        foreign = origin is not None and origin.partition("://")[2] != request.host
    else:
        # Following a link to a page of ours is fine, and changes nothing; showing it in a frame is not.
        follows = (request.method, told.get("Sec-Fetch-Mode"), told.get("Sec-Fetch-Dest")) == (
            "GET",
            "navigate",
            "document",
        )
        foreign = site not in ("none", "same-origin") and not follows
    if foreign:
        return "Requests from other pages are not taken."
    # A stranger's page whose name leads to loopback is of our origin for the browser, but bears its name.
    if local and _name(request.host) not in _LOOPBACK:
        return "Without a password Flower answers to localhost only: set FLOWER_BASIC_AUTH."
    return ""


def _name(host: str) -> str | None:
    """The name in `name:port`; None when it is neither."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
