"""A folder of parts that were precompiled. A part that is there is whole: it takes its place at once, when
all of it is on the disk. One lock keeps two processes from making parts at the same time."""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from pathlib import Path

FREE_MIN = 64 * 2**20
"""Bytes that stay free on the disk for what matters more."""

_LOCK = "lock"
_NEW = ".part"
_OURS = re.compile(r"[\w+.-]+-[0-9a-f]{32}(\.part)?")
_FILES = "files"
_TOLD = "told.json"
_CHUNK = 2**20


class Parts:
    def __init__(self, folder: Path, most: int) -> None:
        self._folder = folder
        self._most = most

    @property
    def any(self) -> bool:
        return self._folder.is_dir()

    def files(self, name: str) -> Path:
        return self._folder / name / _FILES

    def size(self, name: str) -> int | None:
        """The bytes of a part that is whole, as far as the sizes of its files tell. None: it is not there."""
        return self._size(name, lambda path, told: path.stat().st_size == told[0])

    def size_if_whole(self, name: str) -> int | None:
        """As `size`, but each byte was looked at."""
        return self._size(name, lambda path, told: [*_digest(path)] == told)

    def _size(self, name: str, is_whole: Callable[[Path, list[object]], bool]) -> int | None:
        try:
            files = json.loads((self._folder / name / _TOLD).read_text())["files"]
            if all(is_whole(self.files(name) / path, told) for path, told in files.items()):
                return sum(int(size) for size, _ in files.values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # it is damaged, or not ours to read
        return None

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """Whether it is locked now. If not, another one makes parts. Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(lock)

    def tidy(self, wanted: Container[str]) -> None:
        """Remove what was not made to its end, and what nobody wants any more. Only with the lock. What has a
        name of another kind is not ours: the folder may be one that has something else, too."""
        for entry in self._folder.iterdir():
            if _OURS.fullmatch(entry.name) and entry.name not in wanted:
                shutil.rmtree(entry)

    @property
    def room(self) -> int:
        """The bytes that one more part may have."""
        names = [each.name for each in self._folder.iterdir() if _OURS.fullmatch(each.name)]
        kept = sum(filter(None, map(self.size, names)))
        disk = os.statvfs(self._folder)
        return max(0, min(self._most - kept, disk.f_bavail * disk.f_frsize - FREE_MIN))

    def remove(self, name: str) -> None:
        shutil.rmtree(self._folder / name, ignore_errors=True)

    def keep(self, name: str, tree: Path, about: dict[str, str]) -> int:
        """Copy a part from this folder; its bytes. Only with the lock. Raises OSError."""
        new = self._folder / f"{name}{_NEW}"
        try:
            new.mkdir(mode=0o755)
            files = dict(_copied(tree, new / _FILES))
            size = sum(size for size, _ in files.values())
            if size > self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            with (new / _TOLD).open("w") as told:
                told.write(json.dumps({**about, "files": files}, indent=1) + "\n")
                told.flush()
                os.fsync(told.fileno())
            _sync_folder(new)
            self.remove(name)  # a damaged one
            new.rename(self._folder / name)
            _sync_folder(self._folder)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        return size


def _copied(source: Path, target: Path) -> Iterator[tuple[str, tuple[int, str]]]:
    """Copy the regular files to a new folder, for everybody to read; their paths, sizes and digests."""
    for above, _, names in os.walk(source):
        place = target / Path(above).relative_to(source)
        place.mkdir()
        place.chmod(0o755)  # whatever the umask is
        for name in names:
            path = Path(above, name)
            if path.is_symlink() or not path.is_file():
                continue
            shutil.copyfile(path, place / name)
            (place / name).chmod(0o644)
            with (place / name).open("rb") as copy:
                os.fsync(copy.fileno())
            yield str((place / name).relative_to(target)), _digest(place / name)
        _sync_folder(place)


def _digest(path: Path) -> tuple[int, str]:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
        return file.tell(), found.hexdigest()


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
