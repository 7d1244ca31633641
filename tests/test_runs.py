"""What a run may ask for: a tree to begin with, files of its own, limits that change while it runs."""

import errno
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from leased import AT_REST, groups, leases
from sandboxed import LONG, PYTHON, SHORT, Lab, compile_in, nsjails, run_in, running

from occd.model import File, Verdict, judge
from occd.rules import Broken
from occd.sandbox import Cell, Idle, Run, Sink, Tree
from occd.sandbox.cgroup import Cgroups

pytestmark = [pytest.mark.promise, pytest.mark.contract]

LIST = """
import os
for folder, _, names in sorted(os.walk('.')):
    print(folder, *(f'{name}=' + open(f'{folder}/{name}').read(9) for name in sorted(names)))
"""
LARGE = "open('large', 'wb').write(bytes(17 * 2**20))"


def sinks() -> tuple[Sink, Sink]:
    return Sink(1000), Sink(1000)


def test_a_run_that_begins_with_a_tree_leaves_none(tmp_path: object) -> None:
    with pytest.raises(ValueError, match="leaves none"):
        Run(["x"], (), SHORT, *sinks(), tree=Tree(tmp_path), keep=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("names", [["a", "a/b"], ["a", "a"]])
def test_files_of_a_run_that_do_not_go_together_are_refused(names: Sequence[str]) -> None:
    with pytest.raises(Broken):
        Run(["x"], (), SHORT, *sinks(), files=[File(name, b"") for name in names])


@pytest.mark.parametrize("begin", ["files", "tree", "large tree"])
async def test_files_of_a_run_are_seen_by_this_run_alone(lab: Lab, begin: str) -> None:
    """They win over whatever a hostile compile stage left under their names."""
    hostile = (
        "import os; os.symlink('/etc', 'link'); os.mkfifo('fifo'); os.makedirs('folder/new/deep');"
    )
    hostile += "open('folder/x', 'w').write('old'); open('plain', 'w').write('old');"
    files = [
        File(name, name.encode())
        for name in ("link/in", "fifo", "folder/new", "folder/y", "plain/deep", "main.py", "sub/z")
    ]
    show = LIST if begin != "large tree" else "import os; os.unlink('large')\n" + LIST
    async with lab.cell(File("main.py", b"mine"), File("sub", b""), File("kept", b"k")) as cell:
        tree = None
        if begin == "tree":
            _, tree = await compile_in(cell, [PYTHON, "-c", hostile + "os.unlink('sub')"])
        if begin == "large tree":
            _, tree = await compile_in(
                cell, [PYTHON, "-c", hostile + "os.unlink('sub');" + LARGE], LONG
            )
        seen = await run_in(cell, [PYTHON, "-c", show], tree=tree, files=files)
        after = await run_in(cell, [PYTHON, "-c", "import os; print(sorted(os.listdir('.')))"])
        write = "for name in ('link/in', 'folder/y'): open(name, 'a').write('!')"
        written = await run_in(cell, [PYTHON, "-c", write], tree=tree, files=files)
    old = " x=old" if tree else ""
    assert seen.stdout.decode().splitlines() == [
        ". fifo=fifo kept=k main.py=main.py",
        f"./folder new=folder/ne{old} y=folder/y",
        "./link in=link/in",
        "./plain deep=plain/dee",
        "./sub z=sub/z",
    ], seen
    assert after.stdout == b"['kept', 'main.py', 'sub']\n"
    assert written.succeeded, written


async def test_files_of_a_run_take_nothing_of_its_box(lab: Lab) -> None:
    limits = replace(LONG, box=2**20)
    fill = "open('filler', 'wb').write(bytes(1000 * 2**10)); print('fits')"
    files = [File("long", bytes(3 * 2**20))]
    async with lab.cell(limits=limits) as cell:
        _, tree = await compile_in(cell, ["/bin/true"], limits)
        for begin in (None, tree):
            outcome = await run_in(cell, [PYTHON, "-c", fill], limits, tree=begin, files=files)
            assert outcome.stdout == b"fits\n", outcome


@pytest.mark.core
@pytest.mark.parametrize("box", [2**20, 96 * 2**20])
async def test_a_run_writes_what_its_box_may_have_and_no_more(lab: Lab, box: int) -> None:
    """Beside the tree that it begins with, and its own files."""
    limits = replace(LONG, box=box, file_size=2**30, memory=2**29)
    fill = """
import os
written, filler = 0, os.open("filler", os.O_CREAT | os.O_WRONLY)
try:
    while True: written += os.write(filler, bytes(4096))
except OSError as error: print(error.strerror, written)
"""
    files = [File("given/long", bytes(3 * 2**20 + 1))]
    async with lab.cell(limits=limits) as cell:
        make = "open('made', 'wb').write(bytes(700_001)); open('hole', 'wb').truncate(2**25)"
        _, tree = await compile_in(cell, [PYTHON, "-c", make], limits)
        for begin in (None, tree):
            ran = await run_in(cell, [PYTHON, "-c", fill], limits, tree=begin, files=files)
            assert ran.stdout.decode() == f"No space left on device {box}\n", ran


@pytest.mark.core
async def test_one_tree_serves_many_runs_at_once(lab: Lab) -> None:
    seen: list[bytes] = []
    async with lab.cell() as cell:
        _, tree = await compile_in(cell, [PYTHON, "-c", "open('made', 'w').write('made')"])

        async def run(name: str) -> None:
            source = "import time; print(open('made').read(), open('mine').read()); time.sleep(0.3)"
            source += "; open('made', 'w').write('changed')"
            outcome = await run_in(
                cell, [PYTHON, "-c", source], tree=tree, files=[File("mine", name.encode())]
            )
            assert outcome.succeeded, outcome
            seen.append(outcome.stdout)

        async with trio.open_nursery() as nursery:
            for name in "abcd":
                nursery.start_soon(run, name)
    assert sorted(seen) == [b"made a\n", b"made b\n", b"made c\n", b"made d\n"]


@pytest.mark.core
async def test_a_wall_time_that_is_armed_anew_counts_from_then(lab: Lab) -> None:
    async with running(lab, "time.sleep(60)", replace(LONG, wall_time=3.0)) as program:
        await trio.sleep(0.5)
        began = time.monotonic()
        program.running.arm("wall_time", 3.0)
    assert time.monotonic() - began >= 3.0
    assert program.ending == ("SIGKILL", "wall_time")
    assert program.end.wall_time >= 3.5


async def test_limits_that_were_disarmed_end_nobody(lab: Lab) -> None:
    work = "input()\nwhile time.process_time() < 0.6: pass\ntime.sleep(1)"
    limits = replace(LONG, wall_time=1.0, cpu_time=0.3)
    async with running(lab, work, limits, Idle(0.9, 0.9)) as program:
        program.running.arm("wall_time", None)
        program.running.arm("cpu_time", None)
        program.running.arm_idle(None)
        await program.type.send(b"\n")
    assert program.end.succeeded, program
    assert program.end.wall_time > 1.5


async def test_a_cpu_time_that_is_armed_anew_counts_from_then(lab: Lab) -> None:
    spin = "while time.process_time() < 0.5: pass\nprint('spun', flush=True)\ninput()\nwhile True: pass"
    async with running(lab, spin) as program:
        while b"spun" not in program.said:  # noqa: ASYNC110
            await trio.sleep(0.01)
        program.running.arm("cpu_time", 0.4)
        await program.type.send(b"\n")
    assert program.ending == ("SIGKILL", "cpu_time")
    assert 0.9 <= program.end.cpu_time < 3.0


async def test_usage_within_a_limit_that_was_armed_anew_is_believed(lab: Lab) -> None:
    spin = "input()\nwhile time.process_time() < 1.2: pass"
    async with running(lab, spin, replace(LONG, cpu_time=0.9)) as program:
        program.running.arm("cpu_time", 3.0)
        await program.type.send(b"\n")
    assert program.end.succeeded, program
    assert program.end.cpu_time >= 1.2


@pytest.mark.core
async def test_a_program_that_waits_for_nobody_ends_at_its_idle_time(lab: Lab) -> None:
    async with running(lab, "input()", idle=Idle(1.0, 60.0)) as program:
        pass
    assert program.ending == ("SIGKILL", "idle")
    assert 1.0 <= program.end.wall_time < 30
    assert judge(None, program.end, cancelled=False) == Verdict.TIME_LIMIT


async def test_a_program_that_was_stopped_is_idle(lab: Lab) -> None:
    async with running(lab, "os.kill(os.getpid(), 19)", idle=Idle(1.0, 60.0)) as program:
        pass
    assert program.ending == ("SIGKILL", "idle")


@pytest.mark.parametrize(
    "busy",
    [
        "for _ in range(12): time.sleep(0.25); print(1, flush=True)",  # a millisecond of CPU time
        "end = time.monotonic() + 3\nwhile time.monotonic() < end: pass",
    ],
)
async def test_neither_output_nor_work_is_idle(lab: Lab, busy: str) -> None:
    async with running(lab, busy, idle=Idle(2.0, 60.0)) as program:
        pass
    assert program.end.succeeded, program
    assert program.end.wall_time >= 3.0


@pytest.mark.parametrize(
    "busy", ["while True: time.sleep(0.2); print(1, flush=True)", "while True: pass"]
)
async def test_neither_output_nor_work_prolongs_the_longest_time_without_input(
    lab: Lab, busy: str
) -> None:
    async with running(lab, busy, idle=Idle(2.0, 3.0)) as program:
        pass
    assert program.ending == ("SIGKILL", "idle")
    assert 3.0 <= program.end.wall_time < 20.0


async def test_input_begins_both_idle_times_anew(lab: Lab) -> None:
    source = "for _ in range(4): print(input(), flush=True)"
    async with running(lab, source, idle=Idle(3.0, 3.0)) as program:
        for _ in range(3):
            await trio.sleep(1)
            await program.type.send(b"x\n")
    assert program.ending == ("SIGKILL", "idle")
    assert program.said == b"up\nx\nx\nx\n"
    assert program.end.wall_time >= 4.9


async def test_a_program_that_has_ended_hears_nothing(lab: Lab) -> None:
    async with running(lab, "") as program:
        pass
    for _ in range(3):
        program.running.arm("wall_time", 1e-9)
        program.running.arm_idle(Idle(1e-9, 1e-9))
        assert (await lab.python("time.sleep(0.1)")).succeeded


@pytest.mark.mechanics
async def test_a_cell_with_many_runs_has_a_jail_made_while_a_run_goes(lab: Lab) -> None:
    async with lab.cell() as cell:
        for runs in range(1, 7):
            assert (await run_in(cell, ["/bin/true"])).succeeded
            with trio.fail_after(10):
                while len(nsjails()) != (1 if runs < 3 else 2):  # noqa: ASYNC110  (it has just been started)
                    await trio.sleep(0.01)
    assert len(nsjails()) == 1


@pytest.mark.mechanics
async def test_a_box_is_unmounted_when_its_run_is_over(lab: Lab) -> None:
    async with lab.cell() as cell:
        _, small = await compile_in(cell, ["/bin/true"])
        _, large = await compile_in(cell, [PYTHON, "-c", LARGE], LONG)
        for tree in (None, small, large):
            assert (await run_in(cell, ["/bin/true"], tree=tree)).succeeded
        boxes = [each.name for each in mounted() if each.parent.name.startswith("occd-")]
        # Each launcher has an empty one for its next jail, and there are two launchers by now.
        assert sorted(boxes) == ["box1", "box2", "tree1", "tree2"]


@pytest.mark.mechanics
async def test_runs_that_end_at_once_leave_the_group_of_the_next_one_alone(lab: Lab) -> None:
    """Each removes what earlier ones left, and makes the next group, in a thread of its own."""
    async with lab.cell() as cell:
        for _ in range(25):
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(succeeds, cell)
        await succeeds(cell)
        await succeeds(cell)
        assert all(len(groups(lease)) <= AT_REST for lease in leases())


@pytest.mark.mechanics
async def test_a_group_that_cannot_be_made_ahead_costs_no_run(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, refused = Cgroups.make, []

    def made_when_needed(self: Cgroups, name: str) -> tuple[str, ...]:
        if threading.current_thread() is threading.main_thread():
            return make(self, name)
        refused.append(name)
        raise OSError(errno.ENOSPC, "no more groups")

    monkeypatch.setattr(Cgroups, "make", made_when_needed)
    async with lab.cell() as cell:
        for _ in range(3):
            await succeeds(cell)
    assert refused


async def succeeds(cell: Cell) -> None:
    assert (await run_in(cell, ["/bin/true"])).succeeded


def mounted() -> list[Path]:
    return [Path(line.split()[1]) for line in Path("/proc/self/mounts").read_text().splitlines()]


MAKE = """
import os
os.makedirs('a/b'); os.chmod('a', 0o711)
open('a/b/main', 'w').write('x' * 5000); os.chmod('a/b/main', 0o741)
os.utime('a/b/main', ns=(5, 1234567890123456789))
open('none', 'w'); os.chmod('none', 0)
"""
TOLD = """
import os
for folder, folders, names in sorted(os.walk('.')):
    for name in sorted(folders + names):
        s = os.stat(f'{folder}/{name}')
        size, ours = s.st_size * (name in names), s.st_uid == os.getuid()
        print(folder, name, oct(s.st_mode), size, s.st_mtime_ns, ours)
"""


async def test_a_tree_that_is_packed_outlives_its_cell_and_is_what_it_was(lab: Lab) -> None:
    show = [PYTHON, "-c", TOLD]
    async with lab.cell(File("sent", b"s")) as cell:
        _, tree = await compile_in(cell, [PYTHON, "-c", MAKE])
        before = await run_in(cell, show, tree=tree)
        assert await cell.pack(tree, 100) is None
        packed = await cell.pack(tree, 2**20)
        assert packed
    async with lab.cell(File("other", b"")) as cell:
        for _ in range(2):  # each gets a copy of its own
            after = await run_in(cell, show, tree=packed)
            assert after.stdout == before.stdout
            await run_in(cell, [PYTHON, "-c", "import os; os.unlink('a/b/main')"], tree=packed)
        beside = await run_in(cell, show, tree=packed, files=[File("a/b/main", b"mine")])
    assert b"main 0o100741 5000 1234567890123456789" in before.stdout
    assert b"main 0o100644 4 " in beside.stdout
