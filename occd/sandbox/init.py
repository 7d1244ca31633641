"""The words that occd and `sandbox/init/init.c`, the first process of every jail, exchange."""

import os
import signal
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from occd import trace
from occd.inputs import Limits, Terminal
from occd.model import LimitName
from occd.sandbox import Idle

INIT = "/.occd-init"
"""Its path for programs."""
_HELLO = struct.Struct("=B7xQQ")
_GO = struct.Struct("=Q11I4x9Q")
_ORDER = struct.Struct("=cB6xQQ")
_FOUND = struct.Struct("=B7xQQ")
_ANSWER = struct.Struct("=B3xi")
_END = struct.Struct("=BBBBiQQQ")
MESSAGE_MAX = 16_384 + _FOUND.size
Work = Literal["put", "list", "get"]
_WORKS: dict[Work, bytes] = {"put": b"P", "list": b"L", "get": b"G"}
_LIMITS: dict[LimitName, int] = {
    "memory": ord("m"),
    "cpu_time": ord("c"),
    "wall_time": ord("w"),
    "idle": ord("i"),
}
_LETTERS = {letter: name for name, letter in _LIMITS.items()}
_TRACED: dict[int, trace.End] = {
    ord("w"): "whole",
    ord("l"): "limit",
    ord("n"): "no_python",
    ord("p"): "not_permitted",
    ord("d"): "tracer_died",
}


class Init(Protocol):
    """The init of one jail, as long as its program runs."""

    def send(self, order: bytes, *files: int) -> bool:
        """Send an order, with open files. False when this was not possible, as when the program has
        ended."""

    def kill(self) -> None:
        """Kill init. The kernel then kills every process of the program."""


@dataclass(frozen=True, slots=True)
class Hello:
    """A jail stands. `number` is what its init will answer to. `resident` are the bytes of memory that its
    program has already, which control groups do not count to the job."""

    number: int
    resident: int


@dataclass(frozen=True, slots=True)
class Found:
    """The interpreter has imported its packages, and its first jail will stand soon. `copied` are the bytes
    that each copy has of its own when it stands ready, `names` those of `sandbox/init/warm.h`."""

    cpu_time: float
    copied: int
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class Master:
    """The program gets a terminal. Our side of it came along as an open file."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Work with files is done. `error` is 0 or an errno."""

    error: int


@dataclass(frozen=True, slots=True)
class End:
    """The exact end of the jail's first process. `status` is as from waitpid."""

    status: int
    limit: LimitName | None
    """The limit that the usage exceeds."""
    ended: bool
    """Whether init ended the program for this."""
    wall_time: float
    cpu_time: float
    peak: int
    traced: trace.End | None = None
    """How the tracer ended; None when nothing was to be traced."""

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


def encode_go(
    number: int,
    argv: Sequence[str],
    env: Sequence[str],
    limits: Limits,
    idle: Idle | None,
    groups: int,
    tty: Terminal | None,
    *,
    traced: bool = False,
    boxed: bool = False,
    held: bool = False,
) -> bytes:
    """Three open files come along, unless the program gets a terminal. Behind them come `groups` open files
    of control groups, and one that tells the CPU time used in them; with none, init samples usage itself. The
    next one, when the program is `traced`, gets the trace. The last one, when it is `boxed`, is the mount
    that the jail shows as its box. A program that is `held` begins with the order to begin."""
    head = _GO.pack(
        number,
        len(argv),
        len(env),
        groups,
        int(groups > 0),  # whether a file tells the CPU time
        os.cpu_count() or 1,
        int(traced),
        *((tty.rows, tty.cols) if tty else (0, 0)),
        0,  # for the relay to set
        int(boxed),
        int(held),
        limits.file_size,
        limits.open_files,
        limits.processes + 1 + int(traced),  # init itself, and the tracer
        limits.memory,  # a stack may grow as far as memory goes, as contest programs expect
        limits.memory,
        _nanoseconds(limits.cpu_time),
        _nanoseconds(limits.wall_time),
        *(map(_nanoseconds, (idle.quiet, idle.longest)) if idle else (0, 0)),
    )
    return head + b"".join(os.fsencode(word) + b"\0" for word in (*argv, *env))


def encode_begin() -> bytes:
    return _ORDER.pack(b"B", 0, 0, 0)


def encode_signal(number: int) -> bytes:
    return _ORDER.pack(b"S", number, 0, 0)


def encode_limit(name: LimitName, seconds: float | None) -> bytes:
    """Arm the wall time or the CPU time, counted from now; None disarms it."""
    return _ORDER.pack(b"A", _LIMITS[name], _nanoseconds(seconds), 0)


def encode_idle(idle: Idle | None) -> bytes:
    """Arm the idle time, counted from now; None disarms it."""
    both = (idle.quiet, idle.longest) if idle else (None, None)
    return _ORDER.pack(b"A", _LIMITS["idle"], *map(_nanoseconds, both))


def encode_talks() -> bytes:
    """The program has written something, so it is not idle now."""
    return _ORDER.pack(b"T", 0, 0, 0)


def encode_work(work: Work, path: bytes, first: int) -> bytes:
    """`first` is the mode of a file that is put, or the most entries or bytes. An open file comes along."""
    return _ORDER.pack(_WORKS[work], 0, first, 0) + path


def _nanoseconds(seconds: float | None) -> int:
    """0 says that the limit is not armed."""
    return 0 if seconds is None else max(1, round(seconds * 1e9))


def decode(message: bytes) -> Hello | Found | Master | Answer | End | None:
    """None says that the program could not be started, through no fault of its own."""
    if message[:1] == b"R":
        return Hello(*_HELLO.unpack(message)[1:])
    if message[:1] == b"I":
        cpu_ns, copied = _FOUND.unpack_from(message)[1:]
        names = message[_FOUND.size :].decode(errors="surrogateescape").splitlines()
        return Found(cpu_ns / 1e9, copied, frozenset(names))
    if message[:1] == b"M":
        return Master()
    if message[:1] == b"W":
        return Answer(_ANSWER.unpack(message)[1])
    kind, limit, ended, traced, status, wall_ns, cpu_ns, peak = _END.unpack(message)
    if kind != ord("X"):
        return None
    return End(
        status,
        _LETTERS.get(limit),
        bool(ended),
        wall_ns / 1e9,
        cpu_ns / 1e9,
        peak,
        _TRACED.get(traced),
    )
