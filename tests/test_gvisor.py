"""What is different with gVisor, whose containers keep the limits that they were made with: runs come out as
everywhere else."""

import os
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from engine import Reached
from sandboxed import PYTHON, SHORT, Feed, Lab, running
from shared_engine import IMAGE

import occd.sandbox.docker
import occd.sandbox.examined
from occd.config import Config, ExecuteConfig, SandboxConfig
from occd.errors import SandboxUnavailable
from occd.images.users import CONTAINER_USERS
from occd.model import File
from occd.sandbox import Collect, Run, Sink, open_sandbox
from occd.sandbox.engine import Engine

MIB = 2**20
PATIENT = replace(SHORT, cpu_time=60.0, wall_time=60.0)


@asynccontextmanager
async def opened(docker: Reached, runtime: str = "runsc") -> AsyncIterator[Lab]:
    config = Config(
        sandbox=SandboxConfig(
            kind="docker",
            host=docker.host,
            images=(IMAGE.removeprefix("occd/"),),
            runtime=runtime,
        ),
        execute=ExecuteConfig(slots=1),
    )
    async with open_sandbox(config, only="python") as sandbox:
        yield Lab(sandbox)


@pytest.fixture
async def lab(docker_engine: Reached) -> AsyncIterator[Lab]:
    async with opened(docker_engine) as lab:
        yield lab


async def test_memory_is_held_and_told_by_job_in_a_container_of_any_size(lab: Lab) -> None:
    """Also memory that no process maps."""
    source = "number = os.memfd_create('x'); total = open('/proc/meminfo').readline()\n"
    for _ in range(2):
        source += "for _ in range(32): os.write(number, bytes(2**20))\ntime.sleep(0.2)\n"
    source += "print(int(total.split()[1]) << 10)"
    small = replace(PATIENT, memory=48 * MIB, file_size=2**30)
    ran = await lab.python(source, small)
    assert (ran.signal, ran.limit, ran.stdout) == ("SIGKILL", "memory", b""), ran
    assert ran.memory > small.memory
    ran = await lab.python(source, replace(small, memory=2048 * MIB))
    assert ran.succeeded, ran
    assert int(ran.stdout) > 2048 * MIB
    assert 64 * MIB < ran.memory < 96 * MIB


@pytest.mark.parametrize("late_s", [0, 3])
async def test_a_job_whose_container_ends_for_want_of_memory_has_met_its_limit(
    docker_engine: Reached, monkeypatch: pytest.MonkeyPatch, late_s: float
) -> None:
    """As where memory grows faster than init looks: here init is told of a limit beyond the container's. A
    busy engine answers late."""
    now = Engine._now

    def late(engine: Engine) -> float:
        """The engine's clock, before it is asked for what has happened until then."""
        time.sleep(late_s)
        return now(engine)

    monkeypatch.setattr(occd.sandbox.docker, "_SENTRY_BYTES", -1024 * MIB)
    async with opened(docker_engine) as lab:
        monkeypatch.setattr(Engine, "_now", late)
        for _ in range(2):
            async with running(lab, "input(); x = bytearray(2**29)", PATIENT) as program:
                await program.type.send(b"\n")  # "up" has left the container
            assert program.ending == ("SIGKILL", "memory"), program
            assert program.said == b"up\n"
            assert program.end.memory == PATIENT.memory
            assert program.end.wall_time > 0


async def test_processes_are_bounded_by_job_and_their_number_harms_nobody(lab: Lab) -> None:
    source = """
        import itertools
        for count in itertools.count():
            try:
                if os.fork() == 0: signal.pause()
            except BlockingIOError: break
        print(count)
        """
    for processes in 20, 100:
        ran = await lab.python(source, replace(PATIENT, processes=processes, memory=1024 * MIB))
        assert ran.succeeded, ran
        assert int(ran.stdout) == processes - 1


