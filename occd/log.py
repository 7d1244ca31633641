"""Logging: one line of keys and values for each event, on stderr; a traceback below it if there is one."""

import logging
import sys
from contextlib import suppress
from typing import TextIO, cast

import structlog

from occd.key import without_keys


class _Stderr:
    """Drops a line that cannot be written. A full disk or a reader that left ends no daemon."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            return self._stream.write(text)
        return 0

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def set_up_logging() -> None:
    stderr = _Stderr(sys.stderr)
    tty = sys.stderr.isatty()
    renderer: structlog.typing.Processor = structlog.dev.ConsoleRenderer()
    if not tty:
        renderer = structlog.processors.LogfmtRenderer(key_order=["time", "level", "event"])
    structlog.configure(
        processors=[
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            escape,
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, stderr)),
    )
    logging.basicConfig(level=logging.WARNING, stream=cast(TextIO, stderr))


def escape(
    _: structlog.typing.WrappedLogger, __: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Let no text of a stranger's begin a line of its own or steer a terminal, and show no key."""
    for name, value in event.items():
        if isinstance(value, str):
            shown = without_keys(value)
            lines = shown.split("\n") if name == "exception" else [shown]
            event[name] = "\n".join(map(printable, lines))
    return event


def printable(text: str) -> str:
    """In one line that moves no cursor and turns no direction."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
