"""Jails that show images instead of the machine's files. tests/images has those that `occd images` builds."""

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from image_root import debian_root
from sandboxed import LONG, PYTHON, SHORT, Lab, run_in
from serving import OCCD
from test_levels import as_nobody
from walls import standing

from occd.config import Config, SandboxConfig
from occd.data import data_folder
from occd.errors import ConfigError, SandboxUnavailable
from occd.images import FOLDER, TOLD, written
from occd.images.build import put
from occd.levels import level
from occd.model import File
from occd.sandbox import Sandbox, kernel, open_sandbox
from occd.sandbox.rootfs import covers_as_lines, shown_folders

_LISTS = """
import hashlib, json, os, stat, sys
for folder, folders, names in os.walk("/"):
    if folder == "/proc": folders.clear(); continue
    for name in names:
        path = os.path.join(folder, name)
        found = os.lstat(path)
        if stat.S_ISLNK(found.st_mode): continue
        told, read = None, os.access(path, os.R_OK)
        if read and stat.S_ISREG(found.st_mode) and not path.startswith("/usr/"):
            told = hashlib.sha256(open(path, "rb").read()).hexdigest()
        print(json.dumps([path, found.st_dev, found.st_ino, stat.S_IFMT(found.st_mode), read, told]))
"""


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    """A data folder with the images `one` and `two`, which are the same Debian."""
    with debian_root() as debian:
        folder = Path(tempfile.mkdtemp(prefix="occd-roots-", dir=debian.parent.parent))
        try:
            folder.chmod(0o755)
            for name in ("one", "two"):
                plant(folder, name, debian)
            yield folder
        finally:
            shutil.rmtree(folder)


def plant(data: Path, name: str, debian: Path) -> Path:
    """An image whose files are the very files of `debian`: replace them, but do not write to them."""
    image = data / FOLDER / name
    image.mkdir(parents=True)
    subprocess.run(["cp", "--archive", "--link", debian, image / "root"], check=True)
    tell(image, name.partition(".")[0])
    return image


def tell(image: Path, name: str) -> None:
    told = {
        "name": name,
        "release": "bookworm",
        "architecture": "amd64",
        "digest": "",
        "packages": {},
    }
    (image / TOLD).write_text(json.dumps(told | {"seconds": 1.0, "built_at": 0.0, "bytes": 1}))


def configured(data: Path, *images: str, require: tuple[str, ...] | None = None) -> Config:
    return Config(data_dir=data, sandbox=SandboxConfig(images=images, require=require))


@asynccontextmanager
async def opened(data: Path, *images: str) -> AsyncIterator[Lab]:
    async with open_sandbox(configured(data, *images), only="python") as sandbox:
        yield Lab(sandbox)


async def test_a_program_can_read_no_file_of_the_machine_but_its_devices(
    nothing_left_over: None, data: Path
) -> None:
    async with opened(data, "one") as lab:
        assert await strange(lab, data / FOLDER / "one/root") == set()
    async with opened(data) as lab:
        assert "/usr/bin/env" in await strange(lab, data / FOLDER / "one/root")


async def strange(lab: Lab, root: Path) -> set[str]:
    """What a program can read that is neither the image's nor occd's."""
    main = File("main.py", _LISTS.encode())
    ours = [main.content, b"", covers_as_lines().encode()]
    ours += [text.encode() for text in written().values()]
    sandbox = data_folder("sandbox")
    tracing = importlib.util.find_spec("ptrace")
    assert tracing
    assert tracing.origin
    folders = [sandbox / "shown", root / "etc", Path(tracing.origin).parent]
    files = [sandbox / "bin/occd-init", *(each for folder in folders for each in folder.rglob("*"))]
    ours += [each.read_bytes() for each in files if each.is_file()]
    known = {hashlib.sha256(each).hexdigest() for each in ours}
    theirs = {
        (each.stat().st_dev, each.stat().st_ino) for each in root.rglob("*") if each.is_file()
    }
    limits = replace(LONG, output=2**26)
    async with lab.cell(main, limits=limits) as cell:
        ran = await run_in(cell, [PYTHON, "main.py"], limits)
    assert ran.succeeded, ran
    found = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(found) > 1000
    devices = {path for path, _, _, kind, _, _ in found if kind == 0o020000}
    assert devices <= {f"/dev/{name}" for name in DEVICES}, devices
    return {
        path
        for path, device, inode, _, read, told in found
        if read and path not in devices and (device, inode) not in theirs and told not in known
    }


DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "pts/ptmx", "pts/0")


async def test_the_root_is_told_to_be_their_own_and_is(nothing_left_over: None, data: Path) -> None:
    async with opened(data, "one", "two") as lab:
        assert await standing(lab) == set(lab.sandbox.holds) >= {"own-root"}
        assert level(lab.sandbox.holds) == "closed"


async def test_the_machines_files_with_an_image_are_no_root_of_their_own(
    nothing_left_over: None, data: Path
) -> None:
    """As somebody may set it up who has no builder: the machine's own files as an image."""
    shown = data / FOLDER / "shown"
    shown.mkdir()
    try:
        (shown / "root").mkdir()
        for name in ("bin", "lib", "lib64"):
            (shown / "root" / name).symlink_to(f"usr/{name}")
        tell(shown, "shown")
        (shown / "root/usr").mkdir()
        kernel.bind("/usr", str(shown / "root/usr"), 0)
        try:
            async with opened(data, "one", "shown") as lab:
                assert "own-root" not in lab.sandbox.holds
            with pytest.raises(ConfigError, match=r"own-root: not so.*sandbox.images"):
                async with open_sandbox(configured(data, "shown", require=("own-root",))):
                    raise AssertionError("it was opened")
        finally:
            kernel.unmount(str(shown / "root/usr"))
    finally:
        shutil.rmtree(shown)


AS_NOBODY = """
import sys, trio
sys.path.insert(0, sys.argv[1])
from sandboxed import Lab
from walls import standing
from occd.config import load_config
from occd.sandbox import open_sandbox

async def main():
    async with open_sandbox(load_config(), only="python") as sandbox:
        print(*sorted(await standing(Lab(sandbox))))
        print(*sorted(sandbox.holds))
        print(*{each.root for each in sandbox.available["python"]})

trio.run(main)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_normal_user_gets_the_same(nothing_left_over: None, data: Path) -> None:
    done = as_nobody(
        sys.executable, "-c", AS_NOBODY, Path(__file__).parent,
        OCCD_DATA_DIR=str(data), OCCD_SANDBOX__IMAGES="one,two",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen, told, roots = done.stdout.splitlines()
    assert seen == told
    assert "own-root" in told
    assert roots == "one"


async def test_the_first_image_has_a_version_that_two_have(data: Path) -> None:
    for images in (("one", "two"), ("two", "one")):
        async with opened(data, *images) as lab:
            assert {each.root for each in lab.sandbox.available["python"]} == {images[0]}


async def test_each_image_has_jails_that_stand_ready(nothing_left_over: None, data: Path) -> None:
    (data / FOLDER / "two/root/usr/share/two").write_text("")
    async with opened(data, "one", "two") as lab:
        for _ in range(3):
            seen = [await _sees(lab.sandbox, root) for root in ("one", "two")]
            assert seen == [b"False\n", b"True\n"]
    (data / FOLDER / "two/root/usr/share/two").unlink()


async def _sees(sandbox: Sandbox, root: str) -> bytes:
    main = File("main.py", b"import os; print(os.path.exists('/usr/share/two'))")
    async with sandbox.cell(sandbox.languages["python"], [main], SHORT, root) as cell:
        return (await run_in(cell, [PYTHON, "main.py"])).stdout


async def test_links_of_an_image_lead_to_its_own_files(nothing_left_over: None, data: Path) -> None:
    root = data / FOLDER / "two/root"
    (root / "etc/alternatives/python9").symlink_to(PYTHON)
    (root / "usr/bin/python3.99").symlink_to("/etc/alternatives/python9")
    (root / "etc/magic").symlink_to("/var/occd-magic")
    (root / "var/occd-magic").write_text("of the image")
    try:
        async with opened(data, "two") as lab:
            assert await _content(lab, "/etc/magic") == b"of the image"
            version = (await lab.python("print(sys.version.split()[0])")).stdout.decode().strip()
            assert [each.version for each in lab.sandbox.available["python"]] == [version]
    finally:
        for name in (
            "etc/alternatives/python9",
            "usr/bin/python3.99",
            "etc/magic",
            "var/occd-magic",
        ):
            (root / name).unlink()


async def _content(lab: Lab, path: str) -> bytes:
    return (await lab.python(f"print(open({path!r}).read(), end='')")).stdout


def test_links_that_lead_nowhere_are_left_out(tmp_path: Path) -> None:
    etc = tmp_path / "etc"
    (etc / "fonts").mkdir(parents=True)
    (etc / "file").touch()
    for name, leads_to in (("perl", "absent"), ("nim", "nim"), ("mono", "file/through")):
        (etc / name).symlink_to(leads_to)
    assert shown_folders(tmp_path) == [etc / "fonts"]


def test_the_secrets_of_a_web_server_of_php_are_not_shown(tmp_path: Path) -> None:
    """The pools of fpm are where an administrator writes the password of the database."""
    for name in ("cli/conf.d", "fpm/pool.d", "apache2", "mods-available"):
        (tmp_path / "etc/php/8.2" / name).mkdir(parents=True)
    php = tmp_path / "etc/php/8.2"
    assert set(shown_folders(tmp_path)) == {php / "cli", php / "mods-available"}


def test_a_machine_that_renames_files_all_the_time_hinders_no_root(tmp_path: Path) -> None:
    """The kernel gives up on a link through `..` when anything is renamed meanwhile."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/release").symlink_to("../told")
    (tmp_path / "told").touch()
    renames = (
        "import os\nopen('a', 'w').close()\nwhile True: os.rename('a', 'b'), os.rename('b', 'a')"
    )
    root = os.open(tmp_path, os.O_PATH)
    others = [
        subprocess.Popen([sys.executable, "-c", renames], cwd=tempfile.mkdtemp(dir=tmp_path))
        for _ in range(2)
    ]
    try:
        for _ in range(20_000):
            os.close(kernel.open_within(root, "/etc/release"))
    finally:
        for other in others:
            other.kill()
            other.wait()
        os.close(root)


