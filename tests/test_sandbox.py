"""What the sandbox promises about an honest or unlucky program: exact ends, usage, limits, layers."""

import gc
import os
import shutil
import signal
import time
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from sandboxed import (
    LONG,
    PYTHON,
    SHORT,
    Feed,
    Lab,
    Ran,
    children,
    compile_in,
    inits,
    nsjails,
    of_process,
    run_in,
    standing_inits,
)

from occd.config import Config
from occd.data import data_folder
from occd.errors import SandboxFailed, SandboxUnavailable
from occd.model import File, Stream
from occd.sandbox import Cell, Run, Sink, open_sandbox
from occd.sandbox import Feed as Stdin
from occd.sandbox.doctor import examine
from occd.sandbox.program import _ANSWER_S

pytestmark = [pytest.mark.promise, pytest.mark.contract]

MIB = 2**20
SOONER = 6
"""So many times, because the program may be quicker."""


def ending(outcome: Ran) -> tuple[int | None, str | None, str | None]:
    return outcome.exit_code, outcome.signal, outcome.limit


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("abort()", "SIGABRT"),
        ("kill(getpid(), SIGTERM)", "SIGTERM"),
        ("kill(getpid(), SIGINT)", "SIGINT"),
        ("kill(getpid(), SIGKILL)", "SIGKILL"),
        ("kill(getpid(), SIGRTMIN + 2)", "SIGRTMIN+2"),
        ("*(volatile int *)0 = 1", "SIGSEGV"),
        ("raise(SIGFPE)", "SIGFPE"),
        ("raise(SIGPIPE)", "SIGPIPE"),
    ],
)
async def test_signal_that_ended_the_program_is_named(
    lab: Lab, statement: str, expected: str
) -> None:
    outcome = await lab.c(
        f"""
        #include <signal.h>
        #include <stdlib.h>
        #include <unistd.h>
        int main(void) {{ {statement}; return 0; }}
        """
    )
    assert ending(outcome) == (None, expected, None)


@pytest.mark.parametrize("code", [0, 1, 125, 127, 137, 139, 255])
async def test_exit_code_is_never_taken_for_a_signal(lab: Lab, code: int) -> None:
    outcome = await lab.python(f"sys.exit({code})")
    assert ending(outcome) == (code, None, None)


@pytest.mark.core
async def test_program_that_cannot_be_started_exits_127(lab: Lab) -> None:
    async with lab.cell() as cell:
        outcome = await run_in(cell, ["./absent"])
    assert ending(outcome) == (127, None, None)
    assert b"./absent" in outcome.stderr


@pytest.mark.core
async def test_memory_and_cpu_time_are_what_the_program_used(lab: Lab) -> None:
    outcome = await lab.python(
        """
        block = bytearray(100 * 2**20)
        for at in range(0, len(block), 4096): block[at] = 1
        while time.process_time() < 0.5: pass
        """
    )
    assert outcome.succeeded, outcome
    assert 100 * MIB < outcome.memory < 140 * MIB
    assert 0.5 <= outcome.cpu_time < 1.0
    assert outcome.wall_time >= outcome.cpu_time * 0.9


async def test_cpu_time_counts_children_that_have_ended(lab: Lab) -> None:
    outcome = await lab.python(
        """
        for _ in range(4):
            if os.fork() == 0:
                while time.process_time() < 0.2: pass
                os._exit(0)
        for _ in range(4): os.wait()
        """,
        LONG,
    )
    assert outcome.succeeded, outcome
    assert 0.8 <= outcome.cpu_time < 2.0


async def test_who_was_told_the_output_is_not_held_beyond_the_end(lab: Lab) -> None:
    """What was written was held until a garbage collection, which is rare."""
    feed = Feed()
    told = weakref.ref(feed)
    gc.disable()
    try:
        outcome = await lab.python("print('out')", feed=feed)
        del feed
        assert outcome.stdout == b"out\n"
        assert told() is None
    finally:
        gc.enable()


