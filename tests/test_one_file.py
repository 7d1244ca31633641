"""The beginning of dist/occd (packaging/binary/stub.c), in front of a small folder: it unpacks once, becomes
the program, and refuses a cache that it cannot trust. tests/test_binary.py has the whole file."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from disks import fill, small
from serving import PATIENCE_S

from occd.sandbox import kernel

PACK = Path(__file__).parent.parent / "packaging/binary/pack.py"
PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
extern char **environ;
int main(int argc, char **argv) {
    struct stat is;
    char bytes[4096];
    stat("/proc/self/exe", &is);
    printf("pid %d\ninode %lu\n", getpid(), is.st_ino);
    for (int i = 0; i < argc; i++) printf("arg %s\n", argv[i]);
    for (char **each = environ; *each; each++) printf("env %s\n", *each);
    fflush(stdout);
    if (argc > 2 && !strcmp(argv[1], "exit")) return atoi(argv[2]);
    if (argc > 1 && !strcmp(argv[1], "wait")) pause();
    for (ssize_t got; (got = read(0, bytes, sizeof bytes)) > 0;)
        if (write(1, bytes, got) != got) return 1;
}
"""
Done = subprocess.CompletedProcess[str]


def packed(folder: Path, target: Path) -> Path:
    subprocess.run([sys.executable, PACK, folder, target], check=True)
    return target


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("content")
    subprocess.run(
        ["cc", "-x", "c", "-o", folder / "occd", "-"], input=PROGRAM, text=True, check=True
    )
    (folder / "inside/deep").mkdir(parents=True)
    (folder / "inside/deep/data").write_text("some data")
    (folder / "inside/empty").touch()
    (folder / "inside/link").symlink_to("deep/data")
    (folder / "bulk").write_bytes(os.urandom(20_000_000))  # so that unpacking takes a while
    return folder


