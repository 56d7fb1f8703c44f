"""How do we log? Static event names with fields, one line each: pretty on a terminal, JSON elsewhere.

Code logs through the standard library (`log.info("job ended", extra={"job_id": …})`), so that a frontend that imports us
keeps its own logging; only processes of our own call `configure`. What is said while `about` is open has the job's and the
run's id, whoever says it. No line leaves with a secret in it: `redaction.py`.
"""

import logging
import sys
from contextlib import AbstractContextManager

import structlog

from shared.redaction import Redaction
from shared.settings import Settings

#: Libraries that tell operators nothing at INFO.
_QUIET = ("httpx", "httpcore", "aiohttp", "asyncio", "kombu", "amqp", "celery.app.trace", "celery.worker.strategy")


def about(job_id: str, run_id: str | None = None) -> AbstractContextManager[None]:
    """Within this, every line of this task says which job it is about."""
    told = {"job_id": job_id} if run_id is None else {"job_id": job_id, "run_id": run_id}
    return structlog.contextvars.bound_contextvars(**told)


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Renders a line, and takes out of it what must not be seen: last, so that tracebacks are covered, too."""

    redaction: Redaction

    def format(self, record: logging.LogRecord) -> str:
        return self.redaction.text(super().format(record))


def configure(settings: Settings, level: int | None = None) -> None:
    """Log to standard output, unbuffered by line. Calling it again replaces what it set up before.

    `level` is that of CONVEYOR_LOG_LEVEL unless a program needs another.
    """
    if level is None:
        level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    pretty = settings.log_format == "pretty" or (settings.log_format == "auto" and sys.stdout.isatty())
    redaction = Redaction(settings)
    renderer: structlog.typing.Processor = (
        # Its own tracebacks show local variables, and those may be secrets.
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if pretty
        else structlog.processors.JSONRenderer()
    )
    formatter = _Formatter(
        foreign_pre_chain=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.add_log_level,
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            redaction.fields,
            *([] if pretty else [structlog.processors.format_exc_info]),
            renderer,
        ],
    )
    formatter.redaction = redaction
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
