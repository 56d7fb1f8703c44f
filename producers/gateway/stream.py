"""How does an event stream leave the process? A chunk at a time, until it ends, the client goes, or does not read.

Own code instead of sse-starlette's response: that one runs four tasks for each stream, polls for the server's end twice a
second and replaces a method of uvicorn; here it is one task more than a plain answer, and `Feed.stop` ends all at once.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from producers.gateway.feed import Feed, Listener
from shared.metrics import STREAMS, STREAMS_ENDED

#: Seconds a client may leave one event unread, after the buffers of both systems are full.
SEND_SECONDS = 20.0
#: Seconds in which a client who was cut off may still take what he was given.
LAST_SECONDS = 1.0


class EventStream(Response):
    """Server-Sent Events from a generator; leaves the feed when it ends, however it ends."""

    media_type = "text/event-stream"

    def __init__(self, chunks: AsyncGenerator[bytes], listener: Listener, feed: Feed) -> None:
        # No buffering by proxies (nginx), which would hold events back.
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._chunks = chunks
        self._listener = listener
        self._feed = feed

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        watching = asyncio.create_task(self._until_gone(receive))
        STREAMS.inc()
        now = asyncio.get_running_loop().time
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async with asyncio.timeout(None) as limit, aclosing(self._chunks):
                self._listener.on_slow = lambda: limit.reschedule(now() + LAST_SECONDS)
                async for chunk in self._chunks:
                    async with asyncio.timeout(SEND_SECONDS):
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
                # The clean end tells a client who reads that he may come back at once.
                limit.reschedule(now() + LAST_SECONDS)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            self._listener.on_slow = lambda: None
            self._listener.end("slow")
        finally:
            self._feed.leave(self._listener)
            STREAMS.dec()
            STREAMS_ENDED.labels(self._listener.ended or "trouble").inc()
            watching.cancel()

    async def _until_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._listener.end("gone")
