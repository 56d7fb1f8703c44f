"""A web site files are read from: real, on loopback, with all the ways in which an address can disappoint."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 200


@dataclass
class Site:
    """What is served under which path: bytes, or a way to disappoint."""

    port: int = 0
    asked: list[str] = field(default_factory=list)
    #: Paths that answer 503 so many more times.
    busy: dict[str, int] = field(default_factory=dict)
    #: Paths with a content and type of their own.
    other: dict[str, tuple[bytes, str]] = field(default_factory=dict)

    def at(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix("/")
        self.asked.append(request.path_qs)
        if self.busy.get(path, 0) > 0:
            self.busy[path] -= 1
            return web.Response(status=503)
        if path in self.other:
            return web.Response(body=self.other[path][0], content_type=self.other[path][1])
        word = path.rpartition("/")[2]
        if word == "short.png":  # promises more than comes
            answer = web.StreamResponse(headers={"content-length": str(len(PNG))})
            await answer.prepare(request)
            await answer.write(PNG[:500])
            assert request.transport is not None
            request.transport.close()
            return answer
        if word == "endless.png":
            endless = web.StreamResponse(headers={"content-type": "image/png"})
            await endless.prepare(request)
            while True:
                await endless.write(PNG)
                await asyncio.sleep(0)
        if word == "page.png":
            return web.Response(text="<!doctype html><html>Sign in</html>", content_type="text/html")
        if word == "error.png":
            return web.json_response({"error": "quota"})
        if word == "round":
            raise web.HTTPFound("round")
        if word == "moved":
            raise web.HTTPFound("fox.png")
        if word == "forbidden.png":
            return web.Response(status=403, text="<Error><Code>AccessDenied</Code></Error>")
        return web.Response(body=PNG, content_type="image/png")


@asynccontextmanager
async def site_open() -> AsyncIterator[Site]:
    """A site on a free port."""
    site = Site()
    app = web.Application()
    app.router.add_get("/{path:.*}", site.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        site.port = runner.addresses[0][1]
        yield site
    finally:
        await runner.cleanup()
