"""The commit that this code is of. The build writes it into what it makes; in a clone git tells it.

Of the standard library alone: packaging/build_init.py runs this file without the package.
"""

import os
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_MADE_OF = ("occd", "packaging", "sandbox", "static", "templates", "pyproject.toml")
_PATIENCE_S = 5


@cache
def commit() -> str | None:
    """The first 12 digits, with `+dirty` where a file that occd is made of differs from the commit's, or is
    new. None where nothing tells. It asks once in a process, and may wait for a process of git."""
    with suppress(FileNotFoundError):
        return (_PACKAGE / "_data/commit").read_text().strip()
    root = _PACKAGE.parent
    if not (root / ".git").exists():  # else git would tell of a repository around it
        return None
    # As git sets them for its hooks, for another repository perhaps.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # Whatever the user's settings are. With fsmonitor git starts a program, which may stay.
    options = ("--no-optional-locks", "-c", "core.fsmonitor=false")
    look = ("status", "--porcelain=v2", "--branch", "--untracked-files=normal", "--", *_MADE_OF)
    try:
        done = subprocess.run(
            ["git", "-C", root, *options, *look],
            env=clean,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=_PATIENCE_S,
        )
    except (OSError, subprocess.SubprocessError):  # no git, or a clone of another user
        return None
    head, *rest = done.stdout.splitlines()
    changed = any(not line.startswith("# ") for line in rest)
    return head.removeprefix("# branch.oid ")[:12] + "+dirty" * changed
