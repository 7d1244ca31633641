"""Builds the folder of an image, with debootstrap, apt, pip and npm, which work within the folder.

Theory of operation. Each step runs in process and mount namespaces of its own, and is killed with us: so no
mount and no process is left, however we end. The image is made as NAME.part, and takes its place at once. An
image that somebody uses is set aside, as NAME.old-N. What is left of earlier builds goes at the next one. One
lock keeps other builds away; the steps hold it too, so that it is free when the last of them has ended.
"""

import ctypes
import errno
import fcntl
import json
import os
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import Protocol

from occd.errors import OccdError
from occd.images import FOLDER, TOLD, Description, Image, read
from occd.images.place import Unsafe, held_place
from occd.images.root import AUTHORITIES, architecture, clean, furnish, installed, prepare
from occd.images.script import steps
from occd.images.source import Source, debootstrap, refuse_what_cannot_begin

_LOCK = "lock"
_TOLD_LINES = 40
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_NO_SPACE = "no space left on device"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PASSED = (
    "http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy",
    "pip_index", "pip_extra_index", "pip_proxy", "pip_trusted", "npm_config_registry",
)  # fmt: skip
"""How the names begin of the variables that steps get of our environment, in upper or lower case."""

_libc = ctypes.CDLL(None, use_errno=True)


class BuildFailed(OccdError):
    pass


class Progress(Protocol):
    def begins(self, number: int, count: int, told: str) -> None:
        """A step of `count` begins; `told` says what it does."""

    def says(self, line: str) -> None:
        """A line that the step's tool wrote."""

    def ends(self, seconds: float) -> None:
        """The step has done its work."""

    def fails(self) -> None:
        """It has not: no step follows."""


def build(description: Description, data_dir: Path, source: Source, progress: Progress) -> Image:
    """Build an image and put it in its place. `data_dir` is a folder that is there.

    Raises BuildFailed, which tells what went wrong, and ConfigError for what this machine lacks.
    """
    refuse_what_cannot_begin(description)
    os.umask(0o022)  # programs and daemons are other users
    folder, name = data_dir / FOLDER, description.name
    try:
        with held_place(folder) as place, _locked(place, folder) as lock:
            remove_leftovers(place)
            part = place / f"{name}.part"
            try:
                _Build(description, part, source, progress, lock, folder).make()
                put(part, place / name)
            finally:
                with suppress(OSError):
                    _retire(part)
            image = read(place / name)
    except Unsafe as error:
        raise BuildFailed(
            f"images: {error}. Root builds where nobody else can choose what root runs: move it away, or "
            "give it to root"
        ) from error
    except OSError as error:
        full = error.errno == errno.ENOSPC
        why = f"the disk of {folder} is full" if full else error
        raise BuildFailed(f"{name}: {why}") from error
    assert image
    return replace(image, root=folder / name / "root")


class _Build:
    def __init__(
        self,
        description: Description,
        part: Path,
        source: Source,
        progress: Progress,
        lock: int,
        told: Path,
    ) -> None:
        """`told` is how people know the folder that `part` is in."""
        self._description = description
        self._part = part
        self._root = part / "root"
        self._source = source
        self._progress = progress
        self._lock = lock
        self._told = told
        self._steps = list(steps(description))
        self._number = 0

    def make(self) -> None:
        began = time.monotonic()
        description, root = self._description, self._root
        self._part.mkdir()
        with self._step(f"Debian {description.release} from {self._source.mirror}"):
            self._call(debootstrap(description.release, root, self._source))
        prepare(root, description.release, self._source)
        for told, script in self._steps:
            with self._step(told):
                self._call(["sh", "-ec", script], within=root)
        with self._step("without what only the building needed"):
            packages, machine = installed(root), architecture(root)
            clean(root)
            furnish(root)
            size = sum(path.lstat().st_blocks * 512 for path in root.rglob("*"))
            self._call(["sync", "--file-system", os.fspath(root)])
        image = Image(
            name=description.name,
            root=root,
            release=description.release,
            architecture=machine,
            digest=description.digest,
            packages=packages,
            seconds=round(time.monotonic() - began, 1),
            built_at=round(time.time(), 3),
            bytes=size,
        )
        facts = {name: value for name, value in asdict(image).items() if name != "root"}
        with (self._part / TOLD).open("w") as file:
            file.write(json.dumps(facts, indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def _step(self, told: str) -> Iterator[None]:
        self._number += 1
        self._progress.begins(self._number, len(self._steps) + 2, told)
        began = time.monotonic()
        try:
            yield
        except BaseException:
            self._progress.fails()
            raise
        self._progress.ends(time.monotonic() - began)

    def _call(self, argv: Sequence[str], *, within: Path | None = None) -> None:
        """Raises BuildFailed with the end of what it said."""
        said: deque[str] = deque(maxlen=_TOLD_LINES)
        apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        apart += [f"--root={within}"] if within else []
        with subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *apart, "--mount-proc", "--", *argv],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[self._lock],
            text=True,
            errors="replace",
        ) as running:
            try:
                for line in running.stdout or ():
                    said.append(line.rstrip())
                    self._progress.says(said[-1])
            except BaseException:
                running.kill()  # and with it all that is in its namespaces
                raise
        if running.returncode != 0:
            log = self._root / "debootstrap/debootstrap.log"  # there while it works
            if log.exists():
                said.extend(log.read_text(errors="replace").splitlines())
            why = f"step {self._number} failed with {running.returncode}"
            if any(_NO_SPACE in line.lower() for line in said):
                why = f"the disk of {self._told} is full"
            raise BuildFailed("\n".join([f"{self._description.name}: {why}. It said last:", *said]))


def _environment() -> dict[str, str]:
    ours = {
        "PATH": _PATH,
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
        "PIP_CERT": AUTHORITIES,
        "NODE_EXTRA_CA_CERTS": AUTHORITIES,
        "npm_config_cafile": AUTHORITIES,
    }
    return {
        name: value for name, value in os.environ.items() if name.lower().startswith(_PASSED)
    } | ours


@contextmanager
def _locked(folder: Path, told: Path) -> Iterator[int]:
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise BuildFailed(
            f"images: another occd builds in {told}: wait until it has ended"
        ) from None
    try:
        yield lock
    finally:
        os.close(lock)


def remove_leftovers(folder: Path) -> None:
    """Remove the leftovers of builds that were cut off, and older images that nobody holds any more."""
    for part in folder.glob("*.part"):
        _retire(part)
    for old in folder.glob("*.old-*"):
        _remove_unless_used(old)


def _retire(part: Path) -> None:
    """Remove what is no image yet, or set aside what was one until now and is in use."""
    if not _remove_unless_used(part):
        part.rename(
            next(
                old
                for number in count(1)
                if not (old := part.with_suffix(f".old-{number}")).exists()
            )
        )


def _remove_unless_used(folder: Path) -> bool:
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # `opened` has a shared one
        shutil.rmtree(folder)
    except BlockingIOError:
        return False
    finally:
        os.close(held)
    return True


def put(part: Path, place: Path) -> None:
    """Move an image to its place. At every moment an image is there, if one was before."""
    if not place.exists():
        part.rename(place)
        return
    if _libc.renameat2(
        _AT_FDCWD, os.fsencode(part), _AT_FDCWD, os.fsencode(place), _RENAME_EXCHANGE
    ):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fspath(place))
    _retire(part)
