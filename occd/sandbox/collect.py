"""Takes files out of the box of a program, when all of its processes are dead.

A program that may be hostile filled the box, but nobody changes the box any more. We go by directory
descriptors, follow no link, and open regular files only: a FIFO, a device or a link is left out, and told.
Names are matched part by part, so that a folder in which no pattern can match is not even read. Numbers of
files, bytes, entries and folders, and our own processor time, have bounds: patterns and names may be chosen
to match slowly. Beyond a bound the rest is left out, and told.
"""

import fnmatch
import itertools
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from occd import rules
from occd.model import File, LeftOut
from occd.sandbox import Collect, Collected, Reason
from occd.sandbox.tree import FOLDER, READ, opened

_ENTRIES_MAX = 20_000
_TOLD_MAX = 100
_TOLD_CHARACTERS = 1024
"""Of a name that is told. A name of 255 bytes that are no text has 1,020."""

_CPU_S = 1.0
_PACKED_CPU_S = 5.0
"""A stream of 65,536 entries takes 1 s to read, and gVisor does not hold their number."""

Place = tuple[int, int]
"""A pattern and one of its parts, by their numbers: this part is to match the next name."""


class Patterns:
    """`*`, `?` and `[...]` match within one name, `**` matches any number of folders, and at the end of a
    pattern all files below, as for Python's `Path.full_match`. Case counts, and names with a leading dot
    are names."""

    def __init__(self, patterns: Sequence[str]) -> None:
        """Raises rules.Broken for a pattern that could leave the box."""
        rules.patterns(patterns)
        self._parts = [[_compiled(part) for part in each.split("/")] for each in patterns]

    def start(self) -> frozenset[Place]:
        """The places before the first name of a path."""
        return self._closed((number, 0) for number in range(len(self._parts)))

    def below(self, places: Iterable[Place], name: str) -> frozenset[Place]:
        """The places behind a folder of this name; none when no pattern can match in the folder."""
        found = set[Place]()
        for number, at in places:
            part = self._parts[number][at]
            if part is None:
                found.add((number, at))
            elif not self._last(number, at) and part.match(name):
                found.add((number, at + 1))
        return self._closed(found)

    def match(self, places: Iterable[Place], name: str) -> bool:
        """Whether a file of this name matches."""
        return any(
            self._last(number, at)
            and ((part := self._parts[number][at]) is None or bool(part.match(name)))
            for number, at in places
        )

    def _last(self, number: int, at: int) -> bool:
        return at == len(self._parts[number]) - 1

    def _closed(self, places: Iterable[Place]) -> frozenset[Place]:
        """With the places behind each `**`, which may match no folder."""
        found = set[Place]()
        for number, at in places:
            found.add((number, at))
            while self._parts[number][at] is None and not self._last(number, at):
                at += 1
                found.add((number, at))
        return frozenset(found)


def _compiled(part: str) -> re.Pattern[str] | None:
    return None if part == "**" else re.compile(fnmatch.translate(part))


def collect(box: int, wanted: Collect) -> Collected:
    """The files of the folder `box`, an open descriptor, that match a pattern, in the order of their names.
    It may take a second, so call it in a thread. Raises rules.Broken."""
    found = _Collector(wanted)
    found.folder(box, "", found.patterns.start(), 1)
    return Collected(tuple(found.files), tuple(found.left_out), found.left_out_count)


@dataclass(frozen=True, slots=True)
class Packed:
    """An entry of a box's stream."""

    parts: tuple[str, ...]
    """Of its path in the box. All that is in a folder shares the folder's parts: 20,000 whole paths may take
    600 MiB."""
    kind: Literal["file", "folder", "other"]
    size: int
    read: Callable[[], bytes]

    @property
    def name(self) -> str:
        return "/".join(self.parts)


def collect_packed(packed: Iterable[Packed], wanted: Collect) -> Collected:
    """As `collect`, from a stream, which is read and put in order before anything is taken: the bounds are
    on the entries that match, and on the time for reading. Raises rules.Broken."""
    found = _Collector(wanted)
    ends = time.thread_time() + _PACKED_CPU_S
    matching = list[Packed]()
    more = False
    for each in packed:
        if more := len(matching) == _ENTRIES_MAX or time.thread_time() > ends:
            break
        if found.may_match(each):
            matching.append(each)
    for each in sorted(matching, key=lambda each: each.parts):
        if each.kind == "folder":
            found.leave_out(f"{each.name}/", "name")
        else:
            found.take(each.name, each.kind == "file", each.size, each.read)
    if more:
        found.leave_out("", "entries")
    return Collected(tuple(found.files), tuple(found.left_out), found.left_out_count)


