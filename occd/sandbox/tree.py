"""A copy of the tree that a run left, for another run.

A program that may be hostile wrote the tree. When we read the tree, this program is dead and the tree is
sealed. We go by directory descriptors, follow no link, open regular files only, and stop at a bound of
bytes, entries and depth. The copy belongs to the run, which may rename, change and delete every part of it.
An overlay does not allow this for folders of its lower layer.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BYTES_MAX = 16 * 2**20
ENTRIES_MAX, DEPTH_MAX = 4096, 32
_CHUNK = 2**18
_PAGE = os.sysconf("SC_PAGESIZE")
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy has. `bytes` are those that the copy takes of its file system, at most `BYTES_MAX`."""

    bytes: int
    entries: int
    whole: bool
    """Whether nothing of the tree was left out for what lay in its place. Else the tree may be larger."""


class TooLarge(Exception):
    """The tree is beyond a bound; a part of it may have been copied."""


def copy_tree(source: Path, target: Path, uid: int) -> Copied:
    """Copy the contents of the folder `source` to the folder `target`, owned by `uid`.

    What lies in `target` already stays, and is ours: no stranger's program has run there. A folder that is
    in both gets the contents of both.

    Modes lose set-uid, set-gid and sticky bits; each name of a file with hard links becomes a file of its
    own; times are kept; FIFOs and sockets are made anew. Whiteouts are left out: they are the only devices
    that a program can make. Raises TooLarge.
    """
    copy = _Copy(uid)
    with opened(source) as from_folder, opened(target) as to_folder:
        copy.entries(from_folder, to_folder, 1)
    return Copied(copy.bytes, copy.count, copy.whole)


class _Copy:
    def __init__(self, uid: int) -> None:
        self.bytes = 0
        self.count = 0
        self.whole = True
        self._uid = uid

    def entries(self, source: int, target: int, depth: int) -> None:
        if depth > DEPTH_MAX:
            raise TooLarge
        with os.scandir(source) as found:
            for entry in found:
                self.count += 1
                if self.count > ENTRIES_MAX:
                    raise TooLarge
                try:
                    self._copy(entry.name, source, target, depth)
                except FileExistsError:
                    self.whole = False

    def _copy(self, name: str, source: int, target: int, depth: int) -> None:
        found = os.stat(name, dir_fd=source, follow_symlinks=False)
        match stat.S_IFMT(found.st_mode):
            case stat.S_IFREG:
                self._file(name, source, target)
            case stat.S_IFDIR:
                self._folder(name, source, target, depth)
            case stat.S_IFLNK:
                self._count(found)
                os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
                os.chown(name, self._uid, self._uid, dir_fd=target, follow_symlinks=False)
            case stat.S_IFIFO | stat.S_IFSOCK as kind:
                os.mknod(name, kind | found.st_mode & 0o777, dir_fd=target)
                os.chown(name, self._uid, self._uid, dir_fd=target, follow_symlinks=False)

    def _file(self, name: str, source: int, target: int) -> None:
        with opened(name, READ, source) as old, opened(name, NEW, target) as new:
            found = os.fstat(old)
            self._count(found)
            while data := os.read(old, _CHUNK):
                os.write(new, data)
            self._finish(new, found)

    def _folder(self, name: str, source: int, target: int, depth: int) -> None:
        made = make_folder(name, target)
        with opened(name, FOLDER, source) as old, opened(name, FOLDER, target) as new:
            self.entries(old, new, depth + 1)
            if made:
                self._finish(new, os.fstat(old))

    def _count(self, found: os.stat_result) -> None:
        self.bytes += -(-found.st_size // _PAGE) * _PAGE  # holes count as if they were full
        if self.bytes > BYTES_MAX:
            raise TooLarge

    def _finish(self, new: int, old: os.stat_result) -> None:
        os.fchown(new, self._uid, self._uid)
        os.fchmod(new, old.st_mode & 0o777)
        os.utime(new, ns=(old.st_atime_ns, old.st_mtime_ns))


def make_folder(name: str, folder: int) -> bool:
    """Make a folder in this one, unless it is there. Returns whether it was made. Raises FileExistsError
    when something else has its name."""
    try:
        os.mkdir(name, 0o700, dir_fd=folder)
    except FileExistsError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise
        return False
    return True


@contextmanager
def opened(path: Path | str, flags: int = FOLDER, folder: int | None = None) -> Iterator[int]:
    fd = os.open(path, flags, 0o600, dir_fd=folder)
    try:
        yield fd
    finally:
        os.close(fd)
