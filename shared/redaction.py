"""What must not be seen in a log line, and how is it found? By the name of a field, by its value, and by its place.

* By name: the value of `authorization`, `api_key`, `token`, `secret`, `password` …, at any depth. Numbers stay: `tokens` that
  are counted are none.
* By value: the secrets of the settings and of the environment, wherever they turn up: in messages of libraries, in tracebacks.
* By place: what signs an address (`X-Amz-Signature=`, `?sig=`), `Bearer …`, the password in `scheme://name:password@host`,
  a Telegram bot's token.

A net below the rule, not the rule: nothing is to log a secret in the first place, and the tests search what was logged
before it came here, too. Users' prompts and names are not secrets of ours; nothing logs them either.
"""

import json
import os
import re
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from pydantic import SecretStr

from shared.errors import MissingSetting
from shared.secret_files import with_secret_files
from shared.settings import Settings

HIDDEN = "(hidden)"

#: Shorter ones would be found everywhere; nobody should have them.
SHORTEST = 5
#: Deeper than any line of ours.
DEEPEST = 8

_NAMES = frozenset(
    [
        "apikey",
        "authorization",
        "bearer",
        "cookie",
        "credential",
        "credentials",
        "key",
        "keys",
        "passwd",
        "password",
        "secret",
        "secrets",
        "sig",
        "signature",
        "token",
        "tokens",
    ]
)
#: `key` alone is what a file or a field of Redis is called.
_KEY_OF = frozenset(["access", "api", "auth", "private", "secret", "signing"])
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Za-z][a-z]*")

_PLACES = re.compile(
    r"(?P<before>(?i:x-(?:amz|goog)-(?:signature|credential|security-token)=|[?&](?:\w+[_-])?(?:sig|signature|token|key|secret|password)="
    r"|\\u0026(?:sig|signature|token|key)=|bearer +|\bbot(?=\d{6,}:)|://[^/\s:@]{0,64}:(?=[^/\s@]+@)))"
    r"[^&\s\"'<>\\,@]+"
)

#: One of these is in whatever `_PLACES` matches; most lines have none, and looking for them is cheap.
_SIGNS = ("x-amz-", "x-goog-", "?", "&", "\\u0026", "bearer ", "bot", "://")

#: Of other programs that run in our processes.
_FOREIGN = ("FLOWER_BASIC_AUTH", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")
#: Those that are a secret as a whole: of the archive.
_FOREIGN_WHOLE = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


@lru_cache(1024)
def is_secret_name(name: str) -> bool:
    """Whether a field of this name holds a secret: `bearer_token`, `X-Api-Key`, `callbackSecret`."""
    words = [word.lower() for word in _WORDS.findall(name)]
    if not words or words[-1] not in _NAMES:
        return False
    return words[-1] not in ("key", "keys") or (len(words) > 1 and words[-2] in _KEY_OF)


def secrets_of(settings: Settings, environ: Mapping[str, str] | None = None) -> set[str]:
    """The values that are secret in this process."""
    environ = os.environ if environ is None else environ
    found = set[str]()
    for _, setting in settings:
        for one in setting if isinstance(setting, list) else [setting]:
            if isinstance(one, SecretStr):
                # Of the gateway's `name:key` the key alone, too.
                found |= {one.get_secret_value(), one.get_secret_value().rpartition(":")[2]}
    if password := urlsplit(settings.redis_url).password:
        found |= {password, unquote(password)}
    with suppress(MissingSetting):  # whoever needs it says so
        environ = with_secret_files(environ, {"FLOWER_BASIC_AUTH"})
    found |= {environ.get(name, "") for name in _FOREIGN_WHOLE}
    for name in _FOREIGN:
        # `name:password,…`, and of headers `name=value,…`, where the value may be `Bearer …`.
        for part in environ.get(name, "").replace("\n", ",").split(","):
            value = unquote(re.split("[:=]", part, maxsplit=1)[-1]).strip()
            found |= {value, value.rpartition(" ")[2]}
    return {value for value in found if len(value) >= SHORTEST}


class Redaction:
    """The secrets of one process."""

    def __init__(self, settings: Settings, environ: Mapping[str, str] | None = None) -> None:
        values = secrets_of(settings, environ)
        # As they are, as JSON writes them, and as addresses do.
        spelt = {spelling for value in values for spelling in (value, json.dumps(value)[1:-1], quote(value, safe=""))}
        # The longest first: one may be a part of another.
        self._values = sorted(spelt, key=len, reverse=True)

    def fields(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """A processor of structlog: hide the fields whose names say that they are secret."""
        return {name: self._field(name, value, 0) for name, value in event.items()}

    def _field(self, name: str, value: Any, depth: int) -> Any:
        if is_secret_name(name) and value is not None and not isinstance(value, int | float):
            return HIDDEN
        if depth >= DEEPEST:
            return value
        if isinstance(value, Mapping):
            return {str(below): self._field(str(below), one, depth + 1) for below, one in value.items()}
        if isinstance(value, list | tuple):
            return [self._field("", one, depth + 1) for one in value]
        return value

    def text(self, line: str) -> str:
        """A rendered line without secret values, and without what signs addresses."""
        for value in self._values:
            line = line.replace(value, HIDDEN)
        small = line.lower()
        if any(sign in small for sign in _SIGNS):
            line = _PLACES.sub(rf"\g<before>{HIDDEN}", line)
        return line
