"""Programs that get a copy of an interpreter that has started already (`occd/sandbox/templates.py`). The
suites that attack and use the sandbox run with templates, too: `nsjail-forked` of `tests/places.py`."""

import errno
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from copies import (
    SOON_S,
    children,
    command_of,
    copying,
    interpreters,
    memory,
    seen,
    standing,
    usual,
    warm,
)
from sandboxed import SHORT, Feed, Lab, Ran, run_in

import occd.sandbox.host
import occd.sandbox.templates
from occd.languages import Given
from occd.model import File, Limits

LANGUAGES = ("javascript", "php", "python")
RUNS = 7

HELLO = 'print("Hello, world!")'


@pytest.fixture
async def forked(language_cache: Path) -> AsyncIterator[Lab]:
    async with copying(language_cache) as lab:
        yield lab


async def within(lab: Lab, most: int) -> None:
    """When the surplus has ended, beside all programs."""
    sandbox: Any = lab.sandbox
    with trio.fail_after(SOON_S):
        while sandbox._host.templates.bytes > most:  # noqa: ASYNC110  (nobody waits for it but us)
            await trio.sleep(0.01)


async def hello(lab: Lab, name: str = "python", **given: Any) -> Ran:
    (ran,) = await lab.program(name, lab.language(name)[0].hello, **given)
    assert (ran.outcome.succeeded, ran.stderr) == (True, b"")
    assert ran.stdout.decode() == lab.language(name)[0].hello_output
    return ran


def also_warm(lab: Lab, *names: str) -> None:
    """Small interpreters, for tests of how much memory all take."""
    languages: Any = lab.sandbox.languages
    for name in names:
        languages[name] = replace(languages[name], warm=languages["python"].warm)


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def gone(ready: Any) -> None:
    with trio.fail_after(SOON_S):
        await ready.launcher.jail.gone()


@pytest.mark.parametrize("language", LANGUAGES)
async def test_the_second_program_of_a_slot_gets_a_copy(
    language_cache: Path, language: str
) -> None:
    async with usual(language_cache) as lab:
        await hello(lab, language)
        (ready,) = await standing(lab)
        number = ready.launcher.jail.number
        await hello(lab, language)
        await ready.launcher.ready()
        assert ready.launcher.jail.number != number


WHO = {
    "python": """
import os, resource, signal, site, sys, threading, time
def show(name, value): print(name, "=", value)
show("argv", sys.argv); show("path", sys.path); show("flags", sys.flags); show("prefix", sys.prefix)
show("modules", sorted(sys.modules)); show("main", sorted(vars()))
for f in sys.stdin, sys.stdout, sys.stderr: show("buffers", (f.line_buffering, f.encoding, f.errors))
show("handlers", [str(signal.getsignal(each)) for each in sorted(signal.valid_signals())])
show("mask", signal.pthread_sigmask(signal.SIG_BLOCK, []))
show("zone", (time.tzname, time.timezone)); show("umask", oct(os.umask(0)))
show("ids", (os.getuid(), os.getgid(), os.getgroups()))
show("numbers", (os.getpid(), os.getppid(), os.getpgid(0), os.getsid(0)))
show("priority", (os.nice(0), os.sched_getscheduler(0), sorted(os.sched_getaffinity(0))))
show("next", os.open("/dev/null", os.O_RDONLY))
show("threads", threading.active_count())
""",
    "javascript": """
const say = (name, value) => console.log(name, "=", JSON.stringify(value));
say("argv", process.argv); say("execArgv", process.execArgv); say("env", process.env);
say("ids", [process.getuid(), process.getgid(), process.pid, process.ppid]); say("umask", process.umask());
say("terminal", [process.stdin.isTTY, process.stdout.isTTY, process.stderr.isTTY]);
say("modules", Object.keys(require.cache)); say("paths", module.paths); say("cwd", process.cwd());
say("next", require("fs").openSync("/dev/null")); say("title", process.title);
say("zone", Intl.DateTimeFormat().resolvedOptions().timeZone);
say("priority", require("os").getPriority()); say("globals", Object.getOwnPropertyNames(globalThis).sort());
""",
    "php": """<?php
echo "argv = ", json_encode($argv), "\\n"; echo "pid = ", getmypid(), "\\n";
echo "ini = ", json_encode(ini_get_all(null, false)), "\\n";
echo "extensions = ", json_encode(get_loaded_extensions()), "\\n"; echo "path = ", get_include_path(), "\\n";
echo "zone = ", date_default_timezone_get(), "\\n"; echo "sapi = ", PHP_SAPI, "\\n";
""",
}
"""What the interpreter tells of itself."""

