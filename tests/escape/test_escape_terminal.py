"""Attacks by way of a terminal: a program's own, those of others, and those of the machine."""

import re
import shlex
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from sandboxed import Lab
from terminals import python_at_terminal, shown_by

pytestmark = pytest.mark.promise

REQUESTS = {
    "TIOCSTI": 0x5412,
    "TIOCLINUX": 0x541C,
    "TIOCCONS": 0x541D,
    "TIOCSETD": 0x5423,
    "TIOCVHANGUP": 0x5437,
}
OPENED = """
def opened(path):
    try: return os.open(path, os.O_RDWR)
    except OSError: return 98  # gVisor opens no /dev/tty
"""


@pytest.mark.parametrize("name", REQUESTS)
async def test_dangerous_request_is_refused(lab: Lab, name: str) -> None:
    """By the policy: for all files, whatever the high bits are, which the kernel does not read. gVisor uses
    words of its own."""
    source = f"""
        import struct
        number = {REQUESTS[name]}
        for fd in 0, 1, opened("/dev/tty"), opened("/dev/null"), 99:
            for high in 0, 1 << 32, 1 << 63, 0xffffffff << 32:
                for argument in None, b"x", struct.pack("i", 0), struct.pack("i", 2), struct.pack("i", 13):
                    ctypes.set_errno(0)
                    if libc.syscall(16, fd, ctypes.c_ulong(high | number), argument) != -1: print("DONE", fd)
                    if ctypes.get_errno() != errno.EPERM: print(errno.errorcode[ctypes.get_errno()], fd)
        print("all tried")
        """
    shown = await shown_by(lab, OPENED + textwrap.dedent(source))
    if "own-kernel" in lab.sandbox.holds:
        assert b"DONE" not in shown
        assert shown.endswith(b"all tried\n")
    else:
        assert shown == b"all tried\n"


async def test_program_types_nothing_into_its_terminal(lab: Lab) -> None:
    """No key that it presses waits for whoever has the terminal next."""
    source = """
        import fcntl, select, termios
        for key in b"rm\\n":
            tell(fcntl.ioctl, 0, termios.TIOCSTI, bytes([key]))
        print(select.select([0], [], [], 0.2)[0])
        """
    refused = b"ENOTTY\n" if "own-kernel" in lab.sandbox.holds else b"EPERM\n"
    assert await shown_by(lab, source) == refused * 3 + b"[]\n"


async def test_nothing_answers_what_a_program_asks_of_its_terminal(lab: Lab) -> None:
    """A terminal that answers types for the program: its name, its title, the clipboard."""
    source = r"""
        import select, termios, tty
        tty.setraw(0, termios.TCSANOW)  # gVisor of Debian 12 cannot throw input away
        for ask in ("\x05", "\x1b[c", "\x1b[>c", "\x1b[=c", "\x1b[5n", "\x1b[6n", "\x1b[?6n", "\x1b[x",
                    "\x1bZ", "\x1b[21t", "\x1b[18t", "\x1b[14t", "\x1b]52;c;?\x07", "\x1b]10;?\x07",
                    "\x1b]4;0;?\x07", "\x1bP+q544e\x1b\\", "\x1bP$qm\x1b\\", "\x1b[?2004$p",
                    "\x1b[>q", "\x1b[?u"):
            os.write(1, ask.encode())
        print(select.select([0], [], [], 0.3)[0])
        """
    assert (await shown_by(lab, source)).endswith(b"[]\n")


@pytest.mark.parametrize("at", ["terminal", "pipes"])
async def test_no_other_terminal_can_be_had(lab: Lab, at: str) -> None:
    """The kernel's workers edit and echo what is typed into one, and no program pays for them."""
    source = """
        for path in "/dev/ptmx", "/dev/pts/ptmx":
            for _ in range(3): tell(os.open, path, os.O_RDWR)
            try: os.chmod(path, 0o777)
            except PermissionError: pass  # it is root's, in a container
            for flags in os.O_RDONLY, os.O_WRONLY: tell(os.open, path, flags)
            tell(os.open, "/proc/self/fd/%d" % os.open(path, os.O_PATH), os.O_RDWR)
        tell(os.openpty)
        if os.fork() == 0:
            os.setsid(); tell(os.open, "/dev/ptmx", os.O_RDWR); os._exit(0)
        os.wait()
        print(sorted(os.listdir("/dev/pts")))
        """
    if at == "terminal":
        shown = await shown_by(lab, source)
    else:
        shown = (await lab.python(source)).stdout
    assert shown == b"ENOSPC\n" * 14 + b"['0', 'ptmx']\n"


