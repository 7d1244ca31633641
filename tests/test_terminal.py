"""What the sandbox promises about a program that runs at a terminal."""

import ctypes
import fcntl
import hashlib
import mmap
import os
import resource
import struct
import termios
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from threading import Timer
from typing import Any

import pytest
import trio
import trio.testing
from sandboxed import LONG, PYTHON, SHORT, Lab, compile_in
from terminals import Screen, at_terminal, python_at_terminal, shown_by

from occd.errors import out_of_descriptors
from occd.inputs import Limits, Terminal
from occd.model import File
from occd.rules import Broken
from occd.sandbox import Given
from occd.sandbox.launcher import Launcher
from occd.sandbox.terminal import Window

pytestmark = [pytest.mark.promise, pytest.mark.contract, pytest.mark.sampled]

MIB = 2**20
C = ctypes.CDLL(None, use_errno=True)
C.mmap.restype = ctypes.c_void_p
FLOOD = replace(LONG, output=64 * MIB)


@asynccontextmanager
async def shell(lab: Lab, argv: Sequence[str], **more: Any) -> AsyncIterator[Screen]:
    """A command that is no Python program."""
    async with lab.cell() as cell, at_terminal(cell, argv, **more) as screen:
        yield screen


@pytest.mark.parametrize(("rows", "cols"), [(0, 80), (24, 0), (-1, 80), (1001, 80), (24, 1001)])
def test_window_that_no_terminal_has_is_refused(rows: int, cols: int) -> None:
    with pytest.raises(Broken, match="between 1 and 1000") as refused:
        Terminal(rows, cols)
    assert refused.value.field == ("cols" if rows == 24 else "rows")


async def test_program_leads_the_session_of_its_terminal(lab: Lab) -> None:
    shown = await shown_by(
        lab,
        """
        print(os.isatty(0), os.isatty(1), os.isatty(2), {os.ttyname(fd) for fd in (0, 1, 2)})
        print(os.getsid(0) == os.getpid() == os.tcgetpgrp(os.open("/dev/tty", os.O_RDWR)))
        print(os.environ["TERM"], sorted(os.listdir("/proc/self/fd"), key=int))
        """,
    )
    assert (
        shown == b"True True True {'/dev/pts/0'}\nTrue\nxterm-256color ['0', '1', '2', '3', '4']\n"
    )


async def test_without_a_terminal_there_is_none(lab: Lab) -> None:
    ran = await lab.python("print([os.isatty(fd) for fd in (0, 1, 2)], 'TERM' in os.environ)")
    assert ran.stdout == b"[False, False, False] False\n", ran


