"""Hostile programs that go for other processes, or will not end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio
from sandboxed import PYTHON, SHORT, Feed, Lab, run_in, standing_inits

pytestmark = pytest.mark.promise

BRIEF = replace(SHORT, cpu_time=1.0, wall_time=1.0)


@pytest.fixture
def neighbour() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the host, which no program may see."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        assert process.poll() is None, "the neighbour was killed"
        process.kill()


async def test_looking_for_processes_sees_only_its_own(
    neighbour: subprocess.Popen[bytes], lab: Lab
) -> None:
    outcome = await lab.python(
        "print([open(f'/proc/{p}/comm').read() for p in os.listdir('/proc') if p.isdigit()])"
    )
    assert outcome.stdout.strip() in (
        rb"['.occd-init\n', 'python3.11\n']",
        rb"['occd-init\n', 'python3.11\n']",
    )


async def test_signalling_every_process_number_reaches_nobody(
    neighbour: subprocess.Popen[bytes], lab: Lab
) -> None:
    """But small numbers, which the jail's own processes have: in a container ours are small, too."""
    theirs = {neighbour.pid, os.getpid(), os.getppid()} - set(range(20))
    assert neighbour.pid in theirs
    outcome = await lab.python(f"for each in {theirs}: tell(os.kill, each, 9)")
    assert outcome.stdout == b"ESRCH\n" * len(theirs)


async def test_kill_minus_one_kills_only_its_own(
    neighbour: subprocess.Popen[bytes], lab: Lab
) -> None:
    outcome = await lab.python(
        """
        if os.fork() == 0: time.sleep(60)
        print("before", flush=True)
        tell(os.kill, -1, 9)  # spares the caller and pid 1
        """
    )
    assert outcome.stdout == b"before\nDONE None\n"
    assert outcome.exit_code == 0


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGSTOP", "SIGSEGV", "SIGCHLD"])
async def test_signalling_init_changes_nothing(lab: Lab, name: str) -> None:
    outcome = await lab.python(
        f"tell(os.kill, 1, signal.{name}); time.sleep(0.05); print('alive'); sys.exit(7)"
    )
    assert outcome.stdout.endswith(b"alive\n")
    assert outcome.exit_code == 7


async def test_tracing_init_is_refused(lab: Lab) -> None:
    outcome = await lab.python("PTRACE_ATTACH = 16; syscall(101, PTRACE_ATTACH, 1, 0, 0)")
    assert outcome.stdout == b"EPERM\n"


async def test_writing_inits_memory_is_refused(lab: Lab) -> None:
    outcome = await lab.python("tell(open, '/proc/1/mem', 'r+b'); syscall(310, 1, 0, 0, 0, 0, 0)")
    assert b"DONE <" not in outcome.stdout
    assert outcome.stdout.startswith((b"EACCES\n", b"EPERM\n"))


async def test_changing_inits_limits_is_refused(lab: Lab) -> None:
    outcome = await lab.python(
        """
        import resource
        tell(lambda: resource.prlimit(1, resource.RLIMIT_NOFILE, (1, 1)))
        tell(os.setpriority, os.PRIO_PROCESS, 1, -20)
        """
    )
    assert b"DONE" not in outcome.stdout, outcome


async def test_lowering_inits_priority_is_refused(lab: Lab) -> None:
    outcome = await lab.python(
        """
        tell(os.setpriority, os.PRIO_PROCESS, 1, 19)
        tell(os.setpriority, os.PRIO_USER, 0, 19)
        tell(os.setpgid, 0, 1)  # init's group
        tell(os.setpriority, os.PRIO_PGRP, 0, 19)
        idle = os.sched_param(0)
        tell(os.sched_setscheduler, 1, os.SCHED_IDLE, idle)
        tell(os.sched_setparam, 1, idle)
        tell(os.sched_setaffinity, 1, {0})
        for who in ((1, 1), (2, 0), (3, 0)): syscall(251, *who, 3 << 13)  # ioprio_set
        syscall(314, 1, bytes([48]) + bytes(47), 0)  # sched_setattr
        """
    )
    assert outcome.stdout == b"EPERM\n" * 11, outcome


