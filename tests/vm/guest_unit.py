"""Run inside the virtual machine, where systemd is the first process: packaging/systemd, with `root.conf` if
that was put into its place.

The tests share one service, and go in their order.
"""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from pwd import getpwnam
from textwrap import dedent
from typing import cast

import pytest
import serving

serving.PATIENCE_S = 300.0  # it takes half a minute to come up in here
NAME = "occd.service"
PACKAGING = Path("/job/packaging/systemd")
OPT, COMMAND, CONFIG = Path("/opt/occd"), Path("/usr/local/bin/occd"), Path("/etc/occd")
ROOT = Path(f"/etc/systemd/system/{NAME}.d/root.conf").exists()
DROP_INS = Path(f"/run/systemd/system/{NAME}.d")
GROUP = Path(f"/sys/fs/cgroup/system.slice/{NAME}")
DATA = Path("/var/lib/occd")
GRACE_S = 120
MIB = 2**20
SLOW = {"cpu_time": 60.0, "wall_time": 120.0}
SLEEPING = "import time; print('a', flush=True); time.sleep(20); print('b')"
ACCOUNTS = """
accounts:
  anonymous: {class: visitor}
  default_class: visitor
  classes: {visitor: {}}
  oidc:
    issuer: http://127.0.0.1:1/
    client_id: occd
    client_secret_file: /run/credentials/occd.service/oidc
http: {public_url: "http://127.0.0.1:8000"}
"""
SCRIPT = f"#!{OPT}/bin/python\nfrom occd.__main__ import main\nmain()\n"


def call(*argv: str, fails: bool = False) -> str:
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert (done.returncode != 0) == fails, (argv, done.stdout)
    return done.stdout


def systemctl(*argv: str) -> str:
    return call("systemctl", *argv)


def show(name: str) -> str:
    return systemctl("show", "--value", "--property", name, NAME).strip()


def wait_until(reached: Callable[[], object]) -> None:
    deadline = time.monotonic() + serving.PATIENCE_S
    while not reached():
        assert time.monotonic() < deadline, systemctl("--no-pager", "show", NAME)
        time.sleep(0.1)


def install() -> None:
    """As docs/operating.md says it, with the checkout and its packages instead of pip."""
    call("python3", "-m", "venv", "--without-pip", str(OPT))
    (packages,) = OPT.glob("lib/python3*/site-packages")
    (packages / "occd.pth").write_text("/job\n/job/packages\n")
    (OPT / "bin/occd").write_text(SCRIPT)
    (OPT / "bin/occd").chmod(0o755)
    COMMAND.symlink_to(OPT / "bin/occd")
    for source, target in (("occd.conf", "/etc/sysusers.d"), (NAME, "/etc/systemd/system")):
        call("install", "-D", "-m", "644", str(PACKAGING / source), f"{target}/{source}")
    systemctl("daemon-reload")
    call("systemd-sysusers")


@contextmanager
def drop_in(*lines: str) -> Iterator[None]:
    DROP_INS.mkdir(parents=True, exist_ok=True)
    file = DROP_INS / "test.conf"
    file.write_text("\n".join(["[Service]", *lines, ""]))
    systemctl("daemon-reload")
    try:
        yield
    finally:
        file.unlink()
        systemctl("daemon-reload")


@pytest.fixture(scope="module")
def server() -> Iterator[serving.Server]:
    install()
    CONFIG.mkdir()
    secret = CONFIG / "environment"
    secret.touch(0o600)  # root's: systemd reads it
    secret.write_text(f"OCCD_GRACE_S={GRACE_S}\n")
    try:
        systemctl("enable", "--now", NAME)
        nobody = cast("subprocess.Popen[bytes]", None)
        yield serving.Server(nobody, DATA, Path(), Path(), port=8000)
    finally:
        print(call("journalctl", "--no-pager", "--unit", NAME))


def groups() -> set[tuple[str, int]]:
    """Those of jobs, each with what no later group of this name has."""
    return {
        (path.name, path.stat().st_ino) for path in GROUP.rglob("*/") if path.name != "occd-daemon"
    }


def processes() -> set[int]:
    """All that belong to the unit."""
    return {int(pid) for file in GROUP.rglob("cgroup.procs") for pid in file.read_text().split()}


