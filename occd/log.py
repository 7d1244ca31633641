"""Logging: one line of keys and values for each event, on stderr; a traceback below it if there is one."""

import logging
import sys

import structlog


def set_up_logging() -> None:
    tty = sys.stderr.isatty()
    renderer: structlog.typing.Processor = structlog.dev.ConsoleRenderer()
    if not tty:
        renderer = structlog.processors.LogfmtRenderer(key_order=["time", "level", "event"])
    structlog.configure(
        processors=[
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
