"""What a compiler's output depends on, besides what it is given: when one of these changes, what was compiled
before is not used any more."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from occd.data import data_folder
from occd.languages.installing import INSTALLED

_PACKAGES = (
    "/var/lib/dpkg/status",
    "/lib/apk/db/installed",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/var/lib/pacman/local",
    "/etc/alternatives",
    "/etc/ld.so.cache",
)
"""Each step of a package manager, and of update-alternatives and ldconfig, changes one of these."""

_BY_HAND = ("/usr/local", data_folder("sandbox") / "shown")
"""No package manager of the system has put there what lies there. The second is a part of occd itself."""


@cache
def of_machine() -> str:
    """The processor, since a compiler may be told to compile for this one, and what nobody looks at again
    while this process lives: it would be a walk through thousands of files."""
    return f"{_processor()} {marks(_BY_HAND)}"


def of_packages(binary: str) -> str:
    """Asked for each program: an upgrade may come at any time. `binary` is the compiler."""
    return " ".join(_mark(path) for path in (*_PACKAGES, binary))


def marks(folders: Sequence[str | Path]) -> str:
    """Changes when a file below one of the folders does. A folder that `occd languages install` has made
    changes only when it is made anew: all languages are 150 000 files, which take more than a second."""
    found = hashlib.sha256()
    for folder in folders:
        for path in _below(str(folder)):
            found.update(f"{path} {_mark(path)}\n".encode(errors="surrogateescape"))
    return found.hexdigest()


def _below(folder: str) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        if INSTALLED in files:
            folders[:], files = [], [INSTALLED]
        folders.sort()
        yield from (f"{parent}/{name}" for name in sorted(files))


def _mark(path: str) -> str:
    try:
        found = os.stat(path)
    except OSError:
        return "-"
    return f"{found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_mode}"


def _processor() -> str:
    with suppress(OSError):
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
        lines = first.splitlines()
        named = [
            line for line in lines if line.startswith(("model name", "flags", "Features", "CPU "))
        ]
        return hashlib.sha256("\n".join(named).encode()).hexdigest()
    return "-"