async def test_no_process_of_a_fork_bomb_outlives_its_end(lab: Lab) -> None:
    """Where one did, init waited for it without end, and the run failed."""
    source = """
        while True:
            try: os.fork()
            except BlockingIOError: pass
        """
    # 64 processes of Python take about 256 MiB.
    limits = replace(SHORT, processes=64, cpu_time=2.0, wall_time=4.0, memory=1024 * MIB)
    for _ in range(4):
        ran = await lab.python(source, limits)
        assert ran.limit in ("cpu_time", "wall_time"), ran


async def test_cpu_time_is_what_the_processors_can_have_given(lab: Lab) -> None:
    """gVisor counts a process that is ready as if it ran."""
    source = """
        for _ in range(40):
            if os.fork() == 0:
                end = time.monotonic() + 1
                while time.monotonic() < end: pass
                os._exit(0)
        for _ in range(40): os.wait()
        """
    ran = await lab.python(source, replace(PATIENT, memory=1024 * MIB))
    assert ran.succeeded, ran
    given = ran.wall_time * (os.cpu_count() or 1) + 0.1  # init counts a moment after the end
    assert 0.5 < ran.cpu_time < given, ran


async def test_init_waits_for_a_program_that_reads_little_of_its_input(lab: Lab) -> None:
    """gVisor's pipe has room then, and yet not for all that waits. Whatever init does, nobody pays for it."""
    source = """
        def used():
            rest = open("/proc/1/stat").read().rpartition(")")[2]
            return sum(map(int, rest.split()[11:13])) / os.sysconf("SC_CLK_TCK")
        os.read(0, 100)
        before = used()
        time.sleep(3)
        print(used() - before)
        while os.read(0, 1000): pass
        """
    ran = await lab.python(source, PATIENT, feed=Feed(bytes(66_000)))
    assert ran.succeeded, ran
    assert float(ran.stdout) < 1.5, ran


async def test_a_program_makes_no_namespace_in_which_its_limits_would_not_hold(lab: Lab) -> None:
    """gVisor would let it be root of a user namespace, and count no limit of processes there."""
    ran = await lab.python(
        """
        user, clone = 0x10000000, 56
        for flags in user, 0x20000, 0x20000000, user | 0x40000000: syscall(272, flags)
        for flags in user | 17, 0x20000000 | 17, user | 0x4111: syscall(clone, flags, 0, 0, 0, 0)
        syscall(clone, ctypes.c_ulong(1 << 40 | user | 17), 0, 0, 0, 0)
        syscall(308, os.open("/proc/self/ns/user", os.O_RDONLY), 0)
        syscall(435, 0, 0)
        count = 1
        try:
            while count < 60:
                if os.fork() == 0: signal.pause()
                count += 1
        except BlockingIOError: pass
        print(count)
        """,
        replace(PATIENT, processes=20, memory=1024 * MIB),
    )
    *refused, absent, count = ran.stdout.decode().split()
    assert (refused, absent) == (["EPERM"] * 9, "ENOSYS"), ran
    assert int(count) == 20, ran


async def test_a_program_makes_no_device(lab: Lab) -> None:
    """gVisor would make them, and open its network tunnels (10, 200) and FUSE (10, 229) by them."""
    ran = await lab.python(
        """
        mknod, mknodat, high = 133, 259, 1 << 40
        for kind in 0o020666, 0o060666:
            for device in 10 << 8 | 200, 10 << 8 | 229, 1 << 8 | 3:
                for mode in kind, ctypes.c_ulong(high | kind):
                    syscall(mknod, b"made", mode, device)
                    syscall(mknodat, -100, b"made", mode, device)
        print(os.path.exists("made"))
        os.mkfifo("fifo"); os.mknod("file"); os.mknod("file2", 0o100600); print("fine")
        """,
        PATIENT,
    )
    assert ran.stdout == b"EPERM\n" * 24 + b"False\nfine\n", ran


