"""What does the address of a stored file tell? Which file it is, and how long it can be fetched.

A private bucket signs an address anew at each read (CONTRACT section 8); the signature is in the query, the file is what
remains without it. Pure.
"""

from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

_SIGNATURE = "x-amz-"


def bare(url: str) -> str:
    """The address without its signature: the same for every signature of one file."""
    parts = _parts(url)
    if parts is None:
        return url
    query = [(name, text) for name, text in _query(parts) if not name.lower().startswith(_SIGNATURE)]
    return urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(query), ""))


def last_part(url: str) -> str:
    """The last part of the path, which is often a file's name; may be empty."""
    parts = _parts(url)
    return unquote(PurePosixPath(parts.path).name) if parts else ""


def expires_at(url: str) -> datetime | None:
    """When the signature ends, in UTC; None for an address without one, or one that cannot be read."""
    parts = _parts(url)
    query = {name.lower(): text for name, text in _query(parts)} if parts else {}
    try:
        made = datetime.strptime(query["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        return made + timedelta(seconds=int(query["x-amz-expires"]))
    except (KeyError, ValueError, OverflowError):
        return None


def _parts(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:  # half an IPv6 address, and the like
        return None


def _query(parts: SplitResult) -> list[tuple[str, str]]:
    return parse_qsl(parts.query, keep_blank_values=True)
