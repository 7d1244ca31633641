"""A packed tree gives what a copy of the tree gives, or there is none (`occd/sandbox/packed.py`)."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from occd.sandbox.packed import entries_of, pack, unpack
from occd.sandbox.tree import ENTRIES_MAX, copy_tree

MIB = 2**20
UID = os.getuid()


def seen(folder: Path) -> dict[bytes, tuple[object, ...]]:
    """All that there is to know of each entry, and the order of each folder's."""
    found: dict[bytes, tuple[object, ...]] = {}
    for parent, folders, files in os.walk(os.fsencode(folder)):
        for name in (*folders, *files):
            path = os.path.join(parent, name)
            told = os.stat(path)
            content = None if stat.S_ISDIR(told.st_mode) else Path(os.fsdecode(path)).read_bytes()
            inner = os.path.relpath(path, os.fsencode(folder))
            found[inner] = told.st_mode, told.st_uid, told.st_mtime_ns, content
    return found


def fill(tree: Path) -> None:
    """As a compiler that is out for mischief would."""
    (tree / "empty").mkdir(mode=0o711)
    (tree / "deep/er").mkdir(parents=True)
    (tree / "deep/er/main").write_bytes(b"\x7fELF" + os.urandom(5000))
    (tree / "deep/er/main").chmod(0o751)
    Path(os.fsdecode(bytes(tree / "deep") + b"/\xff\n")).write_bytes(b"")
    (tree / "none").write_bytes(b"for nobody")
    (tree / "none").chmod(0)
    os.utime(tree / "none", ns=(1, 1_234_567_891))
    os.utime(tree / "deep", ns=(5, 17))
    (tree / "deep").chmod(0o500)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    tree.mkdir()
    return tree


def test_it_is_what_a_copy_is(tree: Path, tmp_path: Path) -> None:
    fill(tree)
    packed = pack(tree, MIB)
    assert packed
    assert entries_of(packed) == 6
    copied, unpacked = tmp_path / "copied", tmp_path / "unpacked"
    for each in (copied, unpacked):
        each.mkdir()
        (each / "deep").mkdir()
        (each / "deep/er").write_text("stood here before")
    size = copy_tree(tree, copied, UID).bytes
    assert unpack(packed, unpacked, UID) == size
    both = seen(unpacked), seen(copied)
    for found in both:
        assert found.pop(b"deep/er")[-1] == b"stood here before"
        del found[b"deep"]  # it has changed just now
    assert both[0] == both[1]
    assert set(both[0]) == {b"empty", b"none", b"deep/\xff\n"}
    alone = tmp_path / "alone"
    alone.mkdir()
    unpack(packed, alone, UID)
    assert seen(alone) == seen(tree)


def link(tree: Path) -> None:
    (tree / "link").symlink_to("main")


def hard_link(tree: Path) -> None:
    (tree / "other").hardlink_to(tree / "main")


def set_uid(tree: Path) -> None:
    (tree / "main").chmod(0o4755)


def sticky(tree: Path) -> None:
    (tree / "folder").mkdir()
    (tree / "folder").chmod(0o1777)


def fifo(tree: Path) -> None:
    os.mkfifo(tree / "fifo")


def long(tree: Path) -> None:
    (tree / "long").write_bytes(bytes(MIB))


def many(tree: Path) -> None:
    for number in range(ENTRIES_MAX):
        (tree / str(number)).touch()


def deep(tree: Path) -> None:
    (tree / "/".join(["x"] * 40)).mkdir(parents=True)


@pytest.mark.parametrize("odd", [link, hard_link, set_uid, sticky, fifo, long, many, deep])
def test_what_cannot_be_told_exactly_is_not_packed(tree: Path, odd: Callable[[Path], None]) -> None:
    (tree / "main").write_bytes(b"x")
    assert pack(tree, MIB)
    odd(tree)
    assert pack(tree, MIB) is None
