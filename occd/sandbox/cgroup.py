"""Limits and exact usage of a job, by control groups: v2 where occd may use its controllers, else v1, else
none (then the jail's init samples, and the start says so).

A job's group is made before its program starts and removed after its last process died. Groups are named
after the slot that leased them (`occd/sandbox/slots.py`). occd therefore never touches another program's
groups, and the next owner of a slot removes the groups that a killed owner left.

The processors are shared by group. Without a group, each session of a program gets as much as a whole
neighbour (autogroup). On v2, and where v1's `cpu` is mounted with `cpuacct`, the job's group shares them.
Where `cpu` is apart, a slot has one group there for all of its jobs, which saves a fourth group for each job.
There can be many interactive jobs. All of them together get as much as one other job (`together`).
"""

import contextlib
import errno
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import trio

from occd.errors import SandboxFailed
from occd.model import Limits

_ROOT = Path("/sys/fs/cgroup")
_V1_CONTROLLERS = ("memory", "pids", "cpuacct")
_V2_CONTROLLERS = ("memory", "pids")
_LEAF = "occd-daemon"
_REMOVE_TIMEOUT_S = 5.0
_DYING_LOOKS, _DYING_LOOK_S = 100, 0.01


@dataclass(frozen=True, slots=True)
class Usage:
    """`memory` is the peak in bytes, 0 where the kernel has no such file."""

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

    def __init__(self, folders: tuple[str, ...], share: str | None) -> None:
        self._folders = folders
        self._joined = folders if share is None else (*folders, share)

    @contextmanager
    def joinable(self) -> Iterator[list[int]]:
        """Open files. A process that writes "0" to each of them joins the group. It joins by itself, because
        a move by another process costs an RCU grace period."""
        fds: list[int] = []
        try:
            for folder in self._joined:
                # One by one, so that a failure closes the files before it.
                fds.append(os.open(f"{folder}/{self._join_file}", os.O_WRONLY | os.O_CLOEXEC))  # noqa: PERF401
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


def _kill_and_remove(folder: Path) -> None:
    """Kill and remove the group that a killed owner of this name left."""
    for child in folder.glob("*/"):
        _kill_and_remove(child)
    with contextlib.suppress(FileNotFoundError):
        for pid in (folder / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), 9)
    for _ in range(_DYING_LOOKS):
        if _removed(str(folder)):
            return
        time.sleep(_DYING_LOOK_S)  # a killed process is gone within milliseconds


class _V1Group(Group):
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
            int(_read(self._cpu_time_path)) / 1e9,
            int(_read(f"{self._memory}/memory.max_usage_in_bytes")),
            _read_keyed(f"{self._memory}/memory.oom_control", "oom_kill"),
        )


class _V2Group(Group):
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
    cpu: Path | None = None
    """v1's `cpu`, where it is apart from `cpuacct`: each slot has a group in this folder."""

    shares_cpu: bool = False
    """Whether the processors are shared by job, however many sessions a job starts."""

    leaf: Path | None = None
    """v2: the group to which this process must move: a group with processes hands no controllers on."""

    made: bool = False
    """v2: whether occd makes the parent itself."""

    @property
    def folders(self) -> tuple[Path, ...]:
        """All folders in which our groups can lie."""
        return self.parents if self.cpu is None else (*self.parents, self.cpu)

    def claim(self) -> bool:
        """Prepare the place for groups. False when the kernel refuses this."""
        if self.version == 1:
            return True
        (parent,) = self.parents
        try:
            if self.leaf:
                self.leaf.mkdir(exist_ok=True)
                _move_to(self.leaf)
            if self.made:
                self._hand_on(parent.parent)
                parent.mkdir(exist_ok=True)
            self._hand_on(parent)
        except OSError:
            self.leave()
            return False
        return True

    def _hand_on(self, folder: Path) -> None:
        names = (*_V2_CONTROLLERS, *(("cpu",) if self.shares_cpu else ()))
        (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in names))

    def leave(self) -> None:
        """Undo `claim`, after all our groups were removed."""
        if self.leaf:
            with contextlib.suppress(OSError):  # nothing depends on it
                names = _read(f"{self.parents[0]}/cgroup.subtree_control").split()
                off = " ".join(f"-{name}" for name in names)
                (self.parents[0] / "cgroup.subtree_control").write_text(off)
                _move_to(self.parents[0])
                self.leaf.rmdir()

    def make_share(self, name: str) -> str | None:
        """Make the group in which all jobs of a slot share the processors, where this needs a group."""
        if self.cpu is None:
            return None
        folder = str(self.cpu / f"{name}-cpu")
        _make(folder)
        return folder

    @contextmanager
    def together(self, name: str) -> Iterator["Cgroups"]:
        """A place whose jobs all together get as much of the processors as one job outside of the place. It
        needs `shares_cpu`."""
        folder = (self.cpu or self.parents[-1]) / name
        _make(str(folder))
        try:
            if self.cpu:
                yield replace(self, cpu=folder)
            else:
                if self.version == 2:
                    self._hand_on(folder)
                yield replace(self, parents=(*self.parents[:-1], folder))
        finally:
            with contextlib.suppress(OSError):  # a process does not end: the next owner removes it
                os.rmdir(folder)

    def create(self, name: str, limits: Limits, share: str | None) -> Group:
        """A group for a job. The job also joins `share`."""
        folders = tuple(f"{parent}/{name}" for parent in self.parents)
        kind = _V2Group if self.version == 2 else _V1Group
        try:
            for folder in folders:
                _make(folder)
            return kind(folders, share, limits)
        except BaseException:
            for folder in folders:
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
            raise

    def clear(self, prefix: str) -> None:
        """Kill and remove every group whose name starts with `prefix`."""
        for parent in self.folders:
            for folder in parent.glob(f"{prefix}*/"):
                _kill_and_remove(folder)