async def test_programs_see_the_old_files_until_the_sandbox_is_opened_anew(
    nothing_left_over: None, data: Path
) -> None:
    place = data / FOLDER / "again"
    plant(data, "again", data / FOLDER / "one/root")
    part = plant(data, "again.part", data / FOLDER / "one/root")
    (part / "root/usr/share/newer").write_text("newer")
    seen = "print(os.path.exists('/usr/share/newer'))"
    async with opened(data, "again") as lab:
        put(part, place)
        assert not part.exists()
        assert (place / "root/usr/share/newer").exists()
        assert (await lab.python(seen)).stdout == b"False\n"
        cells = [await lab.python(seen) for _ in range(3)]
        assert [each.stdout for each in cells] == [b"False\n"] * 3
        async with opened(data, "again") as newer:
            assert (await newer.python(seen)).stdout == b"True\n"


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (
            "absent",
            "the image absent was not built. There are debian-12, debian-12-popular, debian-13: name one",
        ),
        (
            "half",
            "the image half was not built. There are debian-12, debian-12-popular, debian-13: name one",
        ),
        (
            "untold",
            "the image untold was not built. There are debian-12, debian-12-popular, debian-13: name one",
        ),
        ("empty", "the image empty has no /bin/sh. Build it anew, as root: occd images empty"),
        ("foreign", "the image foreign is for amd64, and this machine is x86_64. Build it anew"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
async def test_an_image_in_which_nothing_runs_is_told_in_a_line(
    nothing_left_over: None, data: Path, image: str, told: str, first: bool
) -> None:
    place = data / FOLDER / (f"{image}.part" if image == "half" else image)
    if image != "absent":
        (place / "root/usr/bin").mkdir(parents=True)
        (place / "root/bin").symlink_to("usr/bin")
        if image != "untold":
            tell(place, image)
    if image == "foreign":
        header = bytearray((data_folder("sandbox") / "bin/occd-init").read_bytes()[:64])
        header[18] ^= 1
        (place / "root/usr/bin/sh").write_bytes(header)
    try:
        images = (image,) if first else ("one", image)
        with pytest.raises(SandboxUnavailable) as caught:
            async with opened(data, *images):
                raise AssertionError("it was opened")
        assert str(caught.value).startswith(told)
        assert "\n" not in str(caught.value)
        done = _languages(data, images)
        assert (done.returncode, done.stdout) == (125, "")
        assert done.stderr.startswith(f"occd: {told}")
        assert done.stderr.count("\n") == 1
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _languages(data: Path, images: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [OCCD, "--data-dir", data, "languages"],
        env=os.environ | {"OCCD_SANDBOX__IMAGES": ",".join(images)},
        cwd="/",
        capture_output=True,
        text=True,
    )