ASKED = {
    "python": "import subprocess; subprocess.run(['/bin/sh', '-c', open('who.sh').read()])",
    "javascript": "require('child_process').execSync('. ./who.sh', {stdio: 'inherit'})",
    "php": "<?php passthru(file_get_contents('who.sh'));",
}


@pytest.mark.parametrize("source", [WHO, ASKED], ids=["itself", "from_outside"])
@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_copy_sees_what_a_program_with_an_interpreter_of_its_own_sees(
    language_cache: Path, language: str, source: dict[str, str]
) -> None:
    async with usual(language_cache, templates=0) as lab:
        own = await seen(lab, language, source[language])
    async with copying(language_cache) as lab:
        copy = await seen(lab, language, source[language])
    assert copy == own


async def test_a_copy_of_python_has_of_its_own_only_what_a_program_writes_to(forked: Lab) -> None:
    await hello(forked)
    (ready,) = await standing(forked)
    assert 0 < ready.launcher.found.copied < ready.launcher.jail.resident * 0.8


BEGINS = {
    "python": "import os, random, uuid\nprint(random.random(), uuid.uuid4(), os.urandom(8))\n"
    "import time; print(time.time())",
    "php": "<?php echo mt_rand(), ' ', lcg_value(), ' ', rand(), \"\\n\", $_SERVER['REQUEST_TIME'];",
    "lua": "print(math.random(), math.random(2^40))\nprint(os.time())",
    "perl": "print rand(), qq( \\n), $^T",
    "bash": "echo $RANDOM $RANDOM $RANDOM; echo $((EPOCHSECONDS - SECONDS))",
}
"""Random numbers, and when the program began."""


@pytest.mark.parametrize("language", BEGINS)
async def test_random_numbers_and_clocks_begin_with_the_program(forked: Lab, language: str) -> None:
    random, began = set(), []
    for _ in range(2):
        now = int(time.time())
        numbers, at = await seen(forked, language, BEGINS[language])
        random.add(numbers)
        began.append(float(at) - now)
        await trio.sleep(2.5)  # by the clock of which it tells
    assert len(random) == 2
    assert min(began) > -2


async def test_a_copy_knows_its_processor(forked: Lab) -> None:
    """glibc asks memory that the kernel writes."""
    ran = await forked.python("""
        for each in sorted(os.sched_getaffinity(0)):
            os.sched_setaffinity(0, [each])
            print(libc.sched_getcpu() == each)
    """)
    assert set(ran.stdout.split()) == {b"True"}


SERVED_OTHERWISE = {
    "arguments": {"args": ["one"]},
    "environment": {"env": [("NAME", "value")]},
    "a trace": {"trace": True},
}


@pytest.mark.parametrize("given", SERVED_OTHERWISE.values(), ids=SERVED_OTHERWISE.keys())
async def test_what_a_template_cannot_serve_has_an_interpreter_of_its_own(
    language_cache: Path, given: dict[str, Any]
) -> None:
    async with usual(language_cache) as lab:
        await hello(lab)
        (ready,) = await standing(lab)
        number = ready.launcher.jail.number
        await hello(lab, **given)
        assert ready.launcher.jail.number == number
        assert len(warm(lab)) == 1