@pytest.mark.mechanics
async def test_without_a_descriptor_for_the_terminal_this_is_said(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a failure does not count as the program's attempt."""
    receive = Launcher.terminal

    async def starved(self: Launcher) -> int:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            return await receive(self)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    monkeypatch.setattr(Launcher, "terminal", starved)
    with pytest.RaisesGroup(OSError, flatten_subgroups=True) as failed:
        await shown_by(lab, "print(1)")
    assert out_of_descriptors(failed.value)


@pytest.mark.core
async def test_window_is_set_from_the_start(lab: Lab) -> None:
    async with (
        lab.cell() as cell,
        at_terminal(cell, ["/bin/stty", "size"], window=Terminal(11, 1000)) as screen,
    ):
        pass
    assert screen.shown == b"11 1000\r\n", screen.end


async def test_program_is_told_of_another_size(lab: Lab) -> None:
    async with python_at_terminal(
        lab,
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGWINCH})
        for _ in range(4):
            print("%d x %d" % os.get_terminal_size()[::-1], flush=True)
            signal.sigwait({signal.SIGWINCH})
        """,
    ) as screen:
        await screen.shows(b"24 x 80\r\n")
        for rows, cols in (50, 132), (1, 1), (1000, 1000):
            with pytest.raises(Broken):
                screen.running.resize(rows, 0)
            screen.running.resize(rows, cols)
            await screen.shows(b"%d x %d\r\n" % (rows, cols))
        screen.running.resize(50, 132)
    assert screen.end.succeeded
    screen.running.resize(2, 2)


async def test_key_after_a_resize_finds_the_new_size(lab: Lab) -> None:
    async with python_at_terminal(
        lab,
        """
        print("ready", flush=True)
        for _ in range(100):
            os.read(0, 2)
            print(os.get_terminal_size().lines, flush=True)
        """,
    ) as screen:
        await screen.shows(b"ready\r\n")
        for rows in range(1, 101):
            screen.running.resize(rows, 80)
            await screen.type(b"\n")
            await screen.shows(b"\r\n%d\r\n" % rows)
    assert screen.end.succeeded


async def test_resize_waits_for_no_program() -> None:
    """A program asks for the size into memory that is not there yet: the kernel keeps the terminal's lock."""
    with late_memory() as (late, awaited, come):
        ours, theirs = os.openpty()
        window = Window(ours)
        async with trio.open_nursery() as nursery:
            ask = partial(C.ioctl, theirs, termios.TIOCGWINSZ, ctypes.c_void_p(late))
            nursery.start_soon(trio.to_thread.run_sync, ask)
            await trio.to_thread.run_sync(awaited)
            nursery.start_soon(window.run)
            window.resize(Terminal(1, 1))
            rescue = Timer(60, come)
            rescue.start()
            await trio.testing.wait_all_tasks_blocked()
            assert rescue.is_alive(), "the loop waited"
            window.resize(Terminal(50, 132))
            rescue.cancel()
            come()
            while os.get_terminal_size(theirs) != (132, 50):  # noqa: ASYNC110
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        os.close(ours)
        os.close(theirs)


@contextmanager
def late_memory() -> Iterator[tuple[int, Callable[[], object], Callable[[], object]]]:
    """The address of a page that is not there yet. The first call waits until somebody wants the page, the
    second one gives it. userfaultfd(2)."""
    fd = C.syscall(323, os.O_CLOEXEC)
    if fd < 0:
        pytest.skip("userfaultfd is for root")
    late = C.mmap(
        None, mmap.PAGESIZE, mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0
    )
    with os.fdopen(fd, "rb", 0) as faults:
        fcntl.ioctl(fd, 0xC018AA3F, struct.pack("QQQ", 0xAA, 0, 0))  # UFFDIO_API
        page_is = (late, mmap.PAGESIZE)
        fcntl.ioctl(fd, 0xC020AA00, struct.pack("QQQQ", *page_is, 1, 0))  # UFFDIO_REGISTER
        come = partial(
            fcntl.ioctl, fd, 0xC020AA04, struct.pack("QQQq", *page_is, 0, 0)
        )  # _ZEROPAGE
        yield late, partial(faults.read, 32), come
    C.munmap(ctypes.c_void_p(late), mmap.PAGESIZE)


async def test_resize_without_a_terminal_does_nothing(lab: Lab) -> None:
    async with python_at_terminal(lab, "print('up', flush=True); input()", tty=None) as screen:
        await screen.shows(b"up\n")
        screen.running.resize(50, 132)
        await screen.type(b"\n")
    assert screen.end.succeeded


async def test_prompt_without_a_newline_is_seen_before_the_answer(lab: Lab) -> None:
    source = b"""
#include <stdio.h>
int main(void) {
    char name[99];
    printf("Name? ");
    if (scanf("%98s", name) != 1) return 1;
    printf("Hello %s\\n", name);
}
"""
    async with lab.cell(File("main.c", source)) as cell:
        made, tree = await compile_in(cell, ["/usr/bin/gcc", "main.c"], LONG)
        assert made.succeeded, made
        async with at_terminal(cell, ["./a.out"], tree=tree) as screen:
            await screen.shows(b"Name? ")
            await screen.type("Zoë\n".encode())
            await screen.shows("Zoë\r\nHello Zoë\r\n".encode())
    assert screen.end.succeeded


