"""What containers promise, by an engine of the tests' own."""

import os
import re
import resource
import secrets
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import docker
import pytest
import trio
from engine import Reached
from sandboxed import PYTHON, SHORT, Feed, Lab, Ran, honest_share, of_process, run_in
from serving import PATIENCE_S
from shared_engine import IMAGE
from walls import pid_of

import occd.sandbox.container
import occd.sandbox.docker
import occd.sandbox.engine
import occd.sandbox.examined
import occd.sandbox.program
from occd.config import Config, ExecuteConfig, SandboxConfig
from occd.errors import SandboxFailed, SandboxUnavailable
from occd.model import File, Limits
from occd.sandbox import Collect, Run, Sink, open_sandbox
from occd.sandbox.cgroup import find_mount
from occd.sandbox.containers import _PAUSE_S
from occd.sandbox.engine import LABEL, Engine
from occd.sandbox.rootfs import covered_paths


@asynccontextmanager
async def opened(engine: Reached, slots: int = 1) -> AsyncIterator[Lab]:
    config = Config(
        sandbox=SandboxConfig(
            kind="docker", host=engine.host, images=(IMAGE.removeprefix("occd/"),)
        ),
        execute=ExecuteConfig(slots=slots),
    )
    async with open_sandbox(config, only="python") as sandbox:
        yield Lab(sandbox)


def weakened(host: dict[str, Any], name: str) -> None:
    match name:
        case "seccomp":
            host["SecurityOpt"] = ["no-new-privileges", "seccomp=unconfined"]
        case "capabilities":
            del host["CapDrop"]
        case "root":
            host["ReadonlyRootfs"] = False
        case "privileges":
            host["SecurityOpt"].remove("no-new-privileges")
        case "groups":
            host["CgroupnsMode"] = "host"
        case "terminals":
            del host["Mounts"]


@pytest.mark.parametrize(
    ("without", "told"),
    [
        ("seccomp", "Seccomp is 0"),
        ("capabilities", "CapBnd"),
        ("root", "root is writable"),
        ("privileges", "NoNewPrivs is 0"),
        ("groups", "no cgroup namespace"),
        ("terminals", "terminals is more"),
    ],
)
async def test_containers_that_do_not_hold_what_they_should_are_not_used(
    docker_engine: Reached, monkeypatch: pytest.MonkeyPatch, without: str, told: str
) -> None:
    made: Callable[..., dict[str, Any]] = docker.APIClient.create_host_config

    def weaker(*args: Any, **fields: Any) -> dict[str, Any]:
        host = made(*args, **fields)
        weakened(host, without)
        return host

    monkeypatch.setattr(docker.APIClient, "create_host_config", weaker)
    with pytest.raises(SandboxUnavailable, match=f"a container does not hold: .*{told}"):
        async with opened(docker_engine):
            raise AssertionError("it was opened")


