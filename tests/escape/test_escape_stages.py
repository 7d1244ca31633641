"""What a hostile compile stage plants for the run stage or the host, and what one cell leaves for
the next in the same place."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from sandboxed import PRELUDE, PYTHON, SHORT, Lab, run_in

from occd.model import File, Outcome

LOOK = "import os; print(sorted(os.listdir('.'))); print(sorted(os.listdir('/tmp')))"


async def compile_then_look(lab: Lab, hostile: str) -> tuple[Outcome, Outcome]:
    async with lab.cell(File("main.py", b"print('mine')")) as cell:
        compiled = await run_in(cell, [PYTHON, "-c", PRELUDE + hostile], stage="compile")
        return compiled, await run_in(cell, [PYTHON, "-c", LOOK])


PLANTS = {
    "symlinks": "os.symlink({target!r}, name)",
    "fifos": "os.mkfifo(name)",
    "folders": "os.makedirs(name + '/below')",
    "hardlinks": "os.link('main.py', name)",
    "unreadable_files": "os.close(os.open(name, os.O_CREAT)); os.chmod(name, 0)",
    "unreadable_folders": "os.mkdir(name); open(name + '/x', 'w').close(); os.chmod(name, 0)",
    "sockets": "socket.socket(socket.AF_UNIX).bind(name)",
}
NAMES = [
    "main",
    "main.js",
    "run",
    "run.sh",
    "stdout",
    "stdin",
    "upper",
    "work",
    "base",
    "box",
    "tmp",
]


@pytest.mark.parametrize("kind", PLANTS)
async def test_planted_names_touch_nothing_of_the_host(lab: Lab, kind: str, tmp_path: Path) -> None:
    bystander = tmp_path / "bystander"
    bystander.write_text("untouched")
    os.chmod(bystander, 0o600)
    before = bystander.stat()
    plant = PLANTS[kind].format(target=str(bystander))
    compiled, looked = await compile_then_look(
        lab, f"for name in {NAMES}:\n    {plant}\nprint('planted')"
    )
    assert compiled.stdout == b"planted\n", compiled
    assert looked.stdout.decode() == f"{sorted([*NAMES, 'main.py'])}\n[]\n", looked
    assert bystander.read_text() == "untouched"
    after = bystander.stat()
    assert (after.st_uid, after.st_mode, after.st_nlink) == (
        before.st_uid,
        before.st_mode,
        before.st_nlink,
    )


async def test_replacing_the_main_file_by_a_link_shows_nothing_of_the_host(lab: Lab) -> None:
    async with lab.cell(File("main.py", b"")) as cell:
        hostile = "import os; os.unlink('main.py'); os.symlink('/etc/shadow', 'main.py')"
        await run_in(cell, [PYTHON, "-c", hostile], stage="compile")
        outcome = await run_in(cell, [PYTHON, "main.py"])
    assert outcome.exit_code == 2
    assert b"No such file" in outcome.stderr


async def test_overlay_tricks_of_the_compile_stage_are_plain_files(lab: Lab) -> None:
    """Whiteouts and overlay attributes made by a program must not steer the mount made by us."""
    compiled, looked = await compile_then_look(
        lab,
        """
tell(os.mknod, "whiteout", 0o20666, os.makedev(0, 0))
for kind in ("trusted", "security"):
    tell(os.setxattr, "main.py", kind + ".overlay.redirect", b"/../../../etc/shadow")
os.mkdir(".wh.main.py"); open(".wh..wh..opq", "w").close()
""",
    )
    said = compiled.stdout.decode().split()
    assert "DONE" not in said[1:], compiled
    assert "main.py" in looked.stdout.decode()


async def test_compile_stage_cannot_leave_a_daemon_for_the_run_stage(lab: Lab) -> None:
    source = """
if os.fork() == 0:
    os.setsid()
    while True:
        try: open('/box/haunted', 'w').close()
        except OSError: pass