async def test_lowering_its_own_priority_is_fine(lab: Lab) -> None:
    outcome = await lab.python(
        """
        before = os.nice(0)
        tell(lambda: os.nice(5) - before in (5, 19 - before))
        tell(os.sched_setaffinity, 0, {0})
        tell(os.sched_setscheduler, 0, os.SCHED_IDLE, os.sched_param(0))
        """
    )
    assert outcome.stdout == b"DONE True\nDONE None\nDONE None\n", outcome


async def test_writing_to_inits_files_in_proc_is_refused(lab: Lab) -> None:
    outcome = await lab.python(
        """
        for folder, _, names in os.walk("/proc/1"):
            for name in names:
                try:
                    fd = os.open(os.path.join(folder, name), os.O_WRONLY)
                    os.write(fd, b"1")  # some may be opened by everybody
                except OSError: continue
                print(folder, name)
        """
    )
    assert (outcome.exit_code, outcome.stdout) == (0, b""), outcome


async def test_crowding_init_off_its_processor_delays_no_end(lab: Lab) -> None:
    """Far before the wall time, also where 200 programs begin on a busy machine."""
    started = time.monotonic()
    outcome = await lab.python(
        """
        try: os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0)); os.sched_setaffinity(1, {0})
        except OSError: pass
        try:
            while True:
                if os.fork() == 0:
                    os.sched_setaffinity(0, {0})
                    while True: pass
        except OSError: time.sleep(60)
        """,
        replace(SHORT, cpu_time=1.0, processes=200, memory=2**31, wall_time=60.0),
    )
    assert outcome.limit == "cpu_time", outcome
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    "source",
    [
        "while True: os.kill(1, signal.SIGCHLD)",
        """
        while True:
            try:
                if os.fork() == 0: os.fork(); os._exit(0)
                os.wait()
            except OSError: pass
        """,
    ],
    ids=["signals", "orphans"],
)
async def test_keeping_init_busy_delays_no_end(lab: Lab, source: str) -> None:
    limits = replace(SHORT, cpu_time=1.0, wall_time=30.0)
    outcome = await lab.python(source, limits)
    assert outcome.limit == "cpu_time", outcome
    assert outcome.cpu_time < 3.0


@pytest.mark.mechanics
async def test_sending_init_signals_makes_it_do_little(lab: Lab) -> None:
    """The work of init is not counted to the program."""
    feed = Feed()
    used: list[float] = []

    async def look() -> None:
        await feed.output.wait()
        (init,) = await standing_inits()
        while (ticks := cpu_ticks(init)) is not None:
            used.append(ticks / os.sysconf("SC_CLK_TCK"))
            await trio.sleep(0.02)

    source = "print('up', flush=True)\nwhile True: os.kill(1, signal.SIGCHLD)"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        outcome = await lab.python(source, replace(SHORT, cpu_time=2.0, wall_time=30.0), feed=feed)
    assert outcome.limit == "cpu_time", outcome
    assert max(used) < outcome.cpu_time / 4


