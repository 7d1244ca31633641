"""Sockets that lie in the file system, and who is at their other end.

A path in a socket's address has at most 107 bytes. The folder is therefore opened first, and the address
leads through this descriptor, so that a path may be as long as any other.
"""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from occd.errors import ConfigError


@contextmanager
def _address(path: Path) -> Iterator[str]:
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def connect(path: Path) -> socket.socket | None:
    """None when nobody listens there. Raises OSError."""
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with _address(path) as address:
            found.connect(address)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        found.close()
        return None
    except OSError:
        found.close()
        raise
    return found


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A socket for this user alone. The socket of a process that was killed is replaced. Raises ConfigError,
    or OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.exists() and not path.is_socket():
        raise ConfigError(f"{path} is there and is no socket: move it away, or set control.socket")
    if other := connect(path):
        other.close()
        raise ConfigError(
            f"another occd listens at {path}: give each its own with control.socket or --data-dir"
        )
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as found:
        os.fchmod(found.fileno(), 0o600)  # before the file is there: Linux makes it with this mode
        with _address(path) as address:
            found.bind(address)
        made = path.stat()
        found.listen(16)
        try:
            yield found
        finally:
            with suppress(OSError):
                if os.path.samestat(path.stat(), made):
                    path.unlink()


class Socket(Protocol):
    def getsockopt(self, level: int, optname: int, buflen: int) -> bytes: ...


def is_ours(peer: Socket) -> bool:
    """Whether our own user is at the other end, or root."""
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return uid in (0, os.geteuid())
