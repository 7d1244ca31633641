"""Run inside the virtual machine: the whole of occd under these cgroups."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from serving import serving, start, wait_open

from occd.sandbox.cgroup import find_cgroups

ENDED_S = 5.0
"""A second is promised; here, time is slow."""

SLEEP = "import os, time\nos.fork()\nprint('up', flush=True)\ntime.sleep(600)"


def jailed() -> list[str]:
    """The processes that live in a pid namespace below ours: nobody else in this machine has any."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            status = (process / "status").read_text()
            (pids,) = [line for line in status.splitlines() if line.startswith("NSpid:")]
            if len(pids.split()) > 2:
                found.append(status.partition("\n")[0] + pids)
    return found


def groups() -> list[str]:
    found = find_cgroups()
    parents = found.parents if found else ()
    return [group.name for parent in parents for group in parent.glob("occd-[0-9]*/")]


def test_we_are_whom_the_host_wanted() -> None:
    """Else the others would prove less than they seem to."""
    _, outside, _ = map(int, Path("/proc/self/uid_map").read_text().split())
    assert outside == int(os.environ["OCCD_VM_UID"])


def test_daemon_serves_a_submission(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        result = server.run("print('hello')")
        assert result["verdict"] == "ok", result
        assert result["run"]["stdout"] == "hello\n"
        output = server.output.read_text()
        assert ("by cgroup v2" if find_cgroups() else "weaker: no cgroup is ours") in output
    assert groups() == []


def test_death_of_the_daemon_ends_every_jail_and_the_next_start_clears(tmp_path: Path) -> None:
    server = start(tmp_path / "data")
    try:
        wait_open(server)
        id = server.submit(SLEEP, limits={"wall_time": 60.0})
        server.wait_running(id)
        deadline = time.monotonic() + 30
        while len(jailed()) < 3:  # init, the program and its child
            assert time.monotonic() < deadline, jailed()
            time.sleep(0.05)
    finally:
        server.signal(signal.SIGKILL)
        server.process.wait()
    deadline = time.monotonic() + ENDED_S
    while jailed():
        assert time.monotonic() < deadline, jailed()
        time.sleep(0.05)
    with serving(tmp_path / "other") as server:
        assert server.run("print('hello')")["verdict"] == "ok"
    assert groups() == []
