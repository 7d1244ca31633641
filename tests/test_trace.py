"""What a program's trace says, what it costs, and that no program gains anything by it."""

import json
import random
import secrets
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from sandboxed import LONG, PYTHON, Lab, Ran, of_process, run_in

from occd.config import Config
from occd.execution.traced import account, account_in_turn
from occd.inputs import File
from occd.sandbox import Run, Sink, Traced, kernel
from occd.sandbox.nsjail import open_nsjail
from occd.sandbox.rootfs import build_rootfs
from occd.trace import BYTES_MAX, CALLS_MAX, STORED_MAX, Trace

pytestmark = [pytest.mark.promise, pytest.mark.contract]


@contextmanager
def lock_at_once(lock: threading.Lock) -> Iterator[None]:
    assert lock.acquire(blocking=False), "two at once"
    try:
        time.sleep(0.01)  # so that another thread could begin
        yield
    finally:
        lock.release()


BEGINS, ENDS = b'[1, 2, 0, "write", ["1"]]\n', b'[1, 5, "1", null, null]\n'


def listed(traced: Traced | None) -> tuple[Trace, list[dict[str, Any]]]:
    assert traced
    trace, stored = account(traced)
    return trace, json.loads(zlib.decompress(stored))["calls"]


def calls_of(ran: Ran, name: str) -> list[dict[str, Any]]:
    _, calls = listed(ran.trace)
    return [each for each in calls if each["call"] == name]


@pytest.mark.parametrize("name", ["python", "c", "bash"])
async def test_trace_of_hello_lists_its_calls_from_the_first_to_the_last(
    lab: Lab, name: str
) -> None:
    await lists_hello(lab, name)


@pytest.mark.mechanics  # the image of the tests has not got them
@pytest.mark.parametrize("name", ["go", "java", "javascript"])
async def test_trace_of_hello_in_a_language_with_many_threads(lab: Lab, name: str) -> None:
    await lists_hello(lab, name)


async def lists_hello(lab: Lab, name: str) -> None:
    language, _ = lab.language(name)
    ran = (await lab.program(name, language.hello, trace=True))[-1]
    assert (ran.exit_code, ran.stdout.decode()) == (0, language.hello_output)
    trace, calls = listed(ran.trace)
    assert trace.ended == "whole"
    assert trace.calls == len(calls) == sum(each.count for each in trace.counts)
    assert [each["number"] for each in calls] == list(range(1, len(calls) + 1))
    assert (calls[0]["call"], calls[0]["result"]) == ("execve", "0")
    assert "exit_group" in [
        each["call"] for each in calls
    ]  # other threads may still call something
    written = [each for each in calls if each["call"] in ("write", "writev")]
    assert any("Hello, world!" in "".join(each["arguments"]) for each in written) or any(
        each["call"] == "writev" for each in written
    )
    assert sum(each.refused for each in trace.counts) == 0


async def test_what_calls_say_is_decoded(lab: Lab) -> None:
    ran = await lab.python(
        """
        os.mkdir("grün")
        os.close(os.open("new", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640))
        try: open("absent")
        except OSError: pass
        os.write(1, b"\\x1b[1m\\xff")
        signal.signal(signal.SIGUSR1, lambda *_: None)
        os.kill(os.getpid(), signal.SIGUSR1)
        socket.socket().close()
        """,
        trace=True,
    )
    assert calls_of(ran, "mkdir")[0]["arguments"] == ["'grün'", "0o777"]
    opened = {each["arguments"][1]: each for each in calls_of(ran, "openat")}
    assert opened["'new'"]["arguments"][2:] == ["O_WRONLY|O_CREAT|O_CLOEXEC", "0o640"]
    assert opened["'absent'"]["result"] == "-1"
    assert opened["'absent'"]["error"] == "ENOENT"
    assert not opened["'absent'"]["refused"]
    assert calls_of(ran, "write")[0]["arguments"] == ["1", r"'\x1b[1m\xff'", "5"]
    assert calls_of(ran, "kill")[0]["arguments"][1] == "SIGUSR1"
    assert calls_of(ran, "socket")[0]["arguments"] == [
        "AF_INET",
        "SOCK_STREAM|SOCK_CLOEXEC",
        "0",
    ]
    assert "PROT_READ" in calls_of(ran, "mmap")[0]["arguments"][2]


