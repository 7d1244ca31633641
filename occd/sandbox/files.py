"""Files of a program that lives: put, listed and taken by init's clerk, as the program's user (`init.c`).

We open nothing that the program could change. Contents and lists pass through a file in memory, which has
no name and which only the clerk and we have open. What comes out of the box was written by a stranger.
"""

import errno
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from occd import rules
from occd.model import File
from occd.sandbox import Entry, FileFault, Listing
from occd.sandbox.init import Init, Work, encode_work

BYTES_MAX, ENTRIES_MAX = 16 * 2**20, 4096
_PATH_BYTES_MAX, _PARTS_MAX, _NAME_BYTES_MAX = 4000, 32, 255
_ENTRY = struct.Struct("=QqII")
_GONE = errno.ESRCH


class Clerk:
    """Passes work to the clerk of a jail, one after the other."""

    def __init__(self, init: Init) -> None:
        self._init = init
        self._turn = trio.Lock()
        self._answered = trio.Event()
        self._answered.set()
        self._error: int | None = None
        self._over = False

    async def put(self, file: File) -> None:
        rules.file_name(file.name)
        if len(file.content) > BYTES_MAX:
            raise FileFault(errno.EFBIG)
        with _in_memory() as content:
            await trio.to_thread.run_sync(_write, content, file.content)
            await self._do(
                "put", file.name, 0o755 if file.content.startswith(b"#!") else 0o644, content
            )

    async def list(self, folder: str, most: int) -> Listing:
        most = min(most, ENTRIES_MAX)
        with _in_memory() as found:
            await self._do("list", folder, most + 1, found)
            entries = await trio.to_thread.run_sync(_entries, found, most + 1)
        return Listing(tuple(entries[:most]), len(entries) > most)

    async def get(self, name: str, most: int) -> bytes:
        most = min(most, BYTES_MAX)
        with _in_memory() as found:
            await self._do("get", name, most, found)
            return await trio.to_thread.run_sync(_read, found, most)

    def answer(self, error: int) -> None:
        """init has told how the work ended."""
        self._error = error
        self._answered.set()

    def over(self) -> None:
        """The program has ended: no answer will come any more."""
        self._over = True
        self.answer(_GONE)

    async def _do(self, work: Work, path: str, most: int, file: int) -> None:
        order = encode_work(work, _path(path), most)
        async with self._turn:
            await self._answered.wait()  # to somebody who was cancelled
            if self._over:
                raise FileFault(_GONE)
            if not self._init.send(order, file):
                raise FileFault(errno.EAGAIN)
            self._answered = trio.Event()
            await self._answered.wait()
            if self._error:
                raise FileFault(self._error)


def _path(path: str) -> bytes:
    """The empty path is the box. Names that are not UTF-8 are written as by `os.fsdecode`."""
    encoded = os.fsencode(path)
    parts = path.split("/") if path else []
    if any(part in ("", ".", "..") for part in parts) or b"\0" in encoded:
        raise FileFault(errno.EINVAL)
    if len(encoded) > _PATH_BYTES_MAX or len(parts) > _PARTS_MAX:
        raise FileFault(errno.ENAMETOOLONG)
    return encoded


@contextmanager
def _in_memory() -> Iterator[int]:
    fd = os.memfd_create("occd-files", os.MFD_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _write(fd: int, content: bytes) -> None:
    unwritten = memoryview(content)
    while unwritten:
        unwritten = unwritten[os.write(fd, unwritten) :]
    os.lseek(fd, 0, os.SEEK_SET)


def _read(fd: int, most: int) -> bytes:
    """At most so many bytes, because a program that kills its clerk at the right moment could get hold of the
    file, too."""
    parts, at = [], 0
    while part := os.pread(fd, most - at, at):
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def _entries(fd: int, most: int) -> list[Entry]:
    data, at, entries = _read(fd, most * (_ENTRY.size + _NAME_BYTES_MAX)), 0, []
    while at + _ENTRY.size <= len(data):
        size, changed_ns, mode, name_size = _ENTRY.unpack_from(data, at)
        at += _ENTRY.size
        name = os.fsdecode(data[at : at + name_size])
        at += name_size
        entries.append(Entry(name, mode, size, changed_ns / 1e9))
    return entries
