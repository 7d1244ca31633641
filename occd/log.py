"""Logging: one line for each event, on stderr. For machines it is JSON or logfmt, for people it has colours.

A task has the names of its work bound to it (`structlog.contextvars`): `request_id` and `traceparent` of a
request (`occd/origin.py`), `submission`. The names stand in each line of the task, and of the tasks that it
starts.
"""

import logging
import os
import sys
from contextlib import suppress
from typing import Literal, TextIO, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from occd.key import without_keys

Format = Literal["json", "logfmt", "console"]
Level = Literal["debug", "info", "warning", "error"]

_FIRST = ("time", "level", "event")
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}


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


class _Libraries(logging.Handler):
    """Makes a line of ours of what a library says."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(
            record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info
        )


def set_up_logging(form: Format | None = None, level: Level = "info") -> None:
    """Without a form it is `console` at a terminal, else `json`. Libraries tell warnings and errors alone.
    Where systemd's journal reads stderr, it is told the level of each line, too."""
    form = form or ("console" if sys.stderr.isatty() else "json")
    render: dict[Format, tuple[Processor, ...]] = {
        "json": (_in_order, structlog.processors.JSONRenderer()),  # in ASCII: it escapes the rest
        "logfmt": (escape, structlog.processors.LogfmtRenderer(key_order=_FIRST)),
        "console": (
            escape,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), timestamp_key="time"),
        ),
    }
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            hide_keys,
            *render[form],
            *((_with_priority,) if _is_journal(sys.stderr) else ()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Stderr(sys.stderr))),
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_Libraries()])


def _is_journal(stream: TextIO) -> bool:
    """As systemd.exec(5) says it: `JOURNAL_STREAM` may be of a stream that was replaced."""
    with suppress(OSError):  # a test's stream has no file
        found = os.fstat(stream.fileno())
        return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
    return False


def _with_priority(_: WrappedLogger, level: str, line: EventDict) -> str:
    """The journal takes <3> and the like away from the begin of each line (sd-daemon(3)). An exception has
    several."""
    priority = f"<{_PRIORITIES[level]}>"
    return priority + str(line).replace("\n", f"\n{priority}")


def hide_keys(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = without_keys(value)
    return event


def escape(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Let no text of a stranger's begin a line of its own or steer a terminal."""
    for name, value in event.items():
        if isinstance(value, str):
            lines = value.split("\n") if name == "exception" else [value]
            event[name] = "\n".join(map(printable, lines))
    return event


def _in_order(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {name: event.pop(name) for name in _FIRST} | dict(event)


def printable(text: str) -> str:
    """In one line that moves no cursor and turns no direction."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
