"""The images of `sandbox/images`, really built, once a week for all tests that need one."""

import fcntl
import os
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine import Reached
from serving import OCCD

from occd.images import Image, describe, find

KEPT = Path("/var/tmp/occd-tests-images")
"""A data folder. Not in /tmp, which may be memory."""
_WEEK_S = 7 * 24 * 3600
_GIVEN: dict[Reached, list[Image | None]] = {}
"""The images that engines got from this process."""


def built(name: str) -> Path:
    """A data folder that has this image, as it is described now."""
    with _alone():
        image = find(KEPT, name)
        fresh = image and time.time() - image.built_at < _WEEK_S
        if not image or not fresh or image.digest != describe(name).digest:
            _build(name)
    return KEPT


def build(name: str) -> tuple[Image, str]:
    """Build it anew for all tests. Gives what was said, too."""
    with _alone():
        said = _build(name)
        image = find(KEPT, name)
    assert image
    return image, said


def give(engine: Reached, name: str) -> None:
    """Give an engine of the tests the image as it is now, unless it has that."""
    image = find(built(name), name)
    if image not in _GIVEN.setdefault(engine, []):
        _occd("images", name, "--docker", "--no-build", OCCD_SANDBOX__HOST=engine.host)
        _GIVEN[engine].append(image)


def _build(name: str) -> str:
    return _occd("images", name)


def _occd(*argv: str, **settings: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name[:5] != "OCCD_"}
    done = subprocess.run(
        [OCCD, "--data-dir", KEPT, *argv],
        env=clean | settings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        umask=0o077,  # images are for other users, too
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@contextmanager
def _alone() -> Iterator[None]:
    """Another session of tests waits until an image is there."""
    with suppress(FileExistsError):
        KEPT.mkdir()
        KEPT.chmod(0o755)
    kept = KEPT.lstat()
    assert stat.S_ISDIR(kept.st_mode), KEPT
    root = Path("/").stat().st_uid  # in a user namespace it has another number
    assert kept.st_uid == root, f"{KEPT} is not root's"
    lock = os.open(KEPT, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
