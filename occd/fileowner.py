"""Whose a file is, for words that tell an operator as which user to run a command."""

import os
import pwd
from pathlib import Path


def other_owner(path: Path) -> str | None:
    """The name of the user to whom the file belongs; where the file cannot be seen, the nearest folder around
    it. None when this process runs as that user."""
    path = path.absolute()
    for each in (path, *path.parents):
        try:
            uid = each.stat().st_uid
        except OSError:
            continue
        return None if uid == os.geteuid() else _name(uid)
    return None


def as_owner(path: Path) -> str:
    """The end of an error's line; empty when this process runs as the owner."""
    owner = other_owner(path)
    return f"; run the command as {owner}, whose it is: sudo -u {owner} …" if owner else ""


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"  # as sudo takes it
