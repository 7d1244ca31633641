"""The command line, and how the daemon starts, stops and comes back."""

import json
import os
import pty
import re
import select
import signal
import socket
import sqlite3
import subprocess
import termios
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import trio
from serving import (
    API,
    OCCD,
    PATIENCE_S,
    Server,
    connected,
    output,
    serving,
    start,
    wait_open,
)
from stuck import stuck_nsjail

from occd import wire
from occd.broker import DEAD, open_broker
from occd.config import Config
from occd.languages.loading import load_languages
from occd.model import File, Submission
from occd.sqlite import open_database

Done = subprocess.CompletedProcess[bytes]
SLEEPS = "import time; time.sleep(60)"


def occd(
    *args: str | Path,
    cwd: Path,
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
) -> Done:
    clean = {name: value for name, value in os.environ.items() if name[:5] != "OCCD_"}
    return subprocess.run(
        [OCCD, *args],
        input=stdin,
        capture_output=True,
        cwd=cwd,
        env=clean | dict(environment or {}),
        timeout=2 * PATIENCE_S,
        check=False,
    )


def assert_refused(done: Done, *words: str) -> None:
    """One clear line, or few, and no traceback."""
    said = done.stderr.decode()
    assert done.returncode != 0
    assert "Traceback" not in said
    assert said.count("\n") <= 3, said
    for word in words:
        assert word in said


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def write(folder: Path, source: str, name: str = "program.py") -> str:
    (folder / name).write_text(source)
    return name


# occd run


def test_a_stop_takes_its_grace_once(folder: Path) -> None:
    """Programs and those who talk to us have it together."""
    with serving(folder / "data", grace_s="8") as server:
        server.wait_running(server.submit(SLEEPS))
        with socket.create_connection(("127.0.0.1", server.port)) as half:
            half.sendall(b"POST /api/v1/submissions HTTP/1.1\r\nHost: localhost\r\nContent-")
            half.sendall(b"Type: application/json\r\nContent-Length: 100\r\n\r\n{")
            server.get("/healthz")  # what came before has come
            began = time.monotonic()
            assert server.stop() == 0
        assert 8 <= time.monotonic() - began < 15.5