@pytest.mark.core
async def test_what_is_typed_is_shown_and_can_be_erased(lab: Lab) -> None:
    async with python_at_terminal(lab, "print(ascii(input('? ')))") as screen:
        await screen.shows(b"? ")
        await screen.type(
            "aé\x7fb\x15xyé\x7f\n".encode()
        )  # erases a character, a line, a character
        await screen.shows(b"'xy'\r\n")


@pytest.mark.core
async def test_ctrl_c_ends_the_program_as_in_a_shell(lab: Lab) -> None:
    async with shell(lab, ["/bin/cat"], limits=replace(LONG, wall_time=10.0)) as screen:
        await screen.type(b"\x03")
    assert screen.ending == (None, "SIGINT", None)


async def test_ctrl_c_is_for_the_handler(lab: Lab) -> None:
    async with python_at_terminal(
        lab,
        """
        try: print("up", flush=True); time.sleep(60)
        except KeyboardInterrupt: print("caught")
        """,
    ) as screen:
        await screen.shows(b"up")
        await screen.type(b"\x03")
        await screen.shows(b"^Ccaught\r\n")
    assert screen.end.succeeded


async def test_ctrl_c_reaches_the_children(lab: Lab) -> None:
    script = "trap 'echo shell' INT; /bin/cat; echo $?"
    async with shell(lab, ["/bin/bash", "-c", script]) as screen:
        await screen.type(b"a\n")
        await screen.shows(b"a\r\na\r\n")
        await screen.type(b"\x03")
        await screen.shows(b"shell\r\n130\r\n")


async def test_ctrl_c_before_the_program_has_begun_is_not_lost(lab: Lab) -> None:
    for _ in range(20):
        async with shell(lab, ["/bin/sleep", "60"]) as screen:
            await screen.type(b"\x03")
        assert screen.ending == (None, "SIGINT", None)


async def test_ctrl_backslash_quits(lab: Lab) -> None:
    async with shell(lab, ["/bin/cat"]) as screen:
        await screen.type(b"\x1c")
    assert screen.ending == (None, "SIGQUIT", None)


@pytest.mark.parametrize(
    "argv",
    [
        ["/bin/cat"],
        ["/bin/bash", "-c", "/bin/cat; true"],
        [PYTHON, "-c", "while True: print(input())"],
    ],
    ids=["alone", "child", "python"],
)
async def test_ctrl_z_hangs_nothing(lab: Lab, argv: list[str]) -> None:
    """Nobody could continue what it stops: there is no shell in front."""
    async with shell(lab, argv) as screen:
        await screen.type(b"a\n")
        await screen.shows(b"a\r\na\r\n")
        await screen.type(b"\x1a")
        await screen.shows(b"^Z")
        await screen.type(b"b\n")
        await screen.shows(b"b\r\nb\r\n")
        await screen.type(b"\x04")
    assert screen.end.signal is None


async def test_a_shell_in_the_jail_has_jobs_to_stop_and_continue(lab: Lab) -> None:
    async with shell(lab, ["/bin/bash", "--norc", "-i"], env=[("PS1", "ready ")]) as screen:
        await screen.shows(b"ready ")
        await screen.type(b"sh -c 'echo up; exec cat'\n")
        await screen.shows(b"\rup\r\n")
        await screen.type(b"one\n")
        await screen.shows(b"one\r\none\r\n")
        await screen.type(b"\x1a")
        await screen.shows(b"Stopped")
        await screen.shows(b"ready ")
        await screen.type(b"fg\n")
        await screen.shows(b"exec cat'\r\n")
        await screen.type(b"two\n")
        await screen.shows(b"two\r\ntwo\r\n")
        await screen.type(b"\x04")
        await screen.shows(b"ready ")
        await screen.type(b"exit 3\n")
    assert screen.ending == (3, None, None)


