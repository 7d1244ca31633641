"""The place for our control groups: v2 where occd may use its controllers, else v1, else none (then each
jail's init samples, and the start says so). `group.py` has the group of one job.

Groups are named after the slot that leased them (`occd/sandbox/slots.py`). occd therefore never touches
another program's groups, and the next owner of a slot removes the groups that a killed owner left.

The processors are shared by group. Without a group, each session of a program gets as much as a whole
neighbour (autogroup). On v2, and where v1's `cpu` is mounted with `cpuacct`, the job's group shares them.
Where `cpu` is apart, a slot has one group there for all of its jobs, which saves a fourth group for each job.
There can be many interactive jobs. All of them together get as much as one other job (`together`).
"""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from occd.model import Limits
from occd.sandbox.group import Group, V1Group, V2Group, kill_and_remove, make, read

_V1_CONTROLLERS = ("memory", "pids", "cpuacct")
_V2_CONTROLLERS = ("memory", "pids")
_LEAF = "occd-daemon"


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
                names = read(f"{self.parents[0]}/cgroup.subtree_control").split()
                off = " ".join(f"-{name}" for name in names)
                (self.parents[0] / "cgroup.subtree_control").write_text(off)
                _move_to(self.parents[0])
                self.leaf.rmdir()

    def make_share(self, name: str) -> str | None:
        """Make the group in which all jobs of a slot share the processors, where this needs a group."""
        if self.cpu is None:
            return None
        folder = str(self.cpu / f"{name}-cpu")
        make(folder)
        return folder

    @contextmanager
    def together(self, name: str) -> Iterator["Cgroups"]:
        """A place whose jobs all together get as much of the processors as one job outside of the place. It
        needs `shares_cpu`."""
        folder = (self.cpu or self.parents[-1]) / name
        make(str(folder))
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

    def make(self, name: str) -> tuple[str, ...]:
        """The folders of a group whose job is not known yet."""
        folders = tuple(f"{parent}/{name}" for parent in self.parents)
        with _undone(folders):
            for folder in folders:
                make(folder)
        return folders

    def create(self, folders: tuple[str, ...], limits: Limits, share: str | None) -> Group:
        """Make the group of a job of these folders. The job also joins `share`."""
        kind = V2Group if self.version == 2 else V1Group
        with _undone(folders):
            return kind(folders, share, limits)

    def clear(self, prefix: str) -> None:
        """Kill and remove every group whose name starts with `prefix`."""
        for parent in self.folders:
            for folder in parent.glob(f"{prefix}*/"):
                kill_and_remove(folder)


@contextmanager
def _undone(folders: tuple[str, ...]) -> Iterator[None]:
    """No folder is left after an error."""
    try:
        yield
    except BaseException:
        for folder in folders:
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        raise


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


def obstacle() -> str:
    """Why `find_cgroups` finds none of v2, for whoever is to mend it."""
    mounted, own = find_mount("cgroup2"), own_path("")
    if mounted is None or own is None:
        return "no cgroup2 is mounted"
    here = mounted / own.lstrip("/")
    try:
        controllers = (here / "cgroup.controllers").read_text().split()
        others = set((here / "cgroup.procs").read_text().split()) - {str(os.getpid())}
    except OSError as error:
        return f"{here} cannot be read ({error.strerror})"
    if os.statvfs(here).f_flag & os.ST_RDONLY:
        return f"{mounted} is mounted read-only"
    if missing := [name for name in _V2_CONTROLLERS if name not in controllers]:
        return f"{here} has no controller {' or '.join(missing)}"
    if not _writable(here):
        return f"{here} is another user's"
    return f"other processes are in {here}, too" if others else f"{here} cannot be divided"


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
    if not _writable(giver) or not set(_V2_CONTROLLERS) <= set(controllers):
        return None
    return Cgroups(2, (parent,), shares_cpu="cpu" in controllers, leaf=leaf, made=made)


def _writable(group: Path) -> bool:
    """Whether this process may make groups in it, give them controllers, and move itself."""
    needed = (group, group / "cgroup.subtree_control", group / "cgroup.procs")
    return all(os.access(each, os.W_OK) for each in needed)
