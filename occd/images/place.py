"""Where images are built: by root, in a data folder that may be a normal user's, as that of the daemon is."""

import ctypes
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

_CLONE_NEWNS = 0x20000
_MS_BIND, _MS_REC, _MS_SLAVE = 4096, 16384, 1 << 19

_libc = ctypes.CDLL(None, use_errno=True)


class Unsafe(Exception):
    """Somebody else could choose what root writes, and what root runs."""


@contextmanager
def held_place(folder: Path) -> Iterator[Path]:
    """The folder, made unless it exists, at a path that leads there whoever renames the folder or puts a link
    in its place. Only this thread, and the processes that it starts, have the path.

    Raises Unsafe when others than root can write there, and OSError.
    """
    folder.mkdir(exist_ok=True)
    with ExitStack() as ours:
        place = tempfile.mkdtemp(prefix="occd-images-")
        ours.callback(os.rmdir, place)
        ours.enter_context(_own_mounts())
        if folder.is_symlink():
            raise Unsafe(f"{folder} is a link, and not a folder")
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        ours.callback(os.close, held)
        found = os.fstat(held)
        if found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise Unsafe(f"others than root can write to {folder}")
        _mount(f"/proc/self/fd/{held}", place, _MS_BIND)
        yield Path(place)


@contextmanager
def _own_mounts() -> Iterator[None]:
    """Whatever is mounted meanwhile, nobody else sees, and goes at the end."""
    with ExitStack() as ours:
        before = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY)
        ours.callback(os.close, before)
        here = os.open(".", os.O_PATH)
        ours.callback(os.close, here)
        _check(_libc.unshare(_CLONE_NEWNS))
        ours.callback(os.fchdir, here)
        ours.callback(lambda: _check(_libc.setns(before, _CLONE_NEWNS)))
        _mount("none", "/", _MS_REC | _MS_SLAVE)
        yield


def _mount(source: str, target: str, flags: int) -> None:
    _check(_libc.mount(os.fsencode(source), os.fsencode(target), None, ctypes.c_ulong(flags), None))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
