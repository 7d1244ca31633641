"""Run inside the virtual machine: what cgroup v2 must do for every stage."""

from dataclasses import replace
from pathlib import Path

import pytest
from sandboxed import Lab, honest_share

from occd.config import Config
from occd.model import Limits
from occd.sandbox import open_sandbox
from occd.sandbox.cgroup import find_cgroups, own_path

MIB = 2**20
# Generous in time: everything is 13 to 20 times slower in here.
SLOW = Limits(cpu_time=60.0, wall_time=120.0, memory=64 * MIB, file_size=2**30)

MEMORY_BOMBS = {
    "heap": "blocks = []\nwhile True: blocks.append(bytearray(2**20))",
    "child": """
if os.fork() == 0:
    blocks = []
    while True: blocks.append(bytearray(2**20))
os.wait(); print("survived"); sys.exit(0)
""",
    "children": """
for _ in range(8):
    if os.fork() == 0:
        block = bytearray(16 * 2**20); time.sleep(600)
time.sleep(600)
""",
    "box": """
with open("/box/x", "wb", buffering=0) as file:
    for _ in range(63): file.write(bytes(2**20))
time.sleep(600)
""",
    "tmp": """
with open("/tmp/x", "wb", buffering=0) as file:
    for _ in range(63): file.write(bytes(2**20))
time.sleep(600)
""",
}


async def test_controllers_are_ours(lab: Lab) -> None:
    found = find_cgroups()
    assert found is not None
    assert found.version == 2
    assert set((found.parents[0] / "cgroup.subtree_control").read_text().split()) >= {
        "cpu",
        "memory",
        "pids",
    }


async def test_the_sandbox_leaves_this_process_where_it_was(language_cache: Path) -> None:
    before, found = own_path(""), find_cgroups()
    async with open_sandbox(Config(), language_cache):
        pass
    assert (own_path(""), find_cgroups()) == (before, found)


async def test_hello_is_told_exactly(lab: Lab) -> None:
    assert "limits and usage by cgroup v2" in lab.sandbox.isolation
    outcome = await lab.python("print('hello')", SLOW)
    assert outcome.succeeded, outcome
    assert outcome.stdout == b"hello\n"
    assert 0 < outcome.cpu_time < 2 * outcome.wall_time + 0.1


@pytest.mark.parametrize("name", MEMORY_BOMBS)
async def test_memory_bomb_ends_as_memory_limit(lab: Lab, name: str) -> None:
    limits = replace(SLOW, memory=40 * MIB)
    outcome = await lab.python(MEMORY_BOMBS[name], limits)
    assert outcome.limit == "memory", outcome
    assert outcome.signal == "SIGKILL"
    assert limits.memory // 2 < outcome.memory <= limits.memory + MIB


async def test_peak_memory_is_what_the_program_touched(lab: Lab) -> None:
    outcome = await lab.python(
        """
        block = bytearray(50 * 2**20)
        for at in range(0, len(block), 4096): block[at] = 1
        """,
        replace(SLOW, memory=256 * MIB),
    )
    assert outcome.succeeded, outcome
    assert 50 * MIB < outcome.memory < 80 * MIB


async def test_processes_are_bounded_by_the_group(lab: Lab) -> None:
    outcome = await lab.python(
        """
        made = 1
        try:
            while True:
                if os.fork() == 0: time.sleep(600)
                made += 1
        except BlockingIOError: print(made)
        """,
        replace(SLOW, processes=20, memory=256 * MIB),
    )
    assert outcome.succeeded, outcome
    assert outcome.stdout == b"20\n"


async def test_fork_bomb_ends_and_leaves_nothing(lab: Lab) -> None:
    outcome = await lab.python(
        """
        while True:
            try: os.fork()
            except OSError: pass
        """,
        replace(SLOW, cpu_time=6.0, memory=256 * MIB),
    )
    assert outcome.limit == "cpu_time", outcome


async def test_cpu_time_limit_counts_children(lab: Lab) -> None:
    outcome = await lab.python(
        """
        for _ in range(2):
            if os.fork() == 0:
                while True: pass
        time.sleep(600)
        """,
        replace(SLOW, cpu_time=3.0),
    )
    assert outcome.limit == "cpu_time", outcome
    assert 3.0 <= outcome.cpu_time < 6.0


async def test_cpu_time_counts_children_that_have_ended(lab: Lab) -> None:
    outcome = await lab.python(
        """
        if os.fork() == 0:
            while time.process_time() < 2.0: pass
            os._exit(0)
        os.wait()
        """,
        SLOW,
    )
    assert outcome.succeeded, outcome
    assert 2.0 <= outcome.cpu_time < 10.0


async def test_spinning_programs_in_seats_do_not_starve_one_in_a_slot(lab: Lab) -> None:
    assert "the processors shared by job" in lab.sandbox.isolation
    assert await honest_share(lab, spinning=8, seconds=20.0) > 2
