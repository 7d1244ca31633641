"""What was compiled is kept within its bound, whole or not at all (`occd/execution/shelf.py`)."""

import errno
import hashlib
import os
import random
import signal
import sys
from pathlib import Path

import pytest
import trio
from disks import small

from occd.execution import shelf as shelves
from occd.execution.parts import FREE_MIN
from occd.execution.shelf import LEAST, MEMORY_MOST, Folder, Memory, Place, Shelf

SIZE = 3 * LEAST


def name(number: int) -> str:
    return hashlib.sha256(b"%d" % number).hexdigest()


def data(number: int, size: int = SIZE) -> bytes:
    return random.Random(number).randbytes(size)


def bytes_in(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.iterdir())


async def shelf_of(most: int, place: Place) -> Shelf:
    shelf = Shelf(most, place)
    await shelf.open()
    return shelf


@pytest.fixture(params=["folder", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Memory() if request.param == "memory" else Folder(tmp_path / "kept")


async def test_what_was_used_least_lately_makes_room(place: Place) -> None:
    shelf = await shelf_of(3 * SIZE, place)
    for number in range(3):
        await shelf.put(name(number), data(number))
    assert await shelf.get(name(0)) == data(0)
    await shelf.put(name(3), data(3))
    assert [await shelf.get(name(number)) for number in range(4)] == [
        data(0),
        None,
        data(2),
        data(3),
    ]


async def test_what_is_not_ours_stays_in_the_folder(tmp_path: Path) -> None:
    theirs = {"film.mkv.part", "occd.db", "new"}
    for each in (*theirs, f"{name(1)}.part"):
        (tmp_path / each).touch()
    await shelf_of(0, Folder(tmp_path))
    assert {each.name for each in tmp_path.iterdir()} == {*theirs, "lock"}


async def test_those_that_come_at_once_stay_within_the_bound(place: Place) -> None:
    shelf = await shelf_of(3 * SIZE, place)
    async with trio.open_nursery() as nursery:
        for number in range(9):
            nursery.start_soon(shelf.put, name(number), data(number))
    found = [await shelf.get(name(number)) for number in range(9)]
    assert 1 <= len([each for each in found if each]) <= 3


async def test_what_cannot_be_read_takes_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = await shelf_of(3 * SIZE, Folder(tmp_path))
    for number in range(3):
        await shelf.put(name(number), data(number))

    def read(*_: object) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patched:
        patched.setattr(Folder, "read", read)
        assert await shelf.get(name(0)) is None
    await shelf.put(name(3), data(3))
    assert bytes_in(tmp_path) == 3 * SIZE
    assert await shelf.get(name(1)) == data(1)


async def test_the_order_outlives_the_process(tmp_path: Path) -> None:
    shelf = await shelf_of(3 * SIZE, Folder(tmp_path / "kept"))
    for number in range(3):
        await shelf.put(name(number), data(number))
        os.utime(tmp_path / "kept" / name(number), ns=(number, number))
    await shelf.get(name(0))
    shelf.close()
    again = await shelf_of(2 * SIZE, Folder(tmp_path / "kept"))
    assert [name(number) in again for number in range(3)] == [True, False, True]
    assert await again.get(name(2)) == data(2)
    assert bytes_in(tmp_path / "kept") == 2 * SIZE


async def test_a_flood_of_small_ones_stays_within_the_bound(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    shelf = await shelf_of(10 * LEAST, Folder(folder))
    for number in range(50):
        await shelf.put(name(number), b"tiny")
        assert len(list(folder.iterdir())) <= 11  # with the lock
    assert [name(number) in shelf for number in (39, 40, 49)] == [False, True, True]


async def test_what_is_larger_than_all_is_not_kept(place: Place) -> None:
    shelf = await shelf_of(SIZE, place)
    await shelf.put(name(0), data(0))
    await shelf.put(name(1), data(1, SIZE + 1))
    assert await shelf.get(name(1)) is None
    assert await shelf.get(name(0)) == data(0)


WRITER = """
import os, signal, sys
from pathlib import Path
from occd.execution.shelf import Folder
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
folder = Folder(Path(sys.argv[1]))
folder.open()
folder.write(sys.argv[2], b"whole", [])
if sys.argv[4] == "begun":
    os.statvfs = die
elif sys.argv[4] == "written":
    Path.rename = die
elif sys.argv[4] == "named":
    rename = Path.rename
    Path.rename = lambda *names: (rename(*names), die())
folder.write(sys.argv[3], b"whole, too", [])
"""


@pytest.mark.parametrize("moment", ["begun", "written", "named"])
async def test_a_process_killed_at_any_moment_leaves_no_half_of_one(
    tmp_path: Path, moment: str
) -> None:
    folder = tmp_path / "kept"
    command = [sys.executable, "-c", WRITER, str(folder), name(1), name(2), moment]
    died = await trio.run_process(command, check=False)
    assert died.returncode == -signal.SIGKILL
    left = {each.name for each in folder.iterdir()}
    assert left - {"lock", name(1)} == {name(2) if moment == "named" else f"{name(2)}.part"}
    shelf = await shelf_of(2**30, Folder(folder))
    assert await shelf.get(name(1)) == b"whole"
    assert await shelf.get(name(2)) == (b"whole, too" if moment == "named" else None)
    assert not list(folder.glob("*.part"))
    shelf.close()


async def test_a_disk_without_room_costs_nobody_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small(tmp_path / "small", "1m") as folder:
        shelf = await shelf_of(2**30, Folder(folder / "kept"))
        await shelf.put(name(0), data(0))
        assert name(0) not in shelf  # it leaves FREE_MIN
        monkeypatch.setattr(shelves, "FREE_MIN", -(2**30))
        await shelf.put(name(1), data(1))
        await shelf.put(name(2), data(2, 2**21))
        assert await shelf.get(name(2)) is None
        assert await shelf.get(name(1)) == data(1)
        assert sorted(os.listdir(folder / "kept")) == sorted(["lock", name(1)])
        shelf.close()
    assert FREE_MIN > 2**20


async def test_a_second_process_keeps_its_own_in_memory(tmp_path: Path) -> None:
    first = await shelf_of(2**30, Folder(tmp_path / "kept"))
    second = await shelf_of(2**30, Folder(tmp_path / "kept"))
    await second.put(name(1), data(1))
    assert await second.get(name(1)) == data(1)
    assert os.listdir(tmp_path / "kept") == ["lock"]
    await second.put(name(2), bytes(MEMORY_MOST + 1))
    assert name(2) not in second
    first.close()


async def test_what_somebody_removes_is_not_there(tmp_path: Path) -> None:
    shelf = await shelf_of(2**30, Folder(tmp_path / "kept"))
    await shelf.put(name(1), data(1))
    (tmp_path / "kept" / name(1)).unlink()
    assert await shelf.get(name(1)) is None
    assert name(1) not in shelf