print('done', flush=True)
"""
    compiled, looked = await compile_then_look(lab, source)
    assert compiled.succeeded, compiled
    assert b"main.py" in looked.stdout
    async with lab.cell() as cell:
        await run_in(cell, [PYTHON, "-c", PRELUDE + source], stage="compile")
        watch = (
            "import os, time; os.path.exists('haunted') and os.unlink('haunted')\n"
            "time.sleep(0.2); print(os.listdir('.'), len([p for p in os.listdir('/proc') if p.isdigit()]))"
        )
        outcome = await run_in(cell, [PYTHON, "-c", watch])
    assert outcome.stdout == b"[] 2\n", outcome


async def test_compile_stages_tmp_is_not_the_run_stages(lab: Lab) -> None:
    _, looked = await compile_then_look(
        lab, "open('/tmp/left', 'w').close(); open('/dev/shm/left', 'w').close()"
    )
    assert looked.stdout.endswith(b"[]\n")


async def test_compile_output_flood_is_cut(lab: Lab) -> None:
    limits = replace(SHORT, output=10_000)
    async with lab.cell() as cell:
        hostile = "import os\nwhile True: os.write(2, b'warning ' * 999)"
        outcome = await run_in(cell, [PYTHON, "-c", hostile], limits, stage="compile")
    assert outcome.limit == "output"
    assert len(outcome.stderr) == 10_000


@pytest.mark.parametrize(
    "include", ["/etc/shadow", "/proc/1/environ", "/proc/1/maps", "/root/.bashrc"]
)
async def test_including_a_file_of_the_machine_shows_nothing(lab: Lab, include: str) -> None:
    outcomes = await lab.program("c", f'#include "{include}"\nint main(void) {{ }}\n')
    assert len(outcomes) == 1
    assert b"root:" not in outcomes[0].stderr


async def test_endless_template_ends_at_a_compile_limit(lab: Lab) -> None:
    language, binary = lab.language("cpp")
    source = File("main.cpp", b"template<int n> struct A { A<n+1> a; A<n+2> b; }; A<0> a;")
    limits = replace(language.compile_limits, cpu_time=1.0)
    async with lab.sandbox.cell(language, [source], limits) as cell:
        argv = [binary, "-ftemplate-depth=1000000", "main.cpp"]
        outcome = await run_in(cell, argv, limits, stage="compile")
    assert not outcome.succeeded
    assert outcome.limit in ("cpu_time", "memory", "output", None)
    assert outcome.cpu_time < 3.0


LEFTOVERS = {
    "files": (
        "for f in ('/box', '/tmp', '/dev/shm'): open(f + '/left', 'w').close()",
        "print([os.path.exists(f + '/left') for f in ('/box', '/tmp', '/dev/shm')])",
        "[False, False, False]",
    ),
    "sysv_shared_memory": (
        "print(libc.shmget(4242, 4096, 0o1666))",
        "print(libc.shmget(4242, 4096, 0))",
        "-1",
    ),
    "sysv_semaphores": (
        "print(libc.semget(4242, 1, 0o1666))",
        "print(libc.semget(4242, 1, 0))",
        "-1",
    ),
    "sysv_messages": ("print(libc.msgget(4242, 0o1666))", "print(libc.msgget(4242, 0))", "-1"),
    "posix_queues": (
        "print(libc.syscall(240, b'left', os.O_CREAT | os.O_RDWR, 0o666, None))",
        "print(libc.syscall(240, b'left', os.O_RDWR, 0, None))",
        "-1",
    ),
    "abstract_sockets": (
        "s = socket.socket(socket.AF_UNIX); s.bind('\\0left'); s.listen()",
        "tell(socket.socket(socket.AF_UNIX).connect, '\\0left')",
        "ECONNREFUSED",
    ),
    "host_name": (
        "syscall(170, b'left', 4)",
        "print(socket.gethostname())",
        "box",
    ),
}


@pytest.mark.parametrize("kind", LEFTOVERS)
async def test_nothing_is_left_for_the_next_cell_of_a_slot(lab: Lab, kind: str) -> None:
    leave, look, expected = LEFTOVERS[kind]
    left = await lab.python(leave)
    assert left.exit_code == 0, left
    assert (await lab.python(look)).stdout.decode() == f"{expected}\n"
