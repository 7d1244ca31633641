"""occd's side of the talk with `sandbox/init/init.c`, the first process of every jail."""

import os
import signal
import socket
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import trio

from occd.errors import SandboxFailed
from occd.model import Limits

_GO = struct.Struct("=4I6Q")
_END = struct.Struct("=BBHiQQQ")
_CREDENTIALS = struct.Struct("=iII")


@dataclass(frozen=True, slots=True)
class End:
    """The exact end of the jail's first process. `status` is as from waitpid."""

    status: int
    guarded: Literal["memory", "cpu_time"] | None
    wall_time: float
    cpu_time: float
    peak: int

    @property
    def exit_code(self) -> int | None:
        return os.WEXITSTATUS(self.status) if os.WIFEXITED(self.status) else None

    @property
    def signal(self) -> str | None:
        return signal_name(os.WTERMSIG(self.status)) if os.WIFSIGNALED(self.status) else None


def signal_name(number: int) -> str:
    """`SIGSEGV`; real-time signals, which Python does not name, as `SIGRTMIN+2`."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"


def encode_go(argv: Sequence[str], env: Sequence[str], limits: Limits, groups: int) -> bytes:
    """`groups` open files of control groups come along; with none, init samples usage itself."""
    strings = b"".join(os.fsencode(word) + b"\0" for word in (*argv, *env))
    head = _GO.pack(
        len(argv),
        len(env),
        len(strings),
        groups,
        limits.file_size,
        limits.open_files,
        limits.processes + 1,  # init itself
        limits.memory,  # a stack may grow as far as memory goes, as contest programs expect
        limits.memory,
        int(limits.cpu_time * 1e9),
    )
    return head + strings


class Control:
    """Our end of the socket to a jail's init."""

    def __init__(self, ours: socket.socket) -> None:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket = trio.socket.from_stdlib_socket(ours)

    async def ready(self) -> int:
        """Wait until the jail stands; gives its init's pid as we see it."""
        data, ancillary, _, _ = await self._socket.recvmsg(1, socket.CMSG_SPACE(_CREDENTIALS.size))
        if data != b"R" or not ancillary:
            raise SandboxFailed("the jail could not be set up")
        pid: int = _CREDENTIALS.unpack(ancillary[0][2][: _CREDENTIALS.size])[0]
        return pid

    async def go(self, message: bytes, groups: Sequence[int]) -> None:
        """Let the program start, in the control groups whose files are open as `groups`; returns when
        it is about to."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", groups))] if groups else []
        try:
            message = message[await self._socket.sendmsg([message], rights) :]
            while message:
                message = message[await self._socket.send(message) :]
            started = await self._socket.recv(1)
        except OSError as error:
            raise SandboxFailed(f"the jail ended before its program started: {error}") from error
        if started != b"S":
            raise SandboxFailed("the jail ended before its program started")

    async def end(self) -> End | None:
        """Wait for the end; None when init itself was killed, as we do to end a jail."""
        data = b""
        while len(data) < _END.size:
            try:
                part = await self._socket.recv(_END.size - len(data))
            except ConnectionResetError:
                return None
            if not part:
                return None
            data += part
        _, guarded, _, status, wall_ns, cpu_ns, peak = _END.unpack(data)
        reasons: dict[int, Literal["memory", "cpu_time"]] = {
            ord("m"): "memory",
            ord("c"): "cpu_time",
        }
        return End(status, reasons.get(guarded), wall_ns / 1e9, cpu_ns / 1e9, peak)

    def close(self) -> None:
        self._socket.close()