@pytest.mark.parametrize("lets", ["open init's files", "make namespaces"])
async def test_namespaces_are_refused_whatever_else_the_kernel_lets_a_program_do(
    docker_engine: Reached, monkeypatch: pytest.MonkeyPatch, lets: str
) -> None:
    """Each makes occd let init be root, whose filter refuses them. What the trial did not find, the proof
    finds."""
    script = occd.sandbox.examined._SCRIPT
    other = "init=open" if lets == "make namespaces" else "spaces=made"
    monkeypatch.setattr(occd.sandbox.examined, "_SCRIPT", script.replace(other, ":"))
    async with opened(docker_engine) as lab:
        assert (await lab.python("syscall(272, 0x10000000)")).stdout == b"EPERM\n"
    for found in ("init=open", "spaces=made"):
        script = script.replace(found, ":")
    monkeypatch.setattr(occd.sandbox.examined, "_SCRIPT", script)
    with pytest.raises(SandboxUnavailable, match="does not hold: spaces is made, not refused"):
        async with opened(docker_engine):
            raise AssertionError("it was opened")


async def test_programs_reach_neither_init_nor_its_files(lab: Lab) -> None:
    ran = await lab.python(
        """
        for number in signal.SIGKILL, signal.SIGSTOP: tell(os.kill, 1, number)
        syscall(101, 16, 1, 0, 0)
        for flags in os.O_RDONLY, os.O_RDWR: tell(os.open, "/proc/1/mem", flags)
        found = set()
        for number in range(20):
            for flags in os.O_RDONLY, os.O_WRONLY:
                try: found.add(os.readlink(f"/proc/self/fd/{os.open(f'/proc/1/fd/{number}', flags)}"))
                except OSError: pass
        print(found - {os.readlink(f"/proc/self/fd/{number}") for number in range(3)})
        print(os.getresuid(), os.getresgid(), os.getgroups())
        print([line for line in open("/proc/self/status") if line.startswith("Cap")])
        """
    )
    *refused, opened, ids, capabilities = ran.stdout.decode().splitlines()
    assert not any(each.startswith("DONE") for each in refused), ran
    assert (
        {"/dev/null"}
        <= set(re.findall("'(.*?)'", opened))
        <= {"/dev/null", "/dev/pts/ptmx", "/proc"}
    )
    assert re.fullmatch(r"\((\d+), \1, \1\) \(\1, \1, \1\) \[\]", ids)
    assert int(ids[1:6]) in CONTAINER_USERS
    assert set(re.findall(r"t(\w{16})", capabilities)) == {"0" * 16}


async def test_programs_can_open_their_streams_anew(lab: Lab) -> None:
    ran = await lab.python(
        "open('/dev/stdout', 'w').write('out'); open('/dev/stderr', 'w').write('err')"
    )
    assert (ran.stdout, ran.stderr) == (b"out", b"err")


async def test_a_runtime_that_the_engine_does_not_know_is_refused_in_one_line(
    docker_engine: Reached,
) -> None:
    with pytest.raises(
        SandboxUnavailable, match=r"^sandbox\.runtime: .*no runtime kata-fc, only .*runsc"
    ) as refused:
        async with opened(docker_engine, "kata-fc"):
            raise AssertionError("it was opened")
    assert "\n" not in str(refused.value)


async def test_a_box_that_is_too_large_to_be_packed_is_the_programs_fault(lab: Lab) -> None:
    """gVisor holds no number of files, and tells no holes: each is read, at nobody's cost."""
    source = """
import os
for number in range(120):
    file = os.open(str(number), os.O_CREAT | os.O_WRONLY)
    os.truncate(file, 10 << 20)
    os.pwrite(file, b"x", 0)
    os.close(file)
print("written")
"""
    async with lab.cell(File("main.py", source.encode())) as cell:
        for keep in (False, True):
            sink = Sink(PATIENT.output)
            wanted = Collect(("**",), 10, 2**23, 2**24)
            run = Run([PYTHON, "main.py"], (), PATIENT, sink, sink, keep=keep, collect=wanted)
            ended = await cell.run(run)
            assert ended.outcome.exit_code == 0
            assert bytes(ended.outcome.stdout.head) == b"written\n"
            assert ended.outcome.limit == ("memory" if keep else None)
            assert [each.reason for each in ended.collected.left_out] == ["entries"]
            assert ended.tree is None
    assert (await lab.python("print('fine')")).stdout == b"fine\n"