async def test_without_a_terminal_none_can_be_opened(lab: Lab) -> None:
    """Init holds the jail's, and has not unlocked it."""
    ran = await lab.python(
        """
        for flags in os.O_RDWR, os.O_RDWR | os.O_NOCTTY, os.O_RDONLY | os.O_NONBLOCK:
            for path in "/dev/tty", "/dev/pts/0": tell(os.open, path, flags)
        if os.fork() == 0:
            os.setsid()
            for path in "/dev/tty", "/dev/pts/0": tell(os.open, path, os.O_RDWR)
            os._exit(0)
        os.wait()
        """
    )
    assert ran.stdout == b"ENXIO\nEIO\n" * 4, ran


async def test_terminals_of_the_machine_cannot_be_had(lab: Lab) -> None:
    """Nor devices made: terminals, consoles and multiplexers."""
    source = """
        import stat
        refusals = (errno.EPERM, errno.EROFS, errno.EACCES)
        for device in (136, 0), (136, 1), (5, 0), (5, 1), (5, 2), (4, 0), (4, 1), (4, 64), (7, 0), (2, 0):
            for folder in "/tmp", "/box", "/dev/shm", "/dev/pts", "/dev":
                try: os.mknod(f"{folder}/made", stat.S_IFCHR | 0o666, os.makedev(*device)); print("MADE")
                except OSError as error: assert error.errno in refusals, error
        kinds = "tty", "pty", "console", "vc", "hvc"
        print([name for name in os.listdir("/dev") if name.startswith(kinds)])
        print([line for line in open("/proc/self/mounts").read().splitlines() if "devpts" in line])
        """
    names, mounts, _ = (await shown_by(lab, source)).split(b"\n")
    assert names == b"['tty']"
    assert mounts.count(b" devpts ") == mounts.count(b" /dev/pts devpts ") == 1


async def test_the_daemons_terminal_cannot_be_had(language_cache: Path) -> None:
    """occd is started at a terminal, as by a developer."""
    script = """
import sys, trio
sys.path.insert(0, sys.argv[1])
from sandboxed import *
from terminals import *
from occd.config import Config
from occd.sandbox import open_sandbox
async def main():
    os.close(os.open("/dev/tty", os.O_RDWR))
    async with open_sandbox(Config(), Path(sys.argv[2])) as sandbox:
        source = "tell(os.open, '/dev/tty', os.O_RDWR); print(sum(os.isatty(n) for n in range(99)))"
        print("pipes:", (await Lab(sandbox).python(source)).stdout)
        source = "tty = os.open('/dev/tty', os.O_RDWR); os.write(tty, os.ttyname(0).encode())"
        print("terminal:", await shown_by(Lab(sandbox), source))
trio.run(main)
"""
    command = [sys.executable, "-c", script, str(Path(__file__).parents[1]), str(language_cache)]
    ended = await trio.run_process(
        ["script", "-qec", shlex.join(command), "/dev/null"], capture_stdout=True
    )
    assert ended.stdout.decode().splitlines() == [
        r"pipes: b'ENXIO\n0\n'",
        "terminal: b'/dev/pts/0'",
    ]


async def test_terminal_cannot_be_stolen_by_another_session(lab: Lab) -> None:
    """Also by force, for which the kernel wants a capability. Init's session has none to give."""
    source = """
        import fcntl, termios
        if os.fork() == 0:
            os.setsid()
            tell(os.open, "/dev/tty", os.O_RDWR)
            for fd in 0, os.open("/dev/pts/0", os.O_RDWR):
                for force in 0, 1: tell(fcntl.ioctl, fd, termios.TIOCSCTTY, force)
                tell(os.tcsetpgrp, fd, os.getpgrp())
                tell(os.tcgetpgrp, fd)
            os._exit(0)
        os.wait()
        tell(os.tcsetpgrp, 0, 1)
        tell(os.open, "/proc/1/fd/0", os.O_RDWR)
        print(os.tcgetpgrp(0) == os.getpid() == os.getsid(0))
        """
    shown = await shown_by(lab, source)
    refused = (b"EPERM\n" * 2 + b"ENOTTY\n" * 2) * 2 + b"EPERM\n"
    if "own-kernel" in lab.sandbox.holds:  # gVisor opens init's stdin, which is /dev/null
        assert re.fullmatch(b"EIO\n" + refused + rb"DONE \d+\nTrue\n", shown), shown
    else:
        assert shown == b"ENXIO\n" + refused + b"EACCES\nTrue\n"


