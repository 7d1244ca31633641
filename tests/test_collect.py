"""Which files are taken out of a box, and what a hostile program cannot do about it."""

import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sandboxed import LONG, PYTHON, Lab, compile_in

from occd import rules
from occd.sandbox import Collect, Collected, Run, Sink, Tree
from occd.sandbox.collect import Patterns, collect

pytestmark = [pytest.mark.promise, pytest.mark.contract]

MIB = 2**20
OUT = Collect(["*.png", "out/**"], files=32, file_bytes=8 * MIB, bytes=16 * MIB)


def matches(pattern: str, path: str) -> bool:
    patterns = Patterns([pattern])
    places = patterns.start()
    *folders, name = path.split("/")
    for folder in folders:
        places = patterns.below(places, folder)
    return patterns.match(places, name)


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.png", "a.png", True),
        ("*.png", ".png", True),
        ("*.png", "out/a.png", False),
        ("*.png", "a.PNG", False),
        ("out/**", "out/a", True),
        ("out/**", "out/a/b/c", True),
        ("out/**", "out", False),
        ("out/*", "out/a/b", False),
        ("**", "a/b", True),
        ("**/x.txt", "x.txt", True),
        ("**/x.txt", "a/b/x.txt", True),
        ("a/**/b/*.c", "a/b/x.c", True),
        ("a/**/b/*.c", "a/x/y/b/x.c", True),
        ("a/**/b/*.c", "a/x/b/y/x.c", False),
        ("?.[ch]", "x.c", True),
        ("?.[!ch]", "x.c", False),
        ("a/b", "a/b", True),
        ("a.b", "aXb", False),
    ],
)
def test_patterns_mean_what_they_mean_to_pathlib(pattern: str, path: str, expected: bool) -> None:
    assert matches(pattern, path) == expected


def plainly(pattern: list[str], path: list[str]) -> bool:
    """By trying every length that `**` could have."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        if len(pattern) == 1:
            return bool(path)
        return any(plainly(pattern[1:], path[skip:]) for skip in range(len(path)))
    return bool(path) and pattern[0] in ("*", path[0]) and plainly(pattern[1:], path[1:])


@given(
    st.lists(st.sampled_from(["**", "*", "a", "b"]), min_size=1, max_size=6),
    st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=6),
)
def test_walking_finds_what_trying_finds(pattern: list[str], path: list[str]) -> None:
    assert matches("/".join(pattern), "/".join(path)) == plainly(pattern, path)


@pytest.mark.parametrize(
    "pattern",
    ["..", "../*", "a/../b", "/etc/*", "", "a//b", "./a", "a**", "**a/b", "a\0", "x" * 300],
)
def test_patterns_that_could_leave_the_box_are_refused(pattern: str) -> None:
    with pytest.raises(rules.Broken):
        Patterns([pattern])
    with pytest.raises(rules.Broken):
        Run(["x"], (), LONG, Sink(1), Sink(1), collect=Collect([pattern], 1, 1, 1))


def test_too_many_patterns_are_refused() -> None:
    with pytest.raises(rules.Broken):
        Patterns(["*"] * 33)


async def collected(
    lab: Lab, source: str, wanted: Collect = OUT, *, tree: str | None = None, keep: bool = False
) -> Collected:
    async with lab.cell(limits=LONG) as cell:
        begin: Tree | None = None
        if tree:
            made, begin = await compile_in(cell, [PYTHON, "-c", f"import os\n{tree}"], LONG)
            assert made.succeeded, made
        ended = await cell.run(
            Run(
                [PYTHON, "-c", f"import os, socket\n{source}"],
                (),
                LONG,
                Sink(1000),
                said := Sink(1000),
                tree=begin,
                keep=keep,
                collect=wanted,
            )
        )
        assert ended.outcome.exit_code is not None, (ended, said)
    return ended.collected


def names(found: Collected) -> list[str]:
    return [file.name for file in found.files]


def reasons(found: Collected) -> dict[str, str]:
    return {each.name: each.reason for each in found.left_out}


@pytest.mark.parametrize("keep", [False, True])
async def test_files_that_match_come_out(lab: Lab, keep: bool) -> None:
    found = await collected(
        lab,
        """
os.makedirs("out/deep"); os.mkdir("other.png")
for name in ("b.png", "a.png", "x.txt", "out/deep/y", "other.png/z", "out/é"):
    open(name, "w").write(name)
os.chmod("a.png", 0)
""",
        keep=keep,
    )
    assert {file.name: file.content.decode() for file in found.files} == {
        name: name for name in ("a.png", "b.png", "out/deep/y", "out/é")
    }
    assert names(found) == sorted(names(found))
    assert (found.left_out, found.left_out_count) == ((), 0)


@pytest.mark.parametrize("size", [1, 17 * MIB])
async def test_files_of_the_tree_come_out_too(lab: Lab, size: int) -> None:
    """Copied or below an overlay."""
    make = (
        f"os.mkdir('out'); open('out/old', 'w').write('1'); open('fill', 'wb').write(bytes({size}))"
    )
    found = await collected(lab, "open('out/new', 'w').write('2')", tree=make)
    assert {file.name: file.content for file in found.files} == {"out/new": b"2", "out/old": b"1"}


@pytest.mark.core
async def test_a_program_that_was_killed_leaves_its_files(lab: Lab) -> None:
    async with lab.cell() as cell:
        source = "import os; open('a.png', 'w').write('x'); os.fork(); os.abort()"
        run = Run([PYTHON, "-c", source], (), LONG, Sink(1000), Sink(1000), collect=OUT)
        ended = await cell.run(run)
    assert ended.outcome.signal == "SIGABRT"
    assert [file.content for file in ended.collected.files] == [b"x"]


@pytest.mark.core
async def test_only_regular_files_are_opened(lab: Lab) -> None:
    found = await collected(
        lab,
        """
