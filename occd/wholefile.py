"""Files that appear when they are whole."""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from occd.errors import OccdError


@contextmanager
def written(path: Path, *, replace: bool) -> Iterator[BinaryIO]:
    """A file to write, for this user alone. After the context it is on the disk, under its name. After an
    exception nothing has changed. What a killed process left in `PATH.part` is written over.

    Raises OccdError, also when there is something at `path` that is no file, or that may not be replaced. In
    a folder for everybody a link may be anybody's, so none is followed: it would choose which file we write.
    """
    path = path.absolute()
    try:
        _check(path, replace=replace)
        part = path.with_name(f"{path.name}.part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        with open(descriptor, "wb") as file:
            _take(descriptor, part)
            try:
                yield file
                file.flush()
                os.fsync(descriptor)
                _check(path, replace=replace)
                part.rename(path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        sync_folder(path.parent)
    except OSError as error:
        raise OccdError(f"{path} cannot be written: {error.strerror}") from error


def _check(path: Path, *, replace: bool) -> None:
    if not os.path.lexists(path):
        return
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise OccdError(f"{path} is there and is no file; name another one")
    if not replace:
        raise OccdError(f"{path} is there; name another file, or add --force")


def _take(descriptor: int, part: Path) -> None:
    """Raises OccdError when another process writes it, or when it is not ours alone: in a folder for
    everybody, such as /tmp, anybody may lay a file there before."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours = os.path.samestat(os.fstat(descriptor), os.lstat(part))
    except (BlockingIOError, FileNotFoundError):
        ours = False
    if not ours:
        raise OccdError(f"another process writes {part}; wait for its end, or name another file")
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink > 1:
        raise OccdError(f"{part} is no file of yours alone; remove it, or name another file")
    os.fchmod(descriptor, 0o600)
    os.truncate(descriptor, 0)


def sync_folder(folder: Path) -> None:
    """Write to the disk which names the folder has."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
