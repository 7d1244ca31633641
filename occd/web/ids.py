"""Ids of submissions, as clients say them."""

import re
from typing import TypeGuard

from occd.errors import UnknownSubmission


def checked_id(id: object) -> str:
    """Raises UnknownSubmission for what no submission was ever called."""
    if not is_id(id):
        raise UnknownSubmission("no such id")
    return id


def is_id(id: object) -> TypeGuard[str]:
    return isinstance(id, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", id) is not None
