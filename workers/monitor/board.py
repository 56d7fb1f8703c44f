"""What is different about our Flower? Its rows come from our records, its buttons act on jobs, and its door is guarded.

`workers/flowerconfig.py` puts this in the place of Flower's application: all else, pages, API, options, is Flower's own.
See docs/decisions/0014.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Any

from flower.app import Flower, rewrite_handler
from kombu import Connection
from tornado.httputil import HTTPServerRequest
from tornado.web import StaticFileHandler, url

from shared.database import Database
from shared.errors import MissingSetting
from shared.jobs.store import JobStore
from shared.logs import configure
from shared.settings import Settings
from workers.monitor.door import check_listening, refuse
from workers.monitor.pages import STATIC, Cancel, GuardedMetrics, Job, JobInfo, Jobs, JobsData, Refused
from workers.monitor.reader import Reader
from workers.monitor.table import Table

_PAGES = [
    url(r"/task/(.+)", Job),
    url(r"/tasks", Jobs),
    url(r"/tasks/datatable", JobsData),
    url(r"/api/task/info/(.*)", JobInfo),
    url(r"/api/task/revoke/(.+)", Cancel),
    url(r"/metrics", GuardedMetrics),
    url(r"/conveyor/(board\.(?:css|js))", StaticFileHandler, {"path": STATIC}),
]


class Board(Flower):  # type: ignore[misc]  # Flower is published without types
    """Flower's application. Ends the process with a sentence when it would be open to strangers."""

    database: Database
    store: JobStore
    reader: Reader

    def __init__(self, conveyor: Settings, *, options: Any, **settings: Any) -> None:
        credentials, oauth, socket = options.basic_auth or (), bool(options.auth), bool(options.unix_socket)
        try:
            check_listening(options.address, credentials, oauth=oauth, unix_socket=socket)
        except MissingSetting as error:
            sys.exit(f"conveyor: {error}")
        self._local = not credentials and not oauth and not socket
        if not credentials and not oauth:
            # Flower's API is shut without a password; our door has asked already.
            os.environ.setdefault("FLOWER_UNAUTHENTICATED_API", "true")
        configure(conveyor)
        super().__init__(options=options, **settings)
        self._conveyor = conveyor
        # Flower would not know the broker by the name of our transport, and show no queue.
        self.broker_uri_with_password = conveyor.redis_url
        self.broker_uri = Connection(conveyor.redis_url).as_uri()
        self._reading: asyncio.Task[None] | None = None
        self.events.state = Table(conveyor.flower_history)
        pages = [rewrite_handler(page, options.url_prefix) for page in _PAGES] if options.url_prefix else _PAGES
        self.add_handlers(".*", pages)

    def start(self) -> None:
        """Read along for as long as the loop runs."""
        self.database = Database.open(self._conveyor.redis_url)
        self.store = JobStore(self.database, keep_seconds=self._conveyor.job_keep_seconds)
        self.reader = Reader(self.database, self.events.state, self._conveyor)

        async def read() -> None:
            self._reading = asyncio.create_task(self.reader.run())

        self.io_loop.add_callback(read)
        super().start()

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        """The door comes before every page."""
        if reason := refuse(request, local=self._local):
            return self.get_handler_delegate(request, Refused, {"reason": reason})
        return super().find_handler(request, **kwargs)


def board(settings: Settings) -> Callable[..., Board]:
    """What Flower's command calls to make its application."""

    def make(**options: Any) -> Board:
        return Board(settings, **options)

    return make
