"""The same program in a jail and in a container: the same files, whatever the program left in its box."""

import json
from collections.abc import Sequence

import pytest
from engine import Reached
from sandboxed import PYTHON, Lab, run_in
from test_containers import opened

from occd.inputs import Limits
from occd.model import File
from occd.sandbox import Cell, Collect, Collected, Ended, Run, Sink

LIMITS = Limits(cpu_time=20.0, wall_time=60.0, file_size=2**30)

HARD = r"""
import os, socket
def put(name, data=b"x", mode=0o644):
    with open(name, "wb") as file: file.write(data)
    os.chmod(name, mode)
put(b"line\nbreak"); put(b"latin-\xe9"); put(b"-rf"); put(b"--checkpoint=1"); put(b" "); put(b"\\")
put("grün"); put(b"n" * 255); put(b"setuid", mode=0o6755); put(b"blank ")
os.makedirs("folder/below"); put("folder/below/file"); put("folder/read-only", mode=0o444)
os.makedirs("sticky"); os.chmod("sticky", 0o1777)
socket.socket(socket.AF_UNIX).bind("socket")
os.mkfifo("fifo"); os.mknod("device", 0o020600)
os.symlink("/etc/passwd", "absolute"); os.symlink("../../etc/passwd", "upwards")
os.symlink("folder", "aside"); os.symlink("nowhere", "dangling")
put("one", b"linked"); os.link("one", "two")
put(b"unreadable", mode=0); os.mkdir("closed"); put("closed/file", mode=0o200); os.chmod("closed", 0)
with open("sparse", "wb") as file: file.truncate(200 << 20)
with open("holes", "wb") as file: file.seek(1 << 20); file.write(b"end"); file.truncate(3 << 20)
os.mkdir("many")
for number in range(2000): put(f"many/{number}", b"")
os.mkdir("deep"); os.chdir("deep")
for number in range(2500): os.mkdir("d"); os.chdir("d")
"""

TELL = r"""
import hashlib, json, os
told = []
def look(folder):
    for entry in os.scandir(os.fsencode(folder)):
        found = entry.stat(follow_symlinks=False)
        kind = oct(found.st_mode & 0o170000)
        what = None
        if entry.is_symlink(): what = os.readlink(entry.path).decode()
        elif entry.is_file() and found.st_mode & 0o400:
            what = hashlib.sha256(open(entry.path, "rb").read()).hexdigest()[:16]
        path = entry.path.decode(errors="backslashreplace")
        if path.count("/") < 20:
            told.append([path, kind, oct(found.st_mode & 0o7777), what])
            if entry.is_dir(follow_symlinks=False) and found.st_mode & 0o700: look(entry.path)
look(".")
print(json.dumps(sorted(told)))
"""


async def left(cell: Cell, source: str, wanted: Collect | None = None) -> Ended:
    stderr = bytearray()
    sinks = Sink(10**6), Sink(10**6, stderr.extend)
    run = Run([PYTHON, "-c", source], (), LIMITS, *sinks, keep=wanted is None, collect=wanted)
    ended = await cell.run(run)
    assert ended.outcome.succeeded, (ended.outcome, stderr)
    return ended


async def collected(lab: Lab, wanted: Collect) -> Collected:
    async with lab.cell(limits=LIMITS) as cell:
        return (await left(cell, HARD, wanted)).collected


async def seen(lab: Lab, source: str, files: Sequence[File] = ()) -> list[list[str]]:
    """What a run sees that begins with what a program left, and with files of its own."""
    async with lab.cell(limits=LIMITS) as cell:
        tree = (await left(cell, source)).tree
        assert tree
        ran = await run_in(cell, [PYTHON, "-c", TELL], LIMITS, tree=tree, files=files)
    assert ran.succeeded, ran
    found: list[list[str]] = json.loads(ran.stdout)
    return found


