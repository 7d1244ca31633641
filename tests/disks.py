"""A small file system that can be filled."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from occd.sandbox import kernel


@contextmanager
def small(folder: Path) -> Iterator[Path]:
    """A file system of its own, of 8 MiB, seen by these tests' mount namespace alone."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder.mkdir()
    kernel.mount("none", str(folder), "tmpfs", 0, "size=8m")
    yield folder
    kernel.unmount(str(folder))


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
