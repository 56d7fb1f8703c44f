"""Which answers of Flower are ours? The cancel of a job, a job's page that is read afresh, a list that follows, and metrics
that ask for the password."""

import logging
from base64 import b64decode
from pathlib import Path
from typing import Any

from flower.api.control import TaskRevoke
from flower.api.tasks import TaskInfo
from flower.views.monitor import Metrics
from flower.views.tasks import TasksDataTable, TasksView, TaskView
from tornado.web import HTTPError, RequestHandler, authenticated

from shared.errors import Unavailable
from shared.jobs.by import By

log = logging.getLogger(__name__)

_OURS = b'<link rel="stylesheet" href="%sconveyor/board.css"><script src="%sconveyor/board.js"></script></body>'
STATIC = Path(__file__).parent / "static"

#: Rows are read several times a second; a busy machine may take a moment longer.
LONGEST_BEHIND_SECONDS = 5.0

#: What an operator reads after pressing Revoke or Terminate.
_TOLD = {
    "cancelled": "The job was still waiting and is cancelled.",
    "requested": "The job's run is being cancelled.",
    "final": "The job has already ended.",
}
_NO_WORKER = " No worker has been heard of lately: it is carried out by the next one."


class Cancel(TaskRevoke):  # type: ignore[misc]
    """Revoke and Terminate: the job is cancelled in its record, whether a worker lives or not."""

    @authenticated
    async def post(self, job_id: str) -> None:
        """As `conveyor cancel`; answers what will come of it."""
        if self.application.options.read_only:
            raise HTTPError(403, "Read only mode is enabled")
        by = By(self._operator(), "in Flower")
        try:
            word = await self.application.store.cancel(job_id)
            if word in ("cancelled", "requested"):
                await self.application.database.run("audit", by.json(), "cancel", job_id, "", word)
            await self.application.reader.look_at([job_id])
        except Unavailable as error:
            raise HTTPError(503, f"Ask again: {error}") from error
        log.info("cancel asked for in Flower", extra={"job_id": job_id, "reply": word, "operator": by.who})
        if word == "missing":
            raise HTTPError(404, f"No job '{job_id}'")
        message = _TOLD[word]
        if word == "requested" and not any(self.application.events.state.alive_workers()):
            message += _NO_WORKER
        self.write({"message": message})

    def _operator(self) -> str:
        """Who pressed it; without a password anybody could claim to be somebody."""
        if isinstance(self.current_user, str):
            return self.current_user  # OAuth's
        if not self.application.options.basic_auth:
            return "flower"
        _, _, pair = self.request.headers["Authorization"].partition(" ")
        return b64decode(pair).decode().partition(":")[0]


class _Fresh(RequestHandler):
    """Reads a job again before it is shown; also one that is older than what the table keeps."""

    @authenticated
    async def get(self, job_id: str) -> None:
        """The job as it is now; as it was last seen while Redis is away."""
        try:
            await self.application.reader.look_closely_at(job_id)  # type: ignore[attr-defined]
        except Unavailable as error:
            log.warning("job not read", extra={"job_id": job_id, "error": str(error)})
        super().get(job_id)


class _Live(RequestHandler):
    """Adds our script and style to a page: Flower's own shows the moment it was loaded."""

    def finish(self, chunk: str | bytes | dict[str, Any] | None = None) -> Any:
        """Put them behind the others."""
        if isinstance(chunk, bytes):
            top = self.reverse_url("main").rstrip("/").encode() + b"/"
            chunk = chunk.replace(b"</body>", _OURS % (top, top))
        return super().finish(chunk)


class Job(_Live, _Fresh, TaskView):  # type: ignore[misc]
    """A job's own page."""


class JobInfo(_Fresh, TaskInfo):  # type: ignore[misc]
    """The same for programs."""


class Jobs(_Live, TasksView):  # type: ignore[misc]
    """The list."""


class JobsData(TasksDataTable):  # type: ignore[misc]
    """The rows of the list, and in a header how old they are."""

    def set_default_headers(self) -> None:
        """`X-Board-Behind`: seconds since the rows were last known to be right, from the fifth on."""
        super().set_default_headers()
        behind = self.application.reader.behind_seconds()
        if behind >= LONGEST_BEHIND_SECONDS:
            self.set_header("X-Board-Behind", str(round(behind)))


class GuardedMetrics(Metrics):  # type: ignore[misc]
    """Flower answers these to everybody; they name workers and tell how much is going on."""

    @authenticated
    async def get(self) -> None:
        """What Flower counts, for Prometheus."""
        await super().get()


class Refused(RequestHandler):
    """A request that is turned away at the door."""

    def initialize(self, reason: str) -> None:
        """Keep what to answer."""
        self._answer = reason

    def prepare(self) -> None:
        """Answer before any method is looked for."""
        self.set_status(403)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(self._answer)