def test_run_keeps_stdout_and_stderr_apart_and_gives_the_exit_code(folder: Path) -> None:
    program = write(folder, "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)")
    done = occd("run", program, cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


@pytest.mark.parametrize("umask", [0o077, 0])
def test_programs_run_the_same_whatever_the_umask_is(umask: int, folder: Path) -> None:
    program = write(folder, "import os; print(oct(os.umask(0)))")
    done = subprocess.run(
        [OCCD, "run", program], capture_output=True, cwd=folder, umask=umask, timeout=2 * PATIENCE_S
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"0o22\n", b"")


def test_a_caller_that_ignores_the_ends_of_children_is_none_of_a_programs_business(
    folder: Path,
) -> None:
    """As a daemon in Perl or C may; it is inherited. No slot could be cleared."""
    program = write(folder, "print('hi')")
    ignoring = ["env", "--ignore-signal=CHLD", OCCD, "run", program]
    done = subprocess.run(ignoring, capture_output=True, cwd=folder, timeout=2 * PATIENCE_S)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hi\n", b"")


def test_run_ends_when_nobody_reads_its_output(folder: Path) -> None:
    """As a program in a shell's pipe ends: at its next write, not at a limit."""
    program = write(
        folder, "import time\nfor n in range(1000):\n    print(n, flush=True); time.sleep(0.05)"
    )
    with subprocess.Popen(
        [OCCD, "run", program], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout
        assert running.stdout.readline() == b"0\n"
        running.stdout.close()
        assert running.wait(2 * PATIENCE_S) == 128 + signal.SIGPIPE
        assert running.stderr
        assert running.stderr.read() == b""


def test_run_passes_stdin_and_arguments_as_they_are(folder: Path) -> None:
    program = write(
        folder,
        "import sys; print(sys.argv[1:]); sys.stdout.flush(); "
        "sys.stdout.buffer.write(sys.stdin.buffer.read())",
    )
    every = bytes(range(256)) * 1000
    done = occd("run", program, "--", "-x", "--stdin", "a b", "$HOME", cwd=folder, stdin=every)
    assert done.stdout == b"['-x', '--stdin', 'a b', '$HOME']\n" + every
    assert (done.returncode, done.stderr) == (0, b"")


def test_run_counts_system_calls_and_names_what_is_refused(folder: Path) -> None:
    source = (
        "import ctypes; ctypes.CDLL(None).mount(b'a', b'/tmp', b'tmpfs', 0, None); print('ran')"
    )
    done = occd("run", "--trace", write(folder, source), cwd=folder)
    assert (done.returncode, done.stdout) == (0, b"ran\n")
    first, refused, heads, mounts, *rest = done.stderr.decode().splitlines()
    assert re.fullmatch(r"occd: \d+ system calls", first)
    assert refused == "occd: mount: not permitted here"
    assert heads.split() == ["times", "failed", "seconds", "call"]
    assert mounts.split()[::3] == ["1", "mount"]
    assert sum(int(line.split()[0]) for line in [mounts, *rest]) == int(first.split()[1])


def test_run_takes_stdin_from_a_file(folder: Path) -> None:
    program = write(folder, "print(input())")
    write(folder, "from a file\n", "input.txt")
    done = occd("run", program, "--stdin", "input.txt", cwd=folder, stdin=b"from the pipe\n")
    assert done.stdout == b"from a file\n"


def test_run_shows_lines_while_the_program_runs(folder: Path) -> None:
    program = write(folder, "import time\nfor n in range(5): print(n, flush=True); time.sleep(0.3)")
    with subprocess.Popen(
        [OCCD, "run", program], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        arrivals = [time.monotonic() for _ in process.stdout]
    assert len(arrivals) == 5
    assert arrivals[-1] - arrivals[0] > 0.8


def test_run_lets_a_person_answer_a_prompt(folder: Path) -> None:
    program = write(folder, "print('hello', input('name? '))")
    with subprocess.Popen(
        [OCCD, "run", program], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.read(6) == b"name? "
        process.stdin.write(b"you\n")
        process.stdin.flush()
        assert process.stdout.read() == b"hello you\n"


def test_run_exits_124_on_a_limit_and_says_which(folder: Path) -> None:
    done = occd("run", write(folder, "while True: print('x' * 1000)"), cwd=folder)
    assert (done.returncode, len(done.stdout)) == (124, 2**20)
    assert done.stderr == b"occd: stopped at its limit of output, 1048576 bytes\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGSEGV, signal.SIGKILL])
def test_run_exits_128_and_the_signal(folder: Path, number: signal.Signals) -> None:
    program = write(folder, f"import os; os.kill(os.getpid(), {number.value})")
    done = occd("run", program, cwd=folder)
    assert done.returncode == 128 + number
    assert number.name.encode() in done.stderr


def test_run_shows_compile_errors_on_stderr(folder: Path) -> None:
    done = occd("run", write(folder, "int main(void) { return }", "bad.c"), cwd=folder)
    assert done.returncode == 1
    assert done.stdout == b""
    assert b"bad.c:1" in done.stderr


def test_run_exits_125_when_the_fault_is_not_the_programs(folder: Path) -> None:
    for args, word in [
        (["missing.py"], "missing.py"),
        ([write(folder, "", "x.unknown")], ".unknown"),
        ([write(folder, "", "x.py"), "--stdin", "missing.txt"], "missing.txt"),
        (["x.py", "--language", "klingon"], "klingon"),
    ]:
        done = occd("run", *args, cwd=folder)
        assert done.returncode == 125
        assert_refused(done, word)


def test_run_gives_a_java_file_of_any_name_to_java(folder: Path) -> None:
    source = "public class Other { public static void main(String[] a) { System.out.println(4); } }"
    done = occd("run", write(folder, source, "HelloWorld.java"), cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"4\n", b"")


@pytest.mark.parametrize("name", ["-c.py", "new\nline.py", "\udcff.py", "n" * 252 + ".py"])
def test_run_takes_a_file_of_any_name(folder: Path, name: str) -> None:
    write(folder, "print('fine')", name)
    assert occd("run", f"./{name}", cwd=folder).stdout == b"fine\n"


def test_run_finds_a_language_by_any_of_its_names(folder: Path) -> None:
    write(folder, '#include <cstdio>\nint main() { std::puts("fine"); }\n', "program.txt")
    assert occd("run", "--language=C++", "program.txt", cwd=folder).stdout == b"fine\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_run_takes_a_closed_stream_as_an_empty_one(folder: Path, closed: str) -> None:
    program = write(folder, "import sys; sys.exit(7 + len(sys.stdin.read()))")
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {OCCD} run {program} {closed}"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=2 * PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, b"", b"")


@pytest.mark.parametrize(
    ("streams", "word"), [("1>/dev/full", "stdout: No space"), ("0>/dev/null", "stdin: Bad file")]
)
def test_run_tells_in_a_line_which_stream_fails(folder: Path, streams: str, word: str) -> None:
    program = write(folder, "print(input())")
    done = subprocess.run(
        ["/bin/sh", "-c", f"echo x | exec {OCCD} run {program} {streams}"],
        cwd=folder,
        capture_output=True,
        timeout=2 * PATIENCE_S,
        check=False,
    )
    assert done.returncode == 125
    assert_refused(done, word)


def test_an_option_meant_for_the_program_is_told_its_place(folder: Path) -> None:
    write(folder, "import sys; print(sys.argv[1:])")
    for option in ("-x", "--verbose", "-n5"):
        done = occd("run", "program.py", option, cwd=folder)
        assert done.returncode == 2
        name = option[:2] if option == "-n5" else option
        assert f"occd run FILE -- {name}" in done.stderr.decode()
        assert (
            occd("run", "program.py", "--", option, cwd=folder).stdout == f"['{option}']\n".encode()
        )


class Terminal:
    """`occd`, or another `program`, as the foreground of a terminal of its own: what is typed there, and what
    the terminal shows."""

    def __init__(self, *args: str, cwd: Path, program: str = str(OCCD), **settings: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            # The shell lets its background jobs, of which we may be one, ignore the signal.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.chdir(cwd)
            os.environ.update({f"OCCD_{name.upper()}": each for name, each in settings.items()})
            os.execv(program, [program, *args])
        self.shown = b""

    def until(self, word: bytes) -> None:
        while word not in self.shown:
            more = self._more()
            assert more, self.shown
            self.shown += more

    def type(self, keys: bytes) -> None:
        os.write(self.fd, keys)

    def resize(self, rows: int, cols: int) -> None:
        termios.tcsetwinsize(self.fd, (rows, cols))

    @property
    def modes(self) -> list[Any]:
        return termios.tcgetattr(self.fd)

    def end(self) -> int:
        """The exit code; `shown` and `modes_left` are complete then."""
        while more := self._more():
            self.shown += more
        self.modes_left = self.modes
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _more(self) -> bytes:
        ready, _, _ = select.select([self.fd], [], [], PATIENCE_S)
        assert ready, self.shown
        try:
            return os.read(self.fd, 65_536)
        except OSError:  # EIO: nobody has the terminal open any more
            return b""


LOCAL = 3
"""Where `termios.tcgetattr` has the modes that turn keys into signals."""
CTRL_C, CTRL_D, CTRL_BACKSLASH = b"\x03", b"\x04", b"\x1c"


def test_ctrl_c_reaches_the_programs_handler(folder: Path) -> None:
    program = write(
        folder,
        """
import os, signal, sys, time
def handler(number, frame): os.write(1, b"caught %d" % number); sys.exit(5)  # print may not be over yet
signal.signal(signal.SIGINT, handler)
print("ready", flush=True)
time.sleep(60)
""",
    )
    terminal = Terminal("run", program, cwd=folder)
    terminal.until(b"ready")
    terminal.type(CTRL_C)
    assert terminal.end() == 5, terminal.shown
    assert b"caught 2" in terminal.shown
    assert b"Traceback" not in terminal.shown


@pytest.mark.parametrize(
    ("key", "number", "said"),
    [
        (CTRL_C, signal.SIGINT, b"^C"),
        (CTRL_BACKSLASH, signal.SIGQUIT, b"^\\occd: killed by SIGQUIT\r\n"),
    ],
)
def test_a_key_ends_a_program_that_has_no_handler(
    folder: Path, key: bytes, number: int, said: bytes
) -> None:
    program = write(folder, "echo ready; exec sleep 60", "program.sh")
    terminal = Terminal("run", program, cwd=folder)
    terminal.until(b"ready\r\n")
    terminal.type(key)
    assert terminal.end() == 128 + number
    assert terminal.shown == b"ready\r\n" + said


def test_three_questions_at_a_terminal_have_the_transcript_of_the_websocket(folder: Path) -> None:
    source = "import os\nfor n in range(3): print(os.isatty(0), input(f'{n}? '))"
    answers = "Ann", "7", "blue"
    terminal = Terminal("run", write(folder, source), cwd=folder)
    for n, answer in enumerate(answers):
        terminal.until(f"{n}? ".encode())
        terminal.type(f"{answer}\r".encode())
    assert terminal.end() == 0

    async def over_the_websocket(server: Server) -> str:
        async with connected(server) as client:
            id = await client.submit(source, tty={"rows": 24, "cols": 80})
            shown = ""
            for n, answer in enumerate(answers):
                shown += await client.until_output(id, f"{n}? ")
                await client.ask("stdin", id=id, data=f"{answer}\r")
            return shown + output(await client.until(id, "finished"), "tty")

    with serving(folder / "data") as server:
        assert terminal.shown.decode() == trio.run(over_the_websocket, server)


def test_a_program_at_a_terminal_has_one_of_the_same_size(folder: Path) -> None:
    source = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGWINCH})  # one that comes early waits for sigwait
print([os.isatty(fd) for fd in range(3)])
while True:
    cols, rows = os.get_terminal_size()
    print(rows, cols)
    if cols == 1:
        break
    signal.sigwait({signal.SIGWINCH})
print("got", input("? "))
"""
    terminal = Terminal("run", write(folder, source), cwd=folder)
    terminal.until(b"[True, True, True]\r\n")
    for rows, cols in [(50, 132), (11, 1000), (1, 1)]:
        terminal.resize(rows, cols)
        terminal.until(f"{rows} {cols}\r\n".encode())
    terminal.until(b"? ")
    terminal.type(b"on\r")
    assert terminal.end() == 0
    assert terminal.shown.endswith(b"? on\r\ngot on\r\n")


@pytest.mark.parametrize(
    ("size", "seen"), [("0 0", "24 80"), ("7 77", "7 77"), ("2000 1", "1000 1")]
)
def test_a_program_at_a_terminal_has_its_size_from_the_start(
    folder: Path, size: str, seen: str
) -> None:
    program = write(folder, "stty size", "program.sh")
    rows, cols = size.split()
    command = f"stty rows {rows} cols {cols}; exec {OCCD} run {program}"
    terminal = Terminal("-c", command, cwd=folder, program="/bin/sh")
    assert terminal.end() == 0
    assert terminal.shown == f"{seen}\r\n".encode()


def test_keys_and_output_pass_a_terminal_as_they_are(folder: Path) -> None:
    source = """
import os, sys, tty
tty.setraw(0)
os.write(1, b"ready")
got = b""
while len(got) < 256: got += os.read(0, 256)
os.write(1, got)
"""
    every = bytes(range(256))
    terminal = Terminal("run", write(folder, source), cwd=folder)
    terminal.until(b"ready")
    terminal.type(every)
    assert terminal.end() == 0
    assert terminal.shown == b"ready" + every


def test_compilers_and_programs_have_ends_of_lines_of_their_own(folder: Path) -> None:
    source = '#include <stdio.h>\n#warning first\n#warning second\nint main() { puts("a\\nb"); }\n'
    terminal = Terminal("run", write(folder, source, "program.c"), cwd=folder)
    assert terminal.end() == 0
    assert terminal.shown.endswith(b"a\r\nb\r\n")
    assert terminal.shown.count(b"\r\n") == terminal.shown.count(b"\n")
    assert b"\r\r" not in terminal.shown
    assert b"#warning second" in terminal.shown


@pytest.mark.parametrize(
    "piped", ["< input.txt", "> output.txt", "2> errors.txt", "--stdin input.txt"]
)
def test_with_one_stream_elsewhere_a_program_gets_pipes(folder: Path, piped: str) -> None:
    source = """
import os, sys
print([os.isatty(fd) for fd in range(3)], file=sys.stderr)
print(f"got {input()}")
"""
    write(folder, "from a file\n", "input.txt")
    program = write(folder, source)
    terminal = Terminal("-c", f"exec {OCCD} run {program} {piped}", cwd=folder, program="/bin/sh")
    terminal.type(b"typed\n")
    assert terminal.end() == 0
    errors, shown = folder / "errors.txt", folder / "output.txt"
    told = terminal.shown + b"".join(each.read_bytes() for each in (errors, shown) if each.exists())
    assert b"[False, False, False]" in told
    assert (b"got from a file" if "input" in piped else b"got typed") in told


def kill_jails(pid: int) -> None:
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(ProcessLookupError):
            os.kill(int(child), signal.SIGKILL)


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)


def hang_up(pid: int) -> None:
    os.kill(pid, signal.SIGHUP)


@pytest.mark.parametrize(
    ("rest", "act", "code", "said"),
    [
        ("", None, 0, b""),
        ("sys.exit(7)", None, 7, b""),
        ("os.kill(os.getpid(), signal.SIGSEGV)", None, 128 + signal.SIGSEGV, b"killed by SIGSEGV"),
        ("while True: pass", None, 124, b"limit of cpu time"),
        ("time.sleep(60)", stop, 128 + signal.SIGTERM, b"killed by SIGTERM"),
        ("time.sleep(60)", hang_up, 128 + signal.SIGHUP, b"killed by SIGHUP"),
        ("time.sleep(60)", kill_jails, 125, b"occd: "),
    ],
)
def test_a_terminal_is_left_as_it_was_found(
    folder: Path, rest: str, act: Callable[[int], None] | None, code: int, said: bytes
) -> None:
    """Whatever modes the program gave to its own terminal."""
    source = f"import os, signal, sys, time, tty; tty.setraw(0); input('up'); print('on')\n{rest}"
    terminal = Terminal("run", write(folder, source), cwd=folder)
    found = terminal.modes
    terminal.until(b"up")
    assert terminal.modes != found
    terminal.type(b"\n")
    terminal.until(b"on")
    if act:
        act(terminal.pid)
    assert terminal.end() == code
    assert terminal.modes_left == found
    assert said in terminal.shown
    assert b"Traceback" not in terminal.shown


def test_ctrl_c_leaves_out_what_is_not_shown_yet_of_a_program_that_has_ended(folder: Path) -> None:
    terminal = Terminal("run", write(folder, "print('x' * 2**23)"), cwd=folder)
    terminal.until(b"x")
    deadline = time.monotonic() + PATIENCE_S
    while not terminal.modes[LOCAL] & termios.ISIG:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    terminal.type(CTRL_C)
    assert terminal.end() == 128 + signal.SIGINT
    assert terminal.shown.count(b"x") < 2**22


@pytest.mark.parametrize(
    ("ceiling", "limit"), [("idle", b"idle time"), ("interactive_s", b"wall time, 1 second")]
)
def test_a_program_at_a_terminal_has_the_time_of_interactive_ones(
    folder: Path, ceiling: str, limit: bytes
) -> None:
    program = write(folder, "read line", "program.sh")
    terminal = Terminal("run", program, cwd=folder, **{f"ceilings__{ceiling}": "1"})
    assert terminal.end() == 124
    assert terminal.shown == b"occd: stopped at its limit of " + limit + b"\r\n"


def test_ctrl_d_is_end_of_file_and_ctrl_c_can_be_ignored(folder: Path) -> None:
    program = write(
        folder,
        """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("ready", flush=True)
print(len(sys.stdin.read()))
""",
    )
    terminal = Terminal("run", program, cwd=folder)
    terminal.until(b"ready")
    terminal.type(CTRL_C)
    terminal.type(b"typed\n")
    terminal.until(b"typed")
    terminal.type(CTRL_D)
    assert terminal.end() == 0
    assert b"6\r\n" in terminal.shown


LONG_TO_COMPILE = """
#warning ready
constexpr long sum() {
    long sum = 0;
    for (int i = 0; i < 200000; i++) for (int j = 0; j < 200000; j++) sum += j;
    return sum;
}
static_assert(sum());
"""


def test_ctrl_c_while_it_compiles_ends_it(folder: Path) -> None:
    terminal = Terminal("run", write(folder, LONG_TO_COMPILE, "program.cpp"), cwd=folder)
    terminal.until(b"#warning")
    terminal.type(CTRL_C)
    assert terminal.end() == 128 + signal.SIGINT
    assert b"error" not in terminal.shown
    assert b"Traceback" not in terminal.shown


def wait_for_a_jail(pid: int) -> None:
    """Until a launcher has left the terminal's group of processes; its first jail does not stand yet."""
    while True:
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with suppress(ProcessLookupError):
                if os.getpgid(int(child)) == int(child):
                    return
        time.sleep(0.01)


@pytest.mark.parametrize("command", ["run program.sh", "languages", "doctor"])
def test_ctrl_c_before_a_program_runs_ends_without_a_traceback(folder: Path, command: str) -> None:
    write(folder, "exec sleep 60", "program.sh")
    stuck = folder / "stuck"
    stuck.touch()  # no jail comes to stand, so that the command cannot end by itself
    nsjail = stuck_nsjail(folder, stuck)
    terminal = Terminal(*command.split(), cwd=folder, sandbox__nsjail=nsjail)
    wait_for_a_jail(terminal.pid)
    terminal.type(CTRL_C)
    assert terminal.end() == 128 + signal.SIGINT
    assert b"Traceback" not in terminal.shown


def test_ctrl_c_lets_a_daemon_finish_its_programs(folder: Path) -> None:
    """A terminal sends the signal to all processes of the daemon's group."""
    leader = folder / "leader"
    leader.write_text(f'#!/bin/sh\nexec setsid {OCCD} "$@"\n')
    leader.chmod(0o755)
    with serving(folder / "data", program=leader) as server:
        id = server.submit("import time; time.sleep(1.5); print('done')")
        server.wait_running(id)
        os.killpg(server.process.pid, signal.SIGINT)
        assert server.process.wait(PATIENCE_S) == 0
    with serving(folder / "data") as server:
        result = server.look(id)
        assert (result["verdict"], result["attempts"]) == ("ok", 1), result


# What it tells


def test_languages_lists_versions_in_columns(folder: Path) -> None:
    done = occd("languages", "--all", cwd=folder)
    assert done.returncode == 0
    known, lines = load_languages(), done.stdout.decode().splitlines()
    line = next(line for line in lines if line.startswith("python "))
    assert line.split()[:2] == ["python", "Python"]
    assert line.split()[3].startswith("3.")
    name, support, told = line.index("Python"), line.index(" core ") + 1, line.index("3.")
    for each in lines:
        language = known[each.split()[0]]
        found = each[:name], each[name:support], each[support:told]
        assert tuple(map(str.strip, found)) == (language.id, language.name, language.support)


def test_doctor_finds_that_programs_can_be_run_here(folder: Path) -> None:
    done = occd("doctor", cwd=folder)
    for told in (
        b"ok    templates (fork): ",
        b"ok    templates (hold): ",
        b"weak  not precompiled: ",
    ):
        assert told in done.stdout
    assert done.returncode == 0, done.stdout
    assert b"a trial job ran" in done.stdout
    assert b"BAD" not in done.stdout


@pytest.mark.parametrize(
    ("command", "last"), [("doctor", "Programs can be run here safely."), ("languages", "SQL")]
)
def test_at_a_terminal_what_takes_long_tells_what_it_does_now(
    folder: Path, command: str, last: str
) -> None:
    done = occd(command, cwd=folder)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\x1b" not in done.stdout
    terminal = Terminal(command, cwd=folder)
    assert terminal.end() == 0, terminal.shown
    told, _, answer = terminal.shown.decode().rpartition("\x1b[K")
    assert answer.replace("\r\n", "\n") == done.stdout.decode()  # on a line that is empty again
    assert last in answer
    steps = told.split("\r\x1b[K")
    assert "occd: running a trial job …" in steps
    counts = [re.findall(r"formatters: (\d+) of (\d+) …$", each) for each in steps]
    begun, ended = zip(*(map(int, found) for [found] in filter(None, counts)), strict=True)
    assert set(begun) == set(range(1, ended[-1] + 1))
    assert all(len(each) < 80 and "\n" not in each for each in steps)


def test_what_compilers_answered_is_not_asked_again_where_there_is_a_data_folder(
    folder: Path,
) -> None:
    (folder / "kept").mkdir()
    asked, answers = [], []
    for _ in range(2):
        terminal = Terminal("--data-dir", "kept", "languages", cwd=folder)
        assert terminal.end() == 0, terminal.shown
        told, _, answer = terminal.shown.rpartition(b"\x1b[K")
        asked.append(max(map(int, re.findall(rb"formatters: \d+ of (\d+)", told)), default=0))
        answers.append(answer)
    assert answers[0] == answers[1]
    known = json.loads((folder / "kept/languages.json").read_text())
    assert asked[0] - asked[1] == len(known) > 0


def test_languages_leaves_a_folder_alone_that_is_no_data_folder(folder: Path) -> None:
    """A `data` that nobody named is most often a project's."""
    (folder / "data").mkdir()
    theirs = folder / "data/languages.json"
    theirs.write_text('{"en": {"name": "English"}}')
    assert occd("languages", cwd=folder).returncode == 0
    assert theirs.read_text() == '{"en": {"name": "English"}}'
    theirs.unlink()
    assert occd("languages", cwd=folder).returncode == 0
    assert list((folder / "data").iterdir()) == []


def test_without_roles_it_explains_itself(folder: Path) -> None:
    done = occd(cwd=folder)
    assert done.returncode == 0
    assert b"occd --roles all" in done.stdout
    assert occd("--version", cwd=folder).stdout.startswith(b"occd, version ")


# Configuration


def test_check_config_shows_what_files_environment_and_flags_come_to(folder: Path) -> None:
    (folder / "config").mkdir()
    write(folder, "grace_s: 7\nexecute: {slots: 3}\nnode: here\n", "config/any.yaml")
    write(folder, "listen: 127.0.0.1:7000\n", "config/other.yaml")
    environment = {"OCCD_EXECUTE__SLOTS": "5", "OCCD_LISTEN": "127.0.0.1:7001"}
    flags = ["--listen", "127.0.0.1:7002"]
    done = occd(*flags, "check-config", cwd=folder, environment=environment)
    assert done.returncode == 0, done.stderr
    for line in ("grace_s: 7.0", "  slots: 5", "node: here", "listen: 127.0.0.1:7002"):
        assert line in done.stdout.decode().splitlines()


def test_what_is_wrong_with_the_configuration_is_told_by_name(folder: Path) -> None:
    (folder / "config").mkdir()
    write(folder, "colour: red\nexecute: {slot: 1}\n", "config/bad.yaml")
    done = occd("check-config", cwd=folder)
    assert_refused(done, "colour: unknown setting", "execute.slot: unknown setting")
    assert done.returncode == 125
    done = occd("--roles", "all", cwd=folder, environment={"OCCD_FOO": "1"})
    assert_refused(done, "OCCD_FOO: unknown setting")


def test_a_config_folder_that_is_not_there_is_refused(folder: Path) -> None:
    assert_refused(occd("--config", "nowhere", "check-config", cwd=folder), "nowhere")


@pytest.mark.parametrize(
    "command", [["--config", "{}", "check-config"], ["--data-dir", "{}", "queues"]]
)
def test_a_folder_that_cannot_be_looked_at_is_refused(folder: Path, command: list[str]) -> None:
    """As one in somebody else's home, or one with a name that is too long."""
    done = occd(*(word.format("x" * 300) for word in command), cwd=folder)
    assert_refused(done, "cannot be read: File name too long")


def test_one_role_alone_is_refused_and_told_what_it_needs(folder: Path) -> None:
    done = occd("--roles", "submit", "--listen", "127.0.0.1:0", cwd=folder)
    assert_refused(done, "rabbitmq.url", "redis.url", "--roles all")


def test_an_unknown_role_is_refused(folder: Path) -> None:
    for roles in ("submit,dance", "al", "all,submit"):
        done = occd("--roles", roles, cwd=folder)
        assert_refused(done, "--roles: must be all, or some of submit, execute, notify, ws")


def test_flags_without_anything_to_do_are_refused(folder: Path) -> None:
    """A unit file without --roles must not look like a server that ended well."""
    assert_refused(occd("--listen", "127.0.0.1:0", cwd=folder), "--roles all")


def test_roles_of_the_configuration_serve_too(folder: Path) -> None:
    done = occd(cwd=folder, environment={"OCCD_ROLES": "submit"})
    assert_refused(done, "rabbitmq.url", "redis.url")
    done = occd("check-config", cwd=folder, environment={"OCCD_ROLES": "all"})
    assert b"- ws" in done.stdout


# The daemon


def test_two_processes_cannot_share_a_data_folder(folder: Path) -> None:
    with serving(folder / "data") as server:
        second = start(folder / "data")
        assert second.process.wait(PATIENCE_S) != 0
        said = second.log.read_text()
        assert f"in use by another occd (process {server.process.pid})" in said
        assert "Traceback" not in said
        assert server.run("print(1)")["verdict"] == "ok"


def test_a_taken_port_is_told_in_a_line(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        server = start(folder / "data", f"--listen={address}")
        assert server.process.wait(PATIENCE_S) != 0
        said = server.log.read_text()
        assert address in said
        assert "Traceback" not in said
        assert sum('"level": "info"' not in line for line in said.splitlines()) <= 2, said


def test_a_data_folder_of_a_newer_version_is_refused(folder: Path) -> None:
    with serving(folder / "data"):
        pass
    with closing(sqlite3.connect(folder / "data/occd.db")) as database, database:
        database.execute("UPDATE versions SET version = version + 1")
    server = start(folder / "data")
    assert server.process.wait(PATIENCE_S) != 0
    said = server.log.read_text()
    assert "newer occd" in said
    assert "Traceback" not in said


def test_sigterm_lets_programs_finish_and_results_outlive_it(folder: Path) -> None:
    with serving(folder / "data") as server:
        id = server.submit("import time; time.sleep(1.5); print('done')")
        server.wait_running(id)
        server.signal(signal.SIGTERM)
        assert server.stop() == 0
    with serving(folder / "data") as server:
        result = server.look(id)
        assert (result["verdict"], result["attempts"]) == ("ok", 1)
        assert result["run"]["stdout"] == "done\n"


def test_what_waits_at_sigterm_is_run_at_the_next_start(folder: Path) -> None:
    with serving(folder / "data", execute__slots="1") as server:
        running = server.submit("import time; time.sleep(1)")
        waiting = [server.submit(f"print({n})") for n in range(3)]
        server.wait_running(running)
        assert server.stop() == 0
    with serving(folder / "data") as server:
        assert [server.result(id)["run"]["stdout"] for id in waiting] == ["0\n", "1\n", "2\n"]
        assert {server.look(id)["attempts"] for id in waiting} == {1}


def test_a_second_signal_ends_at_once_and_the_program_is_run_again(folder: Path) -> None:
    with serving(folder / "data", grace_s="60") as server:
        source = "import time; time.sleep(9); print('done')"
        id = server.submit(source, limits={"wall_time": 30})
        server.wait_running(id)
        server.signal(signal.SIGTERM)
        while server.log.read_text().count("stopping") == 0:
            time.sleep(0.02)
        began = time.monotonic()
        server.signal(signal.SIGINT)
        assert server.stop() == 0
        assert time.monotonic() - began < 8
    with serving(folder / "data") as server:
        assert server.result(id)["run"]["stdout"] == "done\n"


def test_what_outlasts_the_grace_is_run_again(folder: Path) -> None:
    with serving(folder / "data", grace_s="0.2") as server:
        id = server.submit("import time; time.sleep(3); print('done')")
        server.wait_running(id)
        assert server.stop() == 0
    with serving(folder / "data") as server:
        assert server.result(id)["run"]["stdout"] == "done\n"


def test_a_stopping_server_refuses_and_answers_who_waits(folder: Path) -> None:
    with serving(folder / "data") as server:
        id = server.submit("import time; time.sleep(2); print('done')")
        server.wait_running(id)
        server.signal(signal.SIGTERM)
        while '"stopping"' not in server.log.read_text():
            time.sleep(0.01)
        refused = server.post({"language": "python", "source": "print(1)"})
        assert (refused.status, refused.json()["type"]) == (503, "shutting-down")
        assert refused.headers["Retry-After"]
        assert server.get(f"{API}/submissions/{id}?wait=60").json()["verdict"] == "ok"


def test_sigkill_loses_nothing_that_was_accepted(folder: Path) -> None:
    server = start(folder / "data", execute__slots="1")
    wait_open(server)
    ids = [server.submit(f"import time; time.sleep(0.5); print({n})") for n in range(3)]
    server.wait_running(ids[0])
    server.process.kill()
    server.process.wait()
    with serving(folder / "data") as server:
        assert [server.result(id)["run"]["stdout"] for id in ids] == ["0\n", "1\n", "2\n"]


# occd queues


def test_a_dead_letter_is_listed_and_runs_again_as_a_new_submission(folder: Path) -> None:
    submission = Submission("old", "bash", None, "main.sh", (File("main.sh", b"echo hi"),))
    trio.run(keep_dead_letters, folder / "data", submission)
    listed = occd("--data-dir=data", "queues", cwd=folder).stdout.decode()
    assert re.search(r"^submission_queue\.kept +2$", listed, re.M)
    assert re.search(r"^old .*submission_queue .*it \\x1b\[2J killed us$", listed, re.M)
    new = occd("--data-dir=data", "queues", "requeue", "old", cwd=folder).stdout.decode().strip()
    assert_refused(occd("--data-dir=data", "queues", "requeue", "old", cwd=folder), "old")
    assert_refused(occd("--data-dir=data", "queues", "requeue", "bad", cwd=folder), "not a message")
    with serving(folder / "data") as server:
        result = server.result(new)
        assert (result["verdict"], result["retry_of"]) == ("ok", "old")
        assert server.look(server.submit("1"))["retry_of"] is None


def test_a_look_at_queues_makes_no_data_folder(folder: Path) -> None:
    for command in (["queues"], ["queues", "requeue", "x"]):
        assert_refused(occd("--data-dir=absent", *command, cwd=folder), "no data folder absent")
    assert os.listdir(folder) == []


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("OCCD_RABBITMQ__URL", "http://x", "rabbitmq.url"),
        ("OCCD_RABBITMQ__URL", "amqp://", "rabbitmq.url"),
        ("OCCD_REDIS__URL", "http://x", "redis.url"),
        ("OCCD_REDIS", '{"url": "redis://x", "password_file": "/nope"}', "redis.password_file"),
        ("OCCD_LANGUAGES", "klingon", "klingon"),
        ("OCCD_EXECUTE", '{"slots": 400}', "come to 464; with Docker"),
    ],
)
def test_check_config_refuses_what_the_start_would(
    folder: Path, name: str, value: str, word: str
) -> None:
    for command in (["check-config"], ["--roles=all", "--listen=127.0.0.1:0"]):
        environment = {name: value, "OCCD_SANDBOX__KIND": "docker"}
        assert_refused(occd(*command, cwd=folder, environment=environment), word)


@pytest.mark.parametrize("server", ["rabbitmq", "redis"])
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("absent", "there is no file absent"),
        ("data/x", "there is no file data/x"),
        (".", ". is a folder"),
        ("binary", "binary is not text in UTF-8"),
        ("/dev/zero", "/dev/zero is too long for a password"),
        ("/proc/self/mem", "/proc/self/mem cannot be read: Input/output error"),
    ],
)
def test_a_file_of_a_password_that_cannot_be_read_is_told_in_words(
    folder: Path, server: str, path: str, words: str
) -> None:
    (folder / "data").write_bytes(b"")
    (folder / "binary").write_bytes(b"\xff")
    scheme = "amqp" if server == "rabbitmq" else "redis"
    value = json.dumps({"url": f"{scheme}://x", "password_file": path})
    done = occd("check-config", cwd=folder, environment={f"OCCD_{server.upper()}": value})
    assert done.stderr.decode() == f"occd: {server}.password_file: {words}\n"


