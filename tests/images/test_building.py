"""Images are really built, from Debian's packages, pip's and npm's, and every language answers in them."""

import os
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Literal

import built_images
import pytest
from apart_places import tried
from disks import small
from engine import Reached
from places import Place, serving_as
from serving import API, OCCD, PATIENCE_S

from occd.config import Config, SandboxConfig
from occd.images import Image, describe, find, opened
from occd.images.build import BuildFailed, build
from occd.images.source import find_source
from occd.sandbox import open_sandbox

pytestmark = pytest.mark.long

NAMES = ("debian-12", "debian-13")
NEWEST = {"python": "3.13", "c": "14", "cpp": "14", "java": "21", "go": "1.24", "rust": "1.85"}
"""The versions that Debian 13 has."""
PLACES: tuple[Place, ...] = ("nsjail", "docker")
LANGUAGES = Path(__file__).parents[1] / "languages"
_STEP = re.compile(r"occd: debian-1[23]: (\d)/7 .* … \d+ s")


@pytest.fixture(scope="module", params=NAMES)
def built(request: pytest.FixtureRequest) -> Image:
    """Built anew, and what the other tests use from now on."""
    return run_build(request.param)


def run_build(name: str) -> Image:
    mounts = Path("/proc/mounts").read_text()
    image, said = built_images.build(name)
    print(said)
    steps = [line[1] for line in map(_STEP.fullmatch, said.splitlines()) if line]
    assert steps == [*"1234567"]
    assert Path("/proc/mounts").read_text() == mounts
    assert f"{name}: built in {image.seconds:.0f} s" in said
    return image


@pytest.mark.parametrize("where", PLACES)
def test_the_languages_suite_passes_in_it(
    built: Image, docker_engine: Reached, where: Place
) -> None:
    """With what the real compilers of this release say, too."""
    with tempfile.TemporaryDirectory() as folder:
        outcomes, said = tried(
            where, docker_engine, Path(folder), "tests/languages", image=built.name
        )
    failed = [name for name, outcome in outcomes.items() if outcome != "held"]
    assert not failed, "\n".join([*failed, said[-20000:]])
    assert {name.partition("::")[0] for name in outcomes} == {
        f"languages/{each.name}" for each in LANGUAGES.glob("test_*.py")
    }


async def test_docker_finds_every_language_and_formatter_in_it(
    built: Image, docker_engine: Reached
) -> None:
    built_images.give(docker_engine, built.name)
    tag = f"occd/{built.name}"
    asked = ("image", "inspect", "--format", '{{index .Config.Labels "org.occd.image"}}', tag)
    assert docker_engine.docker(*asked).strip() == built.digest == describe(built.name).digest
    config = SandboxConfig(kind="docker", host=docker_engine.host, images=(built.name,))
    async with open_sandbox(Config(sandbox=config)) as sandbox:
        assert set(sandbox.available) == set(describe(built.name).languages)
        described = [sandbox.languages[id] for id in describe(built.name).languages]
        formatted = {each.id for each in described if each.formatters}
        assert set(sandbox.formatters) == formatted
        ruff = (
            "run",
            "--rm",
            "--network=none",
            "--entrypoint=/usr/local/bin/ruff",
            tag,
            "--version",
        )
        assert docker_engine.docker(*ruff) == f"ruff {built.packages['pip']['ruff']}\n"
        assert sandbox.formatters["javascript"].binary == "/usr/local/bin/prettier"
        if built.name == "debian-13":
            for name, version in NEWEST.items():
                (found, *_) = sandbox.available[name]
                assert f"{found.version}.".startswith(f"{version}."), (name, found)


HELLO = {
    "python": ("import platform; print(platform.python_version())", "{0}"),
    "c": ("#include <stdio.h>\nint main(void) { puts(__VERSION__); }", "{0}"),
    "java": (
        "class Main {public static void main(String[] a) {System.out.print(Runtime.version());}}",
        "{0}",
    ),
    "go": (
        'package main\nimport ("fmt"; "runtime")\nfunc main() { fmt.Println(runtime.Version()) }',
        "go{0}",
    ),
    "rust": ('fn main() { println!("hello") }', "hello"),
}
"""Programs that tell their version, and how."""


