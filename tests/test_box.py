"""A box takes the files of a submission and nothing else of the machine does (`occd/sandbox/box.py`)."""

import os
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from occd.model import File
from occd.rules import Broken
from occd.sandbox.box import BOX_BYTES, Place

UID = 65_534 if os.getuid() == 0 else os.getuid()


@pytest.fixture
def around(tmp_path: Path) -> Path:
    """A file and a folder of somebody else, which a name with `..` could reach."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/secret").write_text("secret")
    return tmp_path


@pytest.fixture
def place(around: Path) -> Place:
    """A box that is a plain folder, so that what lies around it can be seen."""
    return Place(around / "box", UID, unprivileged=os.getuid() != 0)


def fill(place: Place, *files: Any) -> None:
    place.fill(files, BOX_BYTES)


def named(name: str) -> Any:
    """As a file, with a name that no File can have: the box trusts nobody."""
    return SimpleNamespace(name=name, content=b"theirs", executable=False)


def state(folder: Path, *, without: Path) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for path in (folder, *folder.rglob("*")):
        if not path.is_relative_to(without):
            seen = path.lstat()
            found[str(path)] = seen.st_mode, seen.st_uid, seen.st_size, seen.st_ino
    return found


def test_files_lie_in_folders_of_the_programs_own(place: Place) -> None:
    fill(place, File("a/b/c.txt", b"1"), File("a/d", b"\xff\0"), File("e é", b""))
    found = {
        str(path.relative_to(place.path)): path.read_bytes() if path.is_file() else None
        for path in place.path.rglob("*")
    }
    assert found == {"a": None, "a/b": None, "a/b/c.txt": b"1", "a/d": b"\xff\0", "e é": b""}
    for path in place.path.rglob("*"):
        assert (path.stat().st_uid, path.stat().st_gid) == (UID, UID)


CLIMBERS = [
    "../x", "../../x", "a/../../x", "..", ".", "", "/", "/etc/x", "a//b", "a/", "./x", "a/./b",
    "../theirs/secret", "../theirs/new/x", "x\0y", "-x", "a\\b", "a\nb", "x" * 256, "/".join("x" * 17),
]  # fmt: skip


@pytest.mark.parametrize("name", CLIMBERS)
def test_no_name_leaves_the_box_or_changes_what_lies_around_it(
    around: Path, place: Place, name: str
) -> None:
    before = state(around, without=place.path)
    with pytest.raises(Broken):
        fill(place, named(name))
    assert state(around, without=place.path) == before
    assert os.listdir(place.path) == []


@pytest.fixture(params=["link/x", "link", "dangling", "there", "fifo", "there/x"])
def planted(request: pytest.FixtureRequest, place: Place) -> str:
    """A name in a box in which something lies that nobody of ours laid there."""
    (place.path / "link").symlink_to("../theirs")
    (place.path / "dangling").symlink_to("../new")
    (place.path / "there").write_text("theirs")
    os.mkfifo(place.path / "fifo")
    return str(request.param)


def test_nothing_is_followed_overwritten_or_waited_for(
    around: Path, place: Place, planted: str
) -> None:
    before = state(around, without=around / "nothing")
    with pytest.raises(OSError, match=planted.split("/")[0]):
        fill(place, File(planted, b"ours"))
    assert state(around, without=around / "nothing") == before


parts = st.sampled_from(["..", ".", "", "a", "b", "link", "theirs", "x\0", "-", "\\", "é" * 120])


@given(st.lists(parts, min_size=1, max_size=6).map("/".join))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_name_only_the_box_changes(around: Path, place: Place, name: str) -> None:
    if not (place.path / "link").is_symlink():
        (place.path / "link").symlink_to("../theirs")
    before = state(around, without=place.path)
    with suppress(Broken, OSError):
        fill(place, named(name))
    assert state(around, without=place.path) == before


def test_filling_leaves_no_descriptor_open(place: Place) -> None:
    before = len(os.listdir("/proc/self/fd"))
    fill(place, File("a/b/c", b"1"))
    with pytest.raises(FileExistsError):
        fill(place, File("a/b/c", b"1"))
    assert len(os.listdir("/proc/self/fd")) == before
