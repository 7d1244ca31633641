"""A long-lived nsjail with a maker of jails, which makes one after another. The next jail stands ready before
its job is known, and the start of nsjail (dynamic linking, reading its policy) is paid for once.

Theory of operation. When a jail has ended, the maker (`sandbox/init/warm.c`) makes the next one. The init of
every jail says hello over one socket and waits. `ready` takes the hello, `go` gives the job,
`terminal` takes our side of the program's terminal if there is one, `end` takes the report. When an init dies
without a report (most often because we killed it), the next message is the hello of the next jail. The maker
makes this jail only when no process of the last jail is left. Where the machine forbids what a maker needs,
nsjail makes the jails itself, in its mode `rerun`.

nsjail is tethered to us: it dies when we die, and its jail dies with it. Its log is a pipe, which we empty
for each jail that is made. An nsjail that fails again and again therefore stops when the pipe is full.
"""

import errno
import os
import signal
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress

import trio

from occd.errors import SandboxFailed
from occd.sandbox.init import MESSAGE_MAX, Answer, End, Found, Hello, Master, decode
from occd.sandbox.spawn import Process, ended, readable
from occd.sandbox.waits import Waits

CONTROL_FD, LOG_FD = 3, 4
"""Descriptors in nsjail: init's socket, and the pipe of the log."""

_SETUP_TIMEOUT_S = 30.0
_STUCK_TIMEOUT_S = 1.0
_END_TIMEOUT_S = 10.0
_DEATH_S = 1.0
_AGAIN_S = 0.05
_CREDENTIALS = struct.Struct("=iII")
_FILE = struct.Struct("=i")
_SEND_BUFFER = 2**20  # a job's arguments go in one message
_LOG = 65_536
_KEPT = 4096


class Jail:
    """A jail that nsjail has made. A signal or kill through this object reaches no other jail."""

    def __init__(self, hello: Hello, pid: int, control: socket.socket) -> None:
        """`pid` is init's, `control` is our end of its socket."""
        self.number = hello.number
        self.resident = hello.resident
        self._control = control
        self._pidfd = _open_pidfd(pid)
        self._over = False

    def send(self, order: bytes, *files: int) -> bool:
        """Send an order to init. False when this was not possible, as when the program has ended.

        The next init reads the orders that this init had not read. It ignores orders until it has its job.
        So nothing may be sent when this jail is over."""
        if not self._over:
            with suppress(OSError):  # init has ended, or does not read: `kill` still works
                socket.send_fds(self._control, [order], files)
                return True
        return False

    def kill(self) -> None:
        """Kill the jail's init. The kernel then kills every process in the jail."""
        if self._pidfd is not None:
            with suppress(ProcessLookupError):  # it has ended by itself
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def over(self) -> None:
        """Note that no process of the program is left."""
        self._over = True

    @property
    def lives(self) -> bool:
        """Whether its init has not ended."""
        return self._pidfd is not None and not ended(self._pidfd)

    async def gone(self) -> None:
        if self._pidfd is not None:
            await trio.lowlevel.wait_readable(self._pidfd)

    def close(self) -> None:
        self._over = True
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None


def _open_pidfd(pid: int) -> int | None:
    """None when the process has just gone."""
    with suppress(ProcessLookupError):
        return os.pidfd_open(pid)
    return None


