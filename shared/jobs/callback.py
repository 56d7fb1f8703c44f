"""Who else shall hear how a job ended? An address that gets the final event by HTTP, signed.

The secret is kept apart from the job's record, in `conveyor:callback:{job id}`, and only until the callback is decided:
what reads or shows a record never meets it.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

MAX_URL_CHARACTERS = 2048

#: What the Standard Webhooks specification puts before a secret's base64, and how many bytes that may stand for.
_PREFIX = "whsec_"
_BYTES = range(24, 65)

#: `127.1`, `2130706433` and `0x7f000001` are all loopback to a resolver, and something else to most readers.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


class Callback(BaseModel):
    """Where the final event is sent to, and what it is signed with."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    url: str = Field(description="http or https, at most 2,048 characters, without user name and password.")
    secret: SecretStr = Field(description="`whsec_` and the base64 of 24 to 64 random bytes (Standard Webhooks).")

    @field_validator("url")
    @classmethod
    def _callable(cls, url: str) -> str:
        if reason := _refuse_url(url):
            raise ValueError(reason)
        return url

    @field_validator("secret")
    @classmethod
    def _signs(cls, secret: SecretStr) -> SecretStr:
        signing_key(secret.get_secret_value())
        return secret


def signing_key(secret: str) -> bytes:
    """The bytes a secret stands for. Raises `ValueError`, which does not repeat it."""
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX).encode(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(_PREFIX) or len(key) not in _BYTES:
        raise ValueError("is not `whsec_` and the base64 of 24 to 64 bytes") from None
    return key


def _refuse_url(url: str) -> str | None:
    """Why this address cannot be called, or None. Repeats nothing of it."""
    if len(url) > MAX_URL_CHARACTERS:
        return f"is longer than {MAX_URL_CHARACTERS} characters"
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        return "holds blanks, control characters, backslashes or letters beyond ASCII; encode them"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "cannot be read as an address"
    if parts.scheme not in ("http", "https") or not host or port == 0:
        return "needs http:// or https:// and a host"
    if "@" in parts.netloc:
        return "may not carry a user name or password"
    last = host.rstrip(".").rpartition(".")[2]
    if ":" not in host and _NUMBER.fullmatch(last) and not _is_ipv4(host):
        return "spells an address as a number; write it with four numbers and dots"
    return None


def _is_ipv4(host: str) -> bool:
    try:
        IPv4Address(host)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class CallbackState:
    """How far a callback is, as a job's record tells."""

    url: str
    state: Literal["pending", "delivered", "failed"]
    #: Requests that were begun, answered or not.
    attempts: int
    #: The HTTP status of the last answer; None when there was none.
    last_status: int | None
    #: Why the last attempt did not deliver; "" when it did, or there was none.
    last_error: str
    #: When the next attempt is due (ms); None before the job is final, and once the callback is decided.
    next_at: int | None

    @classmethod
    def from_hash(cls, fields: dict[str, str]) -> Self | None:
        """Read a job's hash; None for a job without a callback."""
        if not fields.get("callback_url"):
            return None
        return cls(
            url=fields["callback_url"],
            state=fields["callback_state"],  # type: ignore[arg-type]  # written by our scripts only
            attempts=int(fields.get("callback_attempts") or 0),
            last_status=int(fields["callback_status"]) if fields.get("callback_status") else None,
            last_error=fields.get("callback_error", ""),
            next_at=int(fields["callback_next_at"]) if fields.get("callback_next_at") else None,
        )

    def snapshot(self) -> dict[str, Any]:
        """As JSON for people and programs; times in seconds."""
        return {
            "url": self.url,
            "state": self.state,
            "attempts": self.attempts,
            "last_status": self.last_status,
            "last_error": self.last_error or None,
            "next_at": None if self.next_at is None else self.next_at / 1000,
        }