@pytest.mark.parametrize(
    ("attempt", "name", "error"),
    [
        ("socket.socket().connect(('93.184.216.34', 80))", "connect", "ENETUNREACH"),
        ("libc.mount(b'none', b'/tmp', b'tmpfs', 0, None)", "mount", "EPERM"),
        ("libc.ptrace(16, 1, 0, 0)", "ptrace", "EPERM"),
        ("open('/etc/passwd', 'w')", "openat", "EROFS"),
    ],
)
async def test_refused_call_is_named(lab: Lab, attempt: str, name: str, error: str) -> None:
    ran = await lab.python(
        f"""
        try: {attempt}
        except OSError: pass
        """,
        trace=True,
    )
    trace, calls = listed(ran.trace)
    assert [(each["call"], each["error"]) for each in calls if each["refused"]] == [(name, error)]
    assert (trace.counts[0].name, trace.counts[0].refused) == (name, 1)
    refused = next(each for each in calls if each["refused"])
    shown = {"connect": "93.184.216.34", "mount": "'tmpfs'", "ptrace": "PTRACE_ATTACH"}
    assert shown.get(name, "'/etc/passwd'") in " ".join(refused["arguments"])


async def test_trace_ends_at_its_limit_and_the_program_goes_on_untraced(lab: Lab) -> None:
    ran = await lab.c(
        """
        #include <stdio.h>
        #include <unistd.h>
        #include <sys/syscall.h>
        int main(void) {
            for (int i = 0; i < 100000; i++) syscall(SYS_getppid);
            puts("done");
        }
        """,
        LONG,
        trace=True,
    )
    trace, calls = listed(ran.trace)
    assert (ran.exit_code, ran.stdout) == (0, b"done\n")
    assert (trace.ended, trace.calls, len(calls)) == ("limit", CALLS_MAX, CALLS_MAX)
    assert ran.cpu_time < 10


async def test_threads_processes_and_programs_are_followed(lab: Lab) -> None:
    ran = await lab.python(
        """
        import subprocess
        threads = [threading.Thread(target=lambda at=at: os.write(1, b"thread\\n")) for at in range(8)]
        for each in threads: each.start()
        for each in threads: each.join()
        if os.fork() == 0:
            os.write(1, b"fork\\n")
            os._exit(0)
        os.wait()
        subprocess.run(["/bin/echo", "program"], check=True)
        def replace(): os.execv("/bin/echo", ["echo", "from a thread"])
        threading.Thread(target=replace).start()
        time.sleep(60)
        """,
        trace=True,
    )
    trace, _ = listed(ran.trace)
    assert (ran.exit_code, trace.ended) == (0, "whole")
    texts = [each["arguments"][1] for each in calls_of(ran, "write")]
    assert sorted(texts) == sorted(
        [r"'thread\n'"] * 8 + [r"'fork\n'", r"'program\n'", r"'from a thread\n'"]
    )
    last = calls_of(ran, "execve")[-1]
    assert (last["arguments"][0], last["result"]) == ("'/bin/echo'", "0")


async def test_program_that_kills_its_tracer_goes_on_and_is_told(lab: Lab) -> None:
    ran = await lab.python(
        """
        os.write(1, b"before\\n")
        with open("/proc/self/status") as status:
            tracer = int(next(line for line in status if line.startswith("TracerPid")).split()[1])
        os.kill(tracer, signal.SIGKILL)
        time.sleep(0.2)
        os.write(1, b"after\\n")
        libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)
        """,
        trace=True,
    )
    trace, calls = listed(ran.trace)
    assert (ran.exit_code, ran.stdout) == (0, b"before\nafter\n")
    assert trace.ended == "tracer_died"
    assert r"'before\n'" in [each["arguments"][1] for each in calls if each["call"] == "write"]
    assert calls[-1]["call"] in ("kill", "read", "close", "clock_nanosleep")


async def test_tracer_is_no_way_out(lab: Lab) -> None:
    ran = await lab.python(
        """
        with open("/proc/self/status") as status:
            tracer = int(next(line for line in status if line.startswith("TracerPid")).split()[1])
        print(open(f"/proc/{tracer}/comm").read().strip())
        same = [open(f"/proc/{one}/cgroup").read() for one in ("self", tracer)]
        print(same[0] == same[1])
        for name in ("Uid", "Seccomp", "NoNewPrivs", "CapEff"):
            both = [open(f"/proc/{one}/status").read().splitlines() for one in ("self", tracer)]
            of = [next(line for line in lines if line.startswith(name)) for lines in both]
            print(of[0] == of[1], of[0].split()[-1] if name != "Uid" else os.getuid() > 0)
        tell(os.listdir, f"/proc/{tracer}/fd")
        tell(open, f"/proc/{tracer}/mem", "rb")
        syscall(101, 16, tracer, 0, 0)  # PTRACE_ATTACH
        syscall(101, 0, 0, 0, 0)  # PTRACE_TRACEME
        """,
        trace=True,
    )
    assert ran.stdout.decode().splitlines() == [
        "python3",
        "True",
        "True True",
        "True 2",
        "True 1",
        "True 0000000000000000",
        "EACCES",
        "EACCES",
        "EPERM",
        "EPERM",
    ]


