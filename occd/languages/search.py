"""Searches with a pattern of a language's file in a text that anybody may have written. A pattern that takes
for ever is a fault of the file, and must not stop a process that runs the programs of all languages."""

from collections.abc import Iterator
from typing import AnyStr

import regex
import structlog

_AT_MOST_S = 0.2
"""Of this process's CPU time, for one search, while everybody waits. A pattern that is right needs less than
a millisecond for a usual text."""

log = structlog.get_logger()


def search(pattern: AnyStr, text: AnyStr) -> regex.Match[AnyStr] | None:
    """The first match. None also for a pattern that took too long, and the log says so."""
    return next(matches(pattern, text), None)


def matches(pattern: AnyStr, text: AnyStr) -> Iterator[regex.Match[AnyStr]]:
    """Each match; `^` and `$` are the ends of a line."""
    try:
        yield from regex.finditer(pattern, text, regex.MULTILINE, timeout=_AT_MOST_S)
    except TimeoutError:
        log.warning("a pattern of a language takes too long", pattern=pattern[:200])