def cpu_ticks(pid: int) -> int | None:
    """None when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else int(fields[11]) + int(fields[12])


@pytest.mark.parametrize("name", ["RLIMIT_FSIZE", "RLIMIT_NOFILE"])
async def test_own_limits_cannot_be_raised(lab: Lab, name: str) -> None:
    outcome = await lab.python(
        f"""
        import resource
        soft, hard = resource.getrlimit(resource.{name})
        try: resource.setrlimit(resource.{name}, (soft, hard + 1))
        except ValueError as error: print(error)
        """
    )
    assert b"not allowed to raise maximum limit" in outcome.stdout


async def test_priority_cannot_be_raised(lab: Lab) -> None:
    outcome = await lab.python(
        """
        tell(os.setpriority, os.PRIO_PROCESS, 0, -5)
        tell(os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1))
        """
    )
    assert set(outcome.stdout.split()) <= {b"EACCES", b"EPERM"}


async def test_sleeping_for_ever_ends_at_the_wall_time(lab: Lab) -> None:
    outcome = await lab.python("time.sleep(10**6)", replace(BRIEF, wall_time=0.5))
    assert (outcome.signal, outcome.limit) == ("SIGKILL", "wall_time")


async def test_busy_loop_ends_at_the_cpu_time(lab: Lab) -> None:
    outcome = await lab.python("while True: pass", replace(BRIEF, cpu_time=0.4, wall_time=20.0))
    assert (outcome.signal, outcome.limit) == ("SIGKILL", "cpu_time")
    assert 0.4 <= outcome.cpu_time < 1.5


async def test_cpu_time_spread_over_children_is_summed(lab: Lab) -> None:
    outcome = await lab.python(
        """
        for _ in range(30):
            if os.fork() == 0:
                while True: pass
        time.sleep(60)
        """,
        replace(BRIEF, cpu_time=0.6, wall_time=20.0),
    )
    assert outcome.limit == "cpu_time"
    assert outcome.cpu_time < 3.0


async def test_ignoring_every_signal_does_not_help(lab: Lab) -> None:
    outcome = await lab.python(
        """
        for number in signal.valid_signals() - {9, 19}: signal.signal(number, signal.SIG_IGN)
        while True: time.sleep(1)
        """,
        replace(BRIEF, wall_time=0.5),
    )
    assert (outcome.signal, outcome.limit) == ("SIGKILL", "wall_time")


async def test_stopping_itself_ends_at_the_wall_time(lab: Lab) -> None:
    outcome = await lab.python(
        "os.kill(os.getpid(), signal.SIGSTOP)", replace(BRIEF, wall_time=0.5)
    )
    assert (outcome.signal, outcome.limit) == ("SIGKILL", "wall_time")


async def test_vforked_child_that_never_ends_is_killed(lab: Lab) -> None:
    outcome = await lab.c(
        """
        #define _GNU_SOURCE
        #include <unistd.h>
        int main(void) { if (vfork() == 0) for (;;) pause(); }
        """,
        replace(BRIEF, wall_time=0.5),
    )
    assert outcome.limit == "wall_time"


async def test_daemon_that_holds_stdout_dies_with_the_main_program(lab: Lab) -> None:
    started = time.monotonic()
    outcome = await lab.python(
        """
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                signal.signal(signal.SIGHUP, signal.SIG_IGN)
                ctypes.CDLL(None).prctl(1, 0)
                while True: time.sleep(1)
            os._exit(0)
        os.wait(); print("parent ends", flush=True)
        """,
        replace(SHORT, wall_time=30.0),
    )
    assert outcome.succeeded, outcome
    assert outcome.stdout == b"parent ends\n"
    assert time.monotonic() - started < 15


async def test_children_that_refork_for_ever_die_with_the_main_program(lab: Lab) -> None:
    outcome = await lab.python(
        """
        if os.fork() == 0:
            os.setsid()
            while True:
                try:
                    if os.fork(): os._exit(0)
                except OSError: pass
        time.sleep(0.3); print("parent ends")
        """
    )
    assert outcome.stdout == b"parent ends\n"


async def test_fork_bomb_stays_below_its_limit_and_ends(lab: Lab) -> None:
    running: list[bool] = []

    async def another() -> None:
        await trio.sleep(0.3)
        running.append((await lab.python("print('fine')")).stdout == b"fine\n")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(another)
        outcome = await lab.python(
            """
            while True:
                try: os.fork()
                except OSError: time.sleep(0.01)
            """,
            replace(BRIEF, cpu_time=2.0, wall_time=1.5, processes=32),
        )
    assert outcome.limit in ("wall_time", "cpu_time")
    assert running == [True]


@pytest.mark.parametrize("kind", ["processes", "threads"])
async def test_no_more_processes_or_threads_than_allowed(lab: Lab, kind: str) -> None:
    start = {
        "processes": "if os.fork() == 0: time.sleep(60)",
        "threads": "threading.Thread(target=time.sleep, args=(60,)).start()",
    }[kind]
    outcome = await lab.python(
        f"""
        count = 1
        try:
            while True:
                {start}
                count += 1
        except (OSError, RuntimeError): print(count, flush=True); os._exit(0)
        """,
        replace(SHORT, processes=16),
    )
    assert outcome.stdout == b"16\n", outcome


async def test_program_does_not_see_another_cells_processes(lab: Lab) -> None:
    look = "import os, time; time.sleep(0.4); print(len([p for p in os.listdir('/proc') if p.isdigit()]))"
    seen: list[bytes] = []

    async def one() -> None:
        async with lab.cell() as cell:
            seen.append((await run_in(cell, [PYTHON, "-c", look])).stdout)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(one)
    assert seen == [b"2\n"] * 3


@pytest.mark.mechanics
async def test_killing_the_daemon_kills_its_programs(lab: Lab, language_cache: Path) -> None:
    """SIGKILL of the process that runs the sandbox, with its program running."""
    script = """
