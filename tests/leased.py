"""The slots that a process holds, and the control groups of their runs, seen from outside."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from occd.sandbox import kernel
from occd.sandbox.cgroup import find_cgroups
from occd.sandbox.slots import host_folder

AT_REST = 3
"""The groups of runs that a slot may have while nothing runs: those of a program and its checker, which are
removed beside the next run, and that of the next run."""


def links(folder: Path) -> Iterator[Path]:
    """The files that a process has open, from its folder `fd`."""
    for each in folder.iterdir():
        with suppress(FileNotFoundError):
            yield each.readlink()


def leases(pid: int | str = "self") -> list[str]:
    """The numbers of the slots that a process holds."""
    folder = host_folder(kernel.enter_private_mounts())
    return [each.name for each in links(Path(f"/proc/{pid}/fd")) if each.parent == folder]


def groups(lease: str) -> set[str]:
    """The names of the groups of a slot's runs."""
    cgroups = find_cgroups()
    parents = cgroups.parents if cgroups else ()
    return {each.name for at in parents for each in at.glob(f"occd-{lease}-[0-9]*/")}
