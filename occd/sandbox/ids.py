"""A thousand user ids of the host for jails: each job's files and processes belong to nobody else."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

from occd.images.users import CONTAINER_USERS

SLOTS = 1000

_UNUSED = 0x7000_0000
"""From here on systemd's table of user ids is free, and containers get no ids either."""

_USERS = ("/etc/passwd", "/etc/group")
_DELEGATED = ("/etc/subuid", "/etc/subgid")
_NOBODY = range(65_534, 65_536)


def find_ids() -> range | None:
    """Ids that are mapped here and that no file of the machine assigns. None when there are too few."""
    inside, _, count = map(int, Path("/proc/self/uid_map").read_text().split()[:3])
    return choose(range(inside, inside + count), [_NOBODY, CONTAINER_USERS, *_taken()])


def choose(mapped: range, taken: Iterable[range]) -> range | None:
    """All processes of occd on a machine make the same choice. If one chooses another range, the two ranges
    do not overlap, because ranges begin at multiples of their size."""
    somebodys = list(taken)
    first, last = (_UNUSED // SLOTS + 1) * SLOTS, mapped.stop // SLOTS * SLOTS
    for start in chain((first,), range(last - SLOTS, 0, -SLOTS)):
        ids = range(start, start + SLOTS)
        usable = mapped.start <= ids.start and ids.stop <= mapped.stop
        if usable and not any(_overlap(ids, each) for each in somebodys):
            return ids
    return None


def _overlap(one: range, other: range) -> bool:
    return one.start < other.stop and other.start < one.stop


def _taken() -> Iterator[range]:
    for path in _USERS:
        for fields in _fields(path):
            with suppress(ValueError, IndexError):
                yield range(int(fields[2]), int(fields[2]) + 1)
    for path in _DELEGATED:
        for fields in _fields(path):
            with suppress(ValueError, IndexError):
                yield range(int(fields[1]), int(fields[1]) + int(fields[2]))


def _fields(path: str) -> Iterator[list[str]]:
    with suppress(OSError):  # absent
        for line in Path(path).read_text(errors="replace").splitlines():
            yield line.split(":")
