"""How do thousands of streams hear of their jobs over one connection? One reader, and a short queue for each listener.

While anybody listens, one blocking XREAD reads the result streams of this process's frontends and hands each event to
those who asked for its job or its user. A listener whose queue is full is cut off rather than waited for: what he missed is
on the stream, and he can come back and say how far he got.

Promise: whatever is appended after `listen` has returned is handed to the listener, in order, or he is cut off. An outage of
Redis only delays it, since the reader goes on where it was.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

from pydantic_core import from_json

from producers.follow import Pages
from producers.outage import Outage
from shared.database import REDIS_AWAY, Database
from shared.errors import Stopping, Unavailable
from shared.metrics import STREAM_EVENTS

log = logging.getLogger(__name__)

#: What a job's listeners are kept under; no frontend has such a name.
JOB = "job:"

#: Seconds one read waits for news; well below the socket's timeout.
BLOCK_SECONDS = 4.0
#: Entries per read.
PAGE = 500
#: Events a listener may be behind. A job has a dozen, so this is a client that does not read.
MOST_WAITING = 256
#: Streams open at once in one process; more are sent elsewhere (503). Twice what was measured.
MOST_LISTENERS = 4000
#: Seconds a new listener waits for the reader to know where it is.
READY_SECONDS = 5.0


@dataclass(eq=False)
class Told:
    """One entry of a result stream."""

    entry: str
    type: str
    job_id: str
    seq: int
    #: The event as JSON.
    data: str

    @classmethod
    def of(cls, entry: str, fields: dict[str, str]) -> "Told":
        """Read the fields. Raises `ValueError`, `KeyError` for what is no event."""
        return cls(entry, fields["type"], fields["job_id"], int(fields["seq"]), fields["data"])

    @cached_property
    def body(self) -> dict[str, Any]:
        """The event."""
        return cast(dict[str, Any], from_json(self.data))

    @property
    def user(self) -> str:
        """Whose job it is."""
        return str(self.body["user"]["id"])

    @property
    def final(self) -> bool:
        """Whether it is the job's last."""
        return bool(self.body["final"])

    # Several streams may tell the same event: the text is made once.
    @cached_property
    def for_job(self) -> bytes:
        """As a job's stream tells it: the number is where to go on."""
        return sse(self.type, str(self.seq), self.data)

    @cached_property
    def for_user(self) -> bytes:
        """As a user's stream tells it: the place on the result stream is where to go on."""
        return sse(self.type, self.entry, self.data)


def sse(type_: str, id_: str, data: str) -> bytes:
    """One Server-Sent Event. `data` is one line: JSON has no line breaks of its own."""
    return f"event: {type_}\nid: {id_}\ndata: {data}\n\n".encode()


@dataclass(eq=False)
class Listener:
    """One open stream."""

    key: tuple[str, str]
    queue: asyncio.Queue[Told | None] = field(default_factory=lambda: asyncio.Queue(MOST_WAITING + 1))
    #: Why nothing more comes: `slow`, `stopping`, `gone`; "" while all is well.
    ended: str = ""
    #: Called when he is cut off: he may be stuck with what he was given last.
    on_slow: Callable[[], None] = lambda: None

    def offer(self, told: Told) -> None:
        """Hand over an event, or cut off who has not taken the last ones."""
        if self.ended:
            return
        if self.queue.qsize() >= MOST_WAITING:
            self.end("slow")
        else:
            self.queue.put_nowait(told)

    def end(self, why: str) -> None:
        """Nothing more comes. What waits is dropped: it will be replayed."""
        if self.ended:
            return
        self.ended = why
        while not self.queue.empty():
            self.queue.get_nowait()
        self.queue.put_nowait(None)
        if why == "slow":
            self.on_slow()

    async def next(self, seconds: float) -> Told | None:
        """The next event; None after `seconds` without any, or when `ended` says why."""
        if self.ended:
            return None
        try:
            async with asyncio.timeout(seconds):
                return await self.queue.get()
        except TimeoutError:
            return None