async def test_another_main_file_has_an_interpreter_of_its_own(language_cache: Path) -> None:
    async with usual(language_cache) as lab:
        for name in ("main.py", "other.py"):
            language, binary = lab.language("python")
            files = [File(name, HELLO.encode())]
            argv = language.run_argv(Given(binary, "", name, files, (), SHORT.memory))
            async with lab.sandbox.cell(language, files, SHORT) as cell:
                env = tuple(language.environment(binary).items())
                assert (await run_in(cell, argv, env=env)).stdout == b"Hello, world!\n"
        assert [ready.template.file for ready in warm(lab)] == ["main.py"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
async def test_a_template_that_is_killed_or_stopped_costs_no_program(
    language_cache: Path, number: signal.Signals
) -> None:
    async with usual(language_cache) as lab:
        await hello(lab)
        (ready,) = await standing(lab)
        (interpreter,) = interpreters(ready)
        os.kill(interpreter, number)
        for _ in range(
            5
        ):  # the copy that stood, three that wait for another one, the first that does not
            await hello(lab)
        (other,) = await standing(lab)
        assert other is not ready
        await hello(lab)
        assert not Path(f"/proc/{interpreter}").exists()


async def test_a_program_goes_on_when_its_template_is_killed(language_cache: Path) -> None:
    async with usual(language_cache) as lab:
        await hello(lab)
        (ready,) = await standing(lab)
        (interpreter,) = interpreters(ready)
        feed = Feed(keep_open=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_goes_on, lab, feed)
            with trio.fail_after(SOON_S):
                await feed.output.wait()
            os.kill(interpreter, signal.SIGKILL)
            with trio.fail_after(SOON_S):
                while Path(f"/proc/{interpreter}").exists():  # noqa: ASYNC110  (its parent alone is told)
                    await trio.sleep(0.01)
        for _ in range(2):
            await hello(lab)


async def _goes_on(lab: Lab, feed: Feed) -> None:
    language, binary = lab.language("python")
    source = b"import time; print('up', flush=True); time.sleep(0.5); print('done')"
    async with lab.sandbox.cell(language, [File("main.py", source)], SHORT) as cell:
        env = tuple(language.environment(binary).items())
        ran = await run_in(cell, [binary, "main.py"], env=env, feed=feed)
    assert (ran.outcome.succeeded, ran.stdout, ran.stderr) == (True, b"up\ndone\n", b"")


@pytest.mark.parametrize("what", ["init", "program"])
async def test_a_copy_that_stands_ready_and_is_killed_costs_no_program(
    language_cache: Path, what: str
) -> None:
    async with usual(language_cache) as lab:
        await hello(lab)
        (ready,) = await standing(lab)
        if what == "init":
            ready.launcher.jail.kill()
            await gone(ready)
        else:
            (keeper,) = children(ready.launcher._process.pid)
            (init,) = [each for each in children(keeper) if b"adopt" in command_of(each)]
            (copy,) = children(init)
            os.kill(copy, signal.SIGKILL)
            with trio.fail_after(SOON_S):
                while state_of(copy) != "Z":  # noqa: ASYNC110  (its parent alone is told)
                    await trio.sleep(0.01)
        for _ in range(3):
            await hello(lab)


async def test_templates_keep_within_their_memory_and_the_least_used_goes(
    language_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(occd.sandbox.templates, "_STALE_S", 0.0)
    async with usual(language_cache, templates=10 * 2**20) as lab:
        also_warm(lab, "bash", "perl", "lua")
        sandbox: Any = lab.sandbox
        for name in ("bash", "perl", "python", "perl", "python", "perl", "lua", "perl", "lua"):
            await hello(lab, name)
            await within(lab, 10 * 2**20)
            await standing(lab)
        names = [Path(template.argv[0]).name for _, template in sandbox._host.templates._kept]
        assert names[-1].startswith("lua")
        assert not any(name.startswith("bash") for name in names)


async def test_where_there_is_no_room_a_template_that_is_in_use_stays(language_cache: Path) -> None:
    """Slots that made templates in turn would start an interpreter for each program."""
    async with usual(language_cache, templates=4 * 2**20) as lab:
        also_warm(lab, "perl")
        sandbox: Any = lab.sandbox
        for _ in range(2):
            await hello(lab, "perl")
            await standing(lab)
        for _ in range(3):
            await hello(lab, "python")
            await within(lab, 4 * 2**20)
            await hello(lab, "perl")
            await standing(lab)
        names = [Path(template.argv[0]).name for _, template in sandbox._host.templates._kept]
        assert names == ["perl"]


async def test_templates_that_serve_no_program_are_counted(language_cache: Path) -> None:
    """PHP's command has the memory limit, which a submission chooses."""
    async with usual(language_cache, templates=64 * 2**20) as lab:
        for number in range(12):
            await hello(lab, "php", limits=replace(Limits(), memory=2**27 + number))
        await within(lab, 64 * 2**20)
        assert 0 < sum(map(memory, await standing(lab))) <= 64 * 2**20


async def test_without_memory_for_templates_there_is_none(language_cache: Path) -> None:
    async with usual(language_cache, templates=0) as lab:
        for _ in range(2):
            await hello(lab)
        assert warm(lab) == []


async def test_an_interpreter_that_does_not_stop_at_its_file_is_not_tried_again_soon(
    language_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that is linked statically, and loads no library."""
    async with usual(language_cache) as lab:
        sandbox: Any = lab.sandbox
        monkeypatch.setattr(type(sandbox._host), "deferring", {})
        await hello(lab)
        (ready,) = warm(lab)
        with trio.fail_after(SOON_S):
            while not ready.launcher.has_news:  # noqa: ASYNC110  (a socket that the test must not read)
                await trio.sleep(0.01)
        for _ in range(3):
            await hello(lab)
        assert warm(lab) == []


async def test_a_template_that_cannot_be_made_costs_no_program(
    language_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where occd has no descriptor left."""

    def refuse(*_: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async with usual(language_cache) as lab:
        sandbox: Any = lab.sandbox
        monkeypatch.setattr(type(sandbox._host), "template_argv", refuse)
        for _ in range(2):
            await hello(lab)
        assert warm(lab) == []
        assert sandbox._host.templates.bytes == 0


async def test_memory_and_processor_time_are_told_as_with_an_interpreter_of_its_own(
    language_cache: Path,
) -> None:
    """Each the least of several: a busy machine adds to both."""
    source = "kept = bytearray(50_000_000)\nfor _ in range(2_000_000): pass"

    async def least(lab: Lab) -> tuple[int, float]:
        ends = [(await lab.program("python", source))[-1].outcome for _ in range(RUNS)]
        return min(end.memory for end in ends), min(end.cpu_time for end in ends)

    async with usual(language_cache, templates=0) as lab:
        memory, cpu_time = await least(lab)
    async with copying(language_cache) as lab:
        memory_of_copy, cpu_time_of_copy = await least(lab)
    assert abs(memory_of_copy - memory) < 2**20 + memory * 0.05
    assert cpu_time_of_copy < cpu_time + 0.005 + cpu_time * 0.02


async def test_the_memory_limit_counts_what_a_copy_began_with(forked: Lab) -> None:
    limits = replace(Limits(), memory=64 * 2**20)
    ran = (await forked.program("python", "kept = b'x' * 70_000_000", limits=limits))[-1]
    assert ran.outcome.limit == "memory"
    assert ran.outcome.memory <= limits.memory


@pytest.mark.parametrize("beside", [-1, 0, 4096, 2**20 - 1])
async def test_a_memory_limit_that_leaves_a_copy_no_room_is_a_limit_all_the_same(
    language_cache: Path, beside: int
) -> None:
    """The group holds what is left beside the interpreter. To cgroup v1, -1 says that there is no limit."""
    async with usual(language_cache) as lab:
        await hello(lab)
        (ready,) = await standing(lab)
        number, resident = ready.launcher.jail.number, ready.launcher.jail.resident
        limits = replace(Limits(), memory=resident + beside)
        ran = (await lab.program("python", "kept = b'x' * 100_000_000", limits=limits))[-1]
        assert ran.outcome.limit == "memory"
        assert ran.outcome.memory <= limits.memory
        assert ready.launcher.jail.number == number
        await hello(lab)
        assert warm(lab) == [ready]


async def test_a_copy_may_have_as_many_processes_as_others_without_control_groups(
    language_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(occd.sandbox.host, "find_cgroups", lambda: None)
    async with usual(language_cache) as lab:
        await hello(lab)
        (ready,) = await standing(lab)
        number = ready.launcher.jail.number
        source = (
            "import os, signal\nmade = 0\n"
            "try:\n    while os.fork(): made += 1\n    signal.pause()\n"
            "except OSError: print(made)"
        )
        limits = replace(SHORT, processes=20)
        (ran,) = await lab.program("python", source, limits=limits)
        assert (ran.stdout, ran.stderr) == (b"19\n", b"")
        await ready.launcher.ready()
        assert ready.launcher.jail.number != number


REACHES: Sequence[tuple[str, str]] = [
    ("processes", "print(sorted(int(p) for p in os.listdir('/proc') if p.isdigit()) == [1, 2])"),
    ("descriptors", "print(sorted(os.listdir('/proc/self/fd')) == ['0', '1', '2', '3'])"),
    ("signals", "print([attempt for attempt in (0, -1) if not refused(os.kill, attempt, 0)])"),
    ("parent", "print(os.getppid() == 1 and not os.access('/proc/1/mem', os.R_OK))"),
    (
        "privileges",
        "print(all(int(line.split()[1], 16) == 0 for line in status if line.startswith('Cap')))",
    ),
    ("filter", "print(sum(line in ('Seccomp:\\t2', 'NoNewPrivs:\\t1') for line in status) == 2)"),
    (
        "namespaces",
        "print(all(libc.unshare(flag) == -1 for flag in (0x20000, 0x10000000, 0x20000000)))",
    ),
]


@pytest.mark.parametrize("name", [name for name, _ in REACHES])
async def test_a_program_does_not_reach_its_template(forked: Lab, name: str) -> None:
    attempt = dict(REACHES)[name]
    ran = await forked.python(
        "status = open('/proc/self/status').read().splitlines()\n"
        "def refused(call, *args):\n"
        "    try: call(*args)\n"
        "    except OSError: return True\n" + attempt
    )
    expected = b"[0]\n" if name == "signals" else b"True\n"
    assert (ran.stdout, ran.stderr) == (expected, b"")


LEAVES = {
    "files": (
        "for folder in ('/box', '/tmp', '/dev/shm'): open(folder + '/left', 'w').write('x')",
        "print([os.path.exists(folder + '/left') for folder in ('/box', '/tmp', '/dev/shm')] == [False] * 3)",
    ),
    "memory that lasts": (
        "print(libc.shmget(4711, 4096, 0o1666) >= 0)",
        "print(libc.shmget(4711, 4096, 0) == -1)",
    ),
    "processes": (
        "os.fork() or (os.setsid(), time.sleep(60))",
        "print(sum(name.isdigit() for name in os.listdir('/proc')) == 2)",
    ),
    "priority": ("os.nice(7)", "print(os.nice(0) == 0)"),
    "processors": (
        "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])",
        "print(len(os.sched_getaffinity(0)) == os.cpu_count())",
    ),
    "limits": (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))",
        "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[1] > 20)",
    ),
    "timers": (
        "signal.setitimer(signal.ITIMER_REAL, 5)",
        "print(signal.getitimer(signal.ITIMER_REAL) == (0, 0))",
    ),
    "modules": (
        "sys.modules['left'] = sys; import builtins; builtins.left = 1",
        "print('left' in sys.modules)",
    ),
    "the host's name": (
        "print(libc.sethostname(b'left', 4))",
        "print(os.uname().nodename == 'box')",
    ),
    "a mask": ("os.umask(0o077)", "print(os.umask(0) == 0o022)"),
}


@pytest.mark.parametrize("name", LEAVES)
async def test_nothing_is_left_for_the_next_program(forked: Lab, name: str) -> None:
    leave, look = LEAVES[name]
    await forked.python(leave)
    ran = await forked.python(look)
    expected = b"False\n" if name == "modules" else b"True\n"
    assert (ran.stdout, ran.stderr) == (expected, b"")


async def test_memory_of_an_earlier_program_is_not_found(forked: Lab) -> None:
    secret = os.urandom(16).hex()
    await forked.python(f"kept = [{secret!r} + str(n) for n in range(100_000)]")
    ran = await forked.python(f"""
        half = {secret[:16]!r}, {secret[16:]!r}
        found = 0
        for line in open("/proc/self/maps"):
            start, end = (int(each, 16) for each in line.split()[0].split("-"))
            if "r" in line.split()[1] and end - start < 2**28 and "[v" not in line:
                with open("/proc/self/mem", "rb") as memory:
                    memory.seek(start)
                    data = memory.read(end - start)
                at = data.find(half[0].encode())
                while at >= 0:
                    found += data[at + 16 : at + 32] == half[1].encode()
                    at = data.find(half[0].encode(), at + 1)
        print(found)
    """)
    assert (ran.stdout, ran.stderr) == (b"0\n", b"")


async def test_a_program_that_floods_and_is_ended_leaves_the_template_well(forked: Lab) -> None:
    for source in (
        "while True: print('x' * 1000)",
        "kept = []\nwhile True: kept.append(bytearray(10_000_000))",
        "while True: pass",
        "while True: os.fork()",
    ):
        await forked.python(source, replace(SHORT, cpu_time=0.5, wall_time=2.0))
        assert (await forked.python(HELLO)).stdout == b"Hello, world!\n"


async def test_a_program_that_is_cancelled_leaves_the_next_one_well(forked: Lab) -> None:
    for _ in range(3):
        feed = Feed(keep_open=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancelled, forked, feed)
            with trio.fail_after(SOON_S):
                await feed.output.wait()
            feed.stop.set()
        assert (await forked.python(HELLO)).stdout == b"Hello, world!\n"


async def _cancelled(lab: Lab, feed: Feed) -> None:
    ran = await lab.python("print('up', flush=True); time.sleep(60)", feed=feed)
    assert ran.outcome.signal == "SIGKILL"


async def test_a_slot_is_given_back_while_another_run_ends_a_template_of_it(
    language_cache: Path,
) -> None:
    """A run ends the templates of other slots when they take too much memory."""
    async with usual(language_cache) as lab:
        sandbox: Any = lab.sandbox
        for _ in range(3):
            await hello(lab)
            (ready,) = await standing(lab)
            (jailer,) = sandbox._idle
            async with trio.open_nursery() as both:
                both.start_soon(jailer.cool, ready.template)
                await trio.lowlevel.checkpoint()
                sandbox._idle.clear()
                both.start_soon(partial(sandbox._give_back, jailer, None, good=True))
            assert not sandbox._unclear
