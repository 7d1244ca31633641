"""Limits and exact usage of a job, by control groups: v2 where its controllers are ours to use, else
v1, else none (then the jail's init samples, and start-up says so).

A job's group is made before its program starts and removed after its last process died. Groups are
named after the slot that leased them (`occd/sandbox/slots.py`), so nobody else's are ever touched,
and a slot's next owner clears what a killed one left.
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

_ROOT = Path("/sys/fs/cgroup")
_V1_CONTROLLERS = ("memory", "pids", "cpuacct")
_V2_CONTROLLERS = ("memory", "pids")
_REMOVE_TIMEOUT_S = 5.0
_DYING_LOOKS, _DYING_LOOK_S = 100, 0.01


@dataclass(frozen=True, slots=True)
class Usage:
    """`memory` is the peak in bytes, 0 where the kernel does not tell it."""

    cpu_time: float
    memory: int
    oom_kills: int


# Plain descriptors: with pathlib and text files a group costs three times as much.
def _read(path: str) -> str:
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
    for line in _read(path).splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return 0


class Group(ABC):
    """The control group (v1: one in each hierarchy) of one stage."""

    _join_file = "cgroup.procs"

    def __init__(self, folders: tuple[str, ...]) -> None:
        self._folders = folders

    @contextmanager
    def joinable(self) -> Iterator[list[int]]:
        """Open files by which a process joins, writing "0". It joins itself because being moved by
        another costs an RCU grace period."""
        fds: list[int] = []
        try:
            for folder in self._folders:
                # One by one, so that those before a failure are closed.
                fds.append(os.open(f"{folder}/{self._join_file}", os.O_WRONLY | os.O_CLOEXEC))  # noqa: PERF401
            yield fds
        finally:
            for fd in fds:
                os.close(fd)

    @contextmanager
    def cpu_time_file(self) -> Iterator[int]:
        """An open file that tells the CPU time of all processes that were ever in the group."""
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

    async def remove(self) -> None:
        """Remove the group; its processes are dead or dying.

        Raises SandboxFailed when one will not die.
        """
        with trio.move_on_after(_REMOVE_TIMEOUT_S):
            for folder in self._folders:
                # The kernel tells nobody when the last process has gone.
                while not _removed(folder):  # noqa: ASYNC110
                    await trio.sleep(0.002)
            return
        raise SandboxFailed(f"processes in {self._folders[0]} do not end")


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


def _kill_and_remove(folder: Path) -> None:
    """Clear what a killed owner of this name left behind."""
    for child in folder.glob("*/"):
        _kill_and_remove(child)
    with contextlib.suppress(FileNotFoundError):
        for pid in (folder / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), 9)
    for _ in range(_DYING_LOOKS):
        if _removed(str(folder)):
            return
        time.sleep(_DYING_LOOK_S)  # killed a moment ago: it is gone within milliseconds


class _V1Group(Group):
    _join_file = "tasks"

    def __init__(self, folders: tuple[str, ...], limits: Limits) -> None:
        super().__init__(folders)
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
            int(_read(self._cpu_time_path)) / 1e9,
            int(_read(f"{self._memory}/memory.max_usage_in_bytes")),
            _read_keyed(f"{self._memory}/memory.oom_control", "oom_kill"),
        )


class _V2Group(Group):
    def __init__(self, folders: tuple[str, ...], limits: Limits) -> None:
        super().__init__(folders)
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
            peak = int(_read(f"{self._folder}/memory.peak"))
        except FileNotFoundError:  # before Linux 5.19
            peak = 0
        kills = _read_keyed(f"{self._folder}/memory.events", "oom_kill")
        return Usage(_read_keyed(self._cpu_time_path, "usage_usec") / 1e6, peak, kills)


@dataclass(frozen=True, slots=True)
class Cgroups:
    """The place where this process may make groups: one folder for v2, one per controller for v1."""

    version: int
    parents: tuple[Path, ...]

    def create(self, name: str, limits: Limits) -> Group:
        folders = tuple(f"{parent}/{name}" for parent in self.parents)
        for folder in folders:
            try:
                os.mkdir(folder)
            except FileExistsError:
                _kill_and_remove(Path(folder))
                os.mkdir(folder)
        return (_V2Group if self.version == 2 else _V1Group)(folders, limits)

    def clear(self, prefix: str) -> None:
        """Kill and remove every group whose name starts with `prefix`."""
        for parent in self.parents:
            for folder in parent.glob(f"{prefix}*/"):
                _kill_and_remove(folder)


def find_cgroups() -> Cgroups | None:
    """The best control groups that this process may use; None when it may use none."""
    return _find_v2() or _find_v1()


def own_path(controller: str) -> str | None:
    """This process's group in a v1 hierarchy, or in v2 for the name ''."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path
    return None


def _mounted(kind: str, controller: str = "") -> Path | None:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, fstype, options, *_ = line.split()
        if fstype == kind and (not controller or controller in options.split(",")):
            return Path(where)
    return None


def _find_v1() -> Cgroups | None:
    parents = []
    for controller in _V1_CONTROLLERS:
        mounted, own = _mounted("cgroup", controller), own_path(controller)
        if mounted is None or own is None:
            return None
        parent = mounted / own.lstrip("/")
        if not parent.is_dir():  # a container that was given its host's path
            parent = mounted
        if not os.access(parent, os.W_OK):
            return None
        parents.append(parent)
    return Cgroups(1, tuple(parents))


def _find_v2() -> Cgroups | None:
    mounted, own = _mounted("cgroup2"), own_path("")
    if mounted is None or own is None:
        return None
    here = mounted / own.lstrip("/")
    if here.name == "occd-daemon":  # a part of us has moved already
        return _usable_v2(here.parent)
    return _delegated_v2(here) or _usable_v2(mounted / "occd", make=True)


def _delegated_v2(here: Path) -> Cgroups | None:
    """Use the group that systemd (Delegate=yes) or a container gave us alone. Groups with processes
    cannot hand controllers to children, so we move to a leaf of our own first."""
    try:
        alone = (here / "cgroup.procs").read_text().split() == [str(os.getpid())]
        if not alone or not os.access(here / "cgroup.subtree_control", os.W_OK):
            return None
        leaf = here / "occd-daemon"
        leaf.mkdir(exist_ok=True)
        (leaf / "cgroup.procs").write_text(str(os.getpid()))
    except OSError:
        return None
    return _usable_v2(here)


def _usable_v2(parent: Path, *, make: bool = False) -> Cgroups | None:
    wanted = " ".join(f"+{name}" for name in _V2_CONTROLLERS)
    try:
        if make:
            if not set(_V2_CONTROLLERS) <= set(
                (parent.parent / "cgroup.controllers").read_text().split()
            ):
                return None
            (parent.parent / "cgroup.subtree_control").write_text(wanted)
            parent.mkdir(exist_ok=True)
        (parent / "cgroup.subtree_control").write_text(wanted)
    except OSError:
        return None
    return Cgroups(2, (parent,))
