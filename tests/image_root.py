"""The files of the image in which tests run programs: a Debian, made once a week, and what is ours."""

import fcntl
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from debian import bootstrap

import occd.images.root

PACKAGES = ("findutils", "g++", "gcc", "libc6-dev", "python3", "tar", "vim-tiny")
_KEPT = Path("/var/tmp/occd-tests-roots")
_WEEK_S = 7 * 24 * 3600


@contextmanager
def debian_root(packages: tuple[str, ...] = PACKAGES, release: str = "bookworm") -> Iterator[Path]:
    """A folder to read, which nobody removes meanwhile."""
    _KEPT.mkdir(0o700, exist_ok=True)
    kept = _KEPT.lstat()
    assert stat.S_ISDIR(kept.st_mode), kept
    assert kept.st_uid == os.geteuid(), f"{_KEPT} is not ours"
    folder = _KEPT / hashlib.sha256(" ".join((release, *packages)).encode()).hexdigest()[:16]
    lock = os.open(_KEPT, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for each in _KEPT.iterdir():
            if each.suffix == ".part" or time.time() - each.stat().st_mtime > _WEEK_S:
                shutil.rmtree(each)
        if not folder.exists():
            part = folder.with_suffix(".part")
            bootstrap(part, *packages, release=release)
            shutil.rmtree(part / "var/cache/apt/archives")
            part.touch()
            part.rename(folder)
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield folder
    finally:
        os.close(lock)


def add_ours(root: Path) -> tuple[str, ...]:
    """Put what occd expects of an image, from this checkout, into an empty folder. Gives its names."""
    (root / "box").mkdir(0o755)
    return (*occd.images.root.add_ours(root), "box")
