"""Bytes that are kept by name, in files of a folder or in memory. There is a bound: those that were used
least lately make room."""

import fcntl
import os
import re
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Protocol

import structlog
import trio

from occd import metrics
from occd.execution.parts import FREE_MIN
from occd.trouble import Trouble

log = structlog.get_logger()

LEAST = 8192
"""Each counts so much at least: a flood of small ones must not fill the disk with names."""

MOST = 256 * 2**20
MEMORY_MOST = 32 * 2**20
"""Bytes on a disk and in memory, where nothing else is said."""

_NAME = re.compile(r"[0-9a-f]{64}")
_PART = ".part"
_LOCK = "lock"


class Place(Protocol):
    """Called in threads, at most once at a time for one name."""

    def open(self) -> Iterable[tuple[str, int]]:
        """What it has: names and bytes, those that were used least lately first."""

    def read(self, name: str) -> bytes: ...

    def write(self, name: str, data: bytes, instead_of: Iterable[str]) -> None:
        """All of it or nothing. The others go first."""

    def remove(self, name: str) -> None: ...

    def close(self) -> None: ...


class Memory:
    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def open(self) -> Iterable[tuple[str, int]]:
        return ()

    def read(self, name: str) -> bytes:
        try:
            return self._kept[name]
        except KeyError:
            raise FileNotFoundError(name) from None

    def write(self, name: str, data: bytes, instead_of: Iterable[str]) -> None:
        for other in instead_of:
            self.remove(other)
        self._kept[name] = data

    def remove(self, name: str) -> None:
        self._kept.pop(name, None)

    def close(self) -> None:
        pass


class Folder:
    """A file for each. Its time of change is the time of its last use, so that the order outlives us."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: int | None = None

    def open(self) -> Iterable[tuple[str, int]]:
        """Raises OSError, also when another process has the folder."""
        self._path.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self._path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(lock)
            raise
        self._held = lock
        found = []
        with os.scandir(self._path) as entries:
            for entry in entries:
                if _NAME.fullmatch(entry.name.removesuffix(_PART)) is None:
                    continue  # not ours
                if entry.name.endswith(_PART):  # of a process that was killed
                    os.unlink(entry.path)
                else:
                    told = entry.stat(follow_symlinks=False)
                    found.append((told.st_mtime_ns, entry.name, told.st_size))
        return [(name, size) for _, name, size in sorted(found)]

    def read(self, name: str) -> bytes:
        path = self._path / name
        data = path.read_bytes()
        os.utime(path)
        return data

    def write(self, name: str, data: bytes, instead_of: Iterable[str]) -> None:
        """Not synced: after a power cut the file may be damaged, which its reader notices."""
        for other in instead_of:
            self.remove(other)
        part = self._path / f"{name}{_PART}"
        file = open(part, "xb", opener=partial(os.open, mode=0o600))  # noqa: SIM115
        try:
            with file:
                room = os.statvfs(file.fileno())
                if room.f_bavail * room.f_frsize < len(data) + FREE_MIN:
                    raise OSError(f"the disk has less than {FREE_MIN} bytes free")
                file.write(data)
            part.rename(self._path / name)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def remove(self, name: str) -> None:
        (self._path / name).unlink(missing_ok=True)

    def close(self) -> None:
        if self._held is not None:
            os.close(self._held)


class Shelf:
    def __init__(self, most: int, place: Place) -> None:
        self._most = most
        self._place = place
        self._kept: OrderedDict[str, int] = OrderedDict()
        """The size of each. The one that was used last is the last."""
        self._size = 0
        """With those that are being written."""
        self._writing = 0
        """The bytes of these."""
        self._trouble = Trouble("what was compiled cannot be kept")

    async def open(self) -> None:
        try:
            found = await trio.to_thread.run_sync(self._place.open)
        except OSError as error:
            log.warning("what was compiled is kept in memory only", reason=str(error))
            self._place, found = Memory(), ()
            self._most = min(self._most, MEMORY_MOST)
        for name, size in found:
            self._note(name, max(size, LEAST))
        for name in self._make_room():
            await trio.to_thread.run_sync(self._place.remove, name)
        self._tell()

    def close(self) -> None:
        self._place.close()

    def __contains__(self, name: str) -> bool:
        return name in self._kept

    async def get(self, name: str) -> bytes | None:
        if name not in self._kept:
            return None
        self._kept.move_to_end(name)
        try:
            return await trio.to_thread.run_sync(self._place.read, name)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):  # it made room for another a moment ago
                self._trouble.tell(error)
            await self.remove(name)  # else it would lie there and count for nothing
            return None

    async def put(self, name: str, data: bytes) -> None:
        """Nothing is kept of what has no room, and nothing is raised: the caller has the data."""
        size = max(len(data), LEAST)
        if self._writing + size > self._most:
            return
        self._writing += size
        self._size += size
        gone = self._make_room()
        try:
            await trio.to_thread.run_sync(self._place.write, name, data, gone)
        except OSError as error:
            self._trouble.tell(error)
        else:
            self._trouble.over()
            self._note(name, size)
        finally:
            self._writing -= size
            self._size -= size
            self._tell()

    async def remove(self, name: str) -> None:
        self._forget(name)
        with suppress(OSError):
            await trio.to_thread.run_sync(self._place.remove, name)

    def _note(self, name: str, size: int) -> None:
        self._forget(name)
        self._kept[name] = size
        self._size += size

    def _forget(self, name: str) -> None:
        self._size -= self._kept.pop(name, 0)
        self._tell()

    def _make_room(self) -> list[str]:
        gone = []
        while self._size > self._most and self._kept:
            name, size = self._kept.popitem(last=False)
            self._size -= size
            gone.append(name)
        return gone

    def _tell(self) -> None:
        metrics.CACHE_BYTES.set(self._size)