import sys, trio
sys.path.insert(0, sys.argv[1])
from sandboxed import *
from occd.config import Config
from occd.sandbox import kernel, open_sandbox
from occd.sandbox.slots import host_folder
from pathlib import Path
async def main():
    kernel.unmount(str(host_folder(kernel.enter_private_mounts()) / "mnt"))  # the test's, inherited
    async with open_sandbox(Config(), Path(sys.argv[2])) as sandbox:
        feed = Feed(); feed.emit = lambda stream, data: print("up", flush=True)
        await Lab(sandbox).python("print('up', flush=True); time.sleep(10**6)",
                                  Limits(wall_time=300.0), feed=feed)
trio.run(main)
"""
    await daemon_killed_while_running(script, language_cache)


@pytest.mark.mechanics
async def test_killing_the_daemon_kills_its_programs_at_terminals(
    lab: Lab, language_cache: Path
) -> None:
    """Also those that do not care that nobody has the other side of the terminal any more."""
    script = """
import sys, trio
sys.path.insert(0, sys.argv[1])
from sandboxed import *
from terminals import *
from occd.config import Config
from occd.sandbox import kernel, open_sandbox
from occd.sandbox.slots import host_folder
from pathlib import Path
SOURCE = '''
import select
signal.signal(signal.SIGHUP, signal.SIG_IGN)
if os.fork() == 0: os.setsid()
print('up', flush=True)
while True:
    try: os.write(1, bytes(1000)); select.select([0], [], [])
    except OSError: time.sleep(10**6)
'''
async def main():
    kernel.unmount(str(host_folder(kernel.enter_private_mounts()) / "mnt"))  # the test's, inherited
    async with open_sandbox(Config(), Path(sys.argv[2])) as sandbox:
        async with python_at_terminal(Lab(sandbox), SOURCE, Limits(wall_time=300.0)) as screen:
            await screen.shows(b"up"); await screen.shows(b"up")
            print("up", flush=True)
            await trio.sleep_forever()
trio.run(main)
"""
    await daemon_killed_while_running(script, language_cache)


async def daemon_killed_while_running(script: str, cache: Path) -> None:
    command = [sys.executable, "-c", script, str(Path(__file__).parents[1]), str(cache)]
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(
            partial(trio.run_process, command, stdout=subprocess.PIPE, check=False)
        )
        assert process.stdout is not None
        assert (await process.stdout.receive_some()).startswith(b"up")
        jailed = [os.pidfd_open(pid) for pid in _descendants(process.pid)]
        assert len(jailed) >= 3  # nsjail, init and the program
        process.kill()
    with trio.fail_after(5):
        for pidfd in jailed:
            await trio.lowlevel.wait_readable(pidfd)  # it has ended
            os.close(pidfd)


def _descendants(pid: int) -> list[int]:
    children = [int(each) for each in _read(f"/proc/{pid}/task/{pid}/children").split()]
    return children + [below for child in children for below in _descendants(child)]


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def test_default_signal_actions_reach_the_program() -> None:
    """Guards the premise of the tests above: Python ignores signals that a child would inherit."""
    assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN
