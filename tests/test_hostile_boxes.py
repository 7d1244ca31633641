"""What a hostile program leaves in the box of its container makes no run fail, and none hang."""

import io
import os
import tempfile
import tracemalloc
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from engine import Reached
from sandboxed import PYTHON, Lab, run_in
from test_containers import opened

from occd import rules
from occd.errors import SandboxFailed
from occd.inputs import Limits
from occd.model import File
from occd.sandbox import Cell, Collect, Collected, Run, Sink, archive
from occd.sandbox.collect import Patterns, Place
from occd.sandbox.container import Container
from occd.sandbox.init import encode_talks
from occd.sandbox.relay import frame

LIMITS = Limits(cpu_time=20.0, wall_time=60.0, file_size=2**30)
ALL = Collect(("**",), files=100, file_bytes=2**23, bytes=2**24)
PATIENCE_S = 100.0


async def collected(cell: Cell, source: str, wanted: Collect = ALL) -> Collected:
    sink = Sink(LIMITS.output)
    ended = await cell.run(
        Run([PYTHON, "-c", source], (), LIMITS, stdout=sink, stderr=sink, collect=wanted)
    )
    assert ended.outcome.succeeded, ended
    return ended.collected


async def seen(lab: Lab, source: str, look: str, *files: File) -> bytes:
    """What a run prints that begins with what a program left."""
    async with lab.cell(limits=LIMITS) as cell:
        left = await run_in(cell, [PYTHON, "-c", source], LIMITS, keep=True)
        assert left.succeeded, left
        with trio.fail_after(PATIENCE_S):
            ran = await run_in(cell, [PYTHON, "-c", look], LIMITS, tree=left.tree, files=files)
    assert ran.succeeded, ran
    return ran.stdout


async def test_a_box_that_was_closed_is_packed(docker_engine: Reached) -> None:
    close = "import os; open('file', 'w').write('x'); os.chmod('/box', 0)"
    async with opened(docker_engine) as lab:
        async with lab.cell(limits=LIMITS) as cell:
            assert [file.name for file in (await collected(cell, close)).files] == ["file"]
        assert await seen(lab, close, "print(open('file').read())") == b"x\n"


async def test_all_names_of_a_file_reach_the_run_and_stay_names_of_one_file(
    docker_engine: Reached,
) -> None:
    """Also in folders to which no path is short enough. For who collects them, each is a file."""
    link = """
import os
open("a", "wb").write(b"x" * (8 << 20))
for number in range(100): os.link("a", f"{number:03}")
box = os.open(".", os.O_PATH)
for number in range(3000): os.mkdir("d"); os.chdir("d")
os.link("a", "below", src_dir_fd=box); open("b", "w").write("y"); os.link("b", "c", dst_dir_fd=box)
"""
    look = """
import os
a, c, names = os.stat("a"), os.stat("c"), sorted(os.listdir())
for number in range(3000): os.chdir("d")
print(a.st_nlink, len(names), os.path.samestat(a, os.stat("below")), os.path.samestat(c, os.stat("b")))
"""
    async with opened(docker_engine) as lab:
        async with lab.cell(limits=LIMITS) as cell:
            assert [len(file.content) for file in (await collected(cell, link)).files] == [
                2**23
            ] * 2
        assert await seen(lab, link, look) == b"102 103 True True\n"


async def test_names_without_end_reach_the_run(docker_engine: Reached) -> None:
    name = """
import os
folder = "/".join(["d" * 250] * 15)
os.makedirs(folder); os.chdir(folder)
for number in range(60_000): os.close(os.open(f"{number}", os.O_CREAT))
"""
    look = "import os; print(max(len(names) for _, _, names in os.walk('.')))"
    async with opened(docker_engine) as lab:
        async with lab.cell(limits=LIMITS) as cell:
            found = await collected(cell, name)
        assert not found.files
        assert found.left_out_count > 5000
        assert await seen(lab, name, look) == b"60000\n"


