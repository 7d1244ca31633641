"""Saying once that something goes wrong again and again, and once that it works again."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from occd.errors import OccdError

log = structlog.get_logger()


class Trouble:
    """One kind of trouble, named by the line of the log that tells of it."""

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
        """What can go wrong on our side ends this block and not the task around it."""
        try:
            yield
        except (OccdError, sqlite3.Error) as error:
            self.tell(error)
        else:
            self.over()
