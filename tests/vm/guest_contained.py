"""Run in a container in the virtual machine (`contained.py`): limits are exact, too, and nothing stays."""

from dataclasses import replace
from pathlib import Path

import pytest
from guest_limits import MEMORY_BOMBS, MIB, SLOW
from sandboxed import Lab

OWN = Path("/sys/fs/cgroup")
FORKS = """
made = 1
try:
    while True:
        if os.fork() == 0: time.sleep(600)
        made += 1
except BlockingIOError: print(made)
"""
SPINS = "while True: pass"


def test_the_container_is_read_only() -> None:
    with pytest.raises(OSError, match="Read-only file system"):
        Path("/anything").touch()


def test_the_container_cannot_raise_its_own_limits() -> None:
    with pytest.raises(PermissionError):
        (OWN / "memory.max").write_text("max")
    assert int((OWN / "memory.max").read_text()) == 700 * MIB


async def test_of_twenty_runs_each_is_held_to_its_limits(lab: Lab) -> None:
    assert "limits and usage by cgroup v2" in lab.sandbox.isolation
    for _ in range(5):
        said = await lab.python("print('hello')", SLOW)
        assert (said.stdout, said.succeeded) == (b"hello\n", True), said
        bomb = await lab.python(MEMORY_BOMBS["child"], replace(SLOW, memory=40 * MIB))
        assert (bomb.limit, bomb.signal) == ("memory", "SIGKILL"), bomb
        assert 20 * MIB < bomb.memory <= 41 * MIB
        forked = await lab.python(FORKS, replace(SLOW, processes=20, memory=256 * MIB))
        assert forked.stdout == b"20\n", forked
        spun = await lab.python(SPINS, replace(SLOW, cpu_time=1.0))
        assert spun.limit == "cpu_time", spun
        assert 1.0 <= spun.cpu_time < 3.0


def test_no_group_is_left() -> None:
    assert list(OWN.glob("*/")) == []