async def test_a_tree_that_fills_its_box_leaves_room_for_the_next_run(
    docker_engine: Reached,
) -> None:
    """Room for bytes, and for entries."""
    bytes_ = """
import os
file = os.open("full", os.O_CREAT | os.O_WRONLY)
try:
    while True: os.write(file, b"x" * 4096)
except OSError: pass
"""
    entries = """
import os
try:
    for number in range(10**6): os.close(os.open(f"{number}", os.O_CREAT))
except OSError: pass
"""
    look = "import os; print(len(open('given').read())); open('mine', 'wb').write(b'x' * (8 << 20))"
    given = [File("given", b"x" * 2**20), *(File(f"folder/{number}", b"x") for number in range(50))]
    async with opened(docker_engine) as lab:
        for fill in (bytes_, entries):
            assert await seen(lab, fill, look, *given) == b"1048576\n"


@pytest.mark.parametrize(
    "fill",
    [
        "for number in range(8_000): open(f'{number}', 'w').write('x')",
        "for number in range(20_000): os.symlink('\u00e4' * 100, f'{number}')",
    ],
)
async def test_a_run_has_its_box_beside_all_pages_of_its_tree(
    docker_engine: Reached, fill: str
) -> None:
    """Small files and long links take more of the box than their bytes and characters."""
    look = "print(open('mine', 'wb', 0).write(b'x' * (1 << 20) * 64))"
    async with opened(docker_engine) as lab:
        assert await seen(lab, f"import os\n{fill}", look) == b"%d\n" % (64 << 20)


async def test_times_of_any_age_reach_the_run(docker_engine: Reached) -> None:
    times = """
import os
for number, time in enumerate((-1, -2**31 * 10**9 - 5, 0, 2**33 * 10**9 + 7)):
    os.close(os.open(f"{number}", os.O_CREAT)); os.utime(f"{number}", ns=(time, time))
"""
    look = "import os; print(*(os.stat(str(number)).st_mtime_ns for number in range(4)))"
    async with opened(docker_engine) as lab:
        assert await seen(lab, times, times + look) == await seen(lab, times, look)


async def test_a_stream_that_was_cut_off_or_damaged_fills_no_box(docker_engine: Reached) -> None:
    whole = archive.pack([File("folder/name", b"content")]).read()
    wrong = {
        "cut off in an entry": whole[:20],
        "cut off in a file": whole[: whole.index(b"content") + 3],
        "cut off between entries": whole[:-40],
        "out of the box": whole.replace(b"folder", b"../../"),
        "a path for a name": whole.replace(b"name", b"na/e"),
        "an unknown type": b"?" + whole[1:],
    }
    async with opened(docker_engine) as lab:
        sandbox: Any = lab.sandbox
        for stream in wrong.values():
            async with sandbox.container(sandbox.roots[0], None) as container:
                with pytest.raises(SandboxFailed, match="cannot be unpacked"):
                    await container.fill([io.BytesIO(stream)])


async def test_what_is_on_its_way_at_a_programs_end_does_not_hold_up_what_follows(
    docker_engine: Reached,
) -> None:
    """Orders that nobody takes any more, and a frame whose sender was cancelled."""
    sink = Sink(LIMITS.output)
    run = Run([PYTHON, "-c", "open('file', 'w')"], (), LIMITS, stdout=sink, stderr=sink)
    async with opened(docker_engine) as lab:
        sandbox: Any = lab.sandbox
        for cut in (False, True):
            async with sandbox.container(sandbox.roots[0], None) as container:
                assert isinstance(container, Container)
                await container.fill([archive.pack(())])
                outcome, _ = await container.run(run, None, trio.TASK_STATUS_IGNORED)
                assert outcome.succeeded
                orders = 2000 * frame(b"O", encode_talks())
                parts = 2000 * frame(b"B", bytes(2**15))
                with trio.move_on_after(0.02) if cut else nullcontext():
                    await container.relay.send_all(orders + parts if cut else orders)
                with trio.fail_after(PATIENCE_S):
                    await container.pack(into := io.BytesIO(), 2**20)
                assert b"file" in into.getvalue()