def in_jobs() -> int:
    """How many processes are in groups of jobs."""
    return sum(
        len(file.read_text().split())
        for file in GROUP.rglob("cgroup.procs")
        if file.parent.name != "occd-daemon"
    )


def lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def commands(user: str, *argv: str, fails: bool = False) -> str:
    """`occd` as an administrator calls it beside the daemon, in root's home, which is closed to others."""
    folders = (f"--config={CONFIG}", f"--data-dir={DATA}")
    with chdir("/root"):
        return call("runuser", "-u", user, "--", "occd", *folders, *argv, fails=fails)


def test_it_is_started_when_it_is_ready(server: serving.Server) -> None:
    answer = server.get("/readyz")
    assert answer.status == 200, answer.body
    assert (show("ActiveState"), show("StatusText")) == ("active", "ready")


def test_it_is_started_with_the_machine(server: serving.Server) -> None:
    assert systemctl("is-enabled", NAME) == "enabled\n"


def test_it_runs_as_the_user_whose_the_data_are(server: serving.Server) -> None:
    status = Path("/proc", show("MainPID"), "status").read_text()
    uid = DATA.stat().st_uid
    assert uid == (0 if ROOT else getpwnam("occd").pw_uid)
    assert re.search(rf"^Uid:\s{uid}\s{uid}\s{uid}\s{uid}$", status, re.MULTILINE)
    assert DATA.stat().st_mode & 0o777 == 0o700
    assert Path("/var/cache/occd").stat().st_uid == uid


def test_its_group_is_its_own_to_divide(server: serving.Server) -> None:
    assert (
        f"0::/system.slice/{NAME}/occd-daemon\n"
        == Path("/proc", show("MainPID"), "cgroup").read_text()
    )
    result = server.run("import time; print('hello', flush=True)")
    assert (result["verdict"], result["run"]["stdout"]) == ("ok", "hello\n")
    isolation = call("journalctl", "--unit", NAME, "--output", "cat", "--grep", "isolation")
    assert "limits and usage by cgroup v2" in isolation
    assert "the processors shared by job" in isolation
    assert ("a host user id for each job" in isolation) == ROOT


def test_a_program_that_is_killed_for_its_memory_does_not_end_the_service(
    server: serving.Server,
) -> None:
    bomb = "blocks = []\nwhile True: blocks.append(bytearray(2**20))"
    result = server.run(bomb, limits=SLOW | {"memory": 64 * MIB})
    assert result["verdict"] == "memory_limit", result
    assert result["run"]["memory"] <= 65 * MIB
    assert (show("ActiveState"), show("NRestarts")) == ("active", "0")


def test_programs_may_do_what_they_may_elsewhere(server: serving.Server) -> None:
    """A filter of the unit would hold for them, too."""
    source = """
        import ctypes, mmap, os, stat
        libc = ctypes.CDLL(None)
        mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        print(libc.personality(0x40000), libc.ptrace(0, 0, 0, 0), os.nice(1))
        with open("file", "w"): pass
        print(stat.filemode(os.stat("file").st_mode))
        os.chmod("file", 0o6755)
        print(stat.filemode(os.stat("file").st_mode))
        print(os.ttyname(0))
    """
    result = server.run(dedent(source), tty={"rows": 24, "cols": 80}, limits=SLOW)
    lines = result["run"]["stdout"].split()
    assert lines == ["0", "0", "1", "-rw-r--r--", "-rwsr-sr-x", "/dev/pts/0"], result


def test_administrators_reach_the_daemon_as_its_user(server: serving.Server) -> None:
    user = "root" if ROOT else "occd"
    assert "drained" in commands(user, "drain")
    assert server.get("/readyz").status == 503
    commands(user, "drain", "--undo")
    assert server.get("/readyz").status == 200
    if not ROOT:
        assert "sudo -u occd" in commands("root", "drain", fails=True)


def test_a_kill_leaves_no_process_and_no_group_and_loses_nothing(server: serving.Server) -> None:
    wait_until(lambda: in_jobs() == 0)
    kill_in_the_middle(server)
    kill_in_the_middle(server)