PROGRAMS = {
    "hello": "print('hello')",
    "memory": "block = bytearray(100 << 20)\nfor at in range(0, len(block), 4096): block[at] = 1",
    "processor": "while time.process_time() < 0.5: pass",
    "children": """
for _ in range(3):
    if not os.fork():
        while time.process_time() < 0.2: pass
        os._exit(0)
for _ in range(3): os.wait()
""",
    "file": "for at in ('', '/tmp/', '/dev/shm/'): open(at + 'x', 'wb').write(bytes(15 << 20))",
    "nowhere": "file = os.memfd_create('x')\nfor _ in range(10): os.write(file, bytes(1 << 20))",
    "full": "for number in range(100): open(str(number), 'wb').write(bytes(1 << 20))",
    "too much memory": "bytearray(1 << 30)",
    "too much output": "while True: print('x' * 1000)",
    "too long a file": "open('file', 'wb').write(bytes(1 << 26))",
    "too much processor time": "while True: pass",
    "too long": "print('before', flush=True); time.sleep(600)",
    "too many files": "while True: os.dup(0)",
    "signal": "print('before', flush=True); os.kill(os.getpid(), signal.SIGUSR1)",
    "code": "sys.exit(139)",
    "no core": "os.abort()",
    "closed": "os.close(0); os.close(1); os.close(2)",
    "orphan": "if os.fork(): os._exit(3)\nos.setsid(); time.sleep(600)",
}
ENDS = Limits(cpu_time=1.0, wall_time=8.0, memory=256 << 20, output=100_000, file_size=1 << 24)
MEMORY = 4 << 20
"""By so much a program in a container may exceed its limit (`container.py`)."""
BOX = 16 << 20
"""By so much the box of a container that stands ready is larger (docs/operating.md)."""
PROCESSOR_S = 0.3


async def test_programs_end_alike(lab: Lab, docker_engine: Reached) -> None:
    """And the figures differ by less than MEMORY and PROCESSOR_S, but for what a larger box takes."""
    async with opened(docker_engine) as containers:
        for name, source in PROGRAMS.items():
            one, other = [await each.python(source, ENDS) for each in (lab, containers)]
            verdict, others = [
                (each.exit_code, each.signal, each.limit, each.stdout, each.stderr)
                for each in (one, other)
            ]
            assert verdict == others, name
            written = BOX if name == "full" else 0
            assert abs(one.memory + written - other.memory) < MEMORY, (name, one, other)
            assert abs(one.cpu_time - other.cpu_time) < PROCESSOR_S, (name, one, other)
            assert (one.wall_time < 8.0) == (other.wall_time < 8.0) == (name != "too long")


@pytest.mark.parametrize(
    "patterns", [("**",), ("*", "closed/**"), ("folder/**", "many/1??", "deep/**")]
)
async def test_boxes_that_are_hard_to_take_are_collected_alike(
    lab: Lab, docker_engine: Reached, patterns: tuple[str, ...]
) -> None:
    wanted = Collect(patterns, files=100, file_bytes=4 << 20, bytes=16 << 20)
    in_jail = await collected(lab, wanted)
    async with opened(docker_engine) as containers:
        in_container = await collected(containers, wanted)
    assert in_container == in_jail
    assert in_jail.files
    assert in_jail.left_out


async def test_trees_that_are_hard_to_take_are_seen_alike(lab: Lab, docker_engine: Reached) -> None:
    """In a jail as a copy; an overlay of a larger box has what was there."""
    source = HARD.partition('with open("sparse"')[0]
    in_jail = await seen(lab, source)
    async with opened(docker_engine) as containers:
        in_container = await seen(containers, source)
    assert in_container == in_jail
    assert len(in_jail) > 20


async def test_files_of_a_run_stand_in_a_tree_alike(lab: Lab, docker_engine: Reached) -> None:
    """In the place of files, links and folders, and below files and links. A file keeps its further names."""
    source = """
import os
for name in ("file", "link-to", "kept"): open(name, "w").write("tree's")
os.link("file", "second name of the file"); os.symlink("link-to", "link"); os.symlink("/tmp", "folder-link")
for name in ("folder/below", "merged/below", "x"):
    os.makedirs(name)
    open(name + "/deep", "w").write("tree's")
os.link("folder/below/deep", "second name"); os.link("kept", "folder/third name")
"""
    names = (
        "file",
        "link",
        "folder-link/a/b",
        "folder",
        "merged/new",
        "kept/now/a/folder",
        "x/deep",
    )
    files = [File(name, b"the run's") for name in names]
    in_jail = await seen(lab, source, files)
    async with opened(docker_engine) as containers:
        in_container = await seen(containers, source, files)
    assert in_container == in_jail
    assert len(in_jail) == 19
