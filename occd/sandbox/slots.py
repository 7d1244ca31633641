"""Host uids and control-group names, leased so that several daemons, tests and `occd run` on one
machine never share one. A lease is a lock on a file: the kernel gives it back when we die."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from occd.errors import SandboxFailed
from occd.sandbox.ids import SLOTS
from occd.sandbox.kernel import HostUser


@dataclass(frozen=True, slots=True)
class Slot:
    """`name` is unique on this host while leased. `uid` (and gid) is what the jail's user is to us:
    nobody else's as root, our own otherwise."""

    name: str
    uid: int
    _lock: int

    def release(self) -> None:
        os.close(self._lock)


def lease(folder: Path, user: HostUser) -> Slot:
    """Take a free slot. Raises SandboxFailed when all are taken."""
    for number in range(SLOTS):
        if slot := _try_lease(folder, user, number):
            return slot
    raise SandboxFailed(f"all {SLOTS} slots of this machine are in use")


def ownerless(folder: Path, user: HostUser) -> Iterator[Slot]:
    """Every slot that was ever used and that nobody holds now, leased while it is looked at."""
    for number in sorted(int(path.name) for path in folder.glob("[0-9]*")):
        if slot := _try_lease(folder, user, number):
            try:
                yield slot
            finally:
                slot.release()


def _try_lease(folder: Path, user: HostUser, number: int) -> Slot | None:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    lock = os.open(folder / f"{number}", flags, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    uids = user.slot_uids
    return Slot(f"occd-{number}", uids[number] if uids else 0, lock)


def host_folder(user: HostUser) -> Path:
    """The folder that all of a user's occd processes on this machine share: the locks, and `mnt`,
    over which each mounts a file system that only it sees.

    Raises SandboxFailed when somebody else made it.
    """
    folder = Path("/run/occd") if user.uid == 0 else Path(tempfile.gettempdir(), f"occd-{user.uid}")
    folder.mkdir(mode=0o711, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise SandboxFailed(f"{folder} belongs to someone else: remove it")
    (folder / "mnt").mkdir(mode=0o711, exist_ok=True)
    return folder
