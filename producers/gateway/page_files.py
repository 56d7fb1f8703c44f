"""The chat page: plain files of this folder, at `/`.

The policy allows only what comes from here: no inline program or style, nothing of another site but the pictures, films and
sounds that jobs made, whose addresses are ComfyUI Deploy's.
"""

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; font-src 'self'; manifest-src 'self'; "
    "img-src 'self' data: blob: https: http:; media-src 'self' blob: https: http:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class PageFiles(StaticFiles):
    """Static files under the page's policy. `/` is `index.html`."""

    def __init__(self, folder: str) -> None:
        super().__init__(directory=folder, html=True)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """One file. Raises 404."""
        answer = await super().get_response(path, scope)
        answer.headers["Content-Security-Policy"] = POLICY
        # Asked again each time, and answered 304 while it is the same: a new release shows at once.
        answer.headers["Cache-Control"] = "no-cache"
        return answer
