"""How much of the node's memory is in use: of the machine, or of a control group around us that is fuller.

Memory that the kernel can take back at once, such as the cache of files, is not in use.
"""

import math
from contextlib import suppress
from pathlib import Path

from occd.sandbox.cgroup import find_mount, own_path

_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = ("memory.max", "memory.current", "inactive_file")


def memory_used() -> float:
    """The share that is in use, from 0 to 1. Infinite when nobody can look now, as when no descriptor is
    free: the node is full of something, and must not end for it."""
    try:
        return max(machine_used(Path("/proc/meminfo").read_text()), *groups_used(), 0.0)
    except OSError:
        return math.inf


def machine_used(meminfo: str) -> float:
    sizes = dict(line.split(":", 1) for line in meminfo.splitlines())
    total, available = (int(sizes[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
    return 1 - available / total


def groups_used() -> list[float]:
    """The share of each group around this process that has a limit."""
    found = []
    for controller, kind, names in (("memory", "cgroup", _V1), ("", "cgroup2", _V2)):
        where, own = find_mount(kind, controller), own_path(controller)
        if where is None or own is None:
            continue
        folder = where / own.lstrip("/")
        for group in (folder, *folder.parents):
            if group.is_relative_to(where):
                with suppress(OSError, ValueError):  # no such controller, or "max": no limit
                    found.append(group_used(group, *names))
    return found


def group_used(group: Path, limit: str, usage: str, reclaimable: str) -> float:
    """Raises ValueError when the group has no limit."""
    most = int((group / limit).read_text())
    stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return (int((group / usage).read_text()) - int(stat[reclaimable])) / most
