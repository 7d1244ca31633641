"""The processes of a daemon, seen from outside."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Proc:
    """A process, told apart from a later one with the same number."""

    pid: int
    started: str

    @property
    def alive(self) -> bool:
        return living(self.pid) == self


def living(pid: int) -> Proc | None:
    """None also for a zombie: it runs nothing."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if fields[0] not in "ZX":
            return Proc(pid, fields[19])
    return None


def _children(pid: int) -> Iterator[int]:
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                yield from map(int, (task / "children").read_text().split())


def child_of(pid: int) -> int:
    """The only child of a process with one thread. Raises ValueError when there is none."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())


def descendants(pid: int) -> list[Proc]:
    found: list[Proc] = []
    for child in _children(pid):
        if proc := living(child):
            found.append(proc)
        found += descendants(child)
    return found


def resident(pid: int) -> int:
    """Bytes of memory of a process and its descendants that only their end gives back: without pages of
    files. A page that several have counts once."""
    pids = [pid, *(each.pid for each in descendants(pid))]
    rollups = [Path(f"/proc/{each}/smaps_rollup").read_text() for each in pids]
    kilobytes = (re.findall(r"^Pss_(?:Anon|Shmem): +(\d+) kB", each, re.M) for each in rollups)
    return 1024 * sum(int(each) for of_one in kilobytes for each in of_one)


def processor_time(pid: int) -> float:
    """Seconds that all threads of a process have used until now, 0 when it has gone."""
    used = 0
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            used += int((thread / "schedstat").read_text().split()[0])
    return used / 1e9
