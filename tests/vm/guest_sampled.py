"""Run inside the virtual machine, as a user to whom no cgroup was delegated."""

from dataclasses import replace

from guest_limits import MEMORY_BOMBS, MIB, SLOW
from sandboxed import Lab

from occd.sandbox.cgroup import find_cgroups


def test_no_cgroup_is_ours() -> None:
    assert find_cgroups() is None


async def test_what_is_weaker_is_said(lab: Lab) -> None:
    (line,) = [each for each in lab.sandbox.isolation if "cgroup is ours" in each]
    assert line.startswith("weaker:")
    assert "sampled" in line


async def test_hello_works(lab: Lab) -> None:
    outcome = await lab.python("print('hello')", SLOW)
    assert outcome.succeeded, outcome
    assert outcome.stdout == b"hello\n"
    assert outcome.memory > MIB
    assert outcome.cpu_time > 0


async def test_memory_is_sampled(lab: Lab) -> None:
    for name in ("heap", "children", "box"):
        outcome = await lab.python(MEMORY_BOMBS[name], replace(SLOW, memory=40 * MIB))
        assert outcome.limit == "memory", (name, outcome)


async def test_cpu_time_is_sampled(lab: Lab) -> None:
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
    assert outcome.cpu_time >= 3.0
