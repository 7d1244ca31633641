"""A tree as one string of bytes, which outlives its cell.

It has an index and then the contents of the files. It holds folders, and regular files with one name each:
what lies there as something else, or has set-uid, set-gid or sticky bits, cannot be told exactly, so a tree
with such an entry is not packed. A copy of a packed tree is what `copy_tree` makes of the tree itself.
"""

import json
import os
import stat
import struct
from pathlib import Path
from typing import Any

from occd import rules
from occd.sandbox.tree import DEPTH_MAX, ENTRIES_MAX, FOLDER, NEW, READ, make_folder, opened

_HEAD = struct.Struct("<II")
"""How many bytes the index has, and how many entries."""


class _Inexact(Exception):
    """The tree cannot be packed."""


def pack(tree: Path, most: int) -> bytes | None:
    """None for a tree that cannot be told exactly, or whose files have more than `most` bytes."""
    packing = _Packing(most)
    try:
        with opened(tree) as folder:
            entries = packing.folder(folder, 1)
    except (_Inexact, OSError):
        return None
    index = json.dumps(entries, separators=(",", ":")).encode()
    return b"".join([_HEAD.pack(len(index), packing.count), index, *packing.contents])


def entries_of(packed: bytes) -> int:
    _, count = _HEAD.unpack_from(packed)
    return int(count)


def unpack(packed: bytes, target: Path, uid: int) -> int:
    """Write the tree to the folder `target`, owned by `uid`; gives the bytes that this takes of the file
    system. What lies in `target` already stays, and a folder that is in both gets the contents of both."""
    size, _ = _HEAD.unpack_from(packed)
    start = _HEAD.size + size
    unpacking = _Unpacking(memoryview(packed)[start:], uid)
    with opened(target) as folder:
        unpacking.entries(json.loads(packed[_HEAD.size : start]), folder)
    return unpacking.bytes


class _Packing:
    def __init__(self, most: int) -> None:
        self.count = 0
        self.contents: list[bytes] = []
        self._size = 0
        self._most = most

    def folder(self, folder: int, depth: int) -> list[Any]:
        if depth > DEPTH_MAX:
            raise _Inexact
        with os.scandir(folder) as found:
            return [self._entry(each.name, folder, depth) for each in found]

    def _entry(self, name: str, parent: int, depth: int) -> list[Any]:
        """What it is made of: its folder's entries, or where its content begins and ends."""
        self.count += 1
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        mode = stat.S_IMODE(found.st_mode)
        if self.count > ENTRIES_MAX or mode & ~0o777:
            raise _Inexact
        if stat.S_ISDIR(found.st_mode):
            with opened(name, FOLDER, parent) as inner:
                made_of = self.folder(inner, depth + 1)
        elif stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
            made_of = self._content(name, parent, found.st_size)
        else:
            raise _Inexact
        return [
            name,
            mode,
            found.st_atime_ns,
            found.st_mtime_ns,
            stat.S_ISDIR(found.st_mode),
            made_of,
        ]

    def _content(self, name: str, parent: int, size: int) -> list[int]:
        start = self._size
        self._size += size
        if self._size > self._most:
            raise _Inexact
        with opened(name, READ, parent) as file, open(file, "rb", closefd=False) as source:
            self.contents.append(source.read())
        if len(self.contents[-1]) != size:
            raise _Inexact
        return [start, self._size]


class _Unpacking:
    def __init__(self, contents: memoryview, uid: int) -> None:
        self.bytes = 0
        self._contents = contents
        self._uid = uid

    def entries(self, entries: list[Any], target: int) -> None:
        for name, mode, accessed, changed, is_folder, made_of in entries:
            try:
                if is_folder:
                    self._folder(name, mode, (accessed, changed), made_of, target)
                else:
                    self._file(name, mode, (accessed, changed), made_of, target)
            except FileExistsError:
                pass

    def _file(
        self, name: str, mode: int, times: tuple[int, int], where: list[int], target: int
    ) -> None:
        content = self._contents[where[0] : where[1]]
        with opened(name, NEW, target) as new:
            self.bytes += rules.room([len(content)])
            while content:
                content = content[os.write(new, content) :]
            self._finish(new, mode, times)

    def _folder(
        self, name: str, mode: int, times: tuple[int, int], entries: list[Any], target: int
    ) -> None:
        made = make_folder(name, target)
        with opened(name, FOLDER, target) as new:
            self.entries(entries, new)
            if made:
                self._finish(new, mode, times)

    def _finish(self, new: int, mode: int, times: tuple[int, int]) -> None:
        os.fchown(new, self._uid, self._uid)
        os.fchmod(new, mode)
        os.utime(new, ns=times)