async def test_ctrl_d_ends_the_input(lab: Lab) -> None:
    async with shell(lab, ["/usr/bin/wc", "-c"]) as screen:
        await screen.type(b"four\n\x04")
        await screen.shows(b"\r\n5\r\n")


@pytest.mark.parametrize("keys", [b"", b"ab\n", b"ab", b"\n\nab\r", b"ab\nc", b"ab\x15", b"ab\x04"])
async def test_end_of_the_input_is_ctrl_d(lab: Lab, keys: bytes) -> None:
    """Typed three times within a line, as most readers of lines need it; a program of `os.read` needs two."""
    async with python_at_terminal(
        lab,
        """
        got = b""
        while data := os.read(0, 100): got += data
        print(got, flush=True)
        import select
        print("more:", [os.read(0, 9) for _ in select.select([0], [], [], 0.2)[0]])
        """,
    ) as screen:
        if keys:
            await screen.type(keys)
        screen.keyboard.close()
    given = b"" if keys == b"ab\x15" else keys.rstrip(b"\x04").replace(b"\r", b"\n")
    more = b"[b'']" if given[-1:].isalpha() and keys == given else b"[]"
    assert screen.shown.endswith(repr(given).encode() + b"\r\nmore: " + more + b"\r\n")
    assert screen.end.succeeded


@pytest.mark.parametrize("keys", [b"", b"ab\n", b"ab", b"ab\nc"])
async def test_who_reads_line_by_line_sees_the_end(lab: Lab, keys: bytes) -> None:
    async with python_at_terminal(lab, "print([*sys.stdin])") as screen:
        if keys:
            await screen.type(keys)
        screen.keyboard.close()
    assert screen.shown.endswith(repr(keys.decode().splitlines(True)).encode() + b"\r\n")


async def test_empty_stdin_is_an_end_of_file(lab: Lab) -> None:
    assert await shown_by(lab, "print(sys.stdin.read() == '')", stdin=Given()) == b"True\n"


async def test_all_bytes_pass_as_they_are(lab: Lab) -> None:
    """Colours, and whatever a program writes when it has set its terminal so."""
    async with python_at_terminal(
        lab,
        r"""
        import termios, tty
        print('\x1b[1;31mred\x1b[0m'); tty.setraw(1, termios.TCSANOW); os.write(1, bytes(range(256)))
        """,
    ) as screen:
        pass
    assert screen.shown == b"\x1b[1;31mred\x1b[0m\r\n" + bytes(range(256))


async def test_keys_pass_as_they_are_to_a_program_that_wants_them_so(lab: Lab) -> None:
    async with python_at_terminal(
        lab,
        """
        import termios, tty; tty.setraw(0, termios.TCSANOW); print("up", flush=True)
        got = b""
        while len(got) < 256: got += os.read(0, 256)
        os.write(1, got)
        """,
    ) as screen:
        await screen.shows(b"up\n")
        await screen.type(bytes(range(256)))
    assert screen.shown == b"up\n" + bytes(range(256))


@pytest.mark.parametrize("end", ["os._exit(3)", "os.abort()", "os.kill(os.getpid(), 9)"])
async def test_output_before_a_crash_is_whole(lab: Lab, end: str) -> None:
    """Sixteen MiB, and the terminal's buffers are full when the program ends."""
    source = f"block = bytes(range(32, 96)) * 1024\nfor _ in range(256): os.write(1, block)\n{end}"
    async with python_at_terminal(lab, source, FLOOD) as screen:
        pass
    assert screen.end.exit_code == 3 or screen.end.signal in ("SIGABRT", "SIGKILL")
    assert screen.shown == bytes(range(32, 96)) * 1024 * 256


async def test_last_word_is_always_heard(lab: Lab) -> None:
    async with lab.cell() as cell:
        for number in range(50):
            async with at_terminal(cell, ["/bin/echo", f"{number}"]) as screen:
                pass
            assert screen.shown == b"%d\r\n" % number, screen.end