@pytest.mark.parametrize(("server", "scheme"), [("rabbitmq", "amqps"), ("redis", "rediss")])
def test_a_file_of_tls_that_is_not_there_is_named(folder: Path, server: str, scheme: str) -> None:
    for name in ("ca_file", "cert_file", "key_file"):
        value = json.dumps({"url": f"{scheme}://x", name: "absent"})
        done = occd("check-config", cwd=folder, environment={f"OCCD_{server.upper()}": value})
        assert done.stderr.decode() == f"occd: {server}.{name}: there is no file absent\n"


def test_queues_are_listed_while_the_daemon_runs(folder: Path) -> None:
    trio.run(keep_dead_letters, folder / "data")
    with serving(folder / "data"):
        done = occd("--data-dir=data", "queues", cwd=folder)
        assert done.returncode == 0
        assert "\nbad " in done.stdout.decode()


def test_hostile_messages_run_nothing_and_are_kept_with_their_reasons(folder: Path) -> None:
    reasons = {"climbs": "must be relative", "later": "does not know the field submission.tests"}
    trio.run(queue_hostile_messages, folder / "data")
    with serving(folder / "data") as server:
        assert server.run("print(1)")["verdict"] == "ok"
        while "".join(kept := kept_letters(folder)).count("submission_queue") < len(reasons):
            time.sleep(0.1)
    for id, reason in reasons.items():
        (line,) = [each for each in kept if each.startswith(f"{id} ")]
        assert reason in line
        requeued = occd("--data-dir=data", "queues", "requeue", id, cwd=folder)
        assert_refused(requeued, reason)
    assert not [path for path in (folder.parent, folder, *folder.iterdir()) if path.name == "x"]


