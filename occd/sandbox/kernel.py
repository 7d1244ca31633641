"""The few system calls that Python lacks, and the mount namespace that occd keeps to itself.

Every mount of ours is made in a private mount namespace: it dies with the last process of ours
that stands in it, SIGKILL included, so a crash can leave no mount behind. Without root the same is
had from a user namespace in which we are uid 0.
"""

import ctypes
import errno
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from occd.sandbox.ids import find_ids

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_MOVE, MS_REC, MS_SLAVE = 32, 4096, 8192, 16384, 1 << 19
_MNT_DETACH = 2
_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000

_OPEN_TREE, _OPENAT2 = 428, 437
_AT_FDCWD, _OPEN_TREE_CLONE = -100, 1
_HOW = struct.Struct("=QQQ")
_OPENINGS = 10_000
"""Where a link leads through `..`, the kernel gives up (EAGAIN) when anything on the machine is renamed or
mounted meanwhile."""
_RESOLVE_IN_ROOT = 16

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    _check(
        _libc.mount(
            os.fsencode(source),
            os.fsencode(target),
            kind.encode() if kind else None,
            ctypes.c_ulong(flags),
            os.fsencode(options) if options else None,
        ),
        f"mount {target}",
    )


def unmount(target: str) -> None:
    """Detach a mount; the kernel frees it when its last user has gone."""
    _check(_libc.umount2(os.fsencode(target), _MNT_DETACH), f"umount {target}")


def unmount_all(target: str) -> None:
    """Detach every mount that lies at this place, if there is one."""
    while _libc.umount2(os.fsencode(target), _MNT_DETACH) == 0:
        pass
    if ctypes.get_errno() != errno.EINVAL:  # no mount is left
        _check(-1, f"umount {target}")


def moved(source: str, target: str) -> bool:
    """Move the mount that lies at `source`, on top of others, if there is one. Costs a hundredth of an
    unmount, which waits for all processors."""
    try:
        mount(source, target, None, MS_MOVE)
    except OSError as error:
        if error.errno != errno.EINVAL:  # no mount is left
            raise
        return False
    return True


def detached(source: str) -> int:
    """An open mount that shows what `source` shows, and lies at no place. Whoever has it can mount it in a
    mount namespace of its own."""
    opened: int = _libc.syscall(
        _OPEN_TREE, _AT_FDCWD, os.fsencode(source), _OPEN_TREE_CLONE | os.O_CLOEXEC
    )
    _check(min(opened, 0), f"open the mount {source}")
    return opened


def bind(source: str, target: str, flags: int) -> None:
    """Show `source` at `target` too, with `flags` (for example MS_RDONLY) of its own."""
    mount(source, target, None, MS_BIND)
    if flags:
        mount("none", target, None, MS_BIND | MS_REMOUNT | flags)


def open_within(root: int, path: str) -> int:
    """Open a file or a folder as those would for whom the folder `root` is the root: links do not lead out of
    it. What is opened can be shown elsewhere (`shown`), and cannot be read itself."""
    how = _HOW.pack(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT)
    for _ in range(_OPENINGS):
        opened: int = _libc.syscall(_OPENAT2, root, os.fsencode(path), how, _HOW.size)
        if opened >= 0 or ctypes.get_errno() != errno.EAGAIN:
            break
    _check(min(opened, 0), f"open {path}")
    return opened


def shown(opened: int) -> str:
    """A path of an open file, also when the file has another name now."""
    return f"/proc/self/fd/{opened}"


@dataclass(frozen=True, slots=True)
class HostUser:
    """Our user outside of every user namespace that we made."""

    uid: int
    gid: int
    slot_uids: range | None
    """Host uids that jails can be given; None when we may only use our own."""


_host_user: HostUser | None = None


def enter_private_mounts() -> HostUser:
    """Move this process to a mount namespace of its own, once. Call it before any thread is started:
    a user namespace cannot be entered later, and older threads would stay behind.

    Raises OSError where the kernel forbids it (see `occd doctor`).
    """
    global _host_user  # a fact about the process itself, true for all of its modules
    if _host_user is not None:
        return _host_user
    uid = os.geteuid()
    user = HostUser(uid, os.getegid(), find_ids() if uid == 0 else None)
    _check(_libc.unshare(_CLONE_NEWNS | (0 if user.uid == 0 else _CLONE_NEWUSER)), "unshare")
    if user.uid != 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user.uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {user.gid} 1")
    mount("none", "/", None, MS_REC | MS_SLAVE)
    _host_user = user
    return user