async def test_program_may_close_its_terminal(lab: Lab) -> None:
    source = """
        print("bye", flush=True)
        for fd in (0, 1, 2): os.close(fd)
        time.sleep(0.3)
        os.write(os.open("/dev/tty", os.O_RDWR), b"again")
        os.close(0)
        time.sleep(0.3)
        os._exit(7)
        """
    async with python_at_terminal(lab, source) as screen:
        await screen.shows(b"bye")
        await screen.type(b"typed to nobody\n")
        screen.running.resize(5, 5)
        await screen.shows(b"again")
    assert screen.ending == (7, None, None)


async def test_daemon_of_a_program_ends_with_it(lab: Lab) -> None:
    source = """
        if os.fork():
            print(os.read(0, 1), flush=True); os._exit(0)
        os.setsid()
        if os.fork(): os._exit(0)
        while True: os.write(1, b"."); time.sleep(0.01)
        """
    async with python_at_terminal(lab, source) as screen:
        await screen.shows(b"...")
        await screen.type(b"\n")
    assert screen.end.succeeded


async def test_python_has_a_history(lab: Lab) -> None:
    async with shell(lab, [PYTHON, "-q"]) as screen:
        await screen.shows(b">>> ")
        await screen.type(b"6 * 7000\n")
        await screen.shows(b"\n42000\r\n")
        await screen.shows(b">>> ")
        await screen.type(b"\x1b[A\n")
        await screen.shows(b"6 * 7000")
        await screen.shows(b"\n42000\r\n")
        await screen.shows(b">>> ")
        await screen.type(b"\x04")
    assert screen.end.succeeded


async def test_vi_opens_edits_and_saves(lab: Lab) -> None:
    if (await lab.python("print(os.path.exists('/usr/bin/vi'))")).stdout == b"False\n":
        assert "own-root" in lab.sandbox.holds
        pytest.skip("this image has no vi")
    script = "/usr/bin/vi -u NONE text && echo saved && cat text"
    async with shell(lab, ["/bin/bash", "-c", script]) as screen:
        await screen.shows(b"text")
        await screen.type("ihällo\x1b:wq\n".encode())
        await screen.shows("saved\r\nhällo\r\n".encode())
    assert screen.end.succeeded, screen.shown


async def test_files_of_a_program_at_a_terminal(lab: Lab) -> None:
    async with python_at_terminal(lab, "print(open(input('? ')).read())") as screen:
        await screen.shows(b"? ")
        await screen.running.put(File("given", b"content"))
        await screen.type(b"given\n")
        await screen.shows(b"content")
    assert screen.end.succeeded


async def test_line_that_is_too_long_is_cut(lab: Lab) -> None:
    """The kernel keeps 4,095 bytes of it, and its end."""
    async with python_at_terminal(lab, "print(len(sys.stdin.readline()))") as screen:
        await screen.type(b"x" * 100_000 + b"\n")
        await screen.shows(b"4096\r\n")


async def test_lines_that_are_pasted_arrive_whole(lab: Lab) -> None:
    """Faster than the program reads, and much more than a terminal holds."""
    lines = b"".join(b"%d\n" % number for number in range(50_000))
    async with python_at_terminal(
        lab,
        """
        import hashlib, termios
        settings = termios.tcgetattr(0)
        settings[3] &= ~termios.ECHO
        termios.tcsetattr(0, termios.TCSANOW, settings)
        print("up", flush=True)
        print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())
        """,
    ) as screen:
        await screen.shows(b"up\r\n")
        await screen.type(lines)
        screen.keyboard.close()
    assert screen.shown == b"up\r\n" + hashlib.sha256(lines).hexdigest().encode() + b"\r\n"