class Launcher:
    """One nsjail and its latest jail."""

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        tether: str,
        uid: int,
        waits: Waits,
    ) -> None:
        """`argv` and `env` are nsjail's; `tether` is the path of occd-init on this machine; `uid` is the
        user of the jails for this process: the kernel counts to it the things that it keeps for programs."""
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
            control.setblocking(False)
            self._control = control
            self._uid = uid
            self._waits = waits
            self._said = b""
            self._jail: Jail | None = None
            self._master: int | None = None
            self._stands = False
            self.found: Found | None = None
            self._patience_s = _END_TIMEOUT_S
            self._process = Process(
                [tether, "tether", str(os.getpid()), str(uid), *argv],
                env,
                {0: null, 1: log, 2: log, CONTROL_FD: inits.fileno(), LOG_FD: log},
            )
            ours.callback(self._process.close)
            ours.callback(self.close_terminal)
            self._ours = ours.pop_all()

    async def look(self) -> bool:
        """Take the messages that have come, without waiting. Whether a jail stands ready."""
        while not self._stands and readable(self._control.fileno()):
            await self._receive()  # perhaps a message of the last jail that nobody read
        return self._stands

    async def ready(self) -> None:
        """Wait until a jail stands ready. Raises SandboxFailed when none does in time."""
        if await self.look():
            return
        with trio.move_on_after(_SETUP_TIMEOUT_S), self._waits.one_more():
            while not self._stands:
                await self._receive()
            return
        self._patience_s = _STUCK_TIMEOUT_S
        raise SandboxFailed(
            f"no jail became ready within {_SETUP_TIMEOUT_S:.0f} s: the machine is overloaded, "
            f"or its kernel is stuck{self.said()}"
        )

    @property
    def stood(self) -> bool:
        """Whether one of its jails stood."""
        return self._jail is not None

    @property
    def has_news(self) -> bool:
        """Whether `ready` need not wait: a jail stands, or nsjail has ended."""
        return self._stands or readable(self._control.fileno())

    @property
    def lives(self) -> bool:
        """Whether nsjail lives, and the jail that stands ready. The hello of a dead one can still be read."""
        return self._process.lives and self.jail.lives

    async def discard(self) -> None:
        """End the jail that stands ready. The next one shows what is mounted at the place now."""
        await self.ready()
        self.jail.kill()
        self._stands = False
        await self.ready()

    @property
    def jail(self) -> Jail:
        """The jail that stands ready, or that got its job last."""
        assert self._jail
        return self._jail

    async def go(self, message: bytes, files: Sequence[int]) -> None:
        """Give the jail that stands ready its job, with the open files that init expects."""
        self._stands = False
        try:
            while True:
                with suppress(BlockingIOError):
                    socket.send_fds(self._control, [message], files)
                    return
                await trio.lowlevel.wait_writable(self._control)
        except OSError as error:
            raise SandboxFailed(
                f"the jail ended before its program started: {error}{self.said()}"
            ) from error

    async def terminal(self) -> int:
        """Our side of the terminal of the program that was just started.

        Raises SandboxFailed when the program gets none in time."""
        with trio.move_on_after(_SETUP_TIMEOUT_S):
            await self._receive()
        if self._master is None:
            raise SandboxFailed(f"the program could not be given a terminal{self.said()}")
        return self._master

    def close_terminal(self) -> None:
        """Only when no process of the program is left: the kernel waits for those that use the terminal."""
        if self._master is not None:
            os.close(self._master)
            self._master = None

    async def end(self, answered: Callable[[int], None]) -> End | None:
        """Wait for the end. After it no process of the program is left. None when init died without a
        report, as after our kill. `answered` gets the errors of work with files, 0 for none.

        Raises SandboxFailed when the program could not be started."""
        while isinstance(message := await self._receive(), Answer):
            answered(message.error)
        if message is None:
            raise SandboxFailed(f"the program could not be started{self.said()}")
        if isinstance(message, Hello):
            return None
        assert isinstance(message, End)
        self.jail.over()
        return message

    async def close(self) -> None:
        """End nsjail and its jail. After the return no process of either is left. Raises SandboxFailed when
        one does not end, as when it hangs in the kernel; it may be tried again, and then takes no time."""
        self._process.terminate()  # nsjail kills and reaps its jail, then ends
        if not await self._gone(self._patience_s):
            self._process.kill()
            again, self._patience_s = self._patience_s == _AGAIN_S, _AGAIN_S
            if not await self._gone(_AGAIN_S if again else _DEATH_S):
                raise SandboxFailed(f"nsjail or its jail does not end{self.said()}")
        trio.lowlevel.notify_closing(self._control)
        self._control.close()
        if self._jail:
            self._jail.close()
        self._ours.close()

    async def _gone(self, seconds: float) -> bool:
        with trio.move_on_after(seconds, shield=True):
            await self._process.wait()
            if self._jail:
                self._jail.kill()  # the jail outlives an nsjail that was killed
                await self._jail.gone()
            return True
        return False

    def said(self) -> str:
        """The latest lines of nsjail's log for the operator. Each line is returned once."""
        self._read_log()
        said, self._said = self._said.decode(errors="replace").strip(), b""
        return said and f": {said}"

    def _read_log(self) -> None:
        """Empty the log, because nsjail stops when the pipe is full. nsjail logs little for each jail."""
        with suppress(BlockingIOError):
            said = self._said + os.read(self._log, _LOG)
            if len(said) > _KEPT:
                said = said[-_KEPT:].partition(b"\n")[2]  # whole lines
            self._said = said

    async def _message(self) -> tuple[bytes, list[tuple[int, int, bytes]]]:
        """The next message. One that has come already costs no turn of Trio's loop."""
        while True:
            with suppress(BlockingIOError):
                data, ancillary, _, _ = self._control.recvmsg(
                    MESSAGE_MAX,
                    socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(_FILE.size),
                    socket.MSG_CMSG_CLOEXEC,
                )
                return data, ancillary
            await trio.lowlevel.wait_readable(self._control)

    async def _receive(self) -> Hello | Found | Master | Answer | End | None:
        try:
            data, ancillary = await self._message()
        except ConnectionResetError:  # end of file, with unread bytes of ours
            data, ancillary = b"", []
        self._read_log()
        if not data:
            raise SandboxFailed(f"nsjail has ended{self.said()}")
        message = decode(data)
        if isinstance(message, Hello):
            if self._jail:
                self._jail.close()
                self._jail = None
            pid, *ids = _CREDENTIALS.unpack(ancillary[0][2][: _CREDENTIALS.size])
            self._jail = Jail(message, pid, self._control)
            if ids != [self._uid, self._uid]:  # what a jail tells of itself is its maker's view
                raise SandboxFailed(f"a jail has the user and the group {ids}, and not {self._uid}")
            self._stands = True
        elif isinstance(message, Found):
            self.found = message
        elif isinstance(message, Master):
            if len(ancillary) < 2:  # the kernel leaves a file out for which we have no descriptor
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            (self._master,) = _FILE.unpack(ancillary[1][2])
            os.set_blocking(self._master, False)
        return message
