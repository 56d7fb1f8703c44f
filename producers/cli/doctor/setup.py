"""Are the settings such that it can work? And what are they, without giving a secret away?"""

import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pydantic import SecretStr

from producers.cli.doctor.check import Check, ok, warn
from shared.settings import Settings

MASK = "********"
#: Words in the name of an address's parameter that make its value a secret.
SECRET_WORDS = ("pass", "secret", "token", "key", "sig", "auth")


def shown(settings: Settings) -> Iterator[Check]:
    """Each setting with its value and where it comes from."""
    for name, field in Settings.model_fields.items():
        alias = str(field.alias)
        source = "environment" if os.environ.get(alias) else "file" if os.environ.get(f"{alias}_FILE") else "default"
        text = masked(getattr(settings, name))
        yield ok(alias, f"{text} ({source})" if text else f"not set ({source})")


def masked(value: Any) -> str:
    """A setting's value as it may be seen: secrets and passwords in addresses are covered."""
    match value:
        case None:
            return ""
        case SecretStr():
            return MASK
        case list():
            return ", ".join(masked(one) for one in value)
        case str() if "://" in value:
            return _address(value)
        case _:
            return str(value)


def _address(url: str) -> str:
    parts = urlsplit(url)
    before, at, host = parts.netloc.rpartition("@")
    user, colon, _ = before.partition(":")
    asked = [
        (name, MASK if any(word in name.casefold() for word in SECRET_WORDS) else value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
    ]
    netloc = f"{user}{colon}{MASK if colon else ''}{at}{host}"
    return urlunsplit(parts._replace(netloc=netloc, query=urlencode(asked, safe="*")))


def checks(settings: Settings) -> Iterator[Check]:
    """What is missing."""
    if settings.api_key is None:
        yield warn("api key", "not set", "set COMFY_DEPLOY_API_KEY; workers need it, and we cannot see their budget")
    else:
        yield ok("api key", f"set, account {settings.account}")
