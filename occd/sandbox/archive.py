"""The files of boxes as tar archives: a container takes and gives them so.

A stranger's program made what the archive of a box holds. The archive is read, and never unpacked on this
machine.
"""

import io
import os
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal

from occd import rules
from occd.model import File
from occd.sandbox import Collect, Collected
from occd.sandbox.box import folders_of
from occd.sandbox.collect import Packed, collect_packed

_END = bytes(1024)
_LONG_LINK = 128
"""A shorter one is kept beside its name, and takes no room."""


@dataclass(frozen=True, slots=True)
class Seen:
    """`tops` are the names of what stands in the box itself, `room` the bytes that the files take of a file
    system."""

    tops: frozenset[str]
    room: int


def pack(files: Sequence[File]) -> IO[bytes]:
    """An archive with these files."""
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for file in files:
            rules.file_name(file.name)
            entry = tarfile.TarInfo(file.name)
            entry.size = len(file.content)
            entry.mode = 0o755 if file.executable or file.content.startswith(b"#!") else 0o644
            tar.addfile(entry, io.BytesIO(file.content))
    into.seek(0)
    return into


def without(archive: Path, files: Sequence[File], into: IO[bytes]) -> int:
    """Copy the archive of a box without what stands where these files and their folders shall be. Returns the
    `room` of the rest."""
    room = 0
    names = {file.name for file in files}
    folders = {folder for name in names for folder in folders_of(name)}
    with archive.open("rb") as source, closing(tarfile.open(fileobj=source, mode="r:")) as tar:
        for member in _members(tar):
            end = tar.offset
            name = _name(member)
            if name in names or not names.isdisjoint(folders_of(name)):
                continue
            if name in folders and not member.isdir():
                continue
            source.seek(member.offset)  # its headers as they are: they may tell of holes
            into.write(source.read(end - member.offset))
            room += _room(member)
    into.write(_END)
    into.seek(0)
    return room


def look(archive: Path) -> Seen:
    """It may take seconds, so call it in a thread."""
    tops: set[str] = set()
    room = 0
    with tarfile.open(archive, "r:") as tar:
        for member in _members(tar):
            tops.add(_name(member).partition("/")[0])
            room += _room(member)
    return Seen(frozenset(tops), room)


def _room(member: tarfile.TarInfo) -> int:
    if member.issym():
        size = len(os.fsencode(member.linkname))
        return rules.room([size] if size >= _LONG_LINK else [])
    holes: Any = member.sparse
    if holes:  # what lies between them
        return rules.room(size for _, size in holes)
    return rules.room([member.size]) if member.isreg() else 0


def collect(archive: Path, wanted: Collect) -> Collected:
    """Those of the archive's files that match. It may take seconds, so call it in a thread."""
    with tarfile.open(archive, "r:") as tar:
        return collect_packed(_packed(tar), wanted)


def _packed(tar: tarfile.TarFile) -> Iterator[Packed]:
    for member in _members(tar):
        read = partial(_read, tar, member.offset)
        yield Packed(_name(member), _kind(member), member.size, read)


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """One after the other, of which none is kept: there may be 65,536, of 10 KB each."""
    while member := tar.next():
        tar.members = []  # type: ignore[attr-defined]
        yield member


def _read(tar: tarfile.TarFile, offset: int) -> bytes:
    tar.fileobj.seek(offset)
    content = tar.extractfile(tarfile.TarInfo.fromtarfile(tar))
    assert content
    return content.read()


def _kind(member: tarfile.TarInfo) -> Literal["file", "folder", "other"]:
    if member.isdir():
        return "folder"
    return "file" if member.isreg() else "other"


def _name(member: tarfile.TarInfo) -> str:
    return member.name.removeprefix("./")
