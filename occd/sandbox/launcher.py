"""A long-lived nsjail that makes one jail after another, so that the next one stands before its job is
known, and nsjail itself (dynamic linking, reading its policy) is paid for once.

Theory of operation. nsjail runs in its mode `rerun`: when a jail has ended it makes the next. Every
jail's init says hello over one socket and waits; `ready` takes that hello, `go` gives the job, `end`
takes the report. An init that died without one (we killed it, above all) is followed by the hello of
the next jail, which nsjail makes only when nothing of the last one is left. What a jail shows as its
box is what is mounted at the launcher's place at the moment when the jail is made (`box.py`).

nsjail is tethered to us: it dies when we do, and its jail with it. Its log is a pipe, so that one that
fails again and again stands still when the pipe is full.
"""

import os
import signal
import socket
import struct
from array import array
from collections.abc import Sequence
from contextlib import ExitStack, suppress

import trio

from occd.errors import SandboxFailed
from occd.sandbox.init import MESSAGE_MAX, End, Hello, decode
from occd.sandbox.spawn import Process

CONTROL_FD, LOG_FD = 3, 4
"""Descriptors of nsjail: init's socket, and where nsjail logs."""

_SETUP_TIMEOUT_S = 30.0
_END_TIMEOUT_S = 10.0
_CREDENTIALS = struct.Struct("=iII")
_SEND_BUFFER = 2**20  # a job's arguments go in one message
_LOG = 65_536


class Launcher:
    """One nsjail and the jail that it has made last."""

    def __init__(self, argv: Sequence[str], tether: str, uid: int) -> None:
        """`argv` is nsjail's; `tether` is the path of occd-init on this machine; `uid` is whose account the
        kernel counts to what programs make it keep."""
        with ExitStack() as theirs, ExitStack() as ours:
            control, inits = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            theirs.callback(inits.close)
            ours.callback(control.close)
            control.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
            self._log, log = os.pipe2(os.O_CLOEXEC)
            theirs.callback(os.close, log)
            ours.callback(os.close, self._log)
            os.set_blocking(self._log, False)
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            theirs.callback(os.close, null)
            self._process = Process(
                [tether, "tether", str(os.getpid()), str(uid), *argv],
                {0: null, 1: log, 2: log, CONTROL_FD: inits.fileno(), LOG_FD: log},
            )
            ours.callback(self._process.close)
            self._control = trio.socket.from_stdlib_socket(control)
            self._pidfd: int | None = None
            self._hello: Hello | None = None
            self._ours = ours.pop_all()

    async def ready(self) -> None:
        """Wait until a jail stands. Raises SandboxFailed when none comes to."""
        with trio.move_on_after(_SETUP_TIMEOUT_S):
            while self._hello is None:
                message = await self._receive()  # or what nobody waited for of the last one
                if isinstance(message, Hello):
                    self._hello = message
            return
        raise SandboxFailed(f"the jail took too long to set up{self.said()}")

    async def discard(self) -> None:
        """Let the jail that stands go, for one that shows what lies at the place now."""
        await self.ready()
        self.kill()
        self._hello = None
        await self.ready()

    async def go(self, message: bytes, files: Sequence[int]) -> None:
        """Give the jail that stands its job, with the open files that init expects."""
        self._hello = None
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", files))]
        try:
            await self._control.sendmsg([message], rights)
        except OSError as error:
            raise SandboxFailed(
                f"the jail ended before its program started: {error}{self.said()}"
            ) from error

    @property
    def number(self) -> int:
        """What the init of the jail that stands answers to."""
        assert self._hello
        return self._hello.number

    async def end(self) -> End | None:
        """Wait for the end; nothing of the program is left then. None when init died without a report,
        as it does when we end a jail. Raises SandboxFailed when the program could not be started."""
        message = await self._receive()
        if message is None:
            raise SandboxFailed(f"the program could not be started{self.said()}")
        if isinstance(message, Hello):
            self._hello = message
            return None
        return message

    async def send_signal(self, number: int) -> None:
        """To the program; without effect when it has ended."""
        with suppress(OSError):
            await self._control.send(bytes([number]))

    def kill(self) -> None:
        """End the jail: the death of its init ends every process in it."""
        with suppress(ProcessLookupError):  # it has ended by itself
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def close(self) -> None:
        """End nsjail and its jail; nothing of them is left then."""
        self._process.terminate()  # it kills and reaps its jail, then ends
        with trio.move_on_after(_END_TIMEOUT_S, shield=True):
            await self._process.wait()
            self.kill()  # its jail outlives an nsjail that was killed
            if self._pidfd is not None:
                await trio.lowlevel.wait_readable(self._pidfd)
        self._control.close()  # at which an init that is left after all ends by itself
        self._forget_pid()
        self._ours.close()

    def said(self) -> str:
        """What nsjail logged since the last time, for the operator."""
        with suppress(BlockingIOError):
            if log := os.read(self._log, _LOG):
                return f": {log.decode(errors='replace').strip()}"
        return ""

    async def _receive(self) -> Hello | End | None:
        try:
            data, ancillary, _, _ = await self._control.recvmsg(
                MESSAGE_MAX, socket.CMSG_SPACE(_CREDENTIALS.size)
            )
        except ConnectionResetError:  # as at end of file, but with something of ours unread
            data, ancillary = b"", []
        if not data:
            raise SandboxFailed(f"nsjail has ended{self.said()}")
        message = decode(data)
        if isinstance(message, Hello):
            self._forget_pid()
            pid = _CREDENTIALS.unpack(ancillary[0][2][: _CREDENTIALS.size])[0]
            with suppress(ProcessLookupError):
                self._pidfd = os.pidfd_open(pid)
        return message

    def _forget_pid(self) -> None:
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
