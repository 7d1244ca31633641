"""Run inside the virtual machine: the whole of occd, and its sudden death.

This process stays outside of private mounts: the daemon would take itself for root there.
"""

import os
import signal
import time
from pathlib import Path

import serving
from guest_lab import groups, jailed

from occd.sandbox.cgroup import find_cgroups

serving.PATIENCE_S = 300.0  # it takes half a minute to come up in here
ENDED_S = 5.0
"""A second is promised; time is slow in here."""

FORKED = "import os, time\nos.fork()\ntime.sleep(600)"


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
    assert os.getuid() == int(os.environ["OCCD_VM_UID"])


def test_death_of_the_daemon_ends_its_jails_and_the_next_one_clears(tmp_path: Path) -> None:
    found = find_cgroups()
    expected = "by cgroup v2" if found else "weaker: no cgroup is ours"
    if found:
        assert found.claim()  # else the daemons, which we start, would not be alone in the group
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
