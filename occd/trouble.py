"""Logs a repeated fault once, and its end once."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from occd.errors import OccdError

log = structlog.get_logger()


class Trouble:
    """One kind of fault, named by its line in the log."""

    def __init__(self, event: str) -> None:
        self._event = event
        self._told = False

    def tell(self, error: Exception, **details: object) -> None:
        if not self._told:
            self._told = True
            log.warning(self._event, error=str(error), **details)

    def over(self) -> None:
        if self._told:
            self._told = False
            log.info("it works again", after=self._event)

    @contextmanager
    def survived(self) -> Iterator[None]:
        """A failure on our side ends this block, but not the task around the block."""
        try:
            yield
        except (OccdError, sqlite3.Error) as error:
            self.tell(error)
        else:
            self.over()