@pytest.mark.parametrize("kind", ["nsjail", "docker"])
def test_versions_of_two_images_run_on_one_server(
    kind: Literal["nsjail", "docker"], tmp_path: Path, docker_engine: Reached
) -> None:
    for name in NAMES:
        data_dir = built_images.built(name)
        if kind == "docker":
            built_images.give(docker_engine, name)
    sandbox = SandboxConfig(kind=kind, host=docker_engine.host, images=NAMES)
    with serving_as(Config(data_dir=data_dir, sandbox=sandbox), tmp_path / "data") as server:
        told = server.get(f"{API}/languages").json()["languages"]
        versions = {each["id"]: each["versions"] for each in told}
        for language, (source, says) in HELLO.items():
            newer, older = versions[language]
            assert f"{newer}.".startswith(f"{NEWEST[language]}."), (language, newer)
            for version in (newer, older):
                result = server.run(source, language=language, version=version)
                assert result["verdict"] == "ok", result
                assert result["language"]["version"] == version
                assert result["run"]["stdout"].startswith(says.format(version)), result


def test_it_has_pips_and_npms_programs_but_neither_pip_nor_npm(built: Image) -> None:
    assert built.packages["pip"].keys() == {"ruff"}
    assert built.packages["npm"].keys() == {"prettier"}
    assert not built.packages["apt"].keys() & {"npm", "python3-pip"}
    assert (built.root / "usr/local/bin/ruff").is_file()


def test_nothing_in_it_is_this_machines_or_gives_a_right(built: Image) -> None:
    """But for the names of the mirrors, which nobody finds either."""
    for path in built.root.rglob("*"):
        mode = path.lstat().st_mode
        assert path.is_symlink() or path.is_dir() or path.is_file(), path  # no device, no socket
        assert not path.is_file() or not mode & 0o6000, path
    machine = Path("/etc/hostname").read_text().strip()
    settings = [path for path in (built.root / "etc").rglob("*") if path.is_file()]
    assert len(settings) > 50
    for path in settings:
        if not path.is_symlink():
            assert machine.encode() not in path.read_bytes() or len(machine) < 4, path
    for absent in ("etc/resolv.conf", "etc/shadow", "etc/apt/sources.list", "usr/sbin/policy-rc.d"):
        assert not (built.root / absent).exists(), absent
    assert (built.root / "etc/passwd").read_text().splitlines()[1].startswith("box:x:1000:1000:")
    for empty in ("box", "dev/pts", "dev/shm", "opt/occd", "proc", "root", "run", "tmp", "var/tmp"):
        assert (built.root / empty).is_symlink() or not [*(built.root / empty).iterdir()], empty


def test_built_twice_it_has_the_same_packages_and_who_uses_it_keeps_the_old(built: Image) -> None:
    with opened(built_images.KEPT, built.name) as held:
        again = run_build(built.name)
        assert again.packages == built.packages
        assert again.built_at > built.built_at
        assert (held.root / "usr/bin/perl").is_file()
        assert not os.path.samefile(held.root, again.root)


def test_a_build_that_is_killed_leaves_nothing_that_runs_and_no_image() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:  # /tmp may be memory
        _kill(Path(folder))


def _kill(data_dir: Path) -> None:
    argv: list[str | Path] = [OCCD, "--data-dir", data_dir, "images", "debian-13"]
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as building:
        part = data_dir / "images/debian-13.part"
        until = time.monotonic() + PATIENCE_S
        while not (part / "root/debootstrap").is_dir():
            assert time.monotonic() < until
            time.sleep(0.05)
        building.kill()
    while running := _of(part):
        assert time.monotonic() < until, running
        time.sleep(0.05)
    assert sorted(path.name for path in (data_dir / "images").iterdir()) == [
        "debian-13.part",
        "lock",
    ]
    assert find(data_dir, "debian-13") is None
    done = subprocess.run([*argv, "--mirror", "http://[::1]:1/"], capture_output=True, text=True)
    assert "step 1 failed" in done.stderr
    assert [path.name for path in (data_dir / "images").iterdir()] == ["lock"]


def _of(part: Path) -> list[bytes]:
    """The processes that name it."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            said = process.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if os.fsencode(part) in said:
            found.append(said)
    return found


def test_a_full_disk_is_told_in_one_line(tmp_path: Path) -> None:
    with small(tmp_path / "disk", "40m") as disk:
        with pytest.raises(BuildFailed) as failed:
            build(describe("debian-13"), disk, find_source(None, None), _Silent())
        assert str(failed.value).startswith(f"debian-13: the disk of {disk}/images is full")
        assert [path.name for path in (disk / "images").iterdir()] == ["lock"]


class _Silent:
    def begins(self, number: int, count: int, told: str) -> None: ...
    def says(self, line: str) -> None: ...
    def ends(self, seconds: float) -> None: ...
    def fails(self) -> None: ...
