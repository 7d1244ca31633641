"""The control group of one job: its limits, its exact usage, and its end. v1 has one in each hierarchy.

A job's group is made before its program starts and removed after its last process died. Both take the kernel
milliseconds, so a thread does both beside another run, where it can (`jailer.py`). A group that is in the way
of a new one was left by a killed process of occd (`cgroup.py`).
"""

import contextlib
import errno
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from occd.errors import SandboxFailed
from occd.model import Limits

_REMOVE_TIMEOUT_S = 5.0
_DYING_LOOKS, _DYING_LOOK_S = 100, 0.01


@dataclass(frozen=True, slots=True)
class Usage:
    """`memory` is the peak in bytes, 0 where the kernel has no such file."""

    cpu_time: float
    memory: int
    oom_kills: int


# Plain descriptors: with pathlib and text files a group costs three times as much.
def read(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096).decode()
    finally:
        os.close(fd)


def _write(path: str, value: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, str(value).encode())
    finally:
        os.close(fd)


def _read_keyed(path: str, key: str) -> int:
    for line in read(path).splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return 0


class Group(ABC):
    """The control group (v1: one in each hierarchy) of one job."""

    _join_file = "cgroup.procs"

    def __init__(self, folders: tuple[str, ...], share: str | None) -> None:
        self._folders = folders
        self._joined = folders if share is None else (*folders, share)

    @contextmanager
    def joinable(self, *, whole: bool = False) -> Iterator[list[int]]:
        """Open files. A process that writes "0" to each of them joins the group. It joins by itself, because
        a move by another process costs an RCU grace period. With v1 only the thread that writes joins, which
        waits for nobody, unless the process is to join as a `whole`."""
        name = Group._join_file if whole else self._join_file
        fds: list[int] = []
        try:
            for folder in self._joined:
                # One by one, so that a failure closes the files before it.
                fds.append(os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CLOEXEC))  # noqa: PERF401
            yield fds
        finally:
            for fd in fds:
                os.close(fd)

    @contextmanager
    def cpu_time_file(self) -> Iterator[int]:
        """An open file with the CPU time of all processes that were ever in the group."""
        fd = os.open(self._cpu_time_path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)

    @property
    @abstractmethod
    def _cpu_time_path(self) -> str: ...

    @abstractmethod
    def usage(self) -> Usage: ...

    @property
    def empty(self) -> bool:
        """Whether no process is left, so that the group can be removed at any time."""
        return not read(f"{self._folders[-1]}/cgroup.procs")

    def removed(self) -> bool:
        """Remove the group at once, if no process is left."""
        return all(map(_removed, self._folders))

    async def remove(self) -> None:
        """Remove the group, whose processes are dead or dying.

        Raises SandboxFailed when a process does not die.
        """
        await remove(*self._folders)


async def remove(*folders: str) -> None:
    """Remove groups whose processes are dead or dying. Raises SandboxFailed when a process does not die."""
    if all(map(_removed, folders)):
        return
    with trio.move_on_after(_REMOVE_TIMEOUT_S):
        for folder in folders:
            # The kernel does not notify when the last process has gone.
            while not _removed(folder):  # noqa: ASYNC110
                await trio.sleep(0.002)
        return
    raise SandboxFailed(f"processes in {folders[0]} do not end")


def _removed(folder: str) -> bool:
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


def kill_and_remove(folder: Path) -> None:
    """Kill and remove the group that a killed owner of this name left."""
    for child in folder.glob("*/"):
        kill_and_remove(child)
    with contextlib.suppress(FileNotFoundError):
        for pid in (folder / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), 9)
    for _ in range(_DYING_LOOKS):
        if _removed(str(folder)):
            return
        time.sleep(_DYING_LOOK_S)  # a killed process is gone within milliseconds


class V1Group(Group):
    _join_file = "tasks"

    def __init__(self, folders: tuple[str, ...], share: str | None, limits: Limits) -> None:
        super().__init__(folders, share)
        self._memory, pids, self._cpuacct = folders
        _write(f"{self._memory}/memory.limit_in_bytes", limits.memory)
        with contextlib.suppress(OSError):  # absent without swap accounting; then:
            _write(f"{self._memory}/memory.memsw.limit_in_bytes", limits.memory)
        with contextlib.suppress(
            OSError
        ):  # absent where v1 is going away; then nobody counts these:
            _write(f"{self._memory}/memory.kmem.tcp.limit_in_bytes", limits.memory)
        _write(f"{self._memory}/memory.swappiness", 0)
        _write(f"{pids}/pids.max", limits.processes)

    @property
    def _cpu_time_path(self) -> str:
        return f"{self._cpuacct}/cpuacct.usage"

    def usage(self) -> Usage:
        return Usage(
            int(read(self._cpu_time_path)) / 1e9,
            int(read(f"{self._memory}/memory.max_usage_in_bytes")),
            _read_keyed(f"{self._memory}/memory.oom_control", "oom_kill"),
        )


class V2Group(Group):
    def __init__(self, folders: tuple[str, ...], share: str | None, limits: Limits) -> None:
        super().__init__(folders, share)
        (self._folder,) = folders
        _write(f"{self._folder}/memory.max", limits.memory)
        with contextlib.suppress(FileNotFoundError):  # a kernel without swap
            _write(f"{self._folder}/memory.swap.max", 0)
        _write(f"{self._folder}/memory.oom.group", 1)
        _write(f"{self._folder}/pids.max", limits.processes)

    @property
    def _cpu_time_path(self) -> str:
        return f"{self._folder}/cpu.stat"

    def usage(self) -> Usage:
        try:
            peak = int(read(f"{self._folder}/memory.peak"))
        except FileNotFoundError:  # before Linux 5.19
            peak = 0
        kills = _read_keyed(f"{self._folder}/memory.events", "oom_kill")
        return Usage(_read_keyed(self._cpu_time_path, "usage_usec") / 1e6, peak, kills)


def make(folder: str) -> None:
    try:
        os.mkdir(folder)
    except FileExistsError:
        kill_and_remove(Path(folder))
        os.mkdir(folder)
