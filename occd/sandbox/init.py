"""The words that occd and `sandbox/init/init.c`, the first process of every jail, exchange."""

import os
import signal
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from occd.model import Limits

_HELLO = struct.Struct("=B7xQ")
_GO = struct.Struct("=Q4I7Q")
_END = struct.Struct("=BBHiQQQ")
MESSAGE_MAX = _END.size
_Guard = Literal["memory", "cpu_time", "wall_time"]
_GUARDS: dict[int, _Guard] = {ord("m"): "memory", ord("c"): "cpu_time", ord("w"): "wall_time"}


@dataclass(frozen=True, slots=True)
class Hello:
    """A jail stands. `number` is what its init will answer to."""

    number: int


@dataclass(frozen=True, slots=True)
class End:
    """The exact end of the jail's first process. `status` is as from waitpid."""

    status: int
    guarded: _Guard | None
    """The limit at which init ended the program."""
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


def encode_go(
    number: int, argv: Sequence[str], env: Sequence[str], limits: Limits, groups: int
) -> bytes:
    """`groups` open files of control groups come along, and one that tells the CPU time used in them; with
    none, init samples usage itself."""
    head = _GO.pack(
        number,
        len(argv),
        len(env),
        groups,
        os.cpu_count() or 1,
        limits.file_size,
        limits.open_files,
        limits.processes + 1,  # init itself
        limits.memory,  # a stack may grow as far as memory goes, as contest programs expect
        limits.memory,
        int(limits.cpu_time * 1e9),
        int(limits.wall_time * 1e9),
    )
    return head + b"".join(os.fsencode(word) + b"\0" for word in (*argv, *env))


def decode(message: bytes) -> Hello | End | None:
    """None says that the program could not be started, through no fault of its own."""
    if message[:1] == b"R":
        return Hello(_HELLO.unpack(message)[1])
    kind, guarded, _, status, wall_ns, cpu_ns, peak = _END.unpack(message)
    if kind != ord("X"):
        return None
    return End(status, _GUARDS.get(guarded), wall_ns / 1e9, cpu_ns / 1e9, peak)
