"""One Docker engine for all workers of a session of tests, started by the first that needs it.

Run as a script, it is the engine's keeper: a process of its own, which ends the engine and removes its
folder when the last worker has ended, however the workers end. Each worker holds a shared lock on the
session's folder as long as it lives, and the keeper waits for the lock alone. Where the image has to be made
first, that takes minutes, so a session that will need the engine begins to start it at once (`foresee`).
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine import Reached, install_tools, remove_folder, sandbox_engine
from image_root import add_ours, debian_root

IMAGE = "occd/test"
RUNTIMES = {"runsc": ["--platform=ptrace", "--network=none"]}
"""Of gVisor, beside Docker's own runc: with limits, since there is no --ignore-cgroups."""
_FOLDERS = Path("/var/tmp")  # /tmp may be memory
_PREFIX = "occd-engine-"


def hold(session: Path) -> int:
    """Be a worker of this session until the descriptor is closed."""
    lock = os.open(session, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_SH)
    return lock


def shared(session: Path) -> Reached:
    """The session's engine, for a worker that holds the session. Its image is there."""
    assert os.geteuid() == 0, "an engine of our own needs root"
    folder = _FOLDERS / (_PREFIX + hashlib.sha256(str(session).encode()).hexdigest()[:12])
    with (session / "engine.start").open("a") as start:
        fcntl.flock(start, fcntl.LOCK_EX)
        said = session / "engine.log"
        if not said.exists():
            install_tools()
            with said.open("w") as log:
                keeper: list[str | Path] = [sys.executable, __file__, session, folder]
                subprocess.run(
                    keeper, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
                )
        assert (folder / "ready").exists(), said.read_text()[-5000:]
    return Reached(folder)


def foresee(session: Path) -> None:
    """Have the engine started while this worker does other things. `shared` tells how that came out."""
    subprocess.run(
        [sys.executable, __file__, session], stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True,
    )  # fmt: skip


def _foreseen(session: Path) -> None:
    """In a process of its own, which is nobody's child: a test may look at this worker's."""
    if os.fork() == 0:
        os.setsid()
        shared(session)


def _keep(session: Path, folder: Path) -> None:
    """The first process ends when the engine is ready, or with what it said when it cannot be."""
    ready, told = os.pipe()
    if os.fork():
        os.close(told)
        os.read(ready, 1)
        return
    os.setsid()
    with _only_keeper():
        _remove_leftovers()
        folder.mkdir(0o700)
        fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_EX)
    try:
        runtimes = {
            name: {"path": shutil.which(name), "runtimeArgs": given}
            for name, given in RUNTIMES.items()
        }
        (folder / "daemon.json").write_text(json.dumps({"runtimes": runtimes}))
        with sandbox_engine(folder) as engine:
            import_image(engine)
            (folder / "ready").touch()
            os.close(told)
            fcntl.flock(os.open(session, os.O_RDONLY), fcntl.LOCK_EX)
    finally:
        remove_folder(folder)


def import_image(engine: Reached) -> None:
    """Give an engine of our own the image IMAGE."""
    with tempfile.TemporaryDirectory(dir=engine.folder) as ours, debian_root() as debian:
        inside = add_ours(Path(ours))
        packed: list[str | Path] = ["tar", "-c"]
        packed += [f"--exclude=./{name}" for name in inside]
        packed += ["-C", debian, ".", "-C", ours, *inside]
        with subprocess.Popen(packed, stdout=subprocess.PIPE) as tar:
            subprocess.run(
                ["docker", "-H", engine.host, "import", "-", IMAGE], stdin=tar.stdout, check=True
            )
        assert tar.returncode == 0


@contextmanager
def _only_keeper() -> Iterator[None]:
    """The only one that starts, of all sessions."""
    lock = os.open(_FOLDERS, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _remove_leftovers() -> None:
    """Of keepers that were killed: their engines died with them."""
    for folder in _FOLDERS.glob(f"{_PREFIX}*/"):
        lock = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_folder(folder)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)


if __name__ == "__main__":
    (_keep if len(sys.argv) == 3 else _foreseen)(*map(Path, sys.argv[1:]))
