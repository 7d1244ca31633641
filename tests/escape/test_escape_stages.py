"""What a hostile compile stage plants for the run stage or the host, and what one cell leaves for
the next in the same place."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from sandboxed import PRELUDE, PYTHON, SHORT, Lab, Ran, compile_in, run_in

from occd.model import File

pytestmark = pytest.mark.promise

LOOK = "import os; print(sorted(os.listdir('.'))); print(sorted(os.listdir('/tmp')))"


async def compile_then_look(lab: Lab, hostile: str) -> tuple[Ran, Ran]:
    async with lab.cell(File("main.py", b"print('mine')")) as cell:
        compiled, tree = await compile_in(cell, [PYTHON, "-c", PRELUDE + hostile])
        return compiled, await run_in(cell, [PYTHON, "-c", LOOK], tree=tree)


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


@pytest.mark.parametrize("fill", ["", "open('large', 'wb').write(bytes(17 * 2**20))"])
async def test_what_the_compile_stage_left_is_the_runs_own(lab: Lab, fill: str) -> None:
    """Copied up to 16 MiB, an overlay beyond: the run sees the same, and can change all of it."""
    hostile = f"""
os.mkdir("folder"); open("folder/file", "w").write("told"); os.chmod("folder/file", 0o6751)
os.symlink("/etc/shadow", "link"); os.symlink("../.." * 300, "long"); os.mkfifo("fifo", 0o640)
os.mkdir("closed"); open("closed/x", "w").write("x"); os.chmod("closed/x", 0); os.chmod("closed", 0)
{fill}
"""
    look = """
import os, stat
def of(path):
    found = os.lstat(path)
    return stat.filemode(found.st_mode), found.st_uid == os.getuid(), found.st_gid == os.getgid()
for path in ("folder", "folder/file", "link", "fifo", "closed"): print(path, *of(path))
print(os.readlink("link"), open("folder/file").read())
os.chmod("closed", 0o700); print(of("closed/x")[0]); os.chmod("closed/x", 0o600)
print(open("closed/x").read())
os.unlink("folder/file"); os.rmdir("folder"); os.unlink("main.py"); os.rename("link", "other")
"""
    async with lab.cell(File("main.py", b"")) as cell:
        compiled, tree = await compile_in(cell, [PYTHON, "-c", PRELUDE + hostile], WIDE)
        assert compiled.succeeded, compiled
        for _ in range(2):  # the first changes nothing for the second
            looked = await run_in(cell, [PYTHON, "-c", look], tree=tree)
            said = looked.stdout.decode().replace(
                "-rwsr-s--x", "-rwxr-x--x"
            )  # nosuid: only a letter
            assert said == (
                "folder drwxr-xr-x True True\nfolder/file -rwxr-x--x True True\n"
                "link lrwxrwxrwx True True\nfifo prw-r----- True True\nclosed d--------- True True\n"
                "/etc/shadow told\n----------\nx\n"
            ), looked


@pytest.mark.mechanics
async def test_a_copied_tree_lets_folders_be_renamed_and_a_large_one_does_not(lab: Lab) -> None:
    for size, said in ((1, b"DONE None\n"), (17 * 2**20, b"EXDEV\n")):
        async with lab.cell(File("folder/x", b"")) as cell:
            hostile = f"open('size', 'wb').write(bytes({size}))"
            _, tree = await compile_in(cell, [PYTHON, "-c", hostile], WIDE)
            rename = PRELUDE + "tell(os.rename, 'folder', 'renamed')"
            outcome = await run_in(cell, [PYTHON, "-c", rename], tree=tree)
            assert outcome.stdout == said


TREES = {
    "hard links of a large file": (
        "open('a', 'wb').write(bytes(2**20))\nfor n in range(500): os.link('a', f'b{n}')",
        "print(len(os.listdir('.')), os.path.getsize('b499'))",
        "502 1048576",
    ),
    "a sparse file": (
        "os.truncate(os.open('hole', os.O_CREAT | os.O_RDWR), 2**26)",
        "print(os.path.getsize('hole'), os.stat('hole').st_blocks)",
        "67108864 0",
    ),
    "many sparse files": (
        "for n in range(12): open(f'{n}', 'w').truncate(2**26)",
        "print(sum(os.path.getsize(name) for name in os.listdir('.') if name != 'main.py'))",
        str(12 * 2**26),
    ),
    "a deep tree": (
        "for _ in range(5000): os.mkdir('d'); os.chdir('d')",
        "n = 0\nwhile os.path.isdir('d'): os.chdir('d'); n += 1\nprint(n)",
        "5000",
    ),
    "a tree as deep as is copied": (
        "for _ in range(31): os.mkdir('d'); os.chdir('d')\nopen('x', 'w').close()",
        "n = 0\nwhile os.path.isdir('d'): os.chdir('d'); n += 1\nprint(n, os.listdir('.'))",
        "31 ['x']",
    ),
    "many files": (
        "for n in range(20_000): os.close(os.open(f'{n}', os.O_CREAT, 0o600))",
        "print(len(os.listdir('.')))",
        "20001",
    ),
    "long links": (
        "for n in range(4000): os.symlink('x' * 4000, f'{n}')",
        "print(len(os.listdir('.')), len(os.readlink('3999')))",
        "4001 4000",
    ),
    "names of all kinds": (
        "for name in NAMES: open(name, 'w').close()",
        "print(sorted(os.listdir(b'.')) == sorted([b'main.py', *NAMES]))",
        "True",
    ),
    "a whiteout": (
        "tell(os.mknod, 'gone', 0o20666, os.makedev(0, 0))",
        "print(os.path.exists('gone'), os.listdir('.'))",
        "False ['main.py']",
    ),
    "links in a circle and out of the tree": (
        "os.symlink('.', 'a'); os.symlink('a/a/a', 'b'); os.symlink('/', 'c'); os.symlink('..', 'd')",
        "print([os.readlink(name) for name in 'abcd'])",
        "['.', 'a/a/a', '/', '..']",
    ),
}
ALL_NAMES = "NAMES = [b'n' * 255, b'\\xff\\xfe', b'new\\nline', b'-rf', b' ', b'\\x01', b'upper', b'work']\n"
WIDE = replace(SHORT, cpu_time=20.0, wall_time=60.0, file_size=2**27)


@pytest.mark.parametrize("kind", TREES)
async def test_a_tree_of_any_shape_reaches_the_run(lab: Lab, kind: str) -> None:
    hostile, look, said = TREES[kind]
    async with lab.cell(File("main.py", b"")) as cell:
        hostile = PRELUDE + ALL_NAMES + hostile
        compiled, tree = await compile_in(cell, [PYTHON, "-c", hostile], WIDE)
        assert compiled.succeeded, compiled
        argv = [PYTHON, "-c", PRELUDE + ALL_NAMES + look]
        looked = await run_in(cell, argv, WIDE, tree=tree)
    assert looked.stdout.decode() == f"{said}\n", looked


async def test_a_run_has_its_whole_box_beside_the_copy(lab: Lab) -> None:
    limits = replace(SHORT, box=4 * 2**20, file_size=2**27)
    async with lab.cell(limits=limits) as cell:
        hostile = "open('program', 'wb').write(bytes(3 * 2**20))"
        _, tree = await compile_in(cell, [PYTHON, "-c", hostile], WIDE)
        fill = """