async def test_run_that_is_cancelled_leaves_neither_program_nor_tracer(lab: Lab) -> None:
    up, seen = trio.Event(), bytearray()

    def tell(data: bytes) -> None:
        seen.extend(data)
        up.set()

    mark = f"mark = '{secrets.token_hex(8)}'"
    source = f"print('up', flush=True); {mark}\nwhile True: pass"
    run = Run([PYTHON, "-c", source], (), LONG, Sink(100, tell), Sink(1000), trace=True)
    async with lab.cell(limits=LONG) as cell, trio.open_nursery() as nursery:
        nursery.start_soon(cell.run, run)
        await up.wait()
        assert bytes(seen) == b"up\n"
        (program,) = (pid for pid in every_process() if mark in of_process(pid, "cmdline"))
        status = of_process(program, "status")
        tracer = int(status.partition("TracerPid:")[2].split()[0])
        assert "tracer.py" in of_process(tracer, "cmdline")
        nursery.cancel_scope.cancel()
    with trio.fail_after(10):
        for pid, word in ((program, mark), (tracer, "tracer.py")):
            while word in of_process(pid, "cmdline"):  # noqa: ASYNC110
                await trio.sleep(0.01)


def every_process() -> list[int]:
    return [int(each.name) for each in Path("/proc").glob("[0-9]*")]


async def test_stopped_tracer_ends_with_its_program_at_the_wall_time(lab: Lab) -> None:
    ran = await lab.python(
        """
        with open("/proc/self/status") as status:
            tracer = int(next(line for line in status if line.startswith("TracerPid")).split()[1])
        os.kill(tracer, signal.SIGSTOP)
        print("not written while nobody lets it be")
        """,
        replace(LONG, wall_time=1.5),
        trace=True,
    )
    assert ran.limit == "wall_time"
    assert ran.wall_time < 10


async def test_fork_bomb_is_held_while_traced(lab: Lab) -> None:
    """By the limit that it meets first. What the kernel takes for each fork, also for one that fails, counts
    as the program's memory until the kernel has freed it, which a busy machine does late."""
    ran = await lab.python(
        """
        while True:
            try: os.fork()
            except OSError: pass
        """,
        replace(LONG, cpu_time=3.0, wall_time=6.0),
        trace=True,
    )
    assert ran.limit in ("cpu_time", "wall_time", "memory"), ran
    assert ran.signal == "SIGKILL"
    trace, _ = listed(ran.trace)
    assert 0 < trace.calls <= CALLS_MAX


async def test_limits_hold_while_traced(lab: Lab) -> None:
    spinning = replace(LONG, cpu_time=0.5)
    assert (await lab.python("while True: os.getppid()", spinning, trace=True)).limit == "cpu_time"
    eating = replace(LONG, memory=2**26)
    ran = await lab.python("kept = bytearray(2**27)", eating, trace=True)
    assert ran.limit == "memory" or b"MemoryError" in ran.stderr
    one = replace(LONG, processes=1)
    assert (await lab.python("print('alone')", one, trace=True)).stdout == b"alone\n"


async def test_sizes_that_a_program_makes_up_do_not_matter(lab: Lab) -> None:
    ran = await lab.python(
        """
        big = ctypes.c_ulong(2**63 - 1)
        syscall(14, 0, ctypes.c_char_p(b"x" * 64), 0, big)  # rt_sigprocmask
        syscall(1, 9, ctypes.c_char_p(b"x" * 64), big)  # write to no file
        syscall(59, ctypes.c_long(-1), ctypes.c_long(-2), ctypes.c_long(-3))  # execve
        syscall(999999, big, big)
        syscall(2, ctypes.c_char_p(b"n" * 5000), 0)  # open
        print("done")
        """,
        trace=True,
    )
    trace, calls = listed(ran.trace)
    assert ran.stdout.splitlines()[-1] == b"done"
    assert trace.ended == "whole"
    (unknown,) = [each for each in calls if each["call"] == "syscall_999999"]
    assert unknown["error"] == "ENOSYS"
    assert max(len(text) for each in calls for text in each["arguments"]) <= 400


