"""Where do outputs and uploads live, and who may fetch them?

An object store in memory. Public objects have a permanent address; private ones need a signature that is made anew on
every read and dies after an hour. Bytes can be a recipe, carried out at the first download, so thousands of finished
runs cost nothing until somebody looks.

Uploads are kept up to a total of `KEEP_BYTES`; then the oldest go. Recipes are small and stay until a reset.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

NAME = "sim-bucket"
KEEP_BYTES = 256 * 1024 * 1024


@dataclass
class StoredObject:
    content_type: str
    body: bytes | Callable[[], bytes]
    is_public: bool = True

    def read(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else self.body()


class AccessRefusedError(Exception):
    """The reply of an S3-like store to a request it does not serve: (status, code, message)."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    def xml(self) -> str:
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<Error><Code>{self.code}</Code><Message>{self.message}</Message></Error>"
        )


class Bucket:
    def __init__(self, base_url: str, presigned_seconds: int = 3600) -> None:
        #: scheme://host:port of the simulator as clients see it; the server corrects it once its port is known.
        self.base_url = base_url
        self.presigned_seconds = presigned_seconds
        self._secret = secrets.token_bytes(16)
        self._objects: dict[str, StoredObject] = {}
        self._uploaded: dict[str, int] = {}

    def clear(self) -> None:
        self._objects.clear()
        self._uploaded.clear()

    def put(self, key: str, stored: StoredObject) -> None:
        self._objects[key] = stored
        if isinstance(stored.body, bytes):
            self._uploaded[key] = len(stored.body)
            while sum(self._uploaded.values()) > KEEP_BYTES and len(self._uploaded) > 1:
                oldest = next(iter(self._uploaded))
                del self._uploaded[oldest]
                self._objects.pop(oldest, None)

    def url(self, key: str) -> str:
        """Give the bare address: permanent for a public object, useless for a private one."""
        return f"{self.base_url}/{NAME}/{quote(key)}"

    def presigned(self, key: str, *, method: str = "GET", signed_headers: str = "host") -> str:
        date = datetime.now(UTC)
        query = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"simkey/{date:%Y%m%d}/us-east-2/s3/aws4_request",
            "X-Amz-Date": f"{date:%Y%m%dT%H%M%SZ}",
            "X-Amz-Expires": str(self.presigned_seconds),
            "X-Amz-SignedHeaders": signed_headers,
        }
        query["X-Amz-Signature"] = self._sign(method, key, query)
        return f"{self.url(key)}?{urlencode(query)}"

    def sign_url(self, url: str) -> str:
        """Give the presigned form of a bare address of this bucket; any other address comes back as it is."""
        key = self.key_of(url)
        return url if key is None else self.presigned(key)

    def key_of(self, url: str) -> str | None:
        path = urlsplit(url).path
        prefix = f"/{NAME}/"
        return path[len(prefix) :] if url.startswith(self.base_url) and path.startswith(prefix) else None

    def is_private(self, url: str) -> bool:
        key = self.key_of(url)
        stored = None if key is None else self._objects.get(key)
        return stored is not None and not stored.is_public

    def fetch(self, key: str, query_string: str) -> StoredObject:
        """Find an object for a download. Raises `AccessRefusedError` as S3 would answer."""
        stored = self._objects.get(key)
        if stored is not None and stored.is_public:
            return stored
        self._verify("GET", key, dict(parse_qsl(query_string)))
        if stored is None:
            raise AccessRefusedError(404, "NoSuchKey", "The specified key does not exist.")
        return stored

    def accept(self, key: str, query_string: str) -> None:
        """Check a presigned PUT. Raises `AccessRefusedError`."""
        self._verify("PUT", key, dict(parse_qsl(query_string)))

    def _sign(self, method: str, key: str, query: dict[str, str]) -> str:
        told = "\n".join([method, key, query["X-Amz-Date"], query["X-Amz-Expires"], query["X-Amz-SignedHeaders"]])
        return hmac.new(self._secret, told.encode(), hashlib.sha256).hexdigest()

    def _verify(self, method: str, key: str, query: dict[str, str]) -> None:
        if "X-Amz-Signature" not in query:
            raise AccessRefusedError(403, "AccessDenied", "Access Denied")
        try:
            expected = self._sign(method, key, query)
            made = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
            life = int(query["X-Amz-Expires"])
        except (KeyError, ValueError):
            raise AccessRefusedError(403, "AuthorizationQueryParametersError", "Malformed query") from None
        if not hmac.compare_digest(expected, query["X-Amz-Signature"]):
            raise AccessRefusedError(403, "SignatureDoesNotMatch", "The request signature does not match.")
        if time.time() > made + life:
            raise AccessRefusedError(403, "AccessDenied", "Request has expired")
