"""The process that makes containers, named so that others on its machine can tell that it is dead.

A name tells the machine and the namespaces in which the number and the start of the process count, then the
two. Elsewhere the name tells nothing. Virtual machines that go on from one snapshot are one machine by what
their kernels tell, so the names count that others gave them. More may follow, after a dot.
"""

import hashlib
import os
from contextlib import suppress
from functools import cache
from pathlib import Path


def ourselves() -> str:
    pid = os.getpid()
    return f"{_place()}.{pid}.{_started(pid)}"


def is_dead(name: str) -> bool:
    """False where nobody can know, and for what is no name."""
    place, pid, started, *_ = [*name.split("."), "", "", ""]
    if place != _place() or not (pid.isdecimal() and started.isdecimal()):
        return False
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:  # it is there, and somebody else's
        pass
    with suppress(OSError):  # /proc may show us our own only
        return _started(int(pid)) != started
    return False


@cache
def _place() -> str:
    told = [Path("/proc/sys/kernel/random/boot_id").read_text(), os.readlink("/proc/self/ns/pid")]
    with suppress(FileNotFoundError):  # before Linux 5.6
        told.append(os.readlink("/proc/self/ns/time"))
    told.append(os.uname().nodename)
    with suppress(OSError):  # a container has none
        told.append(Path("/etc/machine-id").read_text())
    return hashlib.sha256("".join(told).encode()).hexdigest()[:16]


def _started(pid: int) -> str:
    """Empty for a zombie."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]
