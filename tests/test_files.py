"""Files of a program that lives: put, listed and taken by init's clerk, whatever the program does."""

import errno
import os
import signal
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from sandboxed import LONG, Lab, Talking, children, inits, nsjails, of_process, running

from occd.model import File, Limits
from occd.sandbox import FileFault, Running

pytestmark = [pytest.mark.promise, pytest.mark.contract]

MIB = 2**20


@asynccontextmanager
async def made(
    lab: Lab, source: str, then: str = "input()", limits: Limits = LONG
) -> AsyncIterator[Talking]:
    """A program that has carried out `source`, and now waits for input or does `then`."""
    waits = f"{source}\nprint('made', flush=True)\n{then}"
    async with running(lab, waits, limits) as program:
        await program.heard(b"made\n")
        yield program
        program.type.close()


async def fault(work: object) -> str:
    with pytest.raises(FileFault) as caught:
        await work  # type: ignore[misc]
    return errno.errorcode[caught.value.errno]


@contextmanager
def suppress_faults(*names: str) -> Iterator[None]:
    try:
        yield
    except FileFault as error:
        if errno.errorcode[error.errno] not in names:
            raise


@pytest.mark.core
async def test_a_file_that_was_put_belongs_to_the_program(lab: Lab) -> None:
    look = """
import stat
for name in ("new/folder/x", "new", "run.sh"):
    found = os.stat(name)
    ours = (found.st_uid, found.st_gid) == (os.getuid(), os.getgid())
    print(name, stat.filemode(found.st_mode), ours)
print(open("new/folder/x").read()); os.rename("new", "old"); os.unlink("run.sh")
print(sorted(os.listdir(".")), flush=True)
"""
    async with made(lab, "", "input()" + look) as program:
        await program.running.put(File("new/folder/x", b"first"))
        await program.running.put(File("new/folder/x", b"second"))
        await program.running.put(File("run.sh", b"#!/bin/sh\n"))
        await program.type.send(b"\n")
    assert program.said.decode().splitlines()[2:] == [
        "new/folder/x -rw-r--r-- True",
        "new drwxr-xr-x True",
        "run.sh -rwxr-xr-x True",
        "second",
        "['old']",
    ]


async def test_a_long_file_comes_back_as_it_was_put(lab: Lab) -> None:
    content = os.urandom(16 * MIB)
    async with made(lab, "") as program:
        await program.running.put(File("long", content))
        assert await program.running.get("long", 16 * MIB) == content
        assert await fault(program.running.get("long", 16 * MIB - 1)) == "EFBIG"
        assert await fault(program.running.put(File("long", content + b"x"))) == "EFBIG"
        await program.running.put(File("empty", b""))
        assert await program.running.get("empty", 0) == b""


@pytest.mark.core
async def test_a_list_tells_what_a_folder_has(lab: Lab) -> None:
    make = """
os.mkdir("folder"); open("folder/x", "w").write("four"); os.utime("folder/x", (1e9, 1e9))
os.symlink("/etc", "link"); os.mkfifo("fifo"); os.mkdir(b"\\xff" * 255)
open(b"\\xff" * 255 + b"/in\\nside", "w").close()
"""
    async with made(lab, make) as program:
        top = await program.running.list("", 100)
        below = await program.running.list("folder", 100)
        odd = await program.running.list(os.fsdecode(b"\xff" * 255), 100)
        got = await program.running.get(os.fsdecode(b"\xff" * 255) + "/in\nside", 100)
        part = await program.running.list("", 2)
    assert {entry.name: stat.S_IFMT(entry.mode) for entry in top.entries} == {
        "folder": stat.S_IFDIR,
        "link": stat.S_IFLNK,
        "fifo": stat.S_IFIFO,
        os.fsdecode(b"\xff" * 255): stat.S_IFDIR,
    }
    assert not top.more
    assert [(each.name, each.size, each.changed) for each in below.entries] == [("x", 4, 1e9)]
    assert [each.name for each in odd.entries] == ["in\nside"]
    assert got == b""
    assert (len(part.entries), part.more) == (2, True)


HOSTILE = """
os.mkfifo("fifo"); os.symlink("/etc/passwd", "link"); os.symlink("/etc", "etc"); os.symlink(".", "here")
import socket; socket.socket(socket.AF_UNIX).bind("socket"); os.mkdir("folder"); os.mkdir("folder/in")
os.close(os.open("closed", os.O_CREAT | os.O_WRONLY, 0)); os.mkdir("shut", 0)
import fcntl, signal; signal.signal(signal.SIGIO, signal.SIG_IGN)
leased = os.open("leased", os.O_CREAT | os.O_RDWR)
try: fcntl.fcntl(leased, fcntl.F_SETLEASE, fcntl.F_WRLCK)
except OSError: os.unlink("leased")
"""


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("fifo", "EINVAL"),
        ("socket", "ENXIO"),
        ("link", "ELOOP"),
        ("etc/passwd", "ENOTDIR"),
        ("here/fifo", "ENOTDIR"),
        ("folder", "EISDIR"),
        ("closed", "EACCES"),
        ("shut/x", "EACCES"),
        ("leased", "EAGAIN"),
        ("absent", "ENOENT"),
        ("absent/x", "ENOENT"),
        ("../etc/passwd", "EINVAL"),
        ("/etc/passwd", "EINVAL"),
        ("folder/../fifo", "EINVAL"),
        ("", "ENOENT"),
        ("folder/", "EINVAL"),
        ("x\0y", "EINVAL"),
        ("x/" * 40 + "x", "ENAMETOOLONG"),
        ("x" * 256, "ENAMETOOLONG"),
    ],
)
async def test_nothing_but_regular_files_of_the_box_is_opened(
    lab: Lab, name: str, why: str
) -> None:
    async with made(lab, HOSTILE) as program:
        assert await fault(program.running.get(name, MIB)) == why


async def test_what_is_put_takes_the_place_of_a_link_and_of_nothing_behind_it(lab: Lab) -> None:
    look = "print(sorted(os.listdir('there')), open('x').read(), os.path.islink('x'), flush=True)"
    make = "os.mkdir('there'); os.symlink('there/y', 'x'); os.mkfifo('fifo'); os.symlink('there', 'link')"
    async with made(lab, make, f"input(); {look}") as program:
        await program.running.put(File("x", b"new"))
        await program.running.put(File("fifo", b"new"))
        assert await program.running.get("fifo", 10) == b"new"
        assert await fault(program.running.put(File("link/y", b"new"))) == "ENOTDIR"
        assert await fault(program.running.put(File("there", b"new"))) == "EISDIR"
        left = {each.name for each in (await program.running.list("", 100)).entries}
        await program.type.send(b"\n")
    assert program.said.endswith(b"[] new False\n"), program.said
    assert left == {"there", "x", "fifo", "link"}  # and no half file


async def test_a_full_box_is_told(lab: Lab) -> None:
    fill = "try: open('fill', 'wb').write(bytes(90 * 2**20))\nexcept OSError as error: print(error)"
    async with made(lab, fill) as program:
        assert await fault(program.running.put(File("x", bytes(MIB)))) == "ENOSPC"
        assert {each.name for each in (await program.running.list("", 9)).entries} == {"fill"}


async def test_a_folder_of_65_000_files_is_listed_in_part(lab: Lab) -> None:
    fill = """
try:
    for n in range(100_000): os.close(os.open(f"{n}", os.O_CREAT))
except OSError: pass
"""
    async with made(lab, fill) as program:
        with trio.fail_after(60):
            listing = await program.running.list("", 10**9)
    assert (len(listing.entries), listing.more) == (4096, True)


async def test_a_file_that_grows_while_it_is_read_has_a_bound(lab: Lab) -> None:
    grow = """
import threading
def grow():
    while True:
        fd = os.open("grows", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        for _ in range(200): os.write(fd, bytes(2**16))
        os.truncate("grows", 0); os.close(fd)
threading.Thread(target=grow, daemon=True).start()
"""
    async with made(lab, grow) as program:
        for _ in range(50):
            with suppress_faults("EFBIG", "ENOENT"):
                assert len(await program.running.get("grows", 2 * MIB)) <= 2 * MIB


async def test_renaming_folders_meanwhile_leads_nowhere_else(lab: Lab) -> None:
    race = """
import ctypes, threading
libc = ctypes.CDLL(None)
os.makedirs("a/b"); os.symlink("/etc", "c")
for name in ("x", "passwd"): open("a/b/" + name, "w").write("mine")
def exchange(): return libc.renameat2(-100, b"a/b", -100, b"c", 2) == 0
exchanges = exchange()
print(f"{exchanges=}")
def race():
    while True:
        if exchanges: exchange()
        else: os.rename("a/b", "d"); os.rename("c", "a/b"); os.rename("d", "c")  # gVisor
        time.sleep(0.0003)
threading.Thread(target=race, daemon=True).start()
"""
    seen: set[str] = set()
    number = 0
    async with made(lab, race) as program:
        exchanges = b"exchanges=True" in program.said  # else a put would make the folder anew
        while number < 200 or not {"mine", "ENOTDIR"} <= seen:
            number += 1
            try:
                if number % 2 and exchanges:
                    await program.running.put(File("a/b/x", b"put"))
                assert await program.running.get("a/b/passwd", MIB) == b"mine"
                seen.add("mine")
            except FileFault as error:
                seen.add(errno.errorcode[error.errno])
    assert seen - ({"ENOENT"} if not exchanges else set()) == {"mine", "ENOTDIR"}


