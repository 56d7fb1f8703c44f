"""How do we log? Static event names with fields, one line each: pretty on a terminal, JSON elsewhere.

Code logs through the standard library (`log.info("job ended", extra={"job_id": …})`), so that a frontend that imports us
keeps its own logging; only processes of our own call `configure`.
"""

import logging
import sys

import structlog

from shared.settings import Settings

#: Libraries that tell operators nothing at INFO.
_QUIET = ("httpx", "httpcore", "aiohttp", "asyncio", "kombu", "amqp", "celery.app.trace", "celery.worker.strategy")


def configure(settings: Settings, level: int = logging.INFO) -> None:
    """Log to standard output, unbuffered by line. Calling it again replaces what it set up before."""
    pretty = settings.log_format == "pretty" or (settings.log_format == "auto" and sys.stdout.isatty())
    renderer: structlog.typing.Processor = (
        # Its own tracebacks show local variables, and those may be secrets.
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if pretty
        else structlog.processors.JSONRenderer()
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.add_log_level,
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *([] if pretty else [structlog.processors.format_exc_info]),
            renderer,
        ],
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