HOSTILE = {
    "exclusive": "ask(0, 0x540C)",  # TIOCEXCL
    "stopped": "ask(1, termios.TCXONC, termios.TCOOFF)",
    # Below the limit of output, which counts what the kernel does not throw away in time.
    "flushed": """for _ in range(900):
                os.write(1, b"x" * 1000); ask(0, termios.TCFLSH, termios.TCIOFLUSH)""",
    "processed outside": """settings = termios.tcgetattr(0); settings[3] |= 0o200000  # EXTPROC
            termios.tcsetattr(0, termios.TCSANOW, settings)""",
    "no speed": """settings = termios.tcgetattr(0); settings[4] = settings[5] = termios.B0
            termios.tcsetattr(0, termios.TCSANOW, settings)""",
    "all flags": """settings = termios.tcgetattr(0); settings[:4] = [0xffffffff] * 4
            termios.tcsetattr(0, termios.TCSANOW, settings)""",
    "locked": "tell(fcntl.ioctl, 0, 0x5457, bytes(range(200, 236)))",  # TIOCSLCKTRMIOS
    "packets": "tell(fcntl.ioctl, 0, termios.TIOCPKT, bytes([1, 0, 0, 0]))",
    "signals": "tell(fcntl.ioctl, 0, 0x40045436, 9)",  # TIOCSIG
    "master's": "[tell(fcntl.ioctl, 0, number, bytes(4)) for number in (0x40045431, 0x80045430, 0x5441)]",
    "asynchronous": """signal.signal(signal.SIGIO, signal.SIG_IGN); fcntl.fcntl(0, fcntl.F_SETFL, os.O_ASYNC)
            tell(fcntl.fcntl, 0, fcntl.F_SETOWN, 1)""",
    "nobody's": "signal.signal(signal.SIGHUP, signal.SIG_IGN); fcntl.ioctl(0, termios.TIOCNOTTY)",
    "resized": "for n in range(5000): fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack('HHHH', n, n, 0, 0))",
    "barred": "os.chmod('/dev/pts/0', 0); os.utime('/dev/pts/0', (1, 1)); tell(os.open, '/dev/pts/0', 2)",
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("how", ["stop", "cancel", "end"])
async def test_we_can_always_type_resize_read_and_end(lab: Lab, what: str, how: str) -> None:
    """Whatever a program makes of its terminal. occd's loop never waits for it."""
    stop, slow = trio.Event(), 0.0

    async def watch() -> None:
        nonlocal slow
        while True:
            begin = trio.current_time()
            await trio.sleep(0.01)
            slow = max(slow, trio.current_time() - begin)

    source = f"""
            import fcntl, struct, termios
            def ask(*request):
                try: fcntl.ioctl(*request)
                except OSError: pass  # gVisor knows few
            print("up", flush=True)
            os.read(0, 1)
            {HOSTILE[what]}
            if {how != "end"}: time.sleep(600)
            os._exit(7)
            """
    async with trio.open_nursery() as watchers:
        watchers.start_soon(watch)
        with trio.CancelScope() as scope:
            async with python_at_terminal(lab, source, stop=stop) as screen:
                await screen.shows(b"up\r\n")
                await screen.type(b"\n")
                for rows in range(1, 50):
                    screen.running.resize(rows, rows)
                    with (
                        trio.move_on_after(0.01),
                        suppress(trio.BrokenResourceError),
                    ):  # it has ended
                        await screen.type(b"typed \x11\x13\x04\x1a\x11\n" * 10)
                if how == "stop":
                    stop.set()
                if how == "cancel":
                    scope.cancel()
        watchers.cancel_scope.cancel()
    assert slow < 5
    if how != "cancel":
        assert screen.ending == ((7, None, None) if how == "end" else (None, "SIGKILL", None))


@pytest.mark.parametrize(
    "end", ["os._exit(0)", "os.kill(os.getpid(), 9)", "fcntl.ioctl(0, termios.TIOCNOTTY)"]
)
async def test_hang_up_races_lose_nothing_and_hang_nothing(lab: Lab, end: str) -> None:
    """The leader of the session leaves while its children read, and want the terminal for themselves."""
    source = f"""
            import fcntl, termios
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            for number in range(8):
                if os.fork() == 0:
                    if number % 2: os.setsid()
                    while True:
                        try:
                            if number < 2: fcntl.ioctl(0, termios.TIOCSCTTY, 0)
                            elif number < 4: os.close(os.open("/dev/tty", os.O_RDWR))
                            elif number < 6: os.close(os.open("/dev/pts/0", os.O_RDWR | os.O_NOCTTY))
                            else: os.set_blocking(0, False); os.read(0, 1)
                        except OSError: pass
            time.sleep(0.05)
            os.write(1, b"last word")
            {end}
            os._exit(0)
            """
    async with lab.cell():
        for _ in range(5):
            async with python_at_terminal(lab, source) as screen:
                pass
            assert screen.end.limit is None
            assert screen.shown == b"last word"