def _make(folder: str) -> None:
    try:
        os.mkdir(folder)
    except FileExistsError:
        _kill_and_remove(Path(folder))
        os.mkdir(folder)


def _move_to(folder: Path) -> None:
    (folder / "cgroup.procs").write_text(str(os.getpid()))


def find_cgroups() -> Cgroups | None:
    """The best control groups that this process may use; None when it may use none. This only looks: call
    `claim` before using the groups."""
    return _find_v2() or _find_v1()


def own_path(controller: str) -> str | None:
    """This process's group in a v1 hierarchy, or in v2 for the name ''."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path
    return None


def find_mount(kind: str, controller: str = "") -> Path | None:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, fstype, options, *_ = line.split()
        if fstype == kind and (not controller or controller in options.split(",")):
            return Path(where)
    return None


def _find_v1() -> Cgroups | None:
    parents = [parent for name in _V1_CONTROLLERS if (parent := _find_v1_controller(name))]
    if len(parents) < len(_V1_CONTROLLERS):
        return None
    cpu = _find_v1_controller("cpu")
    together = cpu in parents
    return Cgroups(1, tuple(parents), None if together else cpu, shares_cpu=cpu is not None)


def _find_v1_controller(name: str) -> Path | None:
    mounted, own = find_mount("cgroup", name), own_path(name)
    if mounted is None or own is None:
        return None
    parent = mounted / own.lstrip("/")
    if not parent.is_dir():  # a container that sees its host's path
        parent = mounted
    return parent if os.access(parent, os.W_OK) else None


def _find_v2() -> Cgroups | None:
    mounted, own = find_mount("cgroup2"), own_path("")
    if mounted is None or own is None:
        return None
    here = mounted / own.lstrip("/")
    if here.name == _LEAF:  # a part of us has moved already
        return _usable_v2(here.parent, here.parent)
    try:
        alone = (here / "cgroup.procs").read_text().split() == [str(os.getpid())]
    except OSError:
        alone = False
    if alone and (found := _usable_v2(here, here, leaf=here / _LEAF)):
        return found  # systemd (Delegate=yes) or a container delegated the group
    return _usable_v2(mounted, mounted / "occd", made=True)


def _usable_v2(
    giver: Path, parent: Path, *, leaf: Path | None = None, made: bool = False
) -> Cgroups | None:
    """Groups below `parent`, if `giver` can hand the controllers to the parent or to the groups."""
    try:
        controllers = (giver / "cgroup.controllers").read_text().split()
    except OSError:
        return None
    writable = os.access(giver / "cgroup.subtree_control", os.W_OK)
    if not writable or not set(_V2_CONTROLLERS) <= set(controllers):
        return None
    return Cgroups(2, (parent,), shares_cpu="cpu" in controllers, leaf=leaf, made=made)