async def test_a_later_trial_finds_a_wall_that_has_gone(
    docker_engine: Reached, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(docker_engine) as lab:
        await lab.sandbox.trial()
        monkeypatch.setattr("occd.sandbox.docker.unproven_of_container", lambda *_, **__: ["it"])
        with pytest.raises(SandboxUnavailable, match="a container does not hold: it"):
            await lab.sandbox.trial()


async def test_a_container_shows_nothing_of_the_machine(docker_engine: Reached) -> None:
    async with opened(docker_engine) as lab:
        ran = await lab.python(
            """
            for name in ("cmdline", "interrupts", "diskstats"):
                print(name, len(open(f"/proc/{name}").read()))
            for name in ("class", "devices", "block", "module", "kernel"):
                print(name, os.listdir(f"/sys/{name}"))
            print(open("/etc/resolv.conf").readline(), end="")
            print({line.split(":")[2] for line in open("/proc/self/cgroup").read().split()})
            for name in ("/box", "/tmp", "/dev/shm"):
                found = os.statvfs(name)
                print(name, found.f_blocks * found.f_frsize // 2**20, found.f_files)
            """
        )
    assert ran.stdout.decode().splitlines() == [
        *(f"{name} 0" for name in ("cmdline", "interrupts", "diskstats")),
        *(f"{name} []" for name in ("class", "devices", "block", "module", "kernel")),
        "nameserver 127.0.0.1",
        "{'/'}",
        "/box 80 65536",
        *(f"{name} 64 65536" for name in ("/tmp", "/dev/shm")),
    ]


async def test_a_container_shows_nothing_of_a_kernel_that_is_newer_than_our_list(
    docker_engine: Reached, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which lists nothing here."""
    listed = [each for each in covered_paths() if not each.startswith("/sys/")]
    monkeypatch.setattr(occd.sandbox.docker, "covered_paths", lambda: listed)
    async with opened(docker_engine) as lab:
        ran = await lab.python(
            """
            seen = [os.path.join(at, name) for at, _, names in os.walk("/sys") for name in names]
            print(len(seen) > 0, [each for each in seen if not each.startswith("/sys/fs/cgroup/")])
            """
        )
    assert ran.stdout == b"True []\n"


async def test_init_is_not_the_programs_to_slow_down_limit_or_read(docker_engine: Reached) -> None:
    """It has the program's user, and shares its container."""
    async with opened(docker_engine) as lab:
        ran = await lab.python(
            """
            import resource
            print(os.listdir("/proc/1/task"))
            tell(os.sched_setaffinity, 1, {0})
            tell(os.sched_setscheduler, 1, os.SCHED_IDLE, os.sched_param(0))
            tell(os.setpriority, os.PRIO_PROCESS, 1, 19)
            tell(os.setpriority, os.PRIO_USER, 0, 19)
            tell(resource.prlimit, 1, resource.RLIMIT_CPU, (1, 1))
            for name in ("fd", "environ", "mem", "maps", "cwd"):
                tell(os.listdir if name == "fd" else open, f"/proc/1/{name}")
            print(libc.ptrace(16, 1, 0, 0))
            for number in range(1, 65):
                os.kill(1, number)
                libc.syscall(234, 1, 1, number)
            libc.ptrace(0x4206, 1, 0, 0)
            print("still here")
            """
        )
    assert ran.succeeded, ran
    assert ran.stdout.decode().split() == [
        "['1']",
        *["EPERM"] * 5,
        *["EACCES"] * 5,
        "-1",
        "still",
        "here",
    ]


async def test_threads_without_number_do_not_hold_init_up(docker_engine: Reached) -> None:
    limits = replace(SHORT, cpu_time=60.0, wall_time=2.0)
    async with opened(docker_engine) as lab:
        ran = await lab.python(
            """
            while True:
                try:
                    if not os.fork(): break
                except OSError:
                    break
            while True: pass
            """,
            limits,
        )
    assert (ran.signal, ran.limit) == ("SIGKILL", "wall_time")
    assert ran.wall_time < 10.0


@pytest.mark.alone
async def test_all_interactive_containers_share_the_processors_as_one(
    docker_engine: Reached,
) -> None:
    """With a share for each, the other one would get as much as each of them."""
    async with opened(docker_engine, slots=2) as lab:
        assert await honest_share(lab, spinning=7, seconds=3.0) > 2


async def test_a_run_that_is_cancelled_at_any_moment_leaves_nothing(
    docker_engine: Reached, nothing_left_over: None
) -> None:
    """While its container is made, filled, runs and is packed."""
    source = "import os, time\nopen('file', 'wb').write(bytes(4 << 20))\nprint('x' * 1000)"
    files = [File("main.py", source.encode()), File("more", bytes(2**20))]
    wanted = Collect(("**",), 10, 2**23, 2**24)
    run = Run(
        [PYTHON, "main.py"], (), SHORT, Sink(SHORT.output), Sink(0), keep=True, collect=wanted
    )
    threads = threading.active_count()
    async with opened(docker_engine) as lab:

        async def once() -> None:
            async with lab.cell(*files) as cell:
                assert (await cell.run(run)).outcome.succeeded

        began = trio.current_time()
        await once()
        whole = trio.current_time() - began
        cut = 0
        for part in range(20):
            with trio.move_on_after(whole * part / 20) as scope:
                await once()
            cut += scope.cancelled_caught
        assert cut > 5
        await once()
        sandbox: Any = lab.sandbox
        label = sandbox._first.label
    ours = f"label={LABEL}={label}"
    argv = "ps", "--all", "--quiet", "--filter", ours
    assert await trio.to_thread.run_sync(docker_engine.docker, *argv) == ""
    with trio.fail_after(PATIENCE_S):
        while threading.active_count() > threads:  # noqa: ASYNC110  (trio keeps idle ones for 10 s)
            await trio.sleep(0.2)


async def test_a_long_stdin_arrives_in_seconds(docker_engine: Reached) -> None:
    """In one piece, of which no part is copied again and again."""
    source = "print(sum(len(part) for part in iter(lambda: os.read(0, 65536), b'')))"
    async with opened(docker_engine) as lab:
        feed = Feed(stdin=bytes(100_000_000))
        ran = await lab.python(source, replace(SHORT, cpu_time=20.0, wall_time=30.0), feed=feed)
    assert (ran.limit, ran.stdout) == (None, b"100000000\n")


async def test_an_engine_whose_calls_have_settled_can_be_asked_again(
    docker_engine: Reached,
) -> None:
    """A sandbox that is closed removes its containers after that."""
    engine = Engine(docker_engine.host)
    try:
        await engine.settled()
        with trio.fail_after(15):
            assert await engine.of("nobody") == []
    finally:
        with trio.move_on_after(5, shield=True):
            await engine.close()


async def lost(lab: Lab, engine: Reached, limits: Limits = SHORT) -> Ran:
    """A run whose container somebody kills as soon as the program says something."""
    feed, mark = Feed(keep_open=True), secrets.token_hex(8)
    source = f"mark = '{mark}'; import time; print('up', flush=True); time.sleep(60)"

    async def kill() -> None:
        await feed.output.wait()
        container = re.search("[0-9a-f]{64}", of_process(pid_of(mark), "cgroup"))
        assert container
        await trio.to_thread.run_sync(engine.docker, "kill", container[0])

    ran: Ran | None = None
    failed: SandboxFailed | None = None
    async with lab.cell() as cell, trio.open_nursery() as nursery:
        nursery.start_soon(kill)
        try:
            ran = await run_in(cell, [PYTHON, "-c", source], limits, feed=feed)
        except SandboxFailed as error:
            failed = error  # raised below: the nursery would wrap it
    if failed:
        raise failed
    assert ran
    return ran


async def test_a_container_that_ran_out_is_told_so_and_how_long_it_ran_however_late_the_engine_knows(
    docker_engine: Reached, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits, late_s = replace(SHORT, wall_time=4.0), 6.0
    monkeypatch.setattr(occd.sandbox.program, "_OVERDUE_S", 0.5)
    monkeypatch.setattr(occd.sandbox.container, "_OOM_S", 2 * late_s)
    async with opened(docker_engine) as lab:
        knows_at = trio.current_time() + late_s

        async def told_oom(*_: object) -> bool:
            return trio.current_time() > knows_at

        monkeypatch.setattr(Engine, "told_oom", told_oom)
        ran = await lost(lab, docker_engine, limits)
        assert trio.current_time() > knows_at
    assert (ran.signal, ran.limit) == ("SIGKILL", "memory")
    assert ran.wall_time < limits.wall_time


async def test_a_container_of_which_the_engine_knows_nothing_any_more_is_not_waited_for(
    docker_engine: Reached, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tells the last 256 events, which a few dozen containers make."""
    async with opened(docker_engine) as lab:
        monkeypatch.setattr(docker.APIClient, "events", lambda *_, **__: [])
        began = trio.current_time()
        with pytest.raises(SandboxFailed, match="a container has ended"):
            await lost(lab, docker_engine)
    assert trio.current_time() - began < occd.sandbox.container._END_S


@pytest.mark.skipif(not find_mount("cgroup", "memory"), reason="cgroup v2 counts it as memory")
async def test_what_waits_in_sockets_is_told_where_nobody_bounds_it(
    docker_engine: Reached, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tests/escape tries that it is bounded."""
    async with opened(docker_engine) as lab:
        assert not any("sockets" in line for line in lab.sandbox.isolation)
    monkeypatch.setattr(occd.sandbox.examined, "find_socket_bounds", lambda _: None)
    async with opened(docker_engine) as lab:
        assert any(
            "TCP and UDP sockets counts for nobody" in line for line in lab.sandbox.isolation
        )


@pytest.mark.skipif(not find_mount("cgroup", "memory"), reason="cgroup v2 counts it as memory")
async def test_a_program_whose_sockets_cannot_be_bounded_any_more_is_not_run(
    docker_engine: Reached,
) -> None:
    """As where occd has no descriptor left."""
    most, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with opened(docker_engine) as lab, lab.cell() as cell:
        sandbox: Any = lab.sandbox
        with trio.fail_after(60):
            await run_in(cell, ["/bin/true"])
            while not sandbox.containers._ready:  # noqa: ASYNC110
                await trio.sleep(0.01)
        os.close(lowest := os.dup(0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        try:
            with pytest.raises(SandboxFailed, match=r"cannot be bounded: .*Too many open files"):
                await run_in(cell, ["/bin/true"])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


async def test_a_kernel_without_ipv6_runs_programs_without_it(
    docker_engine: Reached, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here it lacks the setting."""
    for each in (occd.sandbox.examined, occd.sandbox.engine):
        monkeypatch.setattr(each, "IPV6_OFF", "net.ipv6.conf.absent.disable_ipv6")
    async with opened(docker_engine) as lab:
        ran = await lab.python("tell(lambda: socket.create_server(('::1', 0), family=10))")
    assert ran.stdout == b"EADDRNOTAVAIL\n", ran


async def test_the_engine_makes_and_removes_nothing_while_a_short_program_and_its_result_are_on_their_way(
    docker_engine: Reached,
) -> None:
    async with opened(docker_engine) as lab:
        sandbox: Any = lab.sandbox
        engine, asked = sandbox._engine, list[tuple[str, float]]()

        def noted(name: str) -> Callable[..., Awaitable[Any]]:
            do = getattr(engine, name)

            async def note(*about: Any) -> Any:
                asked.append((name, trio.current_time()))
                return await do(*about)

            return note

        def done() -> bool:
            ready = bool(sandbox.containers._ready)
            return ready and {name for name, _ in asked} == {"start", "remove"}

        engine.start, engine.remove = noted("start"), noted("remove")
        for _ in range(
            2
        ):  # what was asked for the jobs of the start comes before the end of the first
            asked.clear()
            began = trio.current_time()
            assert (await lab.python("print('hello')")).stdout == b"hello\n"
            ended = trio.current_time()
            with trio.fail_after(PATIENCE_S):
                while not done():  # noqa: ASYNC110
                    await trio.sleep(0.01)
    first = dict(reversed(asked))
    assert first["start"] - began >= _PAUSE_S
    assert first["remove"] - ended >= _PAUSE_S