@pytest.mark.core
async def test_output_before_a_kill_is_kept(lab: Lab) -> None:
    limits = replace(SHORT, wall_time=0.7)
    outcome = await lab.python("print('before', flush=True); time.sleep(60)", limits)
    assert ending(outcome) == (None, "SIGKILL", "wall_time")
    assert outcome.stdout == b"before\n"
    assert not outcome.stdout_truncated


@pytest.mark.core
async def test_output_of_exactly_the_limit_is_complete(lab: Lab) -> None:
    limits = replace(SHORT, output=5000)
    outcome = await lab.python("print('x' * 4999)", limits)
    assert outcome.succeeded, outcome
    assert len(outcome.stdout) == 5000
    assert not outcome.stdout_truncated


@pytest.mark.core
async def test_stop_kills_soon_and_keeps_the_output(lab: Lab) -> None:
    feed = Feed(keep_open=True)
    outcomes: list[tuple[Ran, float]] = []

    async def watch() -> None:
        outcome = await lab.python("print('partial', flush=True); time.sleep(60)", feed=feed)
        outcomes.append((outcome, time.monotonic()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await feed.output.wait()
        asked = time.monotonic()
        feed.stop.set()
    ((outcome, ended),) = outcomes
    assert ended - asked < 1.0  # 100 ms is promised; this machine may be busy
    assert ending(outcome) == (None, "SIGKILL", None)
    assert outcome.stdout == b"partial\n"


async def signalled(lab: Lab, source: str, *numbers: signal.Signals) -> Ran:
    """Run a program and send it signals, the next whenever it has printed something."""
    send, signals = trio.open_memory_channel[int](0)
    feed = Feed(keep_open=True, signals=signals)
    outcomes: list[Ran] = []

    async def run() -> None:
        with signals:
            outcomes.append(await lab.python(source, feed=feed))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        for number in numbers:
            await feed.output.wait()
            feed.output = trio.Event()
            await send.send(number)
    assert outcomes[0].stderr == b"", outcomes[0]  # a traceback is no sign that it waits
    return outcomes[0]


@pytest.mark.core
async def test_a_signal_reaches_the_program_which_may_handle_it(lab: Lab) -> None:
    outcome = await signalled(
        lab,
        """
        signal.signal(signal.SIGINT, lambda *_: os.write(1, b"caught\\n"))
        os.write(1, b"ready\\n")  # print may not be entered again while it runs
        while True: time.sleep(0.01)  # a signal just before signal.pause would be waited for twice
        """,
        signal.SIGINT,
        signal.SIGTERM,
    )
    assert ending(outcome) == (None, "SIGTERM", None)
    assert outcome.stdout == b"ready\ncaught\n"


async def test_a_signal_reaches_the_programs_children_as_from_a_terminal(lab: Lab) -> None:
    outcome = await signalled(
        lab,
        """
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL); print("ready", flush=True); time.sleep(60)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
        signal.SIGINT,
    )
    assert outcome.stdout == b"ready\n-2\n", outcome


@pytest.mark.core
async def test_a_signal_that_was_there_before_the_program_reaches_it(lab: Lab) -> None:
    async with lab.cell() as cell:
        for _ in range(SOONER):
            send, signals = trio.open_memory_channel[int](1)
            with send, signals:
                send.send_nowait(signal.SIGTERM)
                ran = await run_in(cell, ["/bin/sleep", "60"], feed=Feed(signals=signals))
            assert ending(ran) == (None, "SIGTERM", None)


@pytest.mark.core
async def test_a_program_that_was_stopped_before_it_began_ends_at_once(lab: Lab) -> None:
    async with lab.cell() as cell:
        for _ in range(SOONER):
            feed = Feed()
            feed.stop.set()
            ran = await run_in(cell, ["/bin/sleep", "60"], feed=feed)
            assert ending(ran) == (None, "SIGKILL", None)
            assert ran.wall_time < _ANSWER_S  # else init had to be killed


async def test_a_program_in_a_session_of_its_own_gets_its_signals_too(lab: Lab) -> None:
    source = (
        "if os.fork(): os.wait(); os._exit(0)\nos.setsid(); print('x', flush=True); time.sleep(60)"
    )
    outcome = await signalled(lab, source, signal.SIGKILL)
    assert ending(outcome) == (None, "SIGKILL", None)


async def test_a_program_cannot_leave_the_group_that_gets_its_signals(lab: Lab) -> None:
    """gVisor lets it. The signals follow the program."""
    outcome = await signalled(
        lab,
        """
        from functools import partial
        if os.fork() == 0: signal.pause()  # stays in the group
        other = os.fork()
        if other == 0: signal.pause()
        os.setpgid(other, other)
        left = []
        for leave in partial(os.setpgid, 0, other), partial(os.setpgid, 0, 0), os.setsid:
            try: left.append(leave())
            except PermissionError: pass
        print(left, flush=True)
        time.sleep(60)
        """,
        signal.SIGTERM,
    )
    if "own-kernel" not in lab.sandbox.holds:
        assert outcome.stdout == b"[]\n", outcome
    assert ending(outcome) == (None, "SIGTERM", None)


async def test_what_is_killed_leaves_nothing_to_the_next_in_its_place(lab: Lab) -> None:
    left = "for folder in ('/box', '/tmp', '/dev/shm'): open(folder + '/left', 'w').close()\n"
    look = "print([os.path.exists(f + '/left') for f in ('/box', '/tmp', '/dev/shm')])"
    for wait in ("time.sleep(60)", "os.abort()", "bytearray(2**31)"):
        await lab.python(left + wait, replace(SHORT, wall_time=0.5, memory=64 * MIB))
        assert (await lab.python(look)).stdout == b"[False, False, False]\n"


async def kill(pid: int) -> None:
    """Returns when it has ended, which the death of its nsjail may have brought about before."""
    with suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        await trio.lowlevel.wait_readable(pidfd)
        os.close(pidfd)


@pytest.mark.parametrize("stands", [False, True])
@pytest.mark.mechanics
async def test_an_idle_nsjail_that_somebody_killed_costs_no_attempt(
    lab: Lab, *, stands: bool
) -> None:
    """Before its next jail stands, and when it does."""
    assert (await lab.python("")).succeeded
    if stands:
        await standing_inits()
    for pid in nsjails():
        await kill(pid)
    assert (await lab.python("")).succeeded


@pytest.mark.mechanics
async def test_an_idle_nsjail_that_ended_with_its_mail_unread_costs_no_attempt(lab: Lab) -> None:
    async with lab.cell() as cell:
        assert (await run_in(cell, ["/bin/true"])).succeeded
        (init,) = await standing_inits()
        os.kill(init, signal.SIGSTOP)
        (ready,) = cell._jailer._idle  # type: ignore[attr-defined]
        os.write(ready.launcher._control.fileno(), bytes([signal.SIGTERM]))  # a late one
        for pid in (*nsjails(), init):
            await kill(pid)
        assert (await run_in(cell, ["/bin/true"])).succeeded


@pytest.mark.mechanics
async def test_an_idle_init_that_somebody_killed_costs_no_attempt(lab: Lab) -> None:
    assert (await lab.python("")).succeeded
    before = await standing_inits()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    with trio.fail_after(5):
        while set(await standing_inits()) & set(before):  # noqa: ASYNC110  (the kernel tells nobody)
            await trio.sleep(0.01)
    assert (await lab.python("")).succeeded


@pytest.mark.parametrize("victim", ["nsjail", "init"])
@pytest.mark.mechanics
async def test_a_jail_that_somebody_killed_gives_no_verdict(lab: Lab, victim: str) -> None:
    feed = Feed(keep_open=True)

    async def kill() -> None:
        await feed.output.wait()
        (nsjail,) = nsjails()
        (init,) = inits(nsjail)
        if victim == "nsjail":
            os.kill(nsjail, signal.SIGKILL)
        os.kill(init, signal.SIGKILL)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(kill)
        with pytest.raises(SandboxFailed):
            await lab.python("print('up', flush=True); time.sleep(60)", feed=feed)
    assert (await lab.python("")).succeeded


def of_true(turn: Callable[[], Awaitable[None]]) -> Run:
    return Run(["/bin/true"], (), SHORT, Sink(0), Sink(0), turn=turn)


@pytest.mark.parametrize("victim", ["nsjail", "init"])
@pytest.mark.mechanics
async def test_a_jail_that_somebody_killed_before_its_turn_gives_no_verdict(
    lab: Lab, victim: str
) -> None:
    async def kill() -> None:
        (nsjail,) = nsjails()
        (maker,), (init,) = children(nsjail), inits(nsjail)
        for pid in (init, maker, nsjail) if victim == "nsjail" else (init,):
            os.kill(pid, signal.SIGKILL)
        while of_process(init, "comm"):  # noqa: ASYNC110  (the kernel tells nobody)
            await trio.sleep(0.01)

    with trio.fail_after(20), pytest.raises(SandboxFailed):
        async with lab.cell() as cell:
            await cell.run(of_true(kill))
    assert (await lab.python("")).succeeded


@pytest.mark.mechanics
async def test_runs_that_are_made_ready_beside_one_another_take_two_nsjails(lab: Lab) -> None:
    slot = trio.Semaphore(1)

    async def work(cell: Cell) -> None:
        for _ in range(4):
            assert (await cell.run(of_true(slot.acquire))).outcome.succeeded
            slot.release()

    async with lab.cell() as cell:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work, cell)
            await work(cell)
        assert len(nsjails()) == 2


@pytest.mark.parametrize("delay", [0.0, 0.005, 0.02, 0.3])
async def test_cancelling_a_run_at_any_moment_leaves_nothing(lab: Lab, delay: float) -> None:
    async with lab.cell() as cell:
        with trio.move_on_after(delay):
            await run_in(cell, [PYTHON, "-c", "import time; time.sleep(60)"])
        assert (await run_in(cell, ["/bin/true"])).succeeded  # the cell is still good


@pytest.mark.core
async def test_stdin_closed_early_is_no_error(lab: Lab) -> None:
    feed = Feed(stdin=b"x" * 10 * MIB)
    outcome = await lab.python("os.close(0); time.sleep(0.2); print('fine')", feed=feed)
    assert outcome.succeeded, outcome
    assert outcome.stdout == b"fine\n"


async def test_unread_stdin_does_not_hold_the_end_up(lab: Lab) -> None:
    outcome = await lab.python("print('fine')", feed=Feed(stdin=b"x" * 10 * MIB))
    assert outcome.succeeded, outcome


@pytest.mark.core
async def test_large_stdin_arrives_whole(lab: Lab) -> None:
    outcome = await lab.python(
        "print(len(sys.stdin.buffer.read()))", feed=Feed(stdin=b"x" * 10 * MIB)
    )
    assert outcome.stdout == b"10485760\n"


@pytest.mark.core
async def test_run_sees_the_compiled_tree_and_not_another_runs_writes(lab: Lab) -> None:
    change = "open('made', 'a').write('!'); print(open('made').read(), open('source').read())"
    async with lab.cell(File("source", b"text")) as cell:
        made, tree = await compile_in(cell, [PYTHON, "-c", "open('made', 'w').write('compiled')"])
        assert made.succeeded, made
        for _ in range(2):
            outcome = await run_in(cell, [PYTHON, "-c", change], tree=tree)
            assert outcome.stdout == b"compiled! text\n", outcome


@pytest.mark.parametrize(("files", "threads"), [(3, 1), (40, 3)])
@pytest.mark.mechanics
async def test_only_a_small_tree_is_copied_without_a_thread(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, files: int, threads: int
) -> None:
    """And never the first time, because a tree is then not known to be small."""
    make = f"for at in range({files}): open(f'made{{at}}', 'w').write('x')"
    started, run_sync = [], trio.to_thread.run_sync

    async def counting(work: Any, *args: Any, **options: Any) -> Any:
        started.append(work)
        return await run_sync(work, *args, **options)

    async with lab.cell() as cell:
        _, tree = await compile_in(cell, [PYTHON, "-c", make])
        monkeypatch.setattr(trio.to_thread, "run_sync", counting)
        for _ in range(3):
            outcome = await run_in(
                cell, [PYTHON, "-c", "import os; print(len(os.listdir()))"], tree=tree
            )
            assert outcome.stdout == b"%d\n" % files, outcome
        assert len(started) == threads, started  # a cell that ends may take another


@pytest.mark.mechanics
async def test_a_tree_is_not_taken_for_small_because_a_file_of_the_run_stood_in_its_place(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file, or a folder with all that is in it."""
    make = (
        "import os; os.mkdir('folder')\n"
        "for name in ('file', 'folder/file'): open(name, 'wb').write(bytes(4 << 20))"
    )
    in_place = [File("file", b""), File("folder", b"")]
    started, run_sync = [], trio.to_thread.run_sync

    async def counting(work: Any, *args: Any, **options: Any) -> Any:
        started.append(work)
        return await run_sync(work, *args, **options)

    async with lab.cell() as cell:
        _, tree = await compile_in(cell, [PYTHON, "-c", make])
        monkeypatch.setattr(trio.to_thread, "run_sync", counting)
        for files in (in_place, [], in_place, []):
            await run_in(cell, [PYTHON, "-c", ""], tree=tree, files=files)
        assert len(started) == 4, started


@pytest.mark.core
async def test_two_runs_of_one_cell_at_once_are_apart(lab: Lab) -> None:
    source = (
        "import os, sys, time; name = sys.argv[1]; open(name, 'w').close(); time.sleep(0.5)\n"
        "pids = [pid for pid in os.listdir('/proc') if pid.isdigit()]\n"
        "print(name, sorted(os.listdir('.')), sorted(os.listdir('/tmp')), len(pids))\n"
        "open('/tmp/left', 'w').close()"
    )
    outcomes: list[bytes] = []
    async with lab.cell() as cell, trio.open_nursery() as nursery:

        async def run(name: str) -> None:
            outcomes.append((await run_in(cell, [PYTHON, "-c", source, name])).stdout)

        nursery.start_soon(run, "a")
        nursery.start_soon(run, "b")
    assert sorted(outcomes) == [b"a ['a'] [] 2\n", b"b ['b'] [] 2\n"]


async def test_files_in_folders_belong_to_the_program(lab: Lab) -> None:
    async with lab.cell(File("one/two/data.txt", b"text")) as cell:
        source = (
            "import os; os.rename('one/two/data.txt', 'one/moved'); print(open('one/moved').read())"
        )
        outcome = await run_in(cell, [PYTHON, "-c", source])
    assert outcome.stdout == b"text\n", outcome


@pytest.mark.core
async def test_environment_is_ours_and_the_jobs_only(lab: Lab) -> None:
    async with lab.cell() as cell:
        outcome = await run_in(cell, ["/usr/bin/env"], env=[("GIVEN", "a b"), ("HOME", "/tmp")])
    assert dict(line.split("=", 1) for line in outcome.stdout.decode().splitlines()) == {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp",
        "TMPDIR": "/tmp",
        "LANG": "C.UTF-8",
        "GIVEN": "a b",
    }


@pytest.mark.core
async def test_program_inherits_only_the_three_standard_streams(lab: Lab) -> None:
    outcome = await lab.python("print(sorted(os.listdir('/proc/self/fd'), key=int))")
    assert outcome.stdout == b"['0', '1', '2', '3']\n"  # 3 is the listing itself


async def test_many_cells_at_once_all_come_out_right(lab: Lab) -> None:
    seen: list[bytes] = []

    async def run(number: int) -> None:
        seen.append((await lab.python(f"print({number})")).stdout)

    async with trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(run, number)
    assert sorted(map(int, seen)) == list(range(12))


async def test_secret_folder_where_programs_read_is_refused() -> None:
    config = Config(data_dir=Path("/usr/local/share/occd-data"))
    with pytest.raises(SandboxUnavailable, match="/usr/local/share/occd-data"):
        async with open_sandbox(config):
            pass


async def test_a_root_that_cannot_be_made_is_told_and_leaves_nothing(
    nothing_left_over: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where occd was copied, not installed: its init is compiled by the installation."""
    without = tmp_path / "sandbox"
    shutil.copytree(data_folder("sandbox"), without, ignore=shutil.ignore_patterns("occd-init"))
    for user in ("rootfs", "doctor"):
        monkeypatch.setattr(f"occd.sandbox.{user}.data_folder", lambda _: without)
    with pytest.raises(SandboxUnavailable, match=r"occd-init.*Install occd again"):
        async with open_sandbox(Config()):
            pass
    bad = [finding.text for finding in await examine(Config()) if not finding.safe]
    assert bad[0] == f"{without}/bin/occd-init is missing"


@pytest.mark.core
async def test_streams_are_told_in_the_order_in_which_they_were_written(lab: Lab) -> None:
    """Each piece is written when the one before has been seen, so the order is certain."""
    told: list[tuple[Stream, bytes]] = []
    send, stdin = trio.open_memory_channel[bytes](1)

    def emit(stream: Stream, data: bytes) -> None:
        told.append((stream, data))
        send.send_nowait(b"\n")

    source = "import os\nfor number in range(20): os.write(1 + number % 2, b'%d' % number); os.read(0, 1)"
    run = Run(
        [PYTHON, "-c", source],
        (),
        SHORT,
        stdout=Sink(1000, partial(emit, "stdout")),
        stderr=Sink(1000, partial(emit, "stderr")),
        stdin=Stdin(stdin),
    )
    async with lab.cell() as cell:
        with send:
            outcome = (await cell.run(run)).outcome
    assert outcome.succeeded, outcome
    streams: list[Stream] = ["stdout", "stderr"]
    assert told == [(streams[number % 2], b"%d" % number) for number in range(20)]


@pytest.mark.mechanics
async def test_a_pipe_that_stays_open_does_not_hold_the_end_up(lab: Lab) -> None:
    """As the kernel keeps one open that lies between two sockets."""
    feed = Feed(keep_open=True)
    held: list[int] = []
    outcomes: list[Ran] = []

    async def run() -> None:
        source = "print('first', flush=True); time.sleep(1); os.write(1, b'last\\n'); sys.exit(7)"
        outcomes.append(await lab.python(source, feed=feed))

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await feed.output.wait()
            (nsjail,) = nsjails()
            (init,) = inits(nsjail)
            for program in children(init):
                held += [os.open(f"/proc/{program}/fd/{number}", os.O_WRONLY) for number in (1, 2)]
    for fd in held:
        os.close(fd)
    assert held
    assert ending(outcomes[0]) == (7, None, None)
    assert outcomes[0].stdout == b"first\nlast\n"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("half", [b"\xf0\x9f\x98", b"\xe6\x97", b"\xc3"])
async def test_a_program_that_we_end_within_a_character_leaves_text(
    lab: Lab, stream: Stream, half: bytes
) -> None:
    source = f"sys.{stream}.buffer.write('日'.encode() + {half!r}); sys.{stream}.flush(); "
    ended = await lab.python(source + "time.sleep(60)", replace(SHORT, wall_time=0.5))
    assert ending(ended) == (None, "SIGKILL", "wall_time")
    assert getattr(ended, stream) == "日".encode()
    own = await lab.python(source)
    assert getattr(own, stream) == "日".encode() + half