@pytest.mark.parametrize("raw", [False, True], ids=["lines", "raw"])
async def test_gigabyte_that_nobody_reads_waits(lab: Lab, raw: bool) -> None:
    """Outside, where it is paid for. The program ends all the same, and the loop goes on meanwhile."""
    taken: list[int] = []
    source = f"""
        import termios, tty
        if {raw}: tty.setraw(0, termios.TCSANOW)
        print("up", flush=True)
        time.sleep(1)
        """
    async with python_at_terminal(lab, source) as screen, trio.open_nursery() as nursery:

        async def paste() -> None:
            with suppress(trio.BrokenResourceError):  # the program has ended
                for number in range(1024):
                    await screen.type(b"0123456\n" * (MIB // 8))
                    taken.append(number)

        await screen.shows(b"up")
        nursery.start_soon(paste)
        await screen.ended.wait()
        nursery.cancel_scope.cancel()
    assert screen.end.succeeded, screen.end
    assert taken == [0]  # it left the channel, not our hands


async def test_terminal_that_we_do_not_read_for_a_while_loses_nothing(lab: Lab) -> None:
    source = "print('up', flush=True)\nfor number in range(100_000): print(number)"
    async with python_at_terminal(lab, source, FLOOD) as screen:
        await screen.shows(b"up\r\n")
        time.sleep(0.5)  # noqa: ASYNC251  (it is what the test is about)
    assert screen.shown == b"up\r\n" + b"".join(b"%d\r\n" % number for number in range(100_000))


async def test_output_limit_ends_the_program(lab: Lab) -> None:
    limits = replace(SHORT, output=5000)
    async with python_at_terminal(lab, "while True: print('x' * 98)", limits) as screen:
        pass
    assert screen.ending == (None, "SIGKILL", "output")
    assert screen.shown == (b"x" * 98 + b"\r\n") * 50
    assert screen.end.stdout.truncated


@pytest.mark.parametrize(
    ("limits", "source"),
    [
        (replace(SHORT, wall_time=0.7), "time.sleep(60)"),
        (replace(SHORT, cpu_time=0.4, wall_time=30.0), "while True: pass"),
        (replace(SHORT, memory=64 * MIB, wall_time=30.0), "x = b'x' * 2**28; time.sleep(60)"),
    ],
    ids=["wall_time", "cpu_time", "memory"],
)
@pytest.mark.core
async def test_limits_hold(
    lab: Lab, limits: Limits, source: str, request: pytest.FixtureRequest
) -> None:
    async with python_at_terminal(lab, f"print('up', flush=True)\n{source}", limits) as screen:
        pass
    name = request.node.callspec.id.rpartition("-")[2]
    assert screen.ending == (None, "SIGKILL", name)
    assert screen.shown == b"up\r\n"


async def test_stop_keeps_what_was_shown(lab: Lab) -> None:
    stop = trio.Event()
    async with python_at_terminal(
        lab, "print('up', flush=True); time.sleep(60)", stop=stop
    ) as screen:
        await screen.shows(b"up\r\n")
        stop.set()
    assert screen.ending == (None, "SIGKILL", None)


@pytest.mark.parametrize("delay", [0.0, 0.002, 0.005, 0.02, 0.3])
async def test_cancelling_at_any_moment_leaves_nothing(lab: Lab, delay: float) -> None:
    async with lab.cell() as cell:
        with trio.move_on_after(delay):
            async with at_terminal(cell, ["/bin/cat", "/dev/zero"], FLOOD) as screen:
                await screen.type(b"x" * MIB)
        async with at_terminal(cell, ["/bin/true"]) as screen:
            pass
        assert screen.end.succeeded


async def test_terminals_at_once_are_apart(lab: Lab) -> None:
    async with lab.cell() as cell, trio.open_nursery() as nursery:

        async def one(name: bytes) -> None:
            async with at_terminal(cell, ["/bin/cat"]) as screen:
                for _ in range(20):
                    await screen.type(name + b"\n")
                    await screen.shows(name + b"\r\n" + name + b"\r\n")
                screen.keyboard.close()
            assert screen.shown == (name + b"\r\n") * 40

        for number in range(6):
            nursery.start_soon(one, b"%d" % number)