def kept_letters(folder: Path) -> list[str]:
    listed = occd("--data-dir=data", "queues", cwd=folder).stdout.decode()
    return listed.partition("dead letters that are kept")[2].splitlines()[1:]


async def queue_hostile_messages(data_dir: Path) -> None:
    message = json.loads(
        wire.encode_submission(Submission("x", "bash", None, "x", (File("x", b"echo hi"),)))
    )
    climbs, later = deepcopy(message), deepcopy(message)
    climbs["submission"] |= {"files": [{"name": "../../x", "content": ""}], "main": "../../x"}
    later["submission"]["tests"] = [{"stdin": "1"}]
    config = Config(data_dir=data_dir)
    async with open_database(data_dir) as database, open_broker(config, database) as broker:
        for key, each in {"climbs": climbs, "later": later}.items():
            body = json.dumps(each).encode()
            await broker.publish("submission_queue", body, key=key, owner=None)


async def keep_dead_letters(data_dir: Path, *submissions: Submission) -> None:
    """One of each submission, and one that nobody can read."""
    queue = "submission_queue"
    bodies = {each.id: wire.encode_submission(each) for each in submissions} | {"bad": b"?"}
    config = Config(data_dir=data_dir)
    async with open_database(data_dir) as database, open_broker(config, database) as broker:
        for key, body in bodies.items():
            await broker.publish(queue, body, key=key, owner=None)
        async with broker.consume(queue, 1) as deliveries:
            for _ in bodies:
                await (await deliveries.receive()).reject("it \x1b[2J killed us")
        async with broker.consume(queue + DEAD, 1) as deliveries:
            for _ in bodies:
                await (await deliveries.receive()).keep()