n = 0
try:
    with open("filler", "wb", buffering=0) as file:
        while True: n += file.write(bytes(2**16))
except OSError as error: print(error.strerror, 7 * 2**19 < n <= 4 * 2**20)
"""
        outcome = await run_in(cell, [PYTHON, "-c", fill], WIDE, tree=tree)
    assert outcome.stdout == b"No space left on device True\n"


async def test_replacing_the_main_file_by_a_link_shows_nothing_of_the_host(lab: Lab) -> None:
    async with lab.cell(File("main.py", b"")) as cell:
        hostile = "import os; os.unlink('main.py'); os.symlink('/etc/shadow', 'main.py')"
        _, tree = await compile_in(cell, [PYTHON, "-c", hostile])
        outcome = await run_in(cell, [PYTHON, "main.py"], tree=tree)
    assert outcome.exit_code == 2
    refused = b"No such file or directory\n", b"Permission denied\n"  # an image's own is root's
    assert outcome.stderr.endswith(refused), outcome


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
        _, tree = await compile_in(cell, [PYTHON, "-c", PRELUDE + source])
        watch = (
            "import os, time; os.path.exists('haunted') and os.unlink('haunted')\n"
            "time.sleep(0.2); print(os.listdir('.'), len([p for p in os.listdir('/proc') if p.isdigit()]))"
        )
        outcome = await run_in(cell, [PYTHON, "-c", watch], tree=tree)
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
        outcome, _ = await compile_in(cell, [PYTHON, "-c", hostile], limits)
    assert outcome.limit == "output"
    assert len(outcome.stderr) == 10_000


@pytest.mark.parametrize(
    "include", ["/etc/shadow", "/proc/1/environ", "/proc/1/maps", "/root/.bashrc"]
)
async def test_including_a_file_of_the_machine_shows_nothing(lab: Lab, include: str) -> None:
    """gVisor lets init's files be read, and GCC takes a file without a size for an empty one."""
    compiled, *ran = await lab.program("c", f'#include "{include}"\nint main(void) {{ }}\n')
    if ran:
        assert "own-kernel" in lab.sandbox.holds
        assert include.startswith("/proc/1/")
        assert compiled.stderr == b""
    assert b"root:" not in compiled.stderr


async def test_endless_template_ends_at_a_compile_limit(lab: Lab) -> None:
    language, binary = lab.language("cpp")
    source = File("main.cpp", b"template<int n> struct A { A<n+1> a; A<n+2> b; }; A<0> a;")
    limits = replace(language.compile_limits, cpu_time=1.0)
    async with lab.sandbox.cell(language, [source], limits) as cell:
        argv = [binary, "-ftemplate-depth=1000000", "main.cpp"]
        outcome, _ = await compile_in(cell, argv, limits)
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
