"""The files of boxes as streams: a container takes and gives them so (`sandbox/init/packed.h`).

A stranger's program made what a stream of a box holds. The stream is read, and never unpacked on this
machine.
"""

import io
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from occd import rules
from occd.model import File
from occd.sandbox import Collect, Collected
from occd.sandbox.box import folders_of
from occd.sandbox.collect import Packed, collect_packed

_ENTRY = struct.Struct("<cxHIQQqq")
_PART = struct.Struct("<QQ")
_FILE, _NAME, _SYMLINK, _FOLDER, _UP, _END = b"f", b"n", b"s", b"d", b"u", b"e"
_ENTRY_BYTES = 3 * 2**9
"""Of the kernel's memory, at most, for an entry of a file system in memory."""


@dataclass(frozen=True, slots=True)
class Size:
    room: int
    """Bytes that the files take of a box."""
    memory: int
    """And with what the kernel keeps of each entry."""


def pack(files: Sequence[File]) -> IO[bytes]:
    """A stream with these files."""
    into, now = io.BytesIO(), time.time_ns()

    def put(kind: bytes, name: str = "", mode: int = 0, number: int = 0, size: int = 0) -> None:
        told = name.encode(errors="surrogateescape")
        into.write(_ENTRY.pack(kind, len(told), mode, number, size, now, now) + told)

    for file in files:
        rules.file_name(file.name)
        *parts, name = file.name.split("/")
        for folder in parts:  # it may be there already
            put(_FOLDER, folder)
        executable = file.executable or file.content.startswith(b"#!")
        put(_FILE, name, 0o755 if executable else 0o644, size=len(file.content))
        if file.content:
            into.write(_PART.pack(0, len(file.content)))
            into.write(file.content)
        into.write(_PART.pack(0, 0))
        for _ in parts:
            put(_UP, mode=0o755)
    folders = {folder for file in files for folder in folders_of(file.name)}
    room = rules.room(len(file.content) for file in files)
    put(_END, number=len(files) + len(folders), size=room)
    into.seek(0)
    return into


def size(archive: IO[bytes]) -> Size:
    """By its end. The stream is read from its beginning afterwards."""
    archive.seek(-_ENTRY.size, io.SEEK_END)
    kind, _, _, entries, room, _, _ = _ENTRY.unpack(_read(archive, _ENTRY.size))
    assert kind == _END
    archive.seek(0)
    return Size(room, room + entries * _ENTRY_BYTES)


def collect(archive: Path, wanted: Collect) -> Collected:
    """Those of the stream's files that match. It may take seconds, so call it in a thread."""
    with archive.open("rb") as source:
        return collect_packed(_packed(source), wanted)


def _packed(source: IO[bytes]) -> Iterator[Packed]:
    """One after the other, of which none is kept: there may be 65,536. A path has no more parts than make it
    deeper than the name of a file may be. Nothing is read before the last was told."""
    path: list[str] = []
    linked: dict[int, tuple[int, Callable[[], bytes]]] = {}
    while True:
        kind, name_size, _, number, size, _, _ = _ENTRY.unpack(_read(source, _ENTRY.size))
        if kind == _END:
            return
        if kind == _UP:
            path.pop()
            continue
        told = _read(source, name_size).decode(errors="surrogateescape")
        parts = (*path[: rules.NAME_PARTS_MAX], told)
        if kind == _FOLDER:
            path.append(told)
            yield Packed(parts, "folder", 0, bytes)
        elif kind == _FILE:
            read = partial(_content, source, source.tell(), size)
            if number:
                linked[number] = size, read
            _pass(source)
            yield Packed(parts, "file", size, read)
        elif kind == _NAME:
            yield Packed(parts, "file", *linked[number])
        else:
            if kind == _SYMLINK:
                source.seek(size, io.SEEK_CUR)
            yield Packed(parts, "other", size, bytes)


def _pass(source: IO[bytes]) -> None:
    while length := _PART.unpack(_read(source, _PART.size))[1]:
        source.seek(length, io.SEEK_CUR)


def _content(source: IO[bytes], at: int, size: int) -> bytes:
    content = bytearray(size)
    source.seek(at)
    while True:
        start, length = _PART.unpack(_read(source, _PART.size))
        if not length:
            return bytes(content)
        content[start : start + length] = _read(source, length)


def _read(source: IO[bytes], size: int) -> bytes:
    data = source.read(size)
    assert len(data) == size
    return data