class Feed:
    """The reader, and who listens. Belongs to one event loop; `run` is its task."""

    def __init__(self, database: Database, frontends: list[str]) -> None:
        self._db = database
        self._streams = {database.keys.results(frontend): frontend for frontend in frontends}
        #: By (JOB, job id) and by (frontend, user).
        self._listeners: dict[tuple[str, str], set[Listener]] = {}
        self._somebody = asyncio.Event()
        self._ready = asyncio.Event()
        self._cursors: dict[str, str] = {}
        self._stopping = False
        #: Listeners, and those of them that listen to users.
        self._count = self._users = 0

    async def listen_to_job(self, job_id: str) -> Listener:
        """Hear every event of a job from now on. Raises `Unavailable`, `Stopping`."""
        return await self._listen((JOB, job_id))

    async def listen_to_user(self, frontend: str, user: str) -> Listener:
        """Hear every event of a user's jobs from now on. Raises `Unavailable`, `Stopping`."""
        return await self._listen((frontend, user))

    async def _listen(self, key: tuple[str, str]) -> Listener:
        if self._stopping:
            raise Stopping("The gateway is stopping.")
        if self._count >= MOST_LISTENERS:
            raise Unavailable("Too many streams are open.", retry_after_seconds=READY_SECONDS)
        listener = Listener(key)
        self._count += 1
        self._users += key[0] != JOB
        self._listeners.setdefault(key, set()).add(listener)
        self._somebody.set()
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._ready.wait()
        except TimeoutError:
            self.leave(listener)
            raise Unavailable("The reader of the result streams has no answer from Redis.") from None
        except BaseException:
            self.leave(listener)
            raise
        return listener

    def leave(self, listener: Listener) -> None:
        """Hear no more. Leaving twice is fine."""
        here = self._listeners.get(listener.key, set())
        if listener in here:
            here.discard(listener)
            self._count -= 1
            self._users -= listener.key[0] != JOB
        if not here:
            self._listeners.pop(listener.key, None)

    def stop(self) -> None:
        """End every stream at once, so that clients go elsewhere; nobody may listen any more."""
        self._stopping = True
        for listeners in list(self._listeners.values()):
            for listener in list(listeners):
                listener.end("stopping")

    async def run(self) -> None:
        """Read on for ever; end it by cancelling the task."""
        outage = Outage()
        while True:
            if not self._listeners:
                self._somebody.clear()
                self._ready.clear()
                await self._somebody.wait()
            try:
                if not self._ready.is_set():
                    self._cursors = await self._ends()
                    self._ready.set()
                reply = await self._db.redis.xread(
                    cast(dict[Any, Any], self._cursors), count=PAGE, block=round(BLOCK_SECONDS * 1000)
                )
            except REDIS_AWAY as error:
                await outage.pause(error)
                continue
            except Exception:
                # Every open stream hangs on this task: it must not end.
                log.exception("the result streams could not be read")
                await outage.pause(Unavailable("the result streams could not be read"))
                continue
            outage.over()
            for stream, entries in cast(Pages, reply):
                for entry, fields in entries:
                    self._cursors[stream] = entry
                    self._hand_out(self._streams[stream], entry, fields)

    async def _ends(self) -> dict[str, str]:
        """Where each stream ends now."""
        pipe = self._db.redis.pipeline(transaction=False)
        for stream in self._streams:
            pipe.xrevrange(stream, count=1)
        last = await pipe.execute()
        return {stream: page[0][0] if page else "0-0" for stream, page in zip(self._streams, last, strict=True)}

    def _hand_out(self, frontend: str, entry: str, fields: dict[str, str]) -> None:
        STREAM_EVENTS.inc()
        try:
            told = Told.of(entry, fields)
            listeners = set(self._listeners.get((JOB, told.job_id), ()))
            # Only who listens to users makes us read what is inside.
            if self._users:
                listeners |= self._listeners.get((frontend, told.user), set())
        except (ValueError, KeyError, TypeError) as error:
            log.warning("an event could not be read", extra={"entry": entry, "error": str(error)[:200]})
            return
        for listener in listeners:
            listener.offer(told)