@pytest.fixture(scope="module")
def whole(content: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(content, tmp_path_factory.mktemp("dist") / "occd")


class Home:
    """The home of somebody who runs the file."""

    def __init__(self, folder: Path, program: Path) -> None:
        self.folder, self.program = folder, program
        self.environment = {"HOME": str(folder)}
        self.cache = folder / ".cache/occd"

    def run(self, *args: str, stdin: str = "", program: Path | None = None) -> Done:
        return subprocess.run(
            [program or self.program, *args],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def good(
        self, *args: str, stdin: str = "", program: Path | None = None
    ) -> dict[str, list[str]]:
        """What the program told of itself."""
        done = self.run(*args, stdin=stdin, program=program)
        assert (done.returncode, done.stderr) == (0, "")
        return told(done.stdout)

    def refused(self) -> str:
        """The one line that says what to do."""
        done = self.run()
        assert (done.returncode, done.stdout) == (125, "")
        assert done.stderr.startswith("occd: ")
        assert done.stderr.count("\n") == 1
        return done.stderr

    @property
    def name(self) -> str:
        """What the file names its folder."""
        return self.program.read_bytes()[-96:-32].decode()

    @property
    def unpacked(self) -> Path:
        return self.cache / self.name

    @contextmanager
    def waiting(self, program: Path | None = None) -> Iterator[subprocess.Popen[str]]:
        """It runs until the end of the context."""
        with subprocess.Popen(
            [program or self.program, "wait"],
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                assert process.stdout
                assert process.stdout.readline() == f"pid {process.pid}\n"
                yield process
            finally:
                process.kill()


def told(output: str) -> dict[str, list[str]]:
    lines: dict[str, list[str]] = {"arg": [], "env": [], "pid": [], "inode": []}
    for line in output.splitlines():
        kind, _, text = line.partition(" ")
        lines.setdefault(kind, []).append(text)
    return lines


@pytest.fixture
def home(tmp_path: Path, whole: Path) -> Home:
    folder = tmp_path / "a home"
    folder.mkdir()
    return Home(folder, whole)


def test_it_becomes_the_program(home: Home) -> None:
    with home.waiting() as process:  # which saw its pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == -signal.SIGTERM
    assert home.run("exit", "7").returncode == 7
    seen = home.good("-x", "", "two words", stdin="from stdin\n")
    assert seen["arg"] == [str(home.program), "-x", "", "two words"]
    assert seen["from"] == ["stdin"]


def test_the_unpacked_folder_is_the_packed_one_and_private(home: Home, content: Path) -> None:
    home.good()
    assert (
        subprocess.run(["diff", "-r", "--no-dereference", content, home.unpacked]).returncode == 0
    )
    for path in (home.cache, *home.cache.rglob("*")):
        if not path.is_symlink():
            assert path.stat().st_mode & 0o077 == 0
            assert path.stat().st_uid == os.geteuid()


def test_the_program_gets_the_callers_environment(home: Home) -> None:
    theirs = {"A": "1", "LD_LIBRARY_PATH": "/theirs", "PYTHONPATH": "/theirs", "_PY": "theirs"}
    frozen = {
        "_PYI_ARCHIVE_FILE": "/other",
        "_PYI_PARENT_PROCESS_LEVEL": "1",
        "_MEIPASS2": "/other",
        "PYINSTALLER_RESET_ENVIRONMENT": "1",
        "LD_LIBRARY_PATH_ORIG": "/other",
        "_OCCD_HOLDS": "0",
    }
    home.environment |= theirs | frozen
    expected = [f"{name}={text}" for name, text in ({"HOME": str(home.folder)} | theirs).items()]
    *seen, ours = home.good()["env"]
    assert seen == expected
    assert ours.startswith("_OCCD_HOLDS=")  # for packaging/binary/entry.py, which takes it away
    assert ours != "_OCCD_HOLDS=0"


def test_it_can_be_started_in_any_way(home: Home, tmp_path: Path, whole: Path) -> None:
    odd = tmp_path / "odd näme (1)"
    shutil.copy(whole, odd)
    assert home.good(program=odd)["arg"] == [str(odd)]
    (tmp_path / "link").symlink_to(odd)
    assert home.good(program=tmp_path / "link")["arg"] == [str(tmp_path / "link")]
    home.environment["PATH"] = str(whole.parent)
    assert home.good(program=Path("occd"))["arg"] == ["occd"]

    def under(name: list[str]) -> list[str]:
        done = subprocess.run(
            name, executable=odd, env=home.environment, capture_output=True, text=True, check=True
        )
        return told(done.stdout)["arg"]

    assert under(["other", "x"]) == ["other", "x"]
    assert under(["", "x"]) == ["occd", "x"]
    with odd.open("rb") as file:
        odd.unlink()
        name = Path(f"/proc/{os.getpid()}/fd/{file.fileno()}")
        assert home.good("x", program=name)["arg"][1:] == ["x"]


def test_closed_streams_stay_closed(home: Home) -> None:
    home.good()
    shell: list[str | Path] = ["sh", "-c", 'exec "$0" wait <&- >&- 2>&-', home.program]
    with subprocess.Popen(shell, env=home.environment) as process:
        while os.readlink(f"/proc/{process.pid}/exe") != str(home.unpacked / "occd"):
            assert process.poll() is None
            time.sleep(0.01)
        (lock,) = os.listdir(f"/proc/{process.pid}/fd")
        process.kill()
    assert int(lock) > 2


def test_a_second_start_unpacks_nothing(home: Home) -> None:
    first = home.good()["inode"]
    assert home.good()["inode"] == first
    home.folder.chmod(0o500)
    (home.folder / ".cache").chmod(0o500)
    assert home.good()["inode"] == first


def test_many_at_once_unpack_once(home: Home) -> None:
    many = [
        subprocess.Popen(
            [home.program], env=home.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(8)
    ]  # fmt: skip
    said = [process.communicate(timeout=PATIENCE_S) for process in many]
    assert {error for _, error in said} == {""}
    assert len({told(output)["inode"][0] for output, _ in said}) == 1
    home.unpacked.rename(home.folder / "away")
    assert home.good()["inode"] != told(said[0][0])["inode"]  # the comparison sees another folder


def truncate(path: Path) -> None:
    os.truncate(path / "bulk", 1000)


def overwrite(path: Path) -> None:
    with (path / "inside/deep/data").open("r+") as file:
        file.write("same size")


def lose(path: Path) -> None:
    (path / "inside/empty").unlink()


def chmod(path: Path) -> None:
    (path / "occd").chmod(0o600)


def relink(path: Path) -> None:
    (path / "inside/link").unlink()
    (path / "inside/link").symlink_to("deep/date")


def folder_as_file(path: Path) -> None:
    shutil.rmtree(path / "inside")
    (path / "inside").touch()


def file_as_link(path: Path) -> None:
    (path / "bulk").unlink()
    (path / "bulk").symlink_to("/dev/zero")


def hollow(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir(mode=0o700)


def whole_as_file(path: Path) -> None:
    shutil.rmtree(path)
    path.touch()


def whole_as_link(path: Path) -> None:
    path.rename(path.parent / "moved")
    path.symlink_to("moved")


@pytest.mark.parametrize(
    "damage",
    [
        truncate, overwrite, lose, chmod, relink, folder_as_file, file_as_link,
        hollow, whole_as_file, whole_as_link,
    ],
    ids=lambda each: each.__name__,
)  # fmt: skip
def test_a_damaged_cache_is_unpacked_again(
    home: Home, content: Path, damage: Callable[[Path], None]
) -> None:
    with home.waiting():  # one that runs finds the same files again
        damage(home.unpacked)
        done = home.run()
        assert done.returncode == 0, done.stderr
        assert "was damaged, and is unpacked again" in done.stderr
        again = told(done.stdout)["inode"]
        assert home.good()["inode"] == again
    compared: list[str | Path] = ["diff", "-r", "--no-dereference", content, home.unpacked]
    assert subprocess.run(compared).returncode == 0


def test_kills_while_it_unpacks_leave_nothing_that_grows(home: Home) -> None:
    killed = 0
    while killed < 5:
        with subprocess.Popen(
            [home.program],
            env=home.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        ) as process:
            while not (home.cache / "new/bulk").exists() and process.poll() is None:
                time.sleep(0.001)
            process.kill()
        if (home.cache / "new").exists():
            killed += 1
            left = {"lock", "new", f"{home.name}.used"}
            assert set(os.listdir(home.cache)) == left
        else:  # it was faster
            shutil.rmtree(home.cache)
    home.good()
    assert set(os.listdir(home.cache)) == {"lock", home.name, f"{home.name}.used"}


def test_older_versions_go_when_nobody_runs_them(home: Home, content: Path, tmp_path: Path) -> None:
    versions = []
    for number in range(5):
        folder = tmp_path / f"v{number}"
        folder.mkdir()
        shutil.copy(content / "occd", folder)
        (folder / "version").write_text(str(number))
        versions.append(packed(folder, tmp_path / f"occd{number}"))

    def there() -> list[str]:
        found = [each for each in home.cache.iterdir() if each.name != "lock"]
        names = {each.name for each in found if each.is_dir()}
        assert {each.name for each in found if each.is_file()} == {f"{each}.used" for each in names}
        return sorted((home.cache / name / "version").read_text() for name in names)

    home.good(program=versions[0])
    home.good(program=versions[1])
    assert there() == ["0", "1"]
    home.good(program=versions[0])  # used last now
    with home.waiting(versions[2]):
        assert there() == ["0", "2"]
        home.good(program=versions[3])
        assert there() == ["0", "2", "3"]
        home.good(program=versions[4])
        assert there() == ["2", "3", "4"]  # 2 runs
    home.good(program=versions[3])
    home.good(program=versions[0])
    assert there() == ["0", "3"]


def test_other_things_in_the_cache_are_left_alone(home: Home) -> None:
    home.cache.mkdir(parents=True, mode=0o700)
    (home.cache / "theirs").mkdir()
    (home.cache / "theirs/file").touch()
    home.good()
    assert (home.cache / "theirs/file").exists()


def test_xdg_cache_home_is_honoured(home: Home, tmp_path: Path) -> None:
    home.environment["XDG_CACHE_HOME"] = "relative"  # to be ignored, says the specification
    home.good()
    shutil.rmtree(home.cache)
    home.environment["XDG_CACHE_HOME"] = str(tmp_path / "x/y")
    home.good()
    assert not home.cache.exists()
    del home.environment["HOME"]
    home.good()
    (tmp_path / "linked").symlink_to(tmp_path / "x")
    home.environment["XDG_CACHE_HOME"] = str(tmp_path / "linked/y")
    before = os.listdir(tmp_path / "x/y/occd")
    home.good()
    assert os.listdir(tmp_path / "x/y/occd") == before


@pytest.mark.parametrize("value", [None, "", "relative"])
def test_without_a_home_it_says_what_to_set(home: Home, value: str | None) -> None:
    home.environment = {} if value is None else {"HOME": value}
    assert "HOME is not set" in home.refused()


def test_a_file_that_was_cut_off_says_so(home: Home, whole: Path, tmp_path: Path) -> None:
    home.program = tmp_path / "cut"
    size = whole.stat().st_size
    stub = size - 20_000_000
    for kept in (size - 1, size // 2, stub):
        home.program.write_bytes(whole.read_bytes()[:kept])
        home.program.chmod(0o755)
        assert "this file is not whole: fetch it again" in home.refused()
    changed = bytearray(whole.read_bytes())
    changed[size // 2] ^= 1
    home.program.write_bytes(changed)
    assert "this file is not whole: fetch it again" in home.refused()
    assert "new" not in os.listdir(home.cache)


@contextmanager
def mounted(home: Home, flags: int) -> Iterator[None]:
    """The cache on a file system of its own, with these flags."""
    with small(home.folder / ".cache", "64m") as folder:
        kernel.mount("none", str(folder), None, kernel.MS_REMOUNT | flags)
        yield


def test_a_place_that_cannot_be_written_is_named(home: Home) -> None:
    with mounted(home, kernel.MS_RDONLY):
        line = home.refused()
    assert f"{home.cache}: Read-only file system" in line
    assert "XDG_CACHE_HOME" in line


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_a_home_that_is_not_ours_to_write_is_named(whole: Path) -> None:
    with tempfile.TemporaryDirectory() as made:  # pytest's own folders are for its user alone
        folder = Path(made)
        folder.chmod(0o755)
        program = shutil.copy(whole, folder)
        other = ["setpriv", "--reuid=4321", "--regid=4321", "--clear-groups", program]
        done = subprocess.run(other, env={"HOME": made}, capture_output=True, text=True)
    assert f"{folder}/.cache: Permission denied" in done.stderr


def test_a_read_only_cache_will_do_once_it_is_filled(home: Home) -> None:
    with mounted(home, 0):
        home.good()
        kernel.mount("none", str(home.cache.parent), None, kernel.MS_REMOUNT | kernel.MS_RDONLY)
        home.good()


def test_a_place_where_nothing_may_be_executed_is_named(home: Home) -> None:
    with mounted(home, kernel.MS_NOEXEC):
        line = home.refused()
    assert f"{home.cache}: nothing may be executed from there" in line


def test_a_full_disk_is_named_and_not_filled_further(home: Home) -> None:
    with small(home.folder / ".cache", "8m"):
        line = home.refused()
        assert f"{home.cache}: No space left on device" in line
        assert "takes 21 MB" in line
        assert "new" not in os.listdir(home.cache)
        fill(home.cache / "filling")
        assert "No space left on device" in home.refused()


def test_what_others_could_change_is_refused(home: Home, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    home.cache.parent.mkdir(mode=0o700)
    home.cache.symlink_to(elsewhere)
    assert f"{home.cache} is no folder, or a link: move it away" in home.refused()
    home.cache.unlink()
    home.cache.touch()
    assert f"{home.cache} is no folder, or a link: move it away" in home.refused()
    home.cache.unlink()
    home.cache.mkdir(mode=0o770)
    home.cache.chmod(0o770)
    assert f"{home.cache} is open to other users" in home.refused()
    home.cache.chmod(0o700)
    home.folder.chmod(0o777)
    assert f"{home.folder}: everybody may write there" in home.refused()
    home.folder.chmod(0o1777)  # there nobody can rename what is ours
    home.good()
    assert list(elsewhere.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a folder away needs root")
def test_another_users_folder_is_refused(home: Home) -> None:
    home.good()
    for folder in (home.cache, home.cache.parent, home.folder):
        os.chown(folder, 4321, 4321)
        assert f"{folder} belongs to another user (4321)" in home.refused()
        os.chown(folder, 0, 0)
    os.chown(home.unpacked / "occd", 4321, 4321)
    assert "was damaged" in home.run().stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a folder away needs root")
def test_nothing_is_left_in_another_users_home(home: Home, tmp_path: Path) -> None:
    """As by `sudo -E`, whose owner could not use ~/.cache any more, or could have folders made elsewhere."""
    target = tmp_path / "target"
    target.mkdir()
    os.chown(home.folder, 4321, 4321)
    assert f"{home.folder} belongs to another user (4321)" in home.refused()
    assert list(home.folder.iterdir()) == []
    (home.folder / "link").symlink_to(target)
    os.lchown(home.folder / "link", 4321, 4321)
    os.chown(target, 4321, 4321)
    home.environment["HOME"] += "/link"
    assert f"{target} belongs to another user (4321)" in home.refused()
    assert list(target.iterdir()) == []


NOBODY = 65534


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a folder away needs root")
def test_nobody_is_another_user_where_all_users_are_known(home: Home) -> None:
    """In a user namespace it is also root, and whoever else has no number there."""
    home.folder.chmod(0o755)
    os.chown(home.folder, NOBODY, NOBODY)
    assert f"{home.folder} belongs to another user ({NOBODY})" in home.refused()
    with tempfile.TemporaryDirectory() as made:  # pytest's own folders are for its user alone
        folder = Path(made)
        folder.chmod(0o755)
        program = shutil.copy(home.program, folder)
        (folder / "home").mkdir()
        os.chown(folder / "home", 4321, 4321)
        inside = ["setpriv", "--reuid=4321", "--regid=4321", "--clear-groups", "unshare", "-Ur"]
        done = subprocess.run(
            [*inside, program, "exit", "7"], env={"HOME": f"{made}/home"}, capture_output=True
        )
    assert (done.returncode, done.stderr) == (7, b"")


def test_a_deep_home_that_is_not_there_is_made(home: Home) -> None:
    home.environment["HOME"] += "/" + "/".join("d" * 250 for _ in range(6))
    home.good()
    home.environment["HOME"] += "/" + "/".join("d" * 250 for _ in range(10))
    assert "the path of the cache is too long" in home.refused()


@pytest.mark.parametrize("sign", ":;$")
def test_a_path_that_does_not_work_is_refused(home: Home, sign: str) -> None:
    home.environment["HOME"] += sign
    assert "a path with one of : ; $ does not work" in home.refused()


@pytest.mark.parametrize("theirs", [None, "", "/theirs"])
def test_children_of_the_program_see_none_of_it(tmp_path: Path, theirs: str | None) -> None:
    """By packaging/binary/entry.py, before occd begins; here something else that has a child."""
    (tmp_path / "occd").mkdir()
    (tmp_path / "occd/__init__.py").touch()
    (tmp_path / "occd/__main__.py").write_text(
        "import subprocess\n"
        "def main() -> None:\n"
        "    subprocess.run(['sh', '-c', 'env; ls -l /proc/$$/fd'], close_fds=False)\n"
    )
    callers = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path), "LC_ALL": "C.UTF-8"}
    frozen = {"LD_LIBRARY_PATH": "/ours", "_PYI_ARCHIVE_FILE": "/ours"}
    if theirs is not None:
        callers["LD_LIBRARY_PATH"] = frozen["LD_LIBRARY_PATH_ORIG"] = theirs
    with (tmp_path / "lock").open("w") as lock:
        done = subprocess.run(
            [sys.executable, PACK.with_name("entry.py")],
            env=callers | frozen | {"_OCCD_HOLDS": str(lock.fileno())},
            pass_fds=[lock.fileno()],
            capture_output=True,
            text=True,
            check=True,
        )
    assert str(tmp_path / "lock") not in done.stdout
    seen = dict(re.findall(r"^(\w+)=(.*)$", done.stdout, re.MULTILINE))
    assert {
        name: seen[name] for name in seen if name not in ("PWD", "OLDPWD", "_", "SHLVL")
    } == callers