def kill_in_the_middle(server: serving.Server) -> None:
    """Returns when another process has run the program."""
    kills = int(show("NRestarts"))
    id = server.submit("import os, time\nos.fork()\ntime.sleep(10)", limits=SLOW)
    wait_until(lambda: in_jobs() >= 2)
    old, of_jobs = processes(), groups()
    os.kill(int(show("MainPID")), signal.SIGKILL)
    wait_until(lambda: not any(map(lives, old)))
    wait_until(lambda: (show("ActiveState"), show("NRestarts")) == ("active", str(kills + 1)))
    assert server.result(id)["verdict"] == "ok"
    assert starts(server, id) == 2
    wait_until(lambda: in_jobs() == 0)
    assert not of_jobs & groups()


def starts(server: serving.Server, id: str) -> int:
    path = f"{serving.API}/submissions/{id}/events"
    return server.get(path, Accept="application/x-ndjson").body.count(b'"started"')


def test_a_stop_lets_programs_end(server: serving.Server) -> None:
    id = server.submit(SLEEPING, limits=SLOW)
    wait_until(lambda: in_jobs() >= 1)
    with drop_in("TimeoutStopSec=5"):  # the grace is longer, and occd says so
        systemctl("stop", NAME)
    assert (show("ActiveState"), show("Result")) == ("inactive", "success")
    assert not GROUP.exists()
    systemctl("start", NAME)
    check_uncut(server, id)


def check_uncut(server: serving.Server, id: str) -> None:
    found = server.look(id)
    assert (found["verdict"], found["run"]["stdout"]) == ("ok", "a\nb\n"), found
    assert starts(server, id) == 1


def test_secrets_are_given_as_credentials(server: serving.Server) -> None:
    (CONFIG / "secret").touch(0o600)
    (CONFIG / "secret").write_text("a secret\n")
    (CONFIG / "accounts.yaml").write_text(ACCOUNTS)
    (CONFIG / "environment").write_text("OCCD_GRACE_S=0\n")
    with drop_in(f"LoadCredential=oidc:{CONFIG}/secret"):
        systemctl("restart", NAME)
    (CONFIG / "accounts.yaml").unlink()
    assert server.get(f"{serving.API}/me").status == 200


def test_a_drain_before_the_stop_lets_programs_end_without_a_grace(server: serving.Server) -> None:
    id = server.submit(SLEEPING, limits=SLOW)
    wait_until(lambda: in_jobs() >= 1)
    with drop_in(f"ExecStop={COMMAND} --data-dir={DATA} drain --timeout=1h", "TimeoutStopSec=2h"):
        systemctl("stop", NAME)
    assert show("Result") == "success"
    systemctl("start", NAME)
    check_uncut(server, id)


def test_it_is_not_started_while_it_is_not_ready(server: serving.Server) -> None:
    with drop_in("Environment=OCCD_SANDBOX__NSJAIL=/nowhere"):
        systemctl("restart", "--no-block", NAME)
        wait_until(lambda: show("StatusText").startswith("not ready: "))
        assert "nowhere" in show("StatusText")
        assert show("ActiveState") == "activating"
        assert server.get("/readyz").status == 503
        systemctl("stop", NAME)
        assert show("Result") == "success"


def test_the_journal_has_lines_with_levels(server: serving.Server) -> None:
    told = call("journalctl", "--unit", NAME, "--identifier", "occd", "--output", "json")
    entries = [json.loads(line) for line in told.splitlines()]
    lines = {each["MESSAGE"]: each["PRIORITY"] for each in entries}
    ours = {text: priority for text, priority in lines.items() if not text.startswith("occd: ")}
    levels = {(json.loads(text)["level"], priority) for text, priority in ours.items()}
    assert levels == {("info", "6"), ("error", "3")}
    assert "no program will be run" in call(
        "journalctl", "--unit", NAME, "--priority", "err", "--output", "cat"
    )


def test_the_exposure_is_what_the_docs_say(server: serving.Server) -> None:
    told = call("systemd-analyze", "--no-pager", "security", NAME)
    (exposure,) = re.findall(r"Overall exposure level for occd.service: ([\d.]+)", told)
    docs = Path("/job/docs/operating.md").read_text()
    named = re.search(
        r"`systemd-analyze\s+security` .*? ([\d.]+\d) .*?root\.conf.*? ([\d.]+\d)\)",
        docs,
        re.DOTALL,
    )
    assert named
    assert named[1 + ROOT] == exposure
