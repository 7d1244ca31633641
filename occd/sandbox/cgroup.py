"""Limits and exact usage of a job, by control groups: v2 where its controllers are ours to use, else
v1, else none (then the jail's init samples, and start-up says so).

A job's group is made before its program starts and removed after its last process died. Groups are
named after the slot that leased them (`occd/sandbox/slots.py`), so nobody else's are ever touched,
and a slot's next owner clears what a killed one left.
"""

import contextlib
import errno
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import trio

from occd.errors import SandboxFailed
from occd.model import Limits

_ROOT = Path("/sys/fs/cgroup")
_V1_CONTROLLERS = ("memory", "pids", "cpuacct")
_V2_CONTROLLERS = ("memory", "pids")
_REMOVE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Usage:
    """`memory` is the peak in bytes, 0 where the kernel does not tell it."""

    cpu_time: float
    memory: int
    oom_kills: int


def _read_number(path: Path) -> int:
    return int(path.read_text())


def _read_keyed(path: Path, key: str) -> int:
    for line in path.read_text().splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return 0


class Group(ABC):
    """The control group (v1: one in each hierarchy) of one stage."""

    def __init__(self, folders: tuple[Path, ...]) -> None:
        self._folders = folders

    def add(self, pid: int) -> None:
        for folder in self._folders:
            (folder / "cgroup.procs").write_text(str(pid))

    @abstractmethod
    def cpu_time(self) -> float:
        """Seconds used so far by all processes that were ever in the group."""

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


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
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
    with contextlib.suppress(OSError):
        folder.rmdir()


class _V1Group(Group):
    def __init__(self, folders: tuple[Path, ...], limits: Limits) -> None:
        super().__init__(folders)
        self._memory, pids, self._cpuacct = folders
        (self._memory / "memory.limit_in_bytes").write_text(str(limits.memory))
        with contextlib.suppress(OSError):  # absent without swap accounting; then:
            (self._memory / "memory.memsw.limit_in_bytes").write_text(str(limits.memory))
        (self._memory / "memory.swappiness").write_text("0")
        (pids / "pids.max").write_text(str(limits.processes + 1))

    def cpu_time(self) -> float:
        return _read_number(self._cpuacct / "cpuacct.usage") / 1e9

    def usage(self) -> Usage:
        return Usage(
            self.cpu_time(),
            _read_number(self._memory / "memory.max_usage_in_bytes"),
            _read_keyed(self._memory / "memory.oom_control", "oom_kill"),
        )


class _V2Group(Group):
    def __init__(self, folders: tuple[Path, ...], limits: Limits) -> None:
        super().__init__(folders)
        (self._folder,) = folders
        (self._folder / "memory.max").write_text(str(limits.memory))
        with contextlib.suppress(FileNotFoundError):  # a kernel without swap
            (self._folder / "memory.swap.max").write_text("0")
        (self._folder / "memory.oom.group").write_text("1")
        (self._folder / "pids.max").write_text(str(limits.processes + 1))

    def cpu_time(self) -> float:
        return _read_keyed(self._folder / "cpu.stat", "usage_usec") / 1e6

    def usage(self) -> Usage:
        try:
            peak = _read_number(self._folder / "memory.peak")
        except FileNotFoundError:  # before Linux 5.19
            peak = 0
        kills = _read_keyed(self._folder / "memory.events", "oom_kill")
        return Usage(self.cpu_time(), peak, kills)


@dataclass(frozen=True, slots=True)
class Cgroups:
    """The place where this process may make groups: one folder for v2, one per controller for v1."""

    version: int
    parents: tuple[Path, ...]

    def create(self, name: str, limits: Limits) -> Group:
        folders = tuple(parent / name for parent in self.parents)
        for folder in folders:
            try:
                folder.mkdir()
            except FileExistsError:
                _kill_and_remove(folder)
                folder.mkdir(exist_ok=True)
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