async def test_a_limit_that_is_lower_than_the_engine_takes(docker_engine: Reached) -> None:
    async with opened(docker_engine) as lab:
        ran = await lab.python("block = bytearray(64 << 20)", replace(LIMITS, memory=2**20))
    assert not ran.succeeded


async def test_runs_leave_no_file_of_ours_but_kept_trees(
    docker_engine: Reached, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And these have no name: a killed occd leaves nothing."""

    def ours() -> int:
        opened = (
            os.readlink(each) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()
        )
        return sum(str(tmp_path) in each for each in opened)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with opened(docker_engine) as lab:
        async with lab.cell(limits=LIMITS) as cell:
            await collected(cell, "open('file', 'wb').write(bytes(1 << 20))")
            assert ours() == 0
            await run_in(cell, [PYTHON, "-c", ""], LIMITS, keep=True)
            assert ours() == 1
            assert list(tmp_path.iterdir()) == []
        assert ours() == 0


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3,000 empty files with long names, and one at the end."""
    path = tmp_path_factory.mktemp("packed") / "stream"
    folder = "d" * 250
    files = [File(f"{folder}/{number}", b"") for number in range(3000)]
    path.write_bytes(archive.pack([*files, File("last", b"")]).read())
    return path


def test_streams_are_searched_in_little_memory(packed: Path) -> None:
    tracemalloc.start()
    try:
        found = archive.collect(packed, Collect(("last", "d*/x"), 10, 10, 10))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (found.files, found.left_out_count) == ((File("last", b""),), 0)
    assert most < 2**18


def test_long_paths_of_a_stream_take_little_memory(tmp_path: Path) -> None:
    """2,000 files that match, below 15 folders. Python keeps four bytes for each character of such a name."""
    stream, name = tmp_path / "stream", "😀".encode() + b"n" * 247
    with stream.open("wb") as into:

        def put(kind: bytes, name: bytes = b"") -> None:
            into.write(archive._ENTRY.pack(kind, len(name), 0o755, 0, 0, 0, 0) + name)

        for _ in range(15):
            put(b"d", name)
        for number in range(2000):
            put(b"f", name + b"%04d" % number)
            into.write(archive._PART.pack(0, 0))
        for _ in range(15):
            put(b"u")
        put(b"e")
    tracemalloc.start()
    try:
        found = archive.collect(stream, Collect(("**",), 10, 10, 10))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.left_out_count == 2000  # their names are too long
    assert most < 2**23


@pytest.mark.parametrize(("bound", "most"), [("_ENTRIES_MAX", 100), ("_PACKED_CPU_S", 0.0)])
def test_searching_a_stream_has_bounds(
    packed: Path, monkeypatch: pytest.MonkeyPatch, bound: str, most: float
) -> None:
    monkeypatch.setattr(f"occd.sandbox.collect.{bound}", most)
    found = archive.collect(packed, Collect(("**",), 10, 10, 10))
    assert len(found.files) + found.left_out_count == most + 1


def test_folders_without_end_in_a_stream_cost_no_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patterns are tried where a file could match, and not for each of 65,534 folders, one in the other."""
    stream, many = tmp_path / "stream", 65_534
    put = archive._ENTRY.pack
    with stream.open("wb") as into:
        into.write((put(b"d", 1, 0o755, 0, 0, 0, 0) + b"d") * many)
        into.write(put(b"u", 0, 0o755, 0, 0, 0, 0) * many)
        into.write(put(b"e", 0, 0, 0, 0, 0, 0))
    tried = 0
    below = Patterns.below

    def counted(*asked: Any) -> frozenset[Place]:
        nonlocal tried
        tried += 1
        return below(*asked)

    monkeypatch.setattr(Patterns, "below", counted)
    found = archive.collect(stream, Collect(("**",), 10, 10, 10))
    assert (found.files, found.left_out_count) == ((), 1)
    assert tried <= rules.NAME_PARTS_MAX
