"""A small file system that can be filled."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from occd.sandbox import kernel


@contextmanager
def small(folder: Path, size: str = "8m") -> Iterator[Path]:
    """A file system of its own, seen by these tests' mount namespace alone."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder.mkdir()
    kernel.mount("none", str(folder), "tmpfs", 0, f"size={size}")
    yield folder
    kernel.unmount(str(folder))


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
