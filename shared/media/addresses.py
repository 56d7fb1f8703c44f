"""What does the address of a stored file tell? Which file it is, and how long it can be fetched.

A private bucket signs an address anew at each read (CONTRACT section 8); the signature is in the query, the file is what
remains without it. Pure.
"""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit, urlunsplit

_SIGNATURE = "x-amz-"


def bare(url: str) -> str:
    """The address without its signature: the same for every signature of one file."""
    parts = urlsplit(url)
    query = [(name, text) for name, text in parse_qsl(parts.query) if not name.lower().startswith(_SIGNATURE)]
    return urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(query), ""))


def expires_at(url: str) -> datetime | None:
    """When the signature ends, in UTC; None for an address without one, or one that cannot be read."""
    query = {name.lower(): texts[0] for name, texts in parse_qs(urlsplit(url).query).items()}
    try:
        made = datetime.strptime(query["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        return made + timedelta(seconds=int(query["x-amz-expires"]))
    except (KeyError, ValueError, OverflowError):
        return None