async def test_a_program_that_stops_or_kills_the_clerk_harms_itself_alone(lab: Lab) -> None:
    hunt = """
import signal, threading
def hunt():
    while True:
        for pid in os.listdir("/proc"):
            if pid.isdigit() and int(pid) not in (1, os.getpid()):
                for number in (signal.SIGSTOP, signal.SIGKILL)[%d:]:
                    try: os.kill(int(pid), number)
                    except OSError: pass
                    break
threading.Thread(target=hunt, daemon=True).start()
"""
    for first in (0, 1):
        async with made(lab, hunt % first, "time.sleep(60)") as program:
            with trio.fail_after(120):
                for _ in range(6):
                    with suppress_faults("ETIMEDOUT", "EEXIST"):
                        await program.running.put(File("x", bytes(MIB)))
            program.running.arm("wall_time", 0.5)
        assert program.ending == ("SIGKILL", "wall_time")  # init was never held up


async def test_the_program_learns_nothing_of_the_clerk(lab: Lab) -> None:
    spy = """
import threading
def begin(path): return open(path, "rb").read(1)
LOOKS = {"fd": os.listdir, "fdinfo": os.listdir, "mem": begin, "environ": begin, "maps": begin}
def spy():
    while True:
        for pid in os.listdir("/proc"):
            if pid.isdigit() and int(pid) not in (1, os.getpid()):
                for name, look in LOOKS.items():
                    try:
                        if look(f"/proc/{pid}/{name}"): opened.add(name)
                    except OSError as error: refused.add((name, error.errno))
opened, refused = set(), set()
threading.Thread(target=spy, daemon=True).start()
"""
    tell = "input(); print(opened, sorted(refused), flush=True)"
    patient = replace(LONG, cpu_time=120.0, wall_time=240.0)  # it spies all the time
    async with made(lab, spy, tell, patient) as program:
        for _ in range(100):
            await program.running.put(File("x", bytes(MIB)))
        await program.type.send(b"\n")
    assert b"set()" in program.said, program.said
    assert b"('fd', 13)" in program.said  # it has met the clerk


@pytest.mark.mechanics
async def test_a_clerk_has_no_file_of_inits(lab: Lab) -> None:
    async def work(running: Running) -> None:
        while True:
            await running.put(File("x", bytes(8 * MIB)))

    async with made(lab, "") as program, trio.open_nursery() as nursery:
        nursery.start_soon(work, program.running)
        (init,) = (pid for nsjail in nsjails() for pid in inits(nsjail))
        (first,) = (pid for pid in children(init) if "python" in of_process(pid, "comm"))
        with trio.fail_after(60):
            while not any(lean(pid) for pid in children(init) if pid != first):  # noqa: ASYNC110
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


def lean(pid: int) -> bool:
    """Whether a process has the file in memory open, and nothing but folders and files beside it."""
    opened = []
    with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
        opened = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()]
    return "/memfd:occd-files (deleted)" in opened and all(
        link.startswith("/") and not link.startswith("/dev") for link in opened
    )


async def test_limits_hold_while_files_are_worked_with(lab: Lab) -> None:
    limits = replace(LONG, cpu_time=0.5)
    async with running(lab, "while True: pass", limits) as program:
        with suppress_faults("ESRCH"):
            while True:
                await program.running.put(File("x", bytes(8 * MIB)))
                await program.running.get("x", 8 * MIB)
    assert program.ending == ("SIGKILL", "cpu_time")
    assert program.end.cpu_time < 1.0


async def test_work_that_was_cancelled_leaves_the_next_its_own_answer(lab: Lab) -> None:
    async with made(lab, "open('x', 'w').write('x'); open('y', 'w').write('y')") as program:
        for _ in range(20):
            with trio.move_on_after(0) as scope:
                await program.running.get("x", 10)
            assert scope.cancelled_caught
            assert await program.running.get("y", 10) == b"y"
            assert await fault(program.running.get("z", 10)) == "ENOENT"


async def test_work_with_a_program_that_has_ended_fails(lab: Lab) -> None:
    async with made(lab, "") as program:
        pass
    for work in (program.running.get("x", 1), program.running.list("", 1)):
        assert await fault(work) == "ESRCH"
    assert (await lab.python("print(os.listdir('.'))")).stdout == b"['main.py']\n"
    async with made(lab, "os.mkfifo('fifo')") as program, trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(fault, program.running.get("fifo", 1))


@pytest.mark.mechanics
async def test_descriptors_are_given_back(lab: Lab) -> None:
    async with made(lab, "open('x', 'w').write('x')") as program:
        await program.running.get("x", 10)
        (init,) = (pid for nsjail in nsjails() for pid in inits(nsjail))
        before = len(os.listdir("/proc/self/fd")), len(os.listdir(f"/proc/{init}/fd"))
        for _ in range(20):
            await program.running.get("x", 10)
            await fault(program.running.get("y", 10))
        assert (len(os.listdir("/proc/self/fd")), len(os.listdir(f"/proc/{init}/fd"))) == before
        assert "init" in of_process(init, "comm")
        assert Path(f"/proc/{init}").exists()
        os.kill(init, signal.SIGSTOP)
        with trio.move_on_after(0.2):
            await program.running.get("x", 10)
        os.kill(init, signal.SIGCONT)
        assert await program.running.get("x", 10) == b"x"