async def test_jail_without_python_says_so_and_runs_the_program(
    nothing_left_over: None,
    language_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python's file is covered in the jails' root, so that init cannot execute it."""
    (tmp_path / "nothing").touch()

    def build(root: Path, source: Path) -> None:
        build_rootfs(root, source)
        kernel.bind(str(tmp_path / "nothing"), f"{root}{PYTHON}", 0)

    monkeypatch.setattr("occd.sandbox.roots.build_rootfs", build)
    async with open_nsjail(Config(), language_cache, None) as sandbox:
        assert sandbox.untraced == {"": "its programs see no Python 3"}
        language = sandbox.languages["bash"]
        async with sandbox.cell(language, [File("main.sh", b"echo ran")], LONG) as cell:
            ran = await run_in(cell, ["/bin/bash", "main.sh"], LONG, trace=True)
    assert (ran.exit_code, ran.stdout) == (0, b"ran\n")
    trace, calls = listed(ran.trace)
    assert (trace.ended, calls) == ("no_python", [])


async def test_whether_programs_can_be_traced_is_tried_at_each_start(
    nothing_left_over: None, language_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same data folder, and so the same cache, may serve another installation of occd."""
    async with open_nsjail(Config(), language_cache, None) as sandbox:
        assert sandbox.untraced == {}
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)  # as in the one file
    async with open_nsjail(Config(), language_cache, None) as sandbox:
        assert "python-ptrace" in sandbox.untraced[""]


async def test_lists_of_programs_that_end_together_are_made_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lock = threading.Lock()

    def alone(traced: Traced) -> tuple[Trace, bytes]:
        with lock_at_once(lock):
            return account(traced)

    monkeypatch.setattr("occd.execution.traced.account", alone)
    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(account_in_turn, Traced("whole", (BEGINS + ENDS)))


async def test_cost_of_a_trace_is_small_beside_the_default_limits(lab: Lab) -> None:
    plain = await lab.python("print('hello')")
    traced = await lab.python("print('hello')", trace=True)
    assert traced.cpu_time - plain.cpu_time < 1.5  # of 5 s; 0.1 s on a quiet machine
    assert traced.memory - plain.memory < 2**25  # of 256 MiB; 10 MiB


@pytest.mark.parametrize(
    "line",
    [
        b"[3, 2, 0, \"write\", [\"1\"]]",
        b"[1, 0, 0, \"write\", []]",
        b"[1, 2, -1, \"write\", []]",
        b"[2, true, 0, \"write\", []]",
        b"[1, 2, 0, \"<b>\", []]",
        b"[1, 2, 0, \"write\", [1]]",
        b"[1, 2, 0, \"write\", [\"" + b"x" * 500 + b"\"]]",
        b"[1, 2, 0, \"write\", [" + b"\"\"," * 9 + b"\"\"]]",
        b"[1, 5, \"1\", null, null]",
        b"[" * 8000,
        b"x" * 9000,
        b"{}",
        b"null",
        b"\xff\xfe",
        b"[1, 2, 1e999, \"write\", []]",
    ],
)  # fmt: skip
def test_line_that_no_tracer_writes_ends_the_list(line: bytes) -> None:
    trace, calls = listed(Traced("whole", line + b"\n" + BEGINS + ENDS))
    assert (trace.ended, calls) == ("unreadable", [])
    good = Traced("whole", BEGINS + ENDS + line.replace(b"[1,", b"[9,", 1) + b"\n")
    trace, calls = listed(good)
    assert (trace.ended, len(calls)) == ("unreadable", 1)


def test_line_that_was_cut_off_is_left_out() -> None:
    for size in range(len(ENDS)):
        trace, calls = listed(Traced("tracer_died", BEGINS + ENDS[:size]))
        assert (trace.ended, len(calls), calls[0]["result"]) == ("tracer_died", 1, None)


def test_end_of_a_call_counts_once() -> None:
    trace, _ = listed(Traced("whole", BEGINS + ENDS + ENDS))
    assert trace.ended == "unreadable"


def test_text_that_cannot_be_shown_is_written_as_escapes() -> None:
    line = json.dumps([1, 2, 0, "write", ["a\u202eb", "\x1b[2J", "\ud800", "ü"]]).encode() + b"\n"
    _, calls = listed(Traced("whole", line))
    assert calls[0]["arguments"] == [r"'a\u202eb'", r"'\x1b[2J'", r"'\ud800'", "ü"]


def test_list_that_would_be_too_long_is_shortened() -> None:
    letters = random.Random(1)
    lines = b"".join(
        json.dumps(
            [at + 1, 2, at, "write", ["".join(letters.choices("0123456789abcdef", k=200))] * 2]
        ).encode()
        + b"\n"
        for at in range(CALLS_MAX)
    )
    trace, calls = listed(Traced("whole", lines))
    assert trace.ended == "limit"
    assert 0 < trace.calls == len(calls) < CALLS_MAX
    assert trace.size <= BYTES_MAX
    assert trace.stored <= STORED_MAX