os.mkdir("out"); os.mkfifo("out/fifo"); os.symlink("/etc/passwd", "out/link"); os.symlink("/etc", "out/etc")
socket.socket(socket.AF_UNIX).bind("out/socket"); os.symlink("/etc", "a.png"); os.link("out/fifo", "b.png")
try: os.mknod("out/device", 0o20666, os.makedev(1, 3))
except OSError: pass
try: os.mknod("out/whiteout", 0o20666, os.makedev(0, 0))
except OSError: pass
open("out/fine", "w").close()
""",
    )
    assert names(found) == ["out/fine"]
    gone = reasons(found)
    for device in ("out/device", "out/whiteout"):  # where the kernel let the program make it
        gone.pop(device, None)
    kinds = ("out/fifo", "out/link", "out/etc", "out/socket", "a.png", "b.png")
    assert gone == dict.fromkeys(kinds, "no_file")


async def test_a_folder_that_is_a_link_leads_nowhere(lab: Lab) -> None:
    found = await collected(lab, "os.symlink('/etc', 'out'); os.symlink('.', 'x')", OUT)
    assert found == Collected()


async def test_names_that_are_none_of_ours_are_left_out(lab: Lab) -> None:
    found = await collected(
        lab,
        """
os.mkdir("out")
for name in (b"\\xff" * 255, b"new\\nline", b"-x", b"a\\\\b", b"fine"): open(b"out/" + name, "w").close()
os.chdir("out")
for _ in range(30): os.mkdir("d"); os.chdir("d")
open("deep", "w").close()
""",
    )
    assert names(found) == ["out/fine"]
    assert reasons(found) == {
        "out/" + "\\xff" * 255: "name",
        "out/new\nline": "name",
        "out/-x": "name",
        "out/a\\b": "name",
        "out" + "/d" * 15 + "/": "name",
    }


@pytest.mark.core
async def test_what_is_too_much_is_left_out_and_told(lab: Lab) -> None:
    found = await collected(
        lab,
        """
os.mkdir("out")
for number in range(4): open(f"out/{number}", "wb").write(bytes(400))
open("out/long", "wb").write(bytes(501)); os.truncate(os.open("out/hole", os.O_CREAT | os.O_RDWR), 2**26)
open("out/z", "wb").close(); open("out/zz", "wb").close()
""",
        Collect(["out/*"], files=3, file_bytes=500, bytes=1000),
    )
    assert names(found) == ["out/0", "out/1", "out/z"]
    assert reasons(found) == {
        "out/2": "total",
        "out/3": "total",
        "out/long": "size",
        "out/hole": "size",
        "out/zz": "count",
    }


async def test_60_000_files_cost_little_and_are_told_in_part(lab: Lab) -> None:
    fill = "for n in range(60_000): os.close(os.open(f'{n:05}.png', os.O_CREAT))"
    found = await collected(lab, fill)
    assert len(found.files) == 32
    assert len(found.left_out) == 100
    assert found.left_out_count == 20_000 - 32 + 1


def test_what_is_told_of_long_names_is_short(tmp_path: Path) -> None:
    deep = os.open(tmp_path, os.O_RDONLY)
    for _ in range(12):  # no path of the whole length can be opened, so part by part
        os.mkdir(b"\xff" * 250, dir_fd=deep)
        deeper = os.open(b"\xff" * 250, os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = deeper
    for number in range(3000):
        os.close(os.open(b"\xff" * 240 + b"%d" % number, os.O_CREAT | os.O_WRONLY, dir_fd=deep))
    os.close(deep)
    box = os.open(tmp_path, os.O_RDONLY)
    tracemalloc.start()
    try:
        found = collect(box, Collect(["**"], 1, 1, 1))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        os.close(box)
    assert found.left_out_count == 3000
    assert len(found.left_out) == 100
    assert all(len(each.name) == 1024 and each.name.endswith("…") for each in found.left_out)
    assert most < 8 * 2**20


def test_matching_has_a_bound_of_processor_time(tmp_path: Path) -> None:
    for number in range(3000):
        (tmp_path / f"{'a' * 200}{number}").touch()
    slow = Collect(["*a" * 120 + "b"] * 32, 1, 1, 1)
    box = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("occd.sandbox.collect._CPU_S", 0.0)
            found = collect(box, slow)
    finally:
        os.close(box)
    assert reasons(found) == {"": "entries"}


async def test_a_file_that_grew_until_the_end_comes_out_once(lab: Lab) -> None:
    grow = """
if os.fork() == 0:
    while True: os.write(os.open("a.png", os.O_CREAT | os.O_WRONLY | os.O_APPEND), b"x" * 1000)
import time
while not os.path.exists("a.png") or os.path.getsize("a.png") < 5000: time.sleep(0.001)
"""
    found = await collected(lab, grow)
    (file,) = found.files
    assert len(file.content) >= 5000
    assert set(file.content) == {ord("x")}
