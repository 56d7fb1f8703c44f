"""Where does the API live, given what an operator typed?

`https://api.comfydeploy.com`, `https://api.comfydeploy.com/api` and both with a slash at the end mean the same. Pure.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from shared.errors import MissingSetting

_CHECK = "COMFY_DEPLOY_API_URL should look like https://api.comfydeploy.com/api."


def api_root(base_url: str) -> str:
    """Give the URL that routes are appended to: scheme, host, an optional prefix, `/api`, and no slash at the end.

    Applying it to its own result changes nothing. Raises MissingSetting for what cannot be the address of an API. The
    message does not repeat the text: people paste keys into the wrong variable.
    """
    try:
        parts = urlsplit(base_url.strip())
        host, _port = parts.hostname, parts.port
    except ValueError:
        raise MissingSetting("The API's base URL cannot be read.", check=_CHECK) from None
    if parts.scheme not in {"http", "https"} or not host:
        raise MissingSetting("The API's base URL needs http:// or https:// and a host.", check=_CHECK)
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        # Not accepted silently: httpx would turn a user name into an Authorization header of its own.
        raise MissingSetting("The API's base URL may not carry a user, a query or a fragment.", check=_CHECK)
    if any(c.isspace() or not c.isprintable() for c in base_url.strip()):
        raise MissingSetting("The API's base URL holds blanks or control characters.", check=_CHECK)
    segments = [segment for segment in parts.path.split("/") if segment]
    if not segments or segments[-1] != "api":
        segments.append("api")
    return f"{parts.scheme}://{parts.netloc}/{'/'.join(segments)}"
