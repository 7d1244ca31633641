"""Run inside the virtual machine: the whole of occd, and its sudden death."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import serving

from occd.sandbox.cgroup import find_cgroups

serving.PATIENCE_S = 300.0  # it takes half a minute to come up in here
ENDED_S = 5.0
"""A second is promised; time is slow in here."""

FORKED = "import os, time\nos.fork()\ntime.sleep(600)"


def jailed() -> list[str]:
    """The processes that live in a pid namespace below ours: nobody else in this machine has any."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            status = (process / "status").read_text()
            (pids,) = [line for line in status.splitlines() if line.startswith("NSpid:")]
            if len(pids.split()) > 2:
                found.append(f"{status.partition(chr(10))[0]} {pids}")
    return found


def groups() -> list[str]:
    found = find_cgroups()
    parents = found.parents if found else ()
    return [group.name for parent in parents for group in parent.glob("occd-[0-9]*/")]


def wait_until_jailed(count: int) -> None:
    deadline = time.monotonic() + 30
    while len(jailed()) < count:
        assert time.monotonic() < deadline, jailed()
        time.sleep(0.02)


def kill_in_the_middle(server: serving.Server) -> None:
    server.submit(FORKED, limits={"wall_time": 60.0})
    wait_until_jailed(3)  # init, the program and its child
    server.signal(signal.SIGKILL)
    server.process.wait()


def test_we_are_whom_the_host_wanted() -> None:
    """Else the others would prove less than they seem to."""
    _, outside, _ = map(int, Path("/proc/self/uid_map").read_text().split())
    assert outside == int(os.environ["OCCD_VM_UID"])


def test_death_of_the_daemon_ends_its_jails_and_the_next_one_clears(tmp_path: Path) -> None:
    expected = "by cgroup v2" if find_cgroups() else "weaker: no cgroup is ours"
    first = serving.start(tmp_path / "first")
    try:
        serving.wait_open(first)
        assert expected in first.output.read_text()
        kill_in_the_middle(first)
    finally:
        first.process.kill()
        first.process.wait()
    killed = time.monotonic()
    while jailed():
        assert time.monotonic() < killed + ENDED_S, jailed()
        time.sleep(0.02)
    assert bool(groups()) == bool(find_cgroups())  # there is something to clear

    with serving.serving(tmp_path / "second") as second:
        result = second.run("print('hello')")
        assert result["verdict"] == "ok", result
        assert result["run"]["stdout"] == "hello\n"
    assert groups() == []