class _Collector:
    def __init__(self, wanted: Collect) -> None:
        self._wanted = wanted
        self.patterns = Patterns(wanted.patterns)
        self.files: list[File] = []
        self.left_out: list[LeftOut] = []
        """Only what is told: 20,000 names of 4,000 bytes would take 300 MiB."""
        self.left_out_count = 0
        self._bytes = 0
        self._entries = 0
        self._ends = time.thread_time() + _CPU_S

    def folder(self, folder: int, path: str, places: frozenset[Place], depth: int) -> None:
        """`path` is empty, or ends with a slash."""
        with os.scandir(folder) as found:
            entries = list(itertools.islice(found, _ENTRIES_MAX - self._entries))
            more = next(found, None) is not None
        self._entries += len(entries)
        for entry in sorted(entries, key=lambda each: each.name):
            if time.thread_time() > self._ends:
                more = True
                break
            if entry.is_dir(follow_symlinks=False):
                self._below(folder, path, entry.name, places, depth)
            elif self.patterns.match(places, entry.name):
                self._file(folder, path, entry.name)
        if more:
            self.leave_out(path, "entries")

    def _below(
        self, parent: int, path: str, name: str, places: frozenset[Place], depth: int
    ) -> None:
        if not (within := self.patterns.below(places, name)):
            return
        if depth == rules.NAME_PARTS_MAX:
            self.leave_out(f"{path}{name}/", "name")
            return
        with opened(name, FOLDER, parent) as folder:
            self.folder(folder, f"{path}{name}/", within, depth + 1)

    def may_match(self, packed: Packed) -> bool:
        """Whether it is a file that matches, or a folder with too many parts in which a file could."""
        parts, places = packed.parts, self.patterns.start()
        is_folder = packed.kind == "folder"
        if len(parts) > rules.NAME_PARTS_MAX or (is_folder and len(parts) < rules.NAME_PARTS_MAX):
            return False  # before the patterns are tried: there may be 65,536 such folders
        for part in parts[:-1]:
            places = self.patterns.below(places, part)
        if is_folder:
            return bool(self.patterns.below(places, parts[-1]))
        return self.patterns.match(places, parts[-1])

    def _file(self, folder: int, path: str, name: str) -> None:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)

        def read() -> bytes:
            with opened(name, READ, folder) as file:
                return _read(file, found.st_size)

        self.take(path + name, stat.S_ISREG(found.st_mode), found.st_size, read)

    def take(self, name: str, is_file: bool, size: int, read: Callable[[], bytes]) -> None:
        """Take the file, or leave it out, and tell why."""
        if reason := self._refuse(name, is_file, size):
            self.leave_out(name, reason)
            return
        self.files.append(File(name, read()))
        self._bytes += size

    def _refuse(self, name: str, is_file: bool, size: int) -> Reason | None:
        try:
            rules.file_name(name)
        except rules.Broken:
            return "name"
        if not is_file:
            return "no_file"
        if len(self.files) == self._wanted.files:
            return "count"
        if size > self._wanted.file_bytes:
            return "size"
        if self._bytes + size > self._wanted.bytes:
            return "total"
        return None

    def leave_out(self, name: str, reason: Reason) -> None:
        self.left_out_count += 1
        if len(self.left_out) < _TOLD_MAX:
            start = name[: _TOLD_CHARACTERS + 1]  # the rest is not told, and would cost time
            told = os.fsencode(start).decode(errors="backslashreplace")
            if len(told) > _TOLD_CHARACTERS:
                told = told[: _TOLD_CHARACTERS - 1] + "…"
            self.left_out.append(LeftOut(told, reason))


def _read(file: int, size: int) -> bytes:
    parts, at = [], 0
    while part := os.pread(file, size - at, at):
        parts.append(part)
        at += len(part)
    return b"".join(parts)
